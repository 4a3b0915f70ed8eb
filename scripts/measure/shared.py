"""What several measurements share."""

import os
import platform
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax

from jaxnst.tiles import Tiles


def machine() -> str:
    """Device, number of CPU cores, version of JAX and architecture."""
    device = jax.devices()[0].device_kind
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
