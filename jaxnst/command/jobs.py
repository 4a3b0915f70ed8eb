"""A grid request, and the lane, file, manifest and command of each picture."""

import contextlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxnst.command.defaults import default_recipe
from jaxnst.command.flags import as_text
from jaxnst.command.manifest import SAME, make_manifest, manifest_path
from jaxnst.command.sheet import Cell
from jaxnst.disk import LONGEST_NAME
from jaxnst.painting.checkpoint import difference
from jaxnst.painting.lanes import Lane, make_lanes
from jaxnst.painting.scales import content_size, style_shape
from jaxnst.pictures.files import image_shape
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import Recipe
from jaxnst.weights import registry
from jaxnst.weights.format import sha256

LARGER = 2
"""How much larger the commands on the page paint a picture; those of a preview paint
the size of `jaxnst stylize` without --size."""


@dataclass(frozen=True, kw_only=True)
class GridRequest:
    """A grid that is asked for.

    Attributes:
        unreadable: Why other pictures are skipped, a line each.
        out: Folder of the results.
        recipe: The recipe, with every change.
        usual: Gives a named recipe with the steps of the quality that was asked for.
        vary: Values by name.
        size: Long edge of the results, if one was asked for.
        weights: Name or path of the network's weights.
        weights_reason: Why these weights were chosen.
        batch: Pictures on a device at a time.
        preview: Whether small pictures are painted to choose from.
    """

    contents: tuple[Path, ...]
    styles: tuple[Path, ...]
    unreadable: tuple[str, ...]
    out: Path
    recipe: Recipe
    usual: Callable[[str], Recipe]
    vary: dict[str, list[Any]]
    size: int | None
    seed: int
    weights: str
    weights_reason: str = ""
    batch: int | None
    preview: bool
    allow_huge: bool
    quiet: bool

    @property
    def page(self) -> Path:
        """Path of the page."""
        return self.out / "index.html"

    @property
    def sheet(self) -> Path:
        """Path of the contact sheet."""
        return self.out / "sheet.png"

    @property
    def weights_path(self) -> Path:
        """Path of the network's weights."""
        return registry.locate(self.weights)


class Job(NamedTuple):
    """A lane with the place of its picture, and what makes its manifest."""

    lane: Lane
    out: Path
    manifest: Callable[[], dict[str, Any]]


def make_jobs(request: GridRequest, weights_sha256: str) -> list[Job]:
    """Lanes, names and manifests of all pictures, checked."""
    hashes = {path: sha256(path) for path in (*request.contents, *request.styles)}
    jobs: dict[str, Job] = {}
    for lane in request_lanes(request):
        parts = [request.contents[lane.content].stem]
        parts += [request.styles[j].stem for j in lane.styles]
        parts += [as_setting(lane.setting)]
        name = "__".join(filter(None, parts)).replace(":", "-").replace("/", "-")
        if len(name.encode()) + 4 > LONGEST_NAME:
            raise ValueError(
                f"expected shorter picture names, got {name} as the result"
            )
        manifest = partial(lane_manifest, request, lane, hashes, weights_sha256)
        job = Job(lane, request.out / f"{name}.png", manifest)
        if jobs.setdefault(name.casefold(), job) is not job:
            raise ValueError(
                f"expected names that differ, got {name} twice; rename one"
            )
    return list(jobs.values())


def request_lanes(request: GridRequest) -> list[Lane]:
    """All lanes of a request; all styles are large enough for them."""

    def shape(native: tuple[int, int], recipe: Recipe) -> tuple[int, int]:
        return fit_shape(native, request.size or content_size(native, recipe))

    lanes = make_lanes(
        [partial(shape, image_shape(path)) for path in request.contents],
        len(request.styles),
        request.recipe,
        key=jax.random.key(request.seed),
        vary=request.vary,
    )
    native = [image_shape(path) for path in request.styles]
    for lane in lanes:
        for style in lane.styles:
            style_shape(native[style], lane.shape, lane.recipe)
    return lanes


def lane_manifest(
    request: GridRequest, lane: Lane, hashes: dict[Path, str], weights_sha256: str
) -> dict[str, Any]:
    """The manifest of a lane, before its picture is painted."""
    content = request.contents[lane.content]
    styles = [request.styles[j] for j in lane.styles]
    return make_manifest(
        lane.recipe,
        {
            "content": str(content),
            "styles": list(map(str, styles)),
            "pictures_sha256": [hashes[path] for path in (content, *styles)],
            "blend": lane.blend,
            "init": lane.recipe.init,
            "size": lane.shape[::-1],
            "seed": lane.setting.get("seed", request.seed),
            "weights": request.weights,
            "weights_sha256": weights_sha256,
        },
    )


def as_setting(setting: dict[str, Any]) -> str:
    """A setting in a few words, such as `style_weight=100,seed=2`."""
    texts = (
        f"{name}={value.name if name == 'recipe' else as_text(value)}"
        for name, value in setting.items()
    )
    return ",".join(texts)


def is_painted(job: Job) -> bool:
    """Whether a picture exists; it must have a manifest that matches the job."""
    if not job.out.exists():
        return False
    before, got = None, "without a manifest"
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(manifest_path(job.out).read_bytes())
    if isinstance(before, dict):
        wanted = job.manifest()
        other = difference(before, {key: wanted[key] for key in SAME})
        if not other:
            return True
        got = f"with {other}"
    raise ValueError(
        f"expected nothing or a picture of this grid at {job.out}, got one {got}; "
        "paint into another folder, or remove it"
    )


def make_cell(request: GridRequest, job: Job) -> Cell:
    """A picture as the page shows it, with the command that paints it larger."""
    lane = job.lane
    content = request.contents[lane.content]
    chosen = tuple(request.styles[j] for j in lane.styles)
    out = f"{job.out.stem}-large.png"
    command = ["jaxnst", "stylize", content, *chosen, "-o", out]
    command += ["--recipe", lane.recipe.name, "--weights", request.weights]
    command += ["--seed", lane.setting.get("seed", request.seed)]
    if not request.preview:
        command += ["--size", max(lane.shape) * LARGER]
    if lane.blend is not None:
        command += [f"--blend={as_text(lane.blend)}"]
    if request.allow_huge:
        command += ["--allow-huge"]
    command += recipe_flags(request, lane.recipe)
    text = shlex.join(map(str, command))
    return Cell(content, chosen, as_setting(lane.setting), job.out, text)


def recipe_flags(request: GridRequest, recipe: Recipe) -> list[str]:
    """Flags that turn the named recipe into this one."""
    named = default_recipe(recipe.name)
    # A preview's few steps are not those of the large picture, unless asked for.
    usual = request.usual(recipe.name) if request.preview else named
    flags = []
    for field in fields(Recipe):
        name, value = field.name, getattr(recipe, field.name)
        default = getattr(usual if name in ("first_steps", "steps") else named, name)
        # Another optimiser would bring another learning rate.
        told = name == "learning_rate" and recipe.optimizer != named.optimizer
        if value != default or told:
            flags += ["--set", f"{name}={as_text(value)}"]
    return flags
