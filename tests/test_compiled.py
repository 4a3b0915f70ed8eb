"""Compiled programs: begun ahead of time, kept on disk, loaded without a trace."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import KEY, paint
from jax.experimental.compilation_cache import compilation_cache

from jaxnst import get_recipe, make_transfer
from jaxnst.compiled import (
    KEPT,
    Preparer,
    Runner,
    clear_compiled,
    compiling_ahead,
    kept_jit,
)
from jaxnst.objective import objective
from jaxnst.painting.stage import init

SHAPE = jax.ShapeDtypeStruct((3,), "float32")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder of our own for programs."""
    folder = tmp_path / "programs"
    folder.mkdir(mode=0o700)
    before = jax.config.values["jax_compilation_cache_dir"]
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield folder
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def doubling(traces):
    @kept_jit("times")
    def multiply(x, *, times=2):
        traces.append(threading.current_thread())
        return times * x

    return multiply


def test_a_call_that_was_prepared_traces_nothing_again(kept):
    traces = []
    double = doubling(traces)
    assert Preparer()(double, SHAPE, times=2) == SHAPE
    assert Runner()(double, jnp.ones(3), times=2).tolist() == [2, 2, 2]
    assert double(np.ones(3, "f4"), times=2).tolist() == [2, 2, 2]
    assert len(traces) == 1
    assert double(jnp.ones(3), times=3).tolist() == [3, 3, 3]
    assert len(traces) == 2


def test_programs_compose_with_the_transformations_of_jax(kept):
    double = doubling([])
    assert jax.grad(lambda x: double(x).sum())(jnp.ones(3)).tolist() == [2, 2, 2]
    assert jax.vmap(double)(jnp.ones((2, 3))).shape == (2, 3)
    assert jax.jit(double)(jnp.ones(3)).tolist() == [2, 2, 2]
    assert double.batched(jnp.ones((2, 3)), times=3).tolist() == [[3] * 3] * 2


def test_who_waits_is_told_for_what(kept):
    release, waits = threading.Event(), []

    @kept_jit()
    def slow_program(x):
        return x

    class Slow:
        """A program that is compiled once somebody was told to wait for it."""

        def lower(self):
            release.wait(10)
            return jax.jit(lambda x: x).lower(SHAPE)

        out_info = SHAPE

    slow_program.jit = type("Jit", (), {"trace": lambda *args: Slow()})()

    def told(program, seconds):
        waits.append((program, seconds))
        release.set()

    Runner("at 64 px", told)(slow_program, jnp.ones(3))
    ((program, seconds),) = waits
    assert program == "slow program at 64 px"
    assert seconds >= 1


def test_an_error_is_that_of_the_call(kept):
    @kept_jit()
    def wrong(x, y):
        return x + y

    with pytest.raises(TypeError, match="broadcast"):
        Runner()(wrong, jnp.ones(3), jnp.ones(2))


def loaded(kept, change=lambda path: None):
    """How often a function is traced whose program another one has kept, changed."""
    first, second = [], []
    doubling(first)(jnp.ones(3), times=2)
    (path,) = kept.glob("kept_multiply-*")
    change(path)
    assert doubling(second)(jnp.ones(3), times=2).tolist() == [2, 2, 2]
    assert len(first) == 1
    return len(second)


def test_a_kept_program_is_loaded_and_not_traced(kept):
    assert loaded(kept) == 0


@pytest.mark.parametrize("data", [b"", b"x" * 999])
def test_a_damaged_program_is_compiled_anew(kept, data):
    assert loaded(kept, lambda path: path.write_bytes(data)) == 1


def test_a_changed_program_is_never_run(kept):
    def change(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    assert loaded(kept, change) == 1


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no such modes")
def test_nothing_is_loaded_from_a_folder_that_others_may_write_to(kept):
    assert loaded(kept, lambda path: kept.chmod(0o777)) == 1


def test_functions_of_the_users_are_not_kept_on_disk(kept):
    mine = lambda image, backbone, targets, program: objective(
        image, backbone, targets, program
    )

    @dataclass(frozen=True)
    class Mine:
        """As its name and its numbers say, but for its code."""

        weight: float = 1.0

        def __call__(self, image, backbone, targets, program):
            return objective(image, backbone, targets, program)

    for own in (objective, mine, Mine()):
        transfer = make_transfer(get_recipe("painterly").program, objective=own)
        init(jnp.ones((8, 8, 3)), transfer=transfer)
        assert len(list(kept.glob("kept_init-*"))) == 1


def test_what_is_not_begun_is_forgotten_when_a_run_ends(kept, monkeypatch):
    release, traces = threading.Event(), []
    pool = ThreadPoolExecutor(1)
    pool.submit(release.wait, 10)
    monkeypatch.setattr("jaxnst.compiled._compilers", lambda: pool)
    double = doubling(traces)
    with compiling_ahead():
        Preparer()(double, SHAPE, times=2)
        (program,) = double.programs.values()
    assert program.compiled.cancelled()
    release.set()
    assert double(jnp.ones(3), times=2).tolist() == [2, 2, 2]


def test_a_program_that_fails_is_tried_anew(kept, monkeypatch):
    double, write = doubling([]), jax.stages.Lowered.compile

    def once(*args, **options):
        monkeypatch.setattr(jax.stages.Lowered, "compile", write)
        raise MemoryError

    monkeypatch.setattr(jax.stages.Lowered, "compile", once)
    with pytest.raises(MemoryError):
        double(jnp.ones(3))
    assert double(jnp.ones(3)).tolist() == [2, 2, 2]


def test_equal_transfers_share_programs():
    one, two = (make_transfer(get_recipe("painterly").program) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != make_transfer(get_recipe("delicate").program)


def test_forgotten_programs_are_loaded_again(kept):
    traces = []
    double = doubling(traces)
    double(jnp.ones(3))
    clear_compiled()
    assert not any(function.programs for function in KEPT)
    double(jnp.ones(3))
    assert len(traces) == 1


PAINT = """
import json, sys
import jax, jaxnst

traces = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **about: traces.append(about.get("fun_name"))
    if event == "/jax/core/compile/jaxpr_trace_duration" else None
)
height, width, high, wide, seed = json.loads(sys.argv[1])
key = jax.random.key(seed)
content = jax.random.uniform(key, (height, width, 3))
style = jax.random.uniform(key, (high, wide, 3))
recipe = jaxnst.get_recipe("painterly").replace(
    first_steps=1 + seed, steps=2, scales=2, min_size=40,
    content_weight=0.3 + seed, style_weight=1.0 + seed,
    content_layers=(("relu2_1", 1.0),), style_layers=(("relu1_1@2", 1.0),),
)
backbone = jaxnst.load_backbone("embedded")
traces.clear()
options = jaxnst.Options(chunk=5 + seed)
image = jaxnst.stylize(
    backbone, content, [style], recipe, key=key, options=options
).image
assert image.shape == content.shape and jax.numpy.isfinite(image).all()
print(json.dumps(traces))
"""


def test_another_picture_in_another_style_traces_no_program(tmp_path):
    """In another process, of another shape, with other weights and steps.

    On one device, and optimised: as at home.
    """
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    del environment["XLA_FLAGS"]
    tmp_path.chmod(0o700)

    def paint(*shape):
        run = [sys.executable, "-c", PAINT, str(list(shape))]
        found = subprocess.run(
            run, check=True, capture_output=True, text=True, env=environment
        )
        return found.stdout

    large = ("run_chunk", "measure", "lay_level", "find_first", "prepare")
    first = paint(45, 64, 64, 48, 0)
    assert all(name in first for name in large), first
    before = set(tmp_path.glob("kept_*"))
    again = paint(64, 48, 40, 34, 2)  # higher than wide
    assert not [name for name in large if name in again], again
    assert set(tmp_path.glob("kept_*")) == before


def test_a_picture_on_a_canvas_is_that_of_an_exact_one(backbone):
    """But for what the network sees beyond the edge: the picture's own."""
    recipe = get_recipe("delicate").replace(
        first_steps=3,
        scales=1,
        content_layers=(("relu2_1", 1.0),),
        style_layers=(("relu1_1", 1.0), ("relu3_1", 1.0)),
    )
    content = jax.random.uniform(KEY, (36, 48, 3))
    style = jax.random.uniform(jax.random.key(1), (48, 40, 3))
    image, alone = (
        paint(backbone, content, [style], x).image
        for x in (recipe, recipe.replace(padding="zeros"))
    )
    assert jnp.abs(image - alone).mean() < 0.05
