"""How many kernels a step launches on an accelerator: it grows unseen otherwise."""

import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from jaxnst.network.vgg import Backbone
from jaxnst.objective import make_targets
from jaxnst.painting.loop import run_chunk
from jaxnst.process import STEP_OPTIONS
from jaxnst.recipes import Recipe
from jaxnst.transfer import make_transfer

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
OPERATION = re.compile(r" = (?:\(.*?\)|\S+) ([\w-]+)\(")
CALLED = re.compile(r"(?:body|to_apply|true_computation|false_computation)=%?([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


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
    backbone: Backbone,
    shape: tuple[int, int],
    recipe: Recipe,
    sharding: Sharding | None = None,
) -> int:
    """Kernels of one step, by compiling it without running it.

    Args:
        backbone: Prepared for the recipe.
        shape: Height and width of the picture; the style has the same.
        recipe: What is minimised, and how.
        sharding: Of the device to compile for, which need not be there, see
            `scripts/measure/kernels.py`. Default: this one.

    Returns:
        The number.
    """
    transfer = make_transfer(recipe.program)
    image = jax.ShapeDtypeStruct((*shape, 3), np.float32)
    state = jax.eval_shape(transfer.init, image)
    measured = lambda x: make_targets(backbone, x, [x], recipe)
    targets = jax.eval_shape(measured, image)

    leaves, tree = jax.tree.flatten((state, backbone, targets, jnp.int32(0)))
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for x in leaves]
    launch = partial(inspect.unwrap(run_chunk), transfer=transfer)
    program = jax.jit(lambda *leaves: launch(*tree.unflatten(leaves))).lower(*shapes)
    hlo = program.compile(STEP_OPTIONS).as_text() or ""
    return count_kernels(hlo, step_body(hlo))
