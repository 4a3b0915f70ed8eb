"""Compile all programs of a picture for a TPU, without one, and say what each takes.

    pip install libtpu
    python scripts/measure/tpu_programs.py --size 512

It prints the seconds that each program takes to compile on this machine, its floating
point operations, the bytes that it reads and writes, and its temporary memory.
"""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from shared import machine

import jaxnst
from jaxnst.compiled import KeptJit, Preparer
from jaxnst.painting.multiscale import PicturePainter
from jaxnst.recipes import Recipe


class Call(NamedTuple):
    """A call of a program, with the shapes of its arguments."""

    function: KeptJit
    args: tuple
    static: dict[str, Any]

    def jitted(self) -> Any:
        """The function of its arguments alone."""
        return jax.jit(partial(self.function.__wrapped__, **self.static))


class Lister(Preparer):
    """Notes calls, each program once, and compiles nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, Call] = {}

    def __call__(self, function: KeptJit, *args: Any, **static: Any) -> Any:
        """Note a call, and return the shapes of its result."""
        like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
        call = Call(function, jax.tree.map(like, args), static)
        self.calls[f"{function.__name__} {call.args} {static}"] = call
        return jax.eval_shape(call.jitted(), *call.args)


def list_programs(recipe: Recipe, shape: tuple[int, int]) -> Iterator[Call]:
    """The programs of a picture of that shape, each once."""
    content, style = np.full((*shape, 3), 0.5, "f4"), np.full((*shape, 3), 0.4, "f4")
    backbone, key = jaxnst.load_backbone("embedded"), jax.random.key(0)
    options = jaxnst.Options(stages=jaxnst.plan_run(shape, recipe))
    painter = PicturePainter(backbone, content, [style], recipe, key, options)
    lister = Lister()
    painter.prepare(lister, 0, None)
    yield from lister.calls.values()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="long edge, in pixels")
    parser.add_argument("--recipe", default="painterly")
    parser.add_argument("--topology", default="v5e:2x2")
    args = parser.parse_args()
    recipe = jaxnst.get_recipe(args.recipe).replace(dtype="bfloat16")
    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=args.topology, chips_per_host_bounds=(2, 2, 1)
    )
    place = SingleDeviceSharding(topology.devices[0])
    print(f"{machine()}; {args.recipe}, {args.size} px, for a TPU {args.topology}")
    heads = ("program", 24), ("canvas", 12), ("seconds", 8), ("GFLOP", 8), ("GB", 7)
    print(*(f"{name:>{width}}" for name, width in (*heads, ("MB", 6))))
    total = 0.0
    for call in list_programs(recipe, (3 * args.size // 4, args.size)):
        there = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
        lowered = call.jitted().lower(*jax.tree.map(there, call.args))
        began = time.perf_counter()
        compiled = lowered.compile()
        seconds = time.perf_counter() - began
        total += seconds
        cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
        shapes = (x.shape for x in jax.tree.leaves(call.args) if x.ndim >= 3)
        canvases = [shape[-3:-1] for shape in shapes if shape[-1] in (1, 3)]
        size = "x".join(map(str, max(canvases, default=())))
        print(
            f"{call.function.__name__:>24} {size:>12} {seconds:8.1f} "
            f"{cost.get('flops', 0) / 1e9:8.1f} "
            f"{cost.get('bytes accessed', 0) / 1e9:7.2f} "
            f"{memory.temp_size_in_bytes / 1e6:6.0f}",
            flush=True,
        )
    print(f"{total:.0f} s in all")


if __name__ == "__main__":
    main()
