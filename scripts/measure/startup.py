"""What `scripts/benchmark.py` measures in fresh processes: start-up and memory."""

import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
from shared import in_new_process, peak_memory
from timings import Inputs, by_adam, load_backbone, torch_loop, torch_settings

from jaxnst.command.describe import compile_timer
from jaxnst.command.program_cache import keep_programs
from jaxnst.network.calibrate import calibrate
from jaxnst.painting.multiscale import Options, stylize
from jaxnst.recipes import get_recipe
from jaxnst.request.defaults import default_recipe


def time_start(inputs: Inputs) -> dict[str, Any]:
    """Seconds of a new process, with nothing compiled before, and once more."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            own = found[name] = in_new_process(_short_run, inputs, folder)
            print(f"  {name}: first step after {own['first step']:.1f} s, ", end="")
            print(f"two steps at every scale after {own['all scales']:.1f} s, ", end="")
            print(f"a second time in {own['again']:.1f} s", flush=True)
            programs = sorted(own["compiling"].items(), key=lambda x: -x[1])
            for program, seconds in programs[:8]:
                print(f"    {program:<24} {seconds:6.2f} s of compiling or loading")
    return found


def measure_memory(inputs: Inputs) -> dict[str, Any]:
    """Peak memory of processes that take two steps at every scale."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"jaxnst": in_new_process(_short_run, inputs, folder)["peak"]}
    if torch_settings():
        found["PyTorch"] = in_new_process(_short_torch_run, inputs)["peak"]
    for name, peak in found.items():
        print(f"  {name:<8} {peak / 1e9:.2f} GB")
    return found


def _short_run(inputs: Inputs, folder: str, began: float) -> dict[str, Any]:
    keep_programs(Path(folder))
    recipe = default_recipe("painterly").replace(first_steps=2, steps=2)
    content, style = inputs.pictures(inputs.size, recipe)
    backbone, key, times = load_backbone(inputs.weights), jax.random.key(0), []
    options = Options(on_chunk=lambda _: times.append(time.time() - began))
    paint = partial(stylize, backbone, content, [style], recipe, key=key)
    with compile_timer() as compiling:
        paint(options=options)
    programs: dict[str, float] = defaultdict(float)
    for name, seconds in compiling:
        programs[name] += seconds
    again = time.perf_counter()
    jax.block_until_ready(paint().image)
    return {
        "first step": times[0],
        "all scales": times[-1],
        "again": time.perf_counter() - again,
        "compiling": dict(programs),
        "peak": peak_memory(),
    }


def _short_torch_run(inputs: Inputs, began: float) -> dict[str, float]:
    recipe = by_adam(get_recipe("painterly")).replace(first_steps=2, steps=2)
    content, style = inputs.pictures(inputs.size, recipe)
    backbone = calibrate(load_backbone(inputs.weights), recipe.activations)
    loops, settings = torch_loop(), torch_settings()[0]
    loops.paint(backbone, content, style, recipe, settings)
    return {"peak": loops.peak_memory() or peak_memory()}
