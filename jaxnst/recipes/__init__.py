"""Recipes: every setting of a style transfer, under a name."""

from jaxnst.recipes.named import GATYS_STYLE_LAYERS as GATYS_STYLE_LAYERS
from jaxnst.recipes.named import LOOKS as LOOKS
from jaxnst.recipes.named import RECIPES as RECIPES
from jaxnst.recipes.named import get_recipe as get_recipe
from jaxnst.recipes.recipe import FIELDS as FIELDS
from jaxnst.recipes.recipe import LayerWeights as LayerWeights
from jaxnst.recipes.recipe import LossWeights as LossWeights
from jaxnst.recipes.recipe import Program as Program
from jaxnst.recipes.recipe import Recipe as Recipe
