"""Count the kernels of a step on an H100, which need not be there.

    pip install '.[cuda]'
    python scripts/measure/kernels.py

XLA compiles for a description of the device. Nothing is run, and nothing is tuned, so
numbers on a real device may differ by a few.
"""

import argparse
import inspect
import os
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.topologies import get_topology_desc
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from shared import GRAM

import jaxnst
from jaxnst.painting.loop import run_chunk
from jaxnst.painting.stage import prepare_backbone
from jaxnst.process import STEP_OPTIONS

H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84929347584
  l2_cache_size: 52428800
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  threads_per_warp: 32
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
runtime_version { major: 13 }
dnn_version_info { major: 9 minor: 20 }
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
"""

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
OPERATION = re.compile(r" = (?:\(.*?\)|\S+) ([\w-]+)\(")
CALLED = re.compile(r"(?:body|to_apply|true_computation|false_computation)=%?([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')

ASKED = {"gram": 110, "crowson": 260, "painterly": 300}
"""Most kernels of a step, by recipe."""


def count_kernels(hlo: str, computation: str) -> int:
    """Fusions and custom calls of a computation, those of loops times their trips.

    Loops of unknown length count nothing: in a step, they run only where numbers are
    degenerate.

    Args:
        hlo: Optimised HLO, from `jax.stages.Compiled.as_text`.
        computation: The name of the computation.

    Returns:
        The number.
    """
    lines, found = computations(hlo), 0
    for line in lines[computation]:
        operation = OPERATION.search(line)
        if operation is None:
            continue
        name = operation[1]
        if name in ("fusion", "custom-call"):
            found += 1
            continue
        times = 1
        if name == "while":
            trips = TRIPS.search(line)
            times = int(trips[1]) if trips else 0
        holds_others = name in ("while", "call", "conditional")
        called = CALLED.findall(line) if holds_others else []
        if branches := BRANCHES.search(line):
            called += re.findall(r"[\w.-]+", branches[1])
        if times:
            found += times * sum(count_kernels(hlo, x) for x in called)
    return found


def computations(hlo: str) -> dict[str, list[str]]:
    """The lines of each computation of a program."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in re.sub(r"/\*.*?\*/", "", hlo).splitlines():
        if begun := COMPUTATION.match(line):
            lines = found.setdefault(begun[1], [])
        else:
            lines.append(line)
    return found


def step_body(hlo: str) -> str:
    """The name of the computation that the longest loop of a program repeats."""
    lines = computations(hlo)
    loops = [line for found in lines.values() for line in found if " while(" in line]
    bodies = [body for line in loops for body in re.findall(r"body=%?([\w.-]+)", line)]
    return max(bodies, key=lambda body: len(lines[body]))


def step_kernels(
    backbone: jaxnst.Backbone,
    shape: tuple[int, int],
    recipe: jaxnst.Recipe,
    sharding: Sharding | None = None,
) -> int:
    """Kernels of one step, by compiling it without running it.

    Args:
        backbone: Prepared for the recipe.
        shape: Height and width of the picture; the style has the same.
        recipe: What is minimised, and how.
        sharding: Of the device to compile for, which need not be there. Default: this
            one.

    Returns:
        The number.
    """
    transfer = jaxnst.make_transfer(recipe.program)
    image = jax.ShapeDtypeStruct((*shape, 3), np.float32)
    state = jax.eval_shape(transfer.init, image)
    measured = lambda x: jaxnst.make_targets(backbone, x, [x], recipe)
    targets = jax.eval_shape(measured, image)

    leaves, tree = jax.tree.flatten((state, backbone, targets, jnp.int32(0)))
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for x in leaves]
    launch = partial(inspect.unwrap(run_chunk), transfer=transfer)
    program = jax.jit(lambda *leaves: launch(*tree.unflatten(leaves))).lower(*shapes)
    hlo = program.compile(STEP_OPTIONS).as_text() or ""
    return count_kernels(hlo, step_body(hlo))


def main() -> None:
    """Print a line for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="long edge, in pixels")
    size = parser.parse_args().size
    device = get_topology_desc("", "cuda", target_config=H100, topology="1x1x1")
    sharding = NamedSharding(Mesh(device.devices, ["x"]), PartitionSpec())
    for name, most in ASKED.items():
        recipe = GRAM if name == "gram" else jaxnst.get_recipe(name)
        recipe = recipe.replace(dtype="bfloat16")
        backbone = jaxnst.load_backbone("embedded")
        _, stepping = prepare_backbone(backbone, recipe.program)
        shape = size * 3 // 4, size
        found = step_kernels(stepping, shape, recipe, sharding)
        print(f"{name:<10} {size} px  {found:>4} kernels a step, at most {most} wanted")


if __name__ == "__main__":
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # there is no driver
    jax.config.update("jax_platforms", "cpu")
    main()
