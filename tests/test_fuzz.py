"""A few hundred of what scripts/measure/fuzz.py tries by the thousand."""

import re
import warnings

import jax
import jax.numpy as jnp
import pytest
from helpers import load_script
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnst
from jaxnst.recipes import RECIPES

fuzz = load_script("measure/fuzz.py")
sides = st.sampled_from([1, 20, 40])


@pytest.mark.parametrize(
    "kind", ["pictures", "suffixes", "weights", "movies", "manifests", "arguments"]
)
def test_damaged_files_and_senseless_arguments_are_read_or_refused(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decoders, about damage that they repair
        found = fuzz.try_all(kind, 100, seed=1)
    assert found.keys() <= {"read", "refused"}


@settings(max_examples=5, derandomize=True)
@given(
    *(st.tuples(sides, sides),) * 2,
    st.sampled_from(list(RECIPES)),
    st.sampled_from(["content", "noise", "style"]),
    st.sampled_from([0.0, 0.5, 1.0, float("nan")]),
    st.lists(st.floats(-2, 2), max_size=2),
)
def test_any_pictures_are_painted_or_refused(content, style, name, init, level, blend):
    shallow = dict(content_layers=(("relu1_1", 1.0),), style_layers=(("relu2_1", 1.0),))
    recipe = jaxnst.get_recipe(name).replace(
        init=init, first_steps=2, steps=1, scales=1, **shallow
    )
    run = jaxnst.Options(blend=jnp.array(blend) if blend else None, throw=False)
    noise = jax.random.uniform(jax.random.key(0), (*style, 3))
    flat = jnp.full((*content, 3), level)
    try:
        result = jaxnst.stylize(
            jaxnst.load_backbone("embedded"),
            flat,
            [noise],
            recipe,
            key=jax.random.key(0),
            options=run,
        )
    except ValueError as error:
        refused = str(error)
    else:
        refused = None
        assert result.image.shape == flat.shape
        if result.status == "done":
            assert jnp.all((result.image >= 0) & (result.image <= 1))
    assert refused is None or re.fullmatch("(expected|the blend) .*", refused)
