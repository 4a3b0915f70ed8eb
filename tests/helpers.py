"""What tests of several files share."""

import contextlib
import importlib
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import pytest

from jaxnst.command.cli import main
from jaxnst.command.describe import compile_timer
from jaxnst.compiled import Runner
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.grid import GridOptions, stylize_grid
from jaxnst.painting.multiscale import Options, stylize
from jaxnst.painting.stage import Measuring
from jaxnst.pictures.canvas import exact
from jaxnst.recipes import Recipe, get_recipe

LIGHT = ("--set", "content_layers=relu1_1", "--set", "style_layers=relu1_1")
"""Flags that let a picture depend on one layer: its programs compile sooner."""

LAYERS = {"content_layers": (("relu2_1", 1.0),), "style_layers": (("relu1_1", 1.0),)}
"""Two layers of a recipe, likewise."""

KEY = jax.random.key(0)

SCRIPTS = Path(__file__).parents[1] / "scripts"


def light_recipe(name: str) -> Recipe:
    """A recipe of two layers and one scale, without strokes: it compiles sooner."""
    return get_recipe(name).replace(**LAYERS, scales=1, repaint=False)


def random_image(seed, height, width):
    """A smooth random picture in [0, 1], h w 3."""
    noise = jax.random.uniform(
        jax.random.key(seed), (height // 4 + 1, width // 4 + 1, 3)
    )
    return jnp.clip(jax.image.resize(noise, (height, width, 3), "cubic"), 0, 1)


def paint(backbone, content, styles, recipe, *, key=KEY, **options):
    """A picture, by options of `stylize`."""
    given = backbone, content, styles, recipe
    return stylize(*given, key=key, options=Options(**options))


def paint_grid(backbone, contents, styles, recipe, **options):
    """The pictures of a grid, by its options."""
    given = backbone, contents, styles, recipe
    return stylize_grid(*given, key=KEY, options=GridOptions(**options))


def measure_targets(backbone, scene, recipe, tile=None):
    """The targets of a scene in its own size."""
    own = exact(scene.content.shape)
    return Measuring(Runner(), backbone, own, recipe, tile).targets(scene)


@contextlib.contextmanager
def compiled_steps():
    """Collect the programs of steps that are compiled, into a list."""
    found = []
    with compile_timer() as programs:
        yield found
    found += [name for name, _ in programs if "run_chunk" in name]


def keep_at(kept, scale, taken):
    """A hook that adds the checkpoint of a run at a step to a list."""

    def keep(progress):
        if (progress.stage_index, progress.taken) == (scale, taken):
            state = jax.device_get(progress.state)
            tiles = [stage.tile for stage in progress.stages]
            kept.append(Checkpoint(scale, taken, state, tiles, {}))

    return keep


def refused(argv, captured) -> str:
    """The line in which the command refuses arguments, from `capsys` or `capfd`."""
    try:
        code = main(argv)
    except SystemExit as error:
        code = error.code
    said = captured.readouterr().err
    assert code == 2, said
    assert said.count("\n") == 1, said
    return said


def load_script(path: str) -> ModuleType:
    """Load a file of scripts/ as a module; it finds the modules beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS / Path(path).parent)
        return importlib.import_module(Path(path).stem)
