"""Programs that are compiled in threads, before they are needed."""

import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import pytest

from jaxnst import Options, get_recipe, stylize
from jaxnst.command.manifest import compile_timer
from jaxnst.painting.ahead import Ahead, Call

SHAPE = jax.ShapeDtypeStruct((3,), "float32")


@pytest.fixture
def ahead():
    waits = []
    found = Ahead(lambda program, seconds: waits.append((program, seconds)))
    found.waits = waits
    yield found
    found.close()


def test_a_call_finds_its_program_and_traces_nothing_again(ahead):
    traces = []

    @jax.jit
    def double(x):
        traces.append(threading.current_thread())
        return 2 * x

    shape = ahead.compile(Call("doubling", double, (SHAPE,), {}))
    assert shape.shape == (3,)
    ahead.wait("doubling")
    ones = jnp.ones(3)
    with compile_timer() as compiled:
        assert ahead.run(Call("doubling", double, (ones,), {})).shape == (3,)
    assert not compiled
    assert len(traces) == 1


def test_who_waits_is_told_for_what(ahead):
    release = threading.Event()

    class Slow:
        def lower(self):
            release.wait(10)

        def eval_shape(self):
            return None

    def told(program, seconds):
        ahead.waits.append((program, seconds))
        release.set()

    ahead.on_wait = told
    ahead.compile(Call("the steps", Slow(), (), {}))
    ahead.wait("the steps")
    ((program, seconds),) = ahead.waits
    assert program == "the steps"
    assert seconds >= 1
    ahead.wait("the steps")  # once more, at once


def test_an_error_is_that_of_the_call(ahead):
    @jax.jit
    def wrong(x, shape):
        return x + jnp.ones(shape)

    class Late:
        """Traces well the first time, as no real function would."""

        lower, __call__ = wrong.lower, staticmethod(wrong)
        eval_shape = staticmethod(lambda *args, **static: SHAPE)

    call = Call("wrong", Late(), (jnp.ones(3), jnp.ones(2)), {})
    ahead.compile(call)
    with pytest.raises(TypeError):
        ahead.run(call)


def test_programs_of_all_scales_are_compiled_and_none_twice(backbone, monkeypatch):
    compiled, compile_call = [], Ahead.compile

    def noted(self, call):
        compiled.append(call.name)
        return compile_call(self, call)

    monkeypatch.setattr(Ahead, "compile", noted)
    recipe = get_recipe("painterly").replace(
        first_steps=1, steps=1, scales=2, min_size=40
    )
    content = jax.random.uniform(jax.random.key(1), (48, 64, 3))
    paint = lambda: stylize(
        backbone, content, [content[::-1]], recipe, key=jax.random.key(0),
        options=Options(chunk=1),
    )  # fmt: skip
    jax.clear_caches()
    with compile_timer() as first:
        paint()
    kinds = ("targets", "start", "steps", "patches")
    assert compiled == [f"the {x} at {size} px" for size in (45, 64) for x in kinds]
    assert len(first) <= 8 + 8  # these, and small ones of what is done once
    with compile_timer() as second:
        paint()
    assert not second


COUNT = """
import jax, jaxnst
from jaxnst.command.manifest import compile_timer

content, style = jaxnst.sample("harbour", 64), jaxnst.sample("swirls", 64)
recipe = jaxnst.get_recipe("painterly").replace(first_steps=1)
backbone, key = jaxnst.load_backbone("embedded"), jax.random.key(0)
with compile_timer() as compiled:
    jaxnst.stylize(backbone, content, [style], recipe, key=key)
print(*(name for name, _ in compiled))
"""


def test_a_first_picture_compiles_few_programs_each_once():
    # In a process without the checks of types, which do not know shapes for arrays.
    run = [sys.executable, "-c", COUNT]
    found = subprocess.run(run, check=True, capture_output=True, text=True)
    names = found.stdout.split()
    for name in (
        "measure_scale",
        "begin_scale",
        "run_chunk",
        "repaint_scale",
    ):
        assert names.count(f"jit({name})") == 1, names
    assert len(names) <= 8, names
