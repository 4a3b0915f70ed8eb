"""What is written beside a picture: all that is needed to paint it again."""

import contextlib
import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jaxnst import disk
from jaxnst.painting.grid import Painted
from jaxnst.painting.multiscale import Result
from jaxnst.recipes import Recipe

SAME = (
    "pictures_sha256",
    "blend",
    "init",
    "recipe",
    "size",
    "seed",
    "weights",
    "weights_sha256",
)
"""What two manifests of the same picture have in common, see `difference`."""


def make_manifest(
    recipe: Recipe,
    *,
    content: Path,
    styles: Sequence[Path],
    hashes: Sequence[str],
    blend: Sequence[float] | None,
    init: str | None,
    shape: tuple[int, ...],
    seed: int,
    weights: str,
    weights_sha256: str,
) -> dict[str, Any]:
    """All that is needed to paint the same picture again, as JSON.

    Args:
        recipe: The recipe, with every change.
        content: Path of the content.
        styles: Paths of the styles.
        hashes: SHA-256 of content, styles and, if it is a file, start image.
        blend: Weight of each style.
        init: Start image, if it is not the recipe's.
        shape: Height and width of the result.
        seed: Of the start image.
        weights: Name or path of the network's weights.
        weights_sha256: Of that file.

    Returns:
        What JSON can hold, as it is when read back.
    """
    manifest = {
        "content": str(content),
        "styles": [str(style) for style in styles],
        "pictures_sha256": list(hashes),
        "blend": blend,
        "init": init or recipe.init,
        "size": [shape[1], shape[0]],
        "seed": seed,
        "recipe": {k: getattr(recipe, k) for k in recipe.__dataclass_fields__},
        "weights": weights,
        "weights_sha256": weights_sha256,
        "device": describe_device(),
        "versions": _versions(),
    }
    return json.loads(json.dumps(manifest))


@cache
def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")
    own = {"jaxnst": version("jaxnst"), "python": platform.python_version()}
    return own | {package: version(package) for package in packages}


def describe_device() -> str:
    """The device that pictures are painted on, in words."""
    device, count = jax.local_devices()[0], jax.local_device_count()
    kind = f"{os.cpu_count()} cores" if device.platform == "cpu" else device.device_kind
    return f"{device.platform} ({kind})" + (f" x {count}" if count > 1 else "")


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    with disk.write_whole(path) as file:
        file.write(json.dumps(manifest, indent=2, allow_nan=False).encode())


def manifest_path(out: Path) -> Path:
    """Where the manifest of a picture lies: beside it."""
    return out.with_name(out.name + ".json")


@contextlib.contextmanager
def compile_timer() -> Iterator[list[float]]:
    """Collect the durations of what XLA compiles."""
    durations: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            durations.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield durations
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def describe_result(
    result: Result | Painted, seconds: float, compiling: float | None = None
) -> dict[str, Any]:
    """What came out of a run, as JSON."""
    last = jax.tree.map(lambda x: float(x[-1]), result.infos[-1])
    finite = lambda x: x if math.isfinite(x) else None
    return {
        "status": result.status,
        "loss": finite(last.loss),
        "terms": {name: finite(x) for name, x in last.terms._asdict().items()},
        "steps": [len(info.loss) for info in result.infos],
        "tiles": getattr(result, "tiles", None),
        "seconds": {
            "all": round(seconds, 2),
            "each_scale": [round(x, 2) for x in result.seconds],
        }
        | ({} if compiling is None else {"compile": round(compiling, 2)}),
    }
