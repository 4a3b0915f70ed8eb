"""All programs of a picture lower for accelerators that are not at hand."""

import jax
import pytest
from helpers import load_script
from jax import export

from jaxnst.recipes import get_recipe

PLATFORMS = ("tpu", "cuda", "rocm")


@pytest.mark.parametrize("name", ["painterly", "nnst", "gatys2016"])
def test_every_program_of_a_picture_lowers_for_accelerators(name):
    programs = load_script("measure/tpu_programs.py")
    layers = {"content_layers": (("relu2_1", 1.0),)}
    layers["style_layers"] = (("relu1_1", 1.0), ("relu2_1@2", 1.0))
    recipe = get_recipe(name).replace(dtype="bfloat16", **layers)
    names = set()
    for call in programs.list_programs(recipe, (48, 64)):
        exported = export.export(call.jitted(), platforms=PLATFORMS)(*call.args)
        assert exported.platforms == PLATFORMS
        assert len(exported.out_avals) == len(
            jax.tree.leaves(jax.eval_shape(call.jitted(), *call.args))
        )
        names.add(call.function.__name__)
    assert {"measure_content", "measure_style", "init", "run_chunk"} <= names
    assert ("lay_level" in names) == recipe.look.repaint
