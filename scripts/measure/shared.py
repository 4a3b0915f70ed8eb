"""What several measurements share."""

import multiprocessing
import os
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import jax
import psutil

from jaxnst.recipes import get_recipe
from jaxnst.tiles import Tiles

GRAM = get_recipe("gatys2016").replace(
    name="gram",
    content_loss="mean",
    style_loss="gram",
    optimizer="adam",
    learning_rate=5.0,
    init="content",
)
"""The classic loop: Gram matrices of five layers, Adam."""


def machine() -> str:
    """Device, number of CPU cores, version of JAX and architecture."""
    device, about = jax.devices()[0].device_kind, Path("/proc/cpuinfo")
    if jax.default_backend() == "cpu" and about.exists():
        name = re.search(r"model name\s*: (.*)", about.read_text())
        device = name[1].strip() if name else device
    cores, architecture = os.cpu_count(), platform.machine()
    return f"{device}, {cores} cores, jax {jax.__version__}, {architecture}"


def alternate(repeats: int, *functions: Callable[[], Any]) -> list[float]:
    """Median seconds of each function; they take turns, and should be warm."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            found.append(time.perf_counter() - began)
    return [median(found) for found in times]


def describe(tiles: Tiles) -> str:
    """Number of tiles and size of each."""
    return f"{len(tiles.starts)} of {tiles.shape[1]} x {tiles.shape[0]}"


def in_new_process(function: Callable, *args: Any) -> dict[str, Any]:
    """Call a function in a process of its own, with the time at which that began."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *args, time.time()).result()
        except BrokenExecutor:
            raise SystemExit(
                "a process that was measured was killed, most likely because memory "
                "ran out; use a smaller --size"
            ) from None


def peak_memory() -> float:
    """Most bytes that the device held; of a CPU, that this process did.

    Where Linux does not tell, those that it holds.
    """
    stats = jax.devices()[0].memory_stats() or {}  # none of a CPU
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [float(line.split()[1]) * 1024 for line in lines if "VmHWM" in line]
    return peaks[0] if peaks else psutil.Process().memory_info().rss
