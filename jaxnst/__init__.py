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

from jaxnst import interrupts

interrupts.leave_quietly()  # before the rest, which takes a second

from importlib.metadata import version

from jaxnst import losses, video
from jaxnst.network.calibrate import calibrate
from jaxnst.network.vgg import Backbone, features
from jaxnst.objective import Objective, Targets, make_targets, objective
from jaxnst.painting.grid import GridOptions, stylize_grid
from jaxnst.painting.loop import run
from jaxnst.painting.multiscale import Options, stylize
from jaxnst.painting.plan import plan_run
from jaxnst.painting.scene import Masks, Region, Style
from jaxnst.painting.stages import Result
from jaxnst.pictures.files import load_image, load_mask, save_image
from jaxnst.pictures.samples import sample
from jaxnst.recipes import Program, Recipe, get_recipe
from jaxnst.tiles import Tiled
from jaxnst.transfer import Info, State, Transfer, make_transfer
from jaxnst.weights.format import save_backbone
from jaxnst.weights.registry import load_backbone

__version__ = version("jaxnst")
__all__ = [
    "Backbone", "GridOptions", "Info", "Masks", "Objective", "Options", "Program",
    "Recipe", "Region", "Result", "State", "Style", "Targets", "Tiled", "Transfer",
    "calibrate", "features", "get_recipe", "load_backbone", "load_image", "load_mask",
    "losses", "make_targets", "make_transfer", "objective", "plan_run", "run",
    "sample", "save_backbone", "save_image", "stylize", "stylize_grid", "video",
]  # fmt: skip
