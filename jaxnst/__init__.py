"""Neural style transfer as pure JAX functions.

Example:
    >>> import jax, jaxnst
    >>> backbone = jaxnst.load_backbone("embedded")
    >>> content = jaxnst.sample("harbour", size=64)
    >>> style = jaxnst.sample("swirls", size=64)
    >>> recipe = jaxnst.get_recipe("painterly").replace(first_steps=3, steps=2)
    >>> result = jaxnst.stylize(
    ...     backbone, content, [style], recipe, key=jax.random.key(0)
    ... )
    >>> result.image.shape
    (48, 64, 3)
"""

from importlib.metadata import version

from jaxnst import losses as losses
from jaxnst.network.vgg import Backbone as Backbone
from jaxnst.network.vgg import features as features
from jaxnst.objective import Objective as Objective
from jaxnst.objective import Targets as Targets
from jaxnst.objective import make_targets as make_targets
from jaxnst.objective import objective as objective
from jaxnst.painting.grid import GridOptions as GridOptions
from jaxnst.painting.grid import stylize_grid as stylize_grid
from jaxnst.painting.loop import run as run
from jaxnst.painting.multiscale import Options as Options
from jaxnst.painting.multiscale import stylize as stylize
from jaxnst.painting.plan import plan_run as plan_run
from jaxnst.painting.stages import Result as Result
from jaxnst.pictures.files import load_image as load_image
from jaxnst.pictures.files import save_image as save_image
from jaxnst.pictures.samples import sample as sample
from jaxnst.recipes import Program as Program
from jaxnst.recipes import Recipe as Recipe
from jaxnst.recipes import get_recipe as get_recipe
from jaxnst.tiles import Tiled as Tiled
from jaxnst.transfer import Info as Info
from jaxnst.transfer import State as State
from jaxnst.transfer import Transfer as Transfer
from jaxnst.transfer import make_transfer as make_transfer
from jaxnst.weights.format import save_backbone as save_backbone
from jaxnst.weights.registry import load_backbone as load_backbone

__version__ = version("jaxnst")
__all__ = [
    "Backbone",
    "GridOptions",
    "Info",
    "Objective",
    "Options",
    "Program",
    "Recipe",
    "Result",
    "State",
    "Targets",
    "Tiled",
    "Transfer",
    "features",
    "get_recipe",
    "load_backbone",
    "load_image",
    "losses",
    "make_targets",
    "make_transfer",
    "objective",
    "plan_run",
    "run",
    "sample",
    "save_backbone",
    "save_image",
    "stylize",
    "stylize_grid",
]
