"""What is written beside a picture: all that is needed to paint it again."""

import contextlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jaxnst.command.devices import unused_gpu
from jaxnst.command.request import StylizeRequest
from jaxnst.disk import write_whole
from jaxnst.painting.manifest import FIELDS
from jaxnst.painting.stages import Result
from jaxnst.pictures.files import image_bits
from jaxnst.weights.registry import ASSETS

SAME = tuple(key for key in FIELDS if key not in ("content", "styles"))
"""What two manifests of the same picture have in common, see `difference`."""


def make_manifest(
    request: StylizeRequest, weights_sha256: str, hashes: Mapping[Path, str]
) -> dict[str, Any]:
    """All that is needed to paint the same picture again, as JSON reads it back.

    Paths are relative to the folder of the result.
    """
    near = partial(path_from, request.out.parent)
    start, weights = request.init_path, request.weights
    manifest = {
        "content": near(request.content),
        "styles": list(map(near, request.styles)),
        "pictures_sha256": [hashes[path] for path in request.pictures],
        "pictures_bits": [bits_read(path, hashes[path]) for path in request.pictures],
        "blend": request.blend,
        "masks": request.masks.map(near)._asdict(),
        "init": near(start) if start else request.init or request.recipe.look.init,
        "size": request.shape[::-1],
        "seed": request.seed,
        "weights": weights if weights in ASSETS else near(Path(weights)),
        "weights_sha256": weights_sha256,
        "recipe": request.recipe.values(),
        "device": describe_device(),
        "versions": package_versions(),
    }
    return json.loads(json.dumps(manifest))


@lru_cache(maxsize=4096)  # a grid asks for each of its pictures, often
def bits_read(path: Path, digest: str) -> int | None:
    """Bits per channel that are read of a picture; None of a video or a folder.

    The digest of the file is there for the cache alone.
    """
    with contextlib.suppress(ValueError):
        return image_bits(path)
    return None


def path_from(folder: Path, path: Path) -> str:
    """A path as seen from a folder; its name where there is no way."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.name


def description(manifest: Mapping[str, Any]) -> str:
    """A manifest as it travels in a picture: names of files, without their folders."""
    name = lambda path: path.rpartition("/")[2]
    names = {key: name(manifest[key]) for key in ("content", "init", "weights")}
    styles = list(map(name, manifest["styles"]))
    masks = jax.tree.map(
        lambda x: name(x) if isinstance(x, str) else x, manifest["masks"]
    )
    found = {**manifest, **names, "styles": styles, "masks": masks}
    return json.dumps(found, allow_nan=False)


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


def first_line(weights: str, reason: str) -> str:
    """What a run says first: its device, and its weights and why."""
    unused = unused_gpu()
    device = describe_device() + (f"; {unused}" if unused else "")
    return f"device {device}; weights {weights} ({reason})"


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    with write_whole(path) as file:
        file.write(json.dumps(manifest, indent=2, allow_nan=False).encode())


def manifest_path(out: Path) -> Path:
    """Where the manifest of a picture lies: beside it."""
    return out.with_name(out.name + ".json")


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
    """What came out of a run and the seconds it took, as JSON.

    Loss and terms are None where a run was resumed at its very end.
    """
    finite = lambda x: float(x) if math.isfinite(x) else None
    loss, terms = None, None
    if result.infos:
        last = result.infos[-1]
        loss = finite(last.loss[-1])
        terms = {name: finite(x[-1]) for name, x in last.terms._asdict().items()}
    each = [round(x, 2) for x in result.seconds]
    spent: dict[str, Any] = {"all": round(seconds, 2), "each_scale": each}
    if compiling is not None:
        spent["compile"] = round(compiling, 2)
    return {
        "status": result.status,
        "loss": loss,
        "terms": terms,
        "steps": [len(info.loss) for info in result.infos],
        "tiles": [stage.tile for stage in result.stages],
        "seconds": spent,
    }
