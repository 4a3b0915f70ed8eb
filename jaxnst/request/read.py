"""Read the pictures of a painting, at the sizes that painting and measuring need."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxnst.masks import fit_mask, normalize_overlaps
from jaxnst.painting.scales import style_shape
from jaxnst.painting.scene import SMALLEST_SHARE, Masks, Region, Style
from jaxnst.pictures.files import (
    Cutout,
    image_shape,
    load_cutout,
    load_image,
    load_mask,
)
from jaxnst.recipes import Recipe
from jaxnst.request import labels
from jaxnst.request.faces import face_strength
from jaxnst.request.painting import Painting, RegionFile, StyleFile, blend_of
from jaxnst.types import Mask

PRESERVED = 4.0
"""Content strength where a content mask is white; 1 is usual. Faces have the same."""

FAINT = 0.05
"""A mask with only smaller values counts as all black: compression leaves traces."""


def check_painting(painting: Painting, shape: tuple[int, int]) -> list[str]:
    """Check the pictures of a painting of that shape, mostly from their headers.

    Returns notes for the user, one line each. Raises a ValueError if a picture cannot
    be read, or if pictures do not match.
    """
    styles, regions = painting.styles, painting.regions
    for path in painting.paths:
        if path != painting.content:  # which may be a video
            image_shape(path)
    if painting.labels and (regions or painting.keep_rest):
        raise ValueError("--labels and --region exclude each other; leave one out")
    if painting.labels and len(painting.labels) != 1 + len(styles):
        raise ValueError(
            f"--labels has {len(painting.labels)} of {1 + len(styles)} maps; give one "
            "of the content and one of each style"
        )
    if painting.keep_rest and not regions:
        raise ValueError("--keep-rest needs a region; add --region MASK=STYLE")
    if painting.keep_rest and styles:
        raise ValueError(
            f"--keep-rest leaves nothing for {styles[0].path}; leave one of them out"
        )
    if not painting.all_styles:
        raise ValueError("no style is named; add a painting after the photograph")
    masks = [(x.mask, shape) for x in regions] + [(painting.content_mask, shape)]
    for style in painting.all_styles:
        native = image_shape(style.path)
        style_shape(native, shape, painting.recipe, style.stroke_scale)
        masks.append((style.mask, native))
        if style.mask is not None:
            read_white(style.mask, f"{style.path} is the style")
    notes = []
    for path, (height, width) in masks:
        if path is None:
            continue
        high, wide = image_shape(path)
        if abs(math.log(wide * height / (high * width))) > 0.03:
            notes.append(
                f"{path} is stretched from {wide} x {high} px to the shape of its "
                f"picture, {width} x {height} px"
            )
    if painting.content_mask and not painting.recipe.paints:
        notes.append(
            "the content mask has no effect on a recipe that takes no steps; change "
            "the colours of a part with --region MASK=STYLE --keep-rest"
        )
    return notes


def with_alpha(image: Any, alpha: Mask | None) -> Any:
    """A picture with its content's alpha, h w 4; or h w 3 if the content has none."""
    return image if alpha is None else np.concatenate([image, alpha], axis=-1)


def mask_count(painting: Painting) -> int:
    """Number of masks that a run keeps in memory, without the content's alpha."""
    found = len(painting.regions)
    if painting.labels:
        found = len(labels.read_labels(painting.labels[0]).colors)
    held = painting.content_mask is not None or bool(painting.faces)
    return found + bool(found) + held


def read_white(path: Path, where: str = "its style is painted") -> Mask:
    """Read a mask; a ValueError with the words `where` if the mask is all black."""
    mask = load_mask(path)
    if mask.max() < FAINT:
        raise ValueError(f"{path} is all black; paint it white where {where}")
    return mask


def read_strength(path: Path) -> Mask:
    """Read a content mask as content strength: 1 in black, `PRESERVED` in white."""
    return 1 + (PRESERVED - 1) * load_mask(path)


def load_style(
    path: Path, content: tuple[int, ...], recipe: Recipe, scale: float = 1.0
) -> Cutout:
    """Read a style at the size at which it is measured, for a content of that shape."""
    native = image_shape(path)
    measured = style_shape(native, (content[0], content[1]), recipe, scale)
    # A style may be squashed to the content's shape; neither edge is read too small.
    ratio = max(x / y for x, y in zip(measured, native, strict=True))
    return load_cutout(path, size=math.ceil(ratio * max(native)))


def read_style(style: StyleFile, shape: tuple[int, ...], recipe: Recipe) -> Style:
    """A style with its mask and stroke scale, at the size at which it is measured."""
    image, mask = load_style(style.path, shape, recipe, style.stroke_scale)
    if style.mask is not None:
        part = read_white(style.mask, f"{style.path} is the style")
        shown = fit_mask(part, (image.shape[0], image.shape[1]))
        mask = shown if mask is None else shown * mask
    return Style(image, mask, style.stroke_scale)


def read_masks(
    painting: Painting,
    styles: Sequence[Style],
    alpha: Mask | None,
    shape: tuple[int, ...],
    *,
    read_mask: Callable[[Path], Mask] = read_white,
    colors: labels.Colors | None = None,
) -> Masks:
    """The masks of a painting whose content has this shape and alpha.

    `read_mask` reads the masks of regions. `colors` are the colours of the labels; by
    default, those of the content's map.
    """

    def region(part: RegionFile) -> Region:
        own = [read_style(style, shape, painting.recipe) for style in part.styles]
        weights = blend_of(part.styles)
        blend = None if weights is None else np.array(weights, np.float32)
        return Region(own, read_mask(part.mask), blend)

    regions = list(map(region, painting.regions))
    if painting.labels:
        regions = labels.label_regions(painting.labels, styles, shape, colors)
    palette, held = painting.palette, painting.content_mask
    strength = None if held is None else read_strength(held)
    if painting.faces:
        faces = face_strength(painting.faces, shape)
        if strength is not None:
            strength = fit_mask(strength, (shape[0], shape[1]), most=PRESERVED)
        strength = faces if strength is None else np.maximum(strength, faces)
    return Masks(
        regions=regions,
        keep_rest=painting.keep_rest,
        content_strength=strength,
        alpha=alpha,
        palette=None if palette is None else load_image(palette, size=512),
    )


def moving_masks(
    paintings: Sequence[Painting], styles: Sequence[Style], shape: tuple[int, ...]
) -> Callable[[int], Masks]:
    """A function from a frame's index to its masks, which reads styles only once.

    In a frame, a region may be black and a label may be missing.
    """
    maps = [x.labels[0] for x in paintings if x.labels]
    colors = labels.common_labels(maps) if maps else None
    given = paintings[0], styles, None, shape
    first = read_masks(*given, read_mask=load_mask, colors=colors)

    @lru_cache(maxsize=2)  # each frame asks more than once
    def masks(index: int) -> Masks:
        now = paintings[index]
        found = [load_mask(region.mask) for region in now.regions]
        if colors is not None:
            found = labels.label_masks(now.labels[0], colors, shape)
        pairs = zip(first.regions, found, strict=True)
        held = now.content_mask
        return first._replace(
            regions=[region._replace(mask=mask) for region, mask in pairs],
            content_strength=None if held is None else read_strength(held),
        )

    return masks


def check_moving_masks(paintings: Sequence[Painting], shape: tuple[int, int]) -> None:
    """Read the masks of all frames, so that damaged ones are found before painting.

    Raises a ValueError if a region is black in all frames, or if a part of a frame has
    no style.
    """
    white, bare = set(), (0.0, 0)
    for number, now in enumerate(paintings, start=1):
        for path in (*now.labels[:1], now.content_mask):
            if path is not None:
                load_mask(path)
        masks = [load_mask(region.mask) for region in now.regions]
        white |= {i for i, mask in enumerate(masks) if mask.max() >= FAINT}
        if masks and not (now.styles or now.keep_rest):
            _, left = normalize_overlaps([fit_mask(x, shape) for x in masks])
            bare = max(bare, (float(left.mean()), number))
    for i, region in enumerate(paintings[0].regions):
        if i not in white:
            is_ = "is" if len(paintings) == 1 else "and all after it are"
            raise ValueError(
                f"{region.mask} {is_} all black; paint it white where its style goes"
            )
    if bare[0] > SMALLEST_SHARE:
        raise ValueError(
            f"no region covers {bare[0]:.1%} of frame {bare[1]}; name a style for it "
            "after the input, or keep it unchanged with --keep-rest"
        )
