"""Masks on the command line: checked, read, and joined to what is painted."""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from jaxnst.command.flags import COLORS
from jaxnst.command.labels import Colors, common_labels, label_masks, label_regions
from jaxnst.command.reporter import complain
from jaxnst.command.request import MaskFiles
from jaxnst.masks import fit_mask, share_out
from jaxnst.painting.inputs import load_style
from jaxnst.painting.scene import LEAST, Masks, Region, Style
from jaxnst.paths import as_argument, quoted
from jaxnst.pictures.files import image_shape, load_image, load_mask
from jaxnst.recipes import Recipe
from jaxnst.types import Image, Mask


def mask_files(args: argparse.Namespace) -> MaskFiles:
    """What the flags of `flags.add_mask_flags` ask for, checked."""
    whose: str | None = args.colors
    palette = None if whose is None or whose in COLORS else Path(whose)
    files = MaskFiles(
        regions=tuple(args.region),
        keep_rest=args.keep_rest,
        style_masks=tuple(args.style_mask),
        style_scales=tuple((path, x) for path, x in args.style_scale if path),
        labels=tuple(args.labels or ()),
        hold=args.content_mask,
        palette=palette,
    )
    if palette is not None and not palette.is_file():
        names = ", ".join(COLORS)
        raise ValueError(
            f"expected --colors {names} or a file, got {whose!r}, where nothing is"
        )
    return files


def as_flags(files: MaskFiles) -> list[str]:
    """The flags that ask for them."""
    flags = []
    for mask, styles in files.regions:
        flags += ["--region", f"{quoted(mask)}={','.join(map(quoted, styles))}"]
    for path, mask in files.style_masks:
        flags += ["--style-mask", f"{quoted(path)}={quoted(mask)}"]
    for path, scale in files.style_scales:
        flags += ["--style-scale", f"{path}={scale:g}"]
    if files.labels:
        flags += ["--labels", *map(as_argument, files.labels)]
    if files.hold is not None:
        flags += ["--content-mask", as_argument(files.hold)]
    if files.palette is not None:
        flags += ["--colors", as_argument(files.palette)]
    return flags + ["--keep-rest"] * files.keep_rest


def with_region_style(files: MaskFiles, style: Path) -> MaskFiles:
    """The same with another style in its one region."""
    if len(files.regions) != 1:
        raise ValueError(
            f"expected one --region to vary its style, got {len(files.regions)}"
        )
    return files._replace(regions=((files.regions[0][0], (style,)),))


def check_masks(files: MaskFiles, styles: Sequence[Path]) -> None:
    """Raise a ValueError if masks and styles do not go together."""
    of_regions = [path for _, own in files.regions for path in own]
    for path in files.paths:
        image_shape(path)
    for path, mask in files.style_masks:
        read_white(mask, f"{path} is the style")
    for name, _ in (*files.style_masks, *files.style_scales):
        if name not in (*styles, *of_regions):
            raise ValueError(
                f"expected one of the styles before =, got {name}; the styles are "
                f"{', '.join(map(str, (*styles, *of_regions)))}"
            )
    if files.labels and (files.regions or files.keep_rest):
        raise ValueError("expected --labels or --region, got both")
    if files.labels and len(files.labels) != 1 + len(styles):
        raise ValueError(
            f"expected --labels with a picture for the content and one for each of "
            f"the {len(styles)} styles, got {len(files.labels)}"
        )
    if files.keep_rest and not files.regions:
        raise ValueError("expected a --region for --keep-rest, got none")
    if files.keep_rest and styles:
        raise ValueError(
            f"expected styles for the rest or --keep-rest, got both; leave out "
            f"{styles[0]} or --keep-rest"
        )
    if not styles and not files.regions:
        raise ValueError(
            "expected at least one style, got none; name a picture after the content"
        )


def read_style(
    path: Path, files: MaskFiles, shape: tuple[int, ...], recipe: Recipe
) -> Style:
    """A style with its part and scale, as large as it is measured."""
    scale = dict(files.style_scales).get(path, 1.0)
    image, mask = load_style(path, shape, recipe, scale)
    if path in dict(files.style_masks):
        part = dict(files.style_masks)[path]
        tell_stretched(part, image.shape)
        shown = fit_mask(read_white(part, f"{path} is the style"), _shape(image))
        mask = shown if mask is None else shown * mask
    return Style(image, mask, scale)


def read_masks(
    files: MaskFiles,
    styles: Sequence[Style],
    alpha: Mask | None,
    shape: tuple[int, ...],
    recipe: Recipe,
    *,
    read_mask: Callable[[Path], Mask] | None = None,
    colors: Colors | None = None,
) -> Masks:
    """The masks of a content of that shape, whose part `alpha` is seen.

    Regions are read by `read_mask`, by default `read_region`; `colors` are the labels,
    by default those of the content.
    """
    read = partial(read_style, files=files, shape=shape, recipe=recipe)
    for path in (*(mask for mask, _ in files.regions), files.hold):
        if path is not None:
            tell_stretched(path, shape)
    regions = [
        Region([read(path) for path in own], (read_mask or read_region)(mask))
        for mask, own in files.regions
    ]
    if files.labels:
        regions = label_regions(files.labels, styles, shape, colors)
    return Masks(
        regions=regions,
        keep_rest=files.keep_rest,
        hold=None if files.hold is None else load_mask(files.hold),
        alpha=alpha,
        palette=None if files.palette is None else load_image(files.palette, size=512),
    )


def moving_masks(
    files: Sequence[MaskFiles],
    styles: Sequence[Style],
    shape: tuple[int, ...],
    recipe: Recipe,
) -> Callable[[int], Masks]:
    """The masks of each frame of a video, by its index; styles are read only once.

    Regions may be black in a frame, and labels missing.
    """
    labels = [x.labels[0] for x in files if x.labels]
    colors = common_labels(labels) if labels else None
    given = files[0], styles, None, shape, recipe
    first = read_masks(*given, read_mask=load_mask, colors=colors)

    @lru_cache(maxsize=2)  # each frame asks more than once
    def masks(index: int) -> Masks:
        now = files[index]
        found = [load_mask(path) for path, _ in now.regions]
        if colors is not None:
            found = label_masks(now.labels[0], colors, shape)
        pairs = zip(first.regions, found, strict=True)
        return first._replace(
            regions=[region._replace(mask=mask) for region, mask in pairs],
            hold=None if now.hold is None else load_mask(now.hold),
        )

    return masks


def check_moving_masks(
    files: Sequence[MaskFiles], shape: tuple[int, int], *, rest: bool
) -> None:
    """Read the masks of all frames, so that a damaged one is known now, not later.

    A ValueError says if a region is black in all of them, or if a frame has a part
    without a style, where there are none for the rest.
    """
    white, bare = set(), (0.0, 0)
    for number, now in enumerate(files, start=1):
        for path in (*now.labels[:1], *([now.hold] if now.hold else [])):
            load_mask(path)
        masks = [load_mask(path) for path, _ in now.regions]
        white |= {i for i, mask in enumerate(masks) if mask.max() >= FAINT}
        if masks and not rest:
            _, left = share_out([fit_mask(x, shape) for x in masks])
            bare = max(bare, (float(left.mean()), number))
    for i, (path, _) in enumerate(files[0].regions):
        if i not in white:
            raise ValueError(
                f"expected a mask that is white where its style is painted, got {path}"
                f"{'' if len(files) == 1 else ' and all after it'}, which is all black"
            )
    if bare[0] > LEAST:
        raise ValueError(
            f"expected a style for the {bare[0]:.1%} of frame {bare[1]} that no region "
            "covers, got none; name one after the input, or leave it as it is by "
            "--keep-rest"
        )


def tell_stretched(path: Path, shape: tuple[int, ...]) -> None:
    """Say if a mask has another aspect ratio than what it masks."""
    high, wide = image_shape(path)
    height, width = shape[:2]
    if abs(math.log(wide * height / (high * width))) > 0.03:
        complain(
            f"{path} is stretched from {wide} x {high} px to the shape of its picture, "
            f"{width} x {height} px"
        )


FAINT = 0.05
"""Below that, a mask is black everywhere: a compression leaves traces."""


def read_white(path: Path, where: str) -> Mask:
    """A mask that is white somewhere; `where` says what that is."""
    mask = load_mask(path)
    if mask.max() < FAINT:
        raise ValueError(
            f"expected a mask that is white where {where}, got {path}, which is all "
            "black"
        )
    return mask


def read_region(path: Path) -> Mask:
    """The mask of a region."""
    return read_white(path, "its style is painted")


def _shape(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
