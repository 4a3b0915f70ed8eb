"""The manifest that is written beside a picture, with all that repainting needs."""

import contextlib
import hashlib
import math
import os
import platform
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from jaxnst.painting.stages import Result
from jaxnst.request.manifest import Manifest
from jaxnst.request.painting import Painting
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def make_manifest(painting: Painting, shape: tuple[int, int] | None = None) -> Manifest:
    """The manifest of a painting with a result of `shape`. The network is on disk."""
    height, width = shape or painting.shape()
    return Manifest(
        painting=painting,
        size=(width, height),
        pictures_sha256=tuple(map(content_hash, painting.paths)),
        weights_sha256=content_hash(registry.locate(painting.network)),
        device=describe_device(),
        versions=package_versions(),
    )


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or for a folder, of the names and hashes of its files."""
    if not path.is_dir():
        found = path.stat()
        return _file_hash(path, found.st_mtime_ns, found.st_size)
    files = sorted(x for x in path.iterdir() if x.is_file() and x.name[0] != ".")
    lines = "".join(f"{x.name} {sha256(x)}\n" for x in files)
    return hashlib.sha256(lines.encode()).hexdigest()


# A grid asks often for the hash of a picture; a changed file has another key.
_file_hash = lru_cache(maxsize=4096)(lambda path, *_: sha256(path))


@cache
def package_versions() -> dict[str, str]:
    """The versions that a result depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")
    own = {"jaxnst": version("jaxnst"), "python": platform.python_version()}
    return own | {package: version(package) for package in packages}


def describe_device() -> str:
    """The device that pictures are painted on, in words."""
    device, count = jax.local_devices()[0], jax.local_device_count()
    kind = f"{os.cpu_count()} cores" if device.platform == "cpu" else device.device_kind
    return f"{device.platform} ({kind})" + (f" x {count}" if count > 1 else "")


GPU_SIGNS = (
    "/proc/driver/nvidia/version",
    "/dev/nvidia0",
    "/usr/lib/wsl/lib/nvidia-smi",
)
"""On Linux with an NVIDIA card, at least one of these files exists."""


def unused_gpu() -> str:
    """A line saying that JAX does not use an NVIDIA card, and why; otherwise empty.

    The line is also empty if `JAX_PLATFORMS` has chosen the device.
    """
    chosen = os.environ.get("JAX_PLATFORMS") or jax.default_backend() != "cpu"
    if chosen or not any(map(os.path.exists, GPU_SIGNS)):
        return ""
    if any(map(find_spec, ("jax_cuda12_plugin", "jax_cuda13_plugin"))):
        return "the NVIDIA card cannot be used: check its driver with nvidia-smi"
    return "the NVIDIA card is not used: pip install 'jaxnst[cuda]'"


@contextlib.contextmanager
def compile_timer() -> Iterator[list[tuple[str, float]]]:
    """Collect the name of each program that XLA compiles, and its seconds."""
    durations: list[tuple[str, float]] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            durations.append((str(kwargs.get("fun_name", "")), duration_secs))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield durations
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def describe_result(
    result: Result, seconds: float, compiling: float | None = None
) -> dict[str, Any]:
    """Status, losses, steps, tiles and seconds of a run, as JSON.

    Loss and terms are None if no step was taken.
    """
    finite = lambda x: float(x) if math.isfinite(x) else None
    loss, terms = None, None
    if result.infos:
        last = result.infos[-1]
        loss = finite(last.loss[-1])
        terms = {name: finite(x[-1]) for name, x in last.terms._asdict().items()}
    each = [round(x, 2) for x in result.seconds]
    spent: dict[str, Any] = {"all": round(seconds, 2), "each_scale": each}
    spent |= {} if compiling is None else {"compile": round(compiling, 2)}
    return {
        "status": result.status,
        "loss": loss,
        "terms": terms,
        "steps": [len(info.loss) for info in result.infos],
        "tiles": [stage.tile for stage in result.stages],
        "seconds": spent,
    }
