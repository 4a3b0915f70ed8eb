"""A grid request, and the lane, file, manifest and command of each picture."""

import contextlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxnst.command.defaults import default_recipe
from jaxnst.command.manifest import SAME, make_manifest, manifest_path
from jaxnst.command.masks import as_flags
from jaxnst.command.request import MaskFiles, StylizeRequest
from jaxnst.command.sheet import Cell
from jaxnst.disk import LONGEST_NAME, check_regular
from jaxnst.painting.checkpoint import difference
from jaxnst.painting.lanes import Lane, make_lanes
from jaxnst.painting.manifest import read_manifest
from jaxnst.painting.scales import content_size, style_shape
from jaxnst.paths import as_argument
from jaxnst.pictures.files import has_alpha, image_shape
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import FIELDS, Recipe
from jaxnst.recipes.texts import as_text
from jaxnst.weights.format import sha256

LARGER = 2
"""How much larger the commands on the page paint a picture; those of a preview paint
the size of `jaxnst stylize` without --size."""


@dataclass(frozen=True, kw_only=True)
class GridRequest:
    """A grid that is asked for.

    Attributes:
        unreadable: Why other pictures are skipped, a line each.
        recipe: The recipe, with every change.
        usual: Gives a named recipe with the steps of the quality that was asked for.
        masks: Where and how contents are painted; a picture for each.
        size: Long edge of the results, if one was asked for.
        weights: Name or path of the network's weights.
        batch: Pictures on a device at a time.
        preview: Whether small pictures are painted to choose from.
        live_folder: Where the progress is shown, for who watches it.
    """

    contents: tuple[Path, ...]
    styles: tuple[Path, ...]
    unreadable: tuple[str, ...]
    out: Path
    recipe: Recipe
    usual: Callable[[str], Recipe]
    vary: dict[str, list[Any]]
    masks: tuple[MaskFiles, ...] = (MaskFiles(),)
    size: int | None
    seed: int
    weights: str
    weights_reason: str = ""
    batch: int | None
    preview: bool
    allow_huge: bool
    quiet: bool
    live_folder: Path | None = None

    @property
    def page(self) -> Path:
        """Path of the page."""
        return self.out / "index.html"

    @property
    def sheet(self) -> Path:
        """Path of the contact sheet."""
        return self.out / "sheet.png"


class Job(NamedTuple):
    """A lane, as a picture that is asked for, and what makes its manifest."""

    lane: Lane
    asked: StylizeRequest
    manifest: Callable[[], dict[str, Any]]


def make_jobs(request: GridRequest, weights_sha256: str) -> list[Job]:
    """All pictures of a grid, checked; their styles are large enough."""
    contents, styles = request.contents, request.styles
    pictures = {
        *contents,
        *styles,
        *(x for masks in request.masks for x in masks.paths),
    }
    hashes = {path: sha256(path) for path in pictures}
    native = {path: image_shape(path) for path in pictures}

    vary = dict(request.vary)
    if len(request.masks) > 1:
        vary["masks"] = list(range(len(request.masks)))

    def shape(content: Path, recipe: Recipe) -> tuple[int, int]:
        size = request.size or content_size(native[content], recipe)
        return fit_shape(native[content], size)

    lanes = make_lanes(
        [partial(shape, path) for path in contents],
        len(styles),
        request.recipe,
        key=jax.random.key(request.seed),
        vary=vary,
        masked=[any(map(has_masks, request.masks)) or has_alpha(x) for x in contents],
    )
    jobs: dict[str, Job] = {}
    names = picture_names(contents) | picture_names(styles)
    for lane in lanes:
        asked = lane_request(request, lane, names)
        for style in asked.all_styles:
            style_shape(native[style], lane.shape, lane.recipe)
        name = asked.out.stem
        manifest = partial(make_manifest, asked, weights_sha256, hashes)
        job = Job(lane, asked, manifest)
        if jobs.setdefault(name.casefold(), job) is not job:
            raise ValueError(
                f"expected names that differ, got {name} twice; rename one"
            )
    return list(jobs.values())


def picture_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Names without suffix, but with it where two pictures have the same name.

    Example:
        >>> list(picture_names([Path("a.jpg"), Path("A.png"), Path("b.png")]).values())
        ['a-jpg', 'A-png', 'b']
    """
    count = Counter(path.stem.casefold() for path in paths)
    twice = lambda path: count[path.stem.casefold()] > 1
    return {x: x.name.replace(".", "-") if twice(x) else x.stem for x in paths}


def lane_request(
    request: GridRequest, lane: Lane, names: dict[Path, str]
) -> StylizeRequest:
    """One picture of a grid, as `jaxnst stylize` would be asked for it."""
    content = request.contents[lane.content]
    styles = tuple(request.styles[j] for j in lane.styles)
    masks = request.masks[lane.setting.get("masks", 0)]
    own = shown_setting(request, lane)
    parts = [*(names[path] for path in (content, *styles)), as_setting(own)]
    name = "__".join(filter(None, parts)).replace(":", "-").replace("/", "-")
    if len(os.fsencode(name)) + 4 > LONGEST_NAME:
        raise ValueError(f"expected shorter picture names, got {name} as the result")
    return StylizeRequest(
        content=content,
        styles=styles,
        masks=masks,
        out=request.out / f"{name}.png",
        recipe=lane.recipe,
        shape=lane.shape,
        weights=request.weights,
        seed=lane.setting.get("seed", request.seed),
        blend=lane.blend,
    )


def shown_setting(request: GridRequest, lane: Lane) -> dict[str, Any]:
    """The setting of a lane, with the style of its region in the place of a number."""
    if "masks" not in lane.setting:
        return lane.setting
    ((_, (style,)),) = request.masks[lane.setting["masks"]].regions
    rest = {name: x for name, x in lane.setting.items() if name != "masks"}
    return rest | {"region": style.stem}


def has_masks(masks: MaskFiles) -> bool:
    """Whether anything but the size of strokes depends on the place."""
    return masks._replace(style_scales=()) != MaskFiles()


def as_setting(setting: dict[str, Any]) -> str:
    """A setting in a few words, such as `style_weight=100,seed=2`."""
    texts = (
        f"{name}={value.name if name == 'recipe' else as_text(value)}"
        for name, value in setting.items()
    )
    return ",".join(texts)


def is_painted(job: Job) -> bool:
    """Whether a picture exists; it must have a manifest that matches the job."""
    out = job.asked.out
    for path in (out, manifest_path(out)):
        check_regular(path)
    if not out.exists():
        return False
    before, got = None, "without a manifest"
    with contextlib.suppress(OSError, ValueError):
        before = read_manifest(manifest_path(out))
    if before is not None:
        wanted = job.manifest()
        other = difference(before, {key: wanted[key] for key in SAME})
        if not other:
            return True
        got = f"with {other}"
    raise ValueError(
        f"expected nothing or a picture of this grid at {out}, got one {got}; paint "
        "into another folder, or remove it"
    )


def make_cell(request: GridRequest, job: Job) -> Cell:
    """A picture as the page shows it, with the command that paints it larger."""
    lane, asked, _ = job
    pictures = map(as_argument, (asked.content, *asked.styles))
    out = as_argument(Path(f"{asked.out.stem}-large.png"))
    command = ["jaxnst", "stylize", *pictures, "-o", out]
    command += ["--recipe", asked.recipe.name]
    command += ["--weights", asked.weights, "--seed", asked.seed]
    if not request.preview:
        command += ["--size", max(asked.shape) * LARGER]
    if asked.blend is not None:
        command += [f"--blend={as_text(asked.blend)}"]
    if request.allow_huge:
        command += ["--allow-huge"]
    command += as_flags(asked.masks)
    recipe = asked.recipe
    if asked.masks.palette is not None:  # which says whose colours, too
        recipe = recipe.replace(colors="style")
    command += recipe_flags(request, recipe)
    text = shlex.join(map(str, command))
    setting = as_setting(shown_setting(request, lane))
    larger = max(asked.shape) * LARGER
    if request.preview:
        larger = content_size(image_shape(asked.content), asked.recipe)
    return Cell(asked.content, asked.styles, setting, asked.out, text, larger)


def recipe_flags(request: GridRequest, recipe: Recipe) -> list[str]:
    """Flags that turn the named recipe into this one."""
    named = default_recipe(recipe.name)
    # A preview's few steps are not those of the large picture, unless asked for.
    usual = request.usual(recipe.name) if request.preview else named
    flags = []
    values = recipe.values()
    defaults = named.values()
    defaults |= {name: usual.values()[name] for name in ("first_steps", "steps")}
    # Another optimiser would bring another learning rate.
    other = recipe.program.optimizer != named.program.optimizer
    for name in FIELDS:
        value, default = values[name], defaults[name]
        told = name == "learning_rate" and other
        if value != default or told:
            flags += ["--set", f"{name}={as_text(value)}"]
    return flags
