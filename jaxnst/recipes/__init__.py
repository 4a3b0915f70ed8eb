"""Recipes: every choice of a style transfer, under a name."""

from jaxnst.recipes.named import BOSTON as BOSTON
from jaxnst.recipes.named import CAFFE_UNITS as CAFFE_UNITS
from jaxnst.recipes.named import CROWSON as CROWSON
from jaxnst.recipes.named import DELICATE as DELICATE
from jaxnst.recipes.named import GATYS_2016 as GATYS_2016
from jaxnst.recipes.named import GATYS_2016_CODE as GATYS_2016_CODE
from jaxnst.recipes.named import GATYS_STYLE_LAYERS as GATYS_STYLE_LAYERS
from jaxnst.recipes.named import JOHNSON as JOHNSON
from jaxnst.recipes.named import KAGGLE as KAGGLE
from jaxnst.recipes.named import LOOKS as LOOKS
from jaxnst.recipes.named import PAINTERLY as PAINTERLY
from jaxnst.recipes.named import RECIPES as RECIPES
from jaxnst.recipes.named import TF_BLOG as TF_BLOG
from jaxnst.recipes.named import TORCHVISION_UNITS as TORCHVISION_UNITS
from jaxnst.recipes.named import UDACITY as UDACITY
from jaxnst.recipes.named import equal_weights as equal_weights
from jaxnst.recipes.named import get_recipe as get_recipe
from jaxnst.recipes.named import weighted as weighted
from jaxnst.recipes.recipe import USED_WITH as USED_WITH
from jaxnst.recipes.recipe import LayerWeights as LayerWeights
from jaxnst.recipes.recipe import Program as Program
from jaxnst.recipes.recipe import Recipe as Recipe
