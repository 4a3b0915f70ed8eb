import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnst.checks import check_image, check_mask, check_strength

IMAGE = np.full((20, 24, 3), 0.5, np.float32)

CALLS = """
import json, sys
import jax, jax.numpy as jnp, numpy as np, jaxnst
from PIL import Image as pil
from jaxnst.repaint import repaint

backbone = jaxnst.load_backbone("embedded")
recipe = jaxnst.get_recipe("painterly").replace(first_steps=1, steps=1, repaint=False)
good, key = np.full((48, 56, 3), 0.5, np.float32), jax.random.key(0)
program = recipe.program

doors = {
    "stylize": lambda x: jaxnst.stylize(backbone, x, [good], recipe, key=key),
    "stylize's style": lambda x: jaxnst.stylize(backbone, good, [x], recipe, key=key),
    "a region's style": lambda x: jaxnst.stylize(
        backbone, good, [], recipe, key=key,
        options=jaxnst.Options(masks=jaxnst.Masks([jaxnst.Region([x])])),
    ),
    "init": lambda x: jaxnst.stylize(
        backbone, good, [good], recipe, key=key, options=jaxnst.Options(init=x)
    ),
    "stylize_grid": lambda x: jaxnst.stylize_grid(
        backbone, [good, x], [good], recipe, key=key
    ),
    "stylize_video": lambda x: jaxnst.video.stylize_video(
        backbone, [x, x], [good], recipe, key=key
    ),
    "stylize_video's style": lambda x: jaxnst.video.stylize_video(
        backbone, [good, good], [x], recipe, key=key
    ),
    "make_targets": lambda x: jaxnst.make_targets(backbone, x, [good], recipe),
    "features": lambda x: jaxnst.features(backbone, x, layers=("relu1_1",)),
    "objective": lambda x: jaxnst.objective(x, backbone, None, program),
    "repaint": lambda x: repaint(good, good, [x], 1.0),
    "variation": lambda x: jaxnst.losses.differences(x),
    "squared variation": lambda x: jaxnst.losses.squared_variation(x),
    "save_image": lambda x: jaxnst.save_image("out.png", x),
}
bad = {
    "uint8": np.uint8(good * 255),
    "int": np.int32(good * 255),
    "255": good * 255,
    "c h w": good.transpose(2, 0, 1),
    "n h w c": good[None],
    "h w": good[..., 0],
    "h w 1": good[..., :1],
    "NaN": np.where(good == 0.5, np.nan, good),
    "infinity": np.where(good == 0.5, np.inf, good),
    "empty": good[:0],
    "PIL": pil.fromarray(np.uint8(good * 255)),
    "path": "photo.jpg",
    "list": good.tolist(),
    "jax uint8": jnp.uint8(good * 255),
}
found = {}


def attempt(name, call, *given, **options):
    try:
        call(*given, **options)
        found[name] = "nothing was raised"
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"


for door, call in doors.items():
    for name, image in bad.items():
        if (door, name) not in (("save_image", "path"), ("features", "255")):
            attempt(f"{door}: {name}", call, image)

for door in ("stylize", "stylize_grid"):
    for name, transform in {
        "jit": jax.jit,
        "vmap": lambda f: lambda x: jax.vmap(f)(x[None]),
        "grad": lambda f: jax.grad(lambda x: jnp.sum(f(x))),
    }.items():
        paint = doors[door]
        picture = lambda x: paint(x).image if door == "stylize" else paint(x)[0]
        attempt(f"{door}: {name}", transform(picture), jnp.asarray(good))

own = recipe.replace(
    style_weight=np.float32(2), steps=np.int64(5), style_layers=[["relu1_1", 1]]
)
plain = recipe.replace(style_weight=2.0, steps=5, style_layers=(("relu1_1", 1.0),))
found["numbers of NumPy"] = str(
    own == plain and hash(own) == hash(plain) and len(json.dumps(own.values())) > 9
)
found["a whole number"] = type(recipe.replace(pool_scale=2).program.pool_scale).__name__
huge = {"pool_scale": 10**400, "style_weight": 1e308, "steps": 2**31}
for name, value in huge.items():
    attempt(f"huge {name}", recipe.replace, **{name: value})
attempt("layers without weights", recipe.replace, style_layers=["relu1_1"])
print(json.dumps(found))
"""
"""In a process of its own, since here another tool checks types first."""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path_factory.mktemp("calls"),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return json.loads(done.stdout)


def test_every_door_refuses_what_is_no_picture_in_one_line(found):
    wrong = {
        name: text
        for name, text in found.items()
        if ": " in name and not text.startswith("ValueError: expected ") or "\n" in text
    }
    assert not wrong
    assert all("divide by 255" in x for name, x in found.items() if "uint8" in name)
    assert all("load_image" in x for name, x in found.items() if "PIL" in name)
    assert all("transpose(1, 2, 0)" in x for n, x in found.items() if "c h w" in n[-5:])


def test_what_jax_cannot_transform_says_what_it_can(found):
    for door in ("stylize", "stylize_grid"):
        for name in ("jit", "vmap", "grad"):
            text = found[f"{door}: {name}"]
            assert f"expected {door} outside of jit, vmap and grad" in text
            assert "make_transfer compose" in text


def test_a_recipe_takes_numbers_of_numpy_and_lists(found):
    assert found["numbers of NumPy"] == "True"
    assert "give pairs such as" in found["layers without weights"]
    assert found["a whole number"] == "float"
    for name in ("pool_scale", "style_weight", "steps"):
        assert f"{name} cannot be" in found[f"huge {name}"]
        assert "below" in found[f"huge {name}"]


@given(
    st.floats(-0.25, 1.25, width=32), st.sampled_from(["float16", "float32", "float64"])
)
def test_floats_around_0_to_1_are_pictures(value, dtype):
    check_image(np.full((2, 3, 3), value, dtype))
    check_image(jnp.full((2, 3, 3), value, jnp.bfloat16), beyond=0.3)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((4, 4)),
        np.ones((4, 4, 3)),
        np.uint8([[[255]]]),
        np.full((4, 4, 1), 255.0),
    ],
)
def test_masks_are_checked_too(mask):
    check_mask(np.ones((4, 4, 1), bool))
    check_mask(None)
    with pytest.raises(ValueError, match="expected sky "):
        check_mask(mask, "sky")


@pytest.mark.parametrize("number", [-0.1, np.nan, np.inf])
def test_a_strength_is_any_finite_number_from_0_on(number):
    check_strength(None)
    check_strength(np.full((4, 4, 1), 300.0))
    with pytest.raises(ValueError, match=r"expected content_strength in \[0, inf\]"):
        check_strength(np.full((4, 4, 1), number))
