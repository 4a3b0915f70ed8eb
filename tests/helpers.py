"""What tests of several files share."""

import importlib
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import pytest

from jaxnst.compiled import Runner
from jaxnst.painting.stage import measure
from jaxnst.pictures.canvas import exact

SCRIPTS = Path(__file__).parents[1] / "scripts"


def random_image(seed, height, width):
    """A smooth random picture in [0, 1], h w 3."""
    noise = jax.random.uniform(
        jax.random.key(seed), (height // 4 + 1, width // 4 + 1, 3)
    )
    return jnp.clip(jax.image.resize(noise, (height, width, 3), "cubic"), 0, 1)


def measure_targets(backbone, scene, recipe, tile=None):
    """The targets of a scene in its own size."""
    given = Runner(), backbone, scene, exact(scene.content.shape), recipe
    return measure(*given, tile=tile)


def load_script(path: str) -> ModuleType:
    """Load a file of scripts/ as a module; it finds the modules beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS / Path(path).parent)
        return importlib.import_module(Path(path).stem)
