#!/usr/bin/env python3
"""Time this machine, and compare it with plain PyTorch loops.

    pip install '.[bench]' && python scripts/benchmark.py [--parts PART …] [-o OUT.json]

Without PyTorch, only jaxnst is timed. `--help` describes all options; a full run takes
many minutes.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).with_name("measure")))

import startup
import timings
from shared import machine

from jaxnst.command.flags import positive
from jaxnst.disk import check_target
from jaxnst.pictures.samples import sample_path

PARTS = {
    "steps": ("one step, Gram and Wasserstein-2, at each size", timings.time_steps),
    "picture": (
        "a picture by delicate: time to PyTorch's final loss",
        timings.time_picture,
    ),
    "start": (
        "from a new process to its first step, and to two at every scale",
        startup.time_start,
    ),
    "grid": ("grids, four steps at every scale", timings.time_grid),
    "memory": ("peak memory", startup.measure_memory),
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, whole, sizes = parser.add_argument, list(PARTS), [256, 512, 1024]
    add("--parts", choices=PARTS, nargs="+", default=whole, help="default: all")
    add("--sizes", type=positive, nargs="+", default=sizes, help="of a step")
    add("--size", type=positive, default=512, help="of the picture")
    add("--grid-sizes", type=positive, nargs="+", default=[256], help="of grids")
    lanes = "pictures of a grid (default: 1 4, on an accelerator 1 4 16 64)"
    add("--lanes", type=positive, nargs="+", help=lanes)
    add("--repeats", type=positive, default=5, help="turns of each side")
    add("--content", type=Path, default=sample_path("harbour"))
    add("--style", type=Path, default=sample_path("swirls"))
    add("--weights", default="embedded", help="a name or file (default: embedded)")
    add("-o", "--out", type=Path, help="a .json file for all numbers")
    add("--trace", type=Path, help="a folder for a profile of some steps")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure, print a table, and write the numbers."""
    args = parse(argv)
    # PyTorch and the measured processes need room on the same GPU; JAX looks at this
    # when it first uses it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    inputs = timings.Inputs(
        args.content,
        args.style,
        args.weights,
        args.size,
        args.sizes,
        args.grid_sizes,
        args.lanes or ([1, 4] if jax.default_backend() == "cpu" else [1, 4, 16, 64]),
        args.repeats,
    )
    if args.out is not None:
        check_target(args.out)
    found: dict[str, Any] = {"weights": inputs.weights, "machine": describe_machine()}
    for name, value in found["machine"].items():
        print(f"{name:<22} {value}", flush=True)
    if not timings.torch_settings():
        print(
            f"no PyTorch that can use the {jax.default_backend()}, to compare with: "
            "pip install 'jaxnst[bench]'"
        )
    if args.trace is not None:
        timings.trace_steps(inputs, args.trace)
        print(f"wrote a profile to {args.trace}; open it with xprof or Perfetto")
    for part in args.parts:
        title, measure = PARTS[part]
        print(f"\n{part}: {title}", flush=True)
        found[part] = measure(inputs)
        if args.out is not None:
            args.out.write_text(json.dumps(found, indent=2))


def describe_machine() -> dict[str, Any]:
    """What the numbers are of."""
    about: dict[str, Any] = {"machine": machine()}
    if loops := timings.torch_loop():
        about["torch"] = loops.describe()
    about["matmul GFLOP/s"] = round(timings.matmul_rate("float32") / 1e9)
    if jax.default_backend() != "cpu":
        about["bfloat16 GFLOP/s"] = round(timings.matmul_rate("bfloat16") / 1e9)
    return about


if __name__ == "__main__":  # not in the processes that it starts
    main()
