"""`jaxnst bench`: the speed of this machine, compared with PyTorch."""

import argparse
import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jaxnst.command import startup, timings
from jaxnst.command.describe import describe_device
from jaxnst.command.flags import positive
from jaxnst.disk import check_folder, check_target, write_whole
from jaxnst.pictures.files import image_shape
from jaxnst.pictures.samples import sample_path
from jaxnst.weights import registry

PARTS = {
    "steps": ("one step, Gram and Wasserstein-2, at each size", timings.time_steps),
    "picture": (
        "the default picture: time to PyTorch's final loss",
        timings.time_picture,
    ),
    "start": (
        "from a new process to its first step, and to two at every scale",
        startup.time_start,
    ),
    "grid": (
        f"grids of {timings.GRID_SIZE} px, four steps at every scale",
        timings.time_grid,
    ),
    "memory": ("peak memory", startup.measure_memory),
}


def add_bench_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `jaxnst bench`."""
    add, whole, sizes = p.add_argument, list(PARTS), [256, 512, 1024]
    add("--parts", choices=PARTS, nargs="+", default=whole, help="default: all")
    add("--sizes", type=positive, nargs="+", default=sizes, help="of a step")
    add("--size", type=positive, default=512, help="of the picture")
    add("--repeats", type=positive, default=5, help="turns of each side")
    lanes = "pictures of a grid (default: 1 4, on an accelerator 1 4 16 64)"
    add("--lanes", type=positive, nargs="+", help=lanes)
    add("--content", type=Path, help="default: a sample picture")
    add("--style", type=Path, help="default: a sample picture")
    add("--weights", default="embedded", help="as in jaxnst stylize")
    add("-o", "--out", type=Path, help="a .json file for all numbers")
    add("--trace", type=Path, help="a folder for a profile of some steps")


def bench_command(args: argparse.Namespace) -> int:
    """Measure, print a table, and write the numbers."""
    # PyTorch and the measured processes need room on the same GPU; JAX looks at this
    # when it first uses it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    inputs = timings.BenchInputs(
        args.content or sample_path("harbour"),
        args.style or sample_path("swirls"),
        registry.choose(args.weights)[0],
        args.size,
        args.sizes,
        args.repeats,
        args.lanes or ([1, 4] if jax.default_backend() == "cpu" else [1, 4, 16, 64]),
    )
    pictures = {inputs.content.resolve(), inputs.style.resolve()}
    if args.out is not None:
        check_target(args.out)
        if args.out.suffix != ".json" or args.out.resolve() in pictures:
            raise ValueError(f"expected --out FILE.json, got {args.out}")
    if args.trace is not None:
        check_folder(args.trace.parent)
    for path in pictures:
        image_shape(path)
    found: dict[str, Any] = {"machine": describe_machine(), "weights": inputs.weights}
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
            with write_whole(args.out) as file:
                file.write(json.dumps(found, indent=2).encode())
    if args.out is not None:
        print(f"\nwrote {args.out}")
    return 0


def describe_machine() -> dict[str, Any]:
    """What the numbers are of."""
    machine: dict[str, Any] = {
        "device": describe_device(),
        "processor": _processor(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxnst": version("jaxnst"),
    }
    if loops := timings.torch_loop():
        machine["torch"] = loops.describe()
    machine["matmul GFLOP/s"] = round(timings.matmul_rate("float32") / 1e9)
    if jax.default_backend() != "cpu":
        machine["bfloat16 GFLOP/s"] = round(timings.matmul_rate("bfloat16") / 1e9)
    return machine


def _processor() -> str:
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    about = Path("/proc/cpuinfo")
    name = re.search(
        r"model name\s*: (.*)", about.read_text() if about.exists() else ""
    )
    return name[1].strip() if name else platform.processor() or platform.machine()
