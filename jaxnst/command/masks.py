"""Masks on the command line: checked, read, and joined to what is painted."""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jaxnst.command.flags import COLORS
from jaxnst.command.labels import label_regions
from jaxnst.command.reporter import complain
from jaxnst.command.request import MaskFiles
from jaxnst.masks import fit_mask
from jaxnst.painting.inputs import load_style
from jaxnst.painting.scene import Masks, Region, Style
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
        flags += ["--region", f"{mask}={','.join(map(str, styles))}"]
    for path, mask in files.style_masks:
        flags += ["--style-mask", f"{path}={mask}"]
    for path, scale in files.style_scales:
        flags += ["--style-scale", f"{path}={scale:g}"]
    if files.labels:
        flags += ["--labels", *map(str, files.labels)]
    if files.hold is not None:
        flags += ["--content-mask", str(files.hold)]
    if files.palette is not None:
        flags += ["--colors", str(files.palette)]
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
        shown = fit_mask(load_mask(part), _shape(image))
        if not shown.any():
            raise ValueError(f"expected a part of {path} by its mask, got it all black")
        mask = shown if mask is None else shown * mask
    return Style(image, mask, scale)


def read_masks(
    files: MaskFiles,
    styles: Sequence[Style],
    alpha: Mask | None,
    shape: tuple[int, ...],
    recipe: Recipe,
) -> Masks:
    """The masks of a content of that shape, whose part `alpha` is seen."""
    read = partial(read_style, files=files, shape=shape, recipe=recipe)
    for path in (*(mask for mask, _ in files.regions), files.hold):
        if path is not None:
            tell_stretched(path, shape)
    regions = [
        Region([read(path) for path in own], read_region(mask))
        for mask, own in files.regions
    ]
    if files.labels:
        regions = label_regions(files.labels, styles, shape)
    return Masks(
        regions=regions,
        keep_rest=files.keep_rest,
        hold=None if files.hold is None else load_mask(files.hold),
        alpha=alpha,
        palette=None if files.palette is None else load_image(files.palette, size=512),
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


def read_region(path: Path) -> Mask:
    """A mask that is white somewhere."""
    mask = load_mask(path)
    if not mask.any():
        raise ValueError(
            f"expected a mask that is white where its style is painted, got {path}, "
            "which is all black"
        )
    return mask


def _shape(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
