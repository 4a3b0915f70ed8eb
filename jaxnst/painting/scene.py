"""The pictures of a run: what is painted, in which styles, and where.

A `Scene` is made once from the user's pictures, and resized to each scale. Both happen
on the host, so new shapes never recompile, unless a recipe uses `resize_compiled`.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnst.checks import (
    check_image,
    check_kind,
    check_list,
    check_mask,
    check_strength,
)
from jaxnst.masks import fit_mask, multiply_masks, normalize_overlaps
from jaxnst.objective import check_blend
from jaxnst.pictures.color import (
    ColorMap,
    fit_colors,
    match_chroma,
    match_lightness,
    match_palette,
    to_grey,
    with_lightness,
)
from jaxnst.pictures.geometry import resize
from jaxnst.recipes import Recipe
from jaxnst.repaint.bank import Styles
from jaxnst.repaint.filters import sharpen
from jaxnst.types import Image, Mask


class Style(NamedTuple):
    """A picture that gives a style.

    Attributes:
        image: RGB in [0, 1], h w 3, of any size.
        mask: Part of the image to take the style from, h w 1 in [0, 1], of any size.
            Default: all of it.
        stroke_scale: Factor on the recipe's `style_scale`, > 0.
    """

    image: Image
    mask: Mask | None = None
    stroke_scale: float = 1.0


class Region(NamedTuple):
    """A part of the content, and the styles that it is painted in.

    Attributes:
        styles: One or more, as `Style` or as plain images.
        mask: Where the region is, h w 1 in [0, 1], of any size; edges may be soft.
            Default: everywhere.
        blend: Weight of each style. Default: equal weights.
    """

    styles: Sequence["Style | Any"]
    mask: Mask | None = None
    blend: Float[Array | np.ndarray, "_n"] | None = None


class Masks(NamedTuple):
    """Where and how a content is painted.

    Masks are h w 1, of any size, and all but `content_strength` are in [0, 1].

    Attributes:
        regions: Parts with styles of their own. The styles of the run paint the rest.
            Where masks add up to more than 1, they are divided by their sum.
        keep_rest: Keep the content outside the regions instead of painting it.
        content_strength: Factor on the content term at each pixel, ≥ 0: 3 keeps the
            content three times as strongly. Default: 1.
        alpha: Opacity of the content. Transparent parts are neither measured nor
            painted.
        palette: Picture whose colours are used instead of the content's, if the
            recipe's `colors` is `content`.
    """

    regions: Sequence[Region] = ()
    keep_rest: bool = False
    content_strength: Mask | None = None
    alpha: Mask | None = None
    palette: Image | None = None

    @property
    def count(self) -> int:
        """Number of masks that a run keeps in memory."""
        regions = len(self.regions) + bool(self.regions)
        return regions + sum(x is not None for x in (self.content_strength, self.alpha))


class Scene(NamedTuple):
    """The pictures of a run, or of one scale. Masks have the shape of the content.

    Attributes:
        content: Photograph, recoloured as the recipe asks.
        regions: Regions whose masks add up to at most 1.
        content_strength: As in `Masks`.
        paint_mask: Where the image changes. Default: everywhere.
        turned: Whether rows and columns of all pictures are swapped, see `turn`.
        paint: Style patches of each region at a scale, from `repaint.make_paint`.
    """

    content: Image
    regions: tuple[Region, ...]
    content_strength: Mask | None = None
    paint_mask: Mask | None = None
    turned: bool = False
    paint: tuple[list[Styles], ...] = ()


NOISE = 1e-2
"""Added to the variances of colours when styles get the colours of a photograph. It
keeps the colour noise of a drawing from being amplified."""

SMALLEST_SHARE = 1e-4
"""A mask counts if its mean exceeds this number; a smaller mean may be rounding."""

TRACE = 5e-4
"""Mask value, at every pixel, of a region that is missing in a frame: more than
`SMALLEST_SHARE`, and too little to be visible."""

GREY = 2 / 255
"""Largest difference between the channels of a picture that counts as grey. In a JPEG,
rounding makes grey channels differ."""


def check_pictures(content: Any, styles: Any, masks: Masks = Masks()) -> None:
    """Raise a ValueError unless all pictures and masks of a run are as documented."""
    check_image(content, "content")
    check_styles(styles, masks)


def check_styles(styles: Any, masks: Masks) -> None:
    """Raise a ValueError unless the styles and masks of a run are as documented."""
    check_list(styles, "style")
    for number, region in enumerate(masks.regions, start=1):
        check_kind(region, Region, "jaxnst.Region")
        check_list(region.styles, "style")
        check_mask(region.mask, f"the mask of region {number}")
    own = [style for region in masks.regions for style in region.styles]
    for style in map(_as_style, (*styles, *own)):
        check_image(style.image, "style")
        check_mask(style.mask, "the mask of a style")
        if not 0 < style.stroke_scale < math.inf:
            got = style.stroke_scale
            raise ValueError(f"expected a stroke_scale > 0 of a style, got {got}")
    check_strength(masks.content_strength)
    check_mask(masks.alpha, "alpha")
    if masks.palette is not None:
        check_image(masks.palette, "palette")


def turn(tree: Any) -> Any:
    """Swap rows and columns of all pictures and masks in a tree.

    A picture that is higher than wide is painted turned, so that it shares the canvas
    of a wide one. The network's kernels are turned as well.
    """
    swap = lambda x: np.swapaxes(x, 0, 1) if getattr(x, "ndim", 0) == 3 else x
    return jax.tree.map(swap, tree)


def on_host(tree: Any) -> Any:
    """Convert all arrays of a tree to NumPy's float32; random keys stay."""
    put = lambda x: np.asarray(x, np.float32) if getattr(x, "ndim", 0) else x
    return jax.tree.map(put, tree)


def make_scene(
    content: Image,
    styles: Sequence[Style | Image],
    recipe: Recipe,
    *,
    blend: Float[Array | np.ndarray, "_n"] | None = None,
    masks: Masks = Masks(),
    turned: bool = False,
) -> Scene:
    """Make the scene of a run from its pictures, at the content's size.

    Args:
        content: RGB in [0, 1], h w 3.
        styles: Styles of the area that no region covers.
        recipe: Its `colors` and `rotate_styles` are applied.
        blend: Weight of each of the styles. Default: equal weights.
        masks: Where and how the content is painted.
        turned: Whether to `turn` all pictures.

    Returns:
        The scene, at the content's size.

    Raises:
        ValueError: If a region covers nothing or has no styles, or if the area outside
            all regions has no style, or has both styles and `keep_rest`.
    """
    given = content, list(styles), masks
    content, styles, masks = on_host(given)
    if turned:
        content, styles, masks = turn((content, styles, masks))
    parts, paint_mask = _divide(content, Region(styles, None, blend), masks)
    held, shape = masks.content_strength, content.shape
    strength = None if held is None else fit_mask(held, shape, most=math.inf)
    if masks.alpha is not None:
        alpha = fit_mask(masks.alpha, shape)
        strength = multiply_masks(strength, alpha)
        paint_mask = multiply_masks(paint_mask, (alpha > 0).astype(np.float32))
        parts = [x._replace(mask=multiply_masks(x.mask, alpha)) for x in parts]
    if recipe.look.colors == "luminance":
        content = np.asarray(to_grey(content))
    seen = [part.mask is None or part.mask.any() for part in parts]
    for number, _ in enumerate(masks.regions, start=1):
        if not seen[number - 1]:
            raise ValueError(f"region {number} covers only transparent parts; move it")
    parts = [part for part, shown in zip(parts, seen, strict=True) if shown]
    palette = masks.palette if recipe.look.colors == "content" else None
    parts = [_color_styles(part, content, recipe, palette) for part in parts]
    if recipe.look.rotate_styles:
        parts = [_rotate(part) for part in parts]
    return Scene(content, tuple(parts), strength, paint_mask, turned)


def _divide(
    content: Image, whole: Region, masks: Masks
) -> tuple[list[Region], Mask | None]:
    """All regions, the rest as the last one, and the mask of what is painted."""
    if not masks.regions:
        return [_complete(whole)], None
    everywhere = np.ones((1, 1, 1), np.float32)
    given = [everywhere if x.mask is None else x.mask for x in masks.regions]
    found, rest = normalize_overlaps([fit_mask(x, content.shape) for x in given])
    parts = [
        _complete(region._replace(mask=mask))
        for region, mask in zip(masks.regions, found, strict=True)
    ]
    for number, mask in enumerate(found, start=1):
        if not np.mean(mask) > SMALLEST_SHARE:
            raise ValueError(
                f"the mask of region {number} is all black; make it white where its "
                "style belongs"
            )
    left = float(np.mean(rest))
    if whole.styles and masks.keep_rest:
        raise ValueError(
            "expected styles for the rest, or keep_rest, got both; leave one out"
        )
    if masks.keep_rest:
        return parts, 1 - rest
    if left <= SMALLEST_SHARE:
        return parts, None
    if not whole.styles:
        raise ValueError(
            f"expected a style for the {left:.1%} of the picture that no region "
            "covers, got none; give one, or set keep_rest to leave that part unpainted"
        )
    return [*parts, _complete(whole._replace(mask=rest))], None


def with_traces(masks: Masks, *, rest: bool) -> Masks:
    """Masks of a frame, with a faint `TRACE` of each region that the frame lacks.

    With traces, regions may come and go in a video. `rest` says that the area outside
    all regions has styles; then this area gets a trace, too.

    Example:
        >>> gone = Masks([Region([], np.zeros((4, 6, 1), np.float32))])
        >>> bool((with_traces(gone, rest=True).regions[0].mask > SMALLEST_SHARE).all())
        True
    """
    if not masks.regions:
        return masks
    everywhere = np.ones((1, 1, 1), np.float32)
    given = [everywhere if x.mask is None else x.mask for x in masks.regions]
    given = [x if np.mean(x) > TRACE else np.maximum(x, TRACE) for x in given]
    shape = max(x.shape[:2] for x in given)
    fitted = [fit_mask(x, (shape[0], shape[1])) for x in given]
    shared, left = normalize_overlaps(fitted)
    if rest and not np.mean(left) > SMALLEST_SHARE:
        given = [(1 - TRACE) * x for x in shared]
    pairs = zip(masks.regions, given, strict=True)
    return masks._replace(regions=[x._replace(mask=mask) for x, mask in pairs])


def _complete(region: Region) -> Region:
    """Check a region, and make `Style`s of its plain images."""
    if not len(region.styles):
        raise ValueError("expected at least one style, got none")
    blend = None if region.blend is None else np.asarray(region.blend, np.float32)
    if blend is not None:
        check_blend(blend, len(region.styles))
    fit = lambda x: None if x.mask is None else fit_mask(x.mask, x.image.shape)
    styles = [x._replace(mask=fit(x)) for x in map(_as_style, region.styles)]
    for style in styles:
        if style.mask is not None and not np.mean(style.mask) > SMALLEST_SHARE:
            raise ValueError(
                "the mask of a style is all black; make it white where the style is "
                "taken from"
            )
    return region._replace(styles=styles, blend=blend)


def _as_style(style: Style | Any) -> Style:
    return style if isinstance(style, Style) else Style(style)


def _color_styles(
    region: Region, content: Image, recipe: Recipe, palette: Image | None
) -> Region:
    """Give the styles of a region the colours of the photograph there."""
    if recipe.look.colors == "style":
        return region

    def recolor(style: Style) -> Style:
        grey = recipe.look.colors == "luminance"
        own = np.asarray(to_grey(style.image)) if grey else style.image
        wanted, mask = (content, region.mask) if palette is None else (palette, None)
        options: dict = {"mask": style.mask, "reference_masks": [mask]}
        moved = match_palette(own, [wanted], epsilon=NOISE, **options)
        return style._replace(image=moved)

    return region._replace(styles=[recolor(x) for x in region.styles])


def _rotate(region: Region) -> Region:
    """A region with each style in four directions, a quarter turn apart."""

    def turn(style: Style, times: int) -> Style:
        turned = lambda x: None if x is None else np.rot90(x, times)
        return style._replace(image=turned(style.image), mask=turned(style.mask))

    styles = [turn(style, times) for times in range(4) for style in region.styles]
    blend = None if region.blend is None else np.tile(region.blend, 4)
    return region._replace(styles=styles, blend=blend)


def fit_masks(scene: Scene, shape: tuple[int, int]) -> Scene:
    """A scene with its masks resized to the shape of a scale."""
    fit = lambda x, most=1.0: None if x is None else fit_mask(x, shape, most=most)
    regions = tuple(x._replace(mask=fit(x.mask)) for x in scene.regions)
    strength, paint = fit(scene.content_strength, math.inf), fit(scene.paint_mask)
    return scene._replace(regions=regions, content_strength=strength, paint_mask=paint)


def painted_content(scene: Scene, recipe: Recipe) -> Image:
    """The content; if the recipe's `palette` is `style`, in the styles' colours."""
    if recipe.look.palette == "content":
        return scene.content

    def paint(region: Region) -> Image:
        palette = _palettes(region)
        moved = match_palette(scene.content, **palette)
        return match_lightness(moved, **palette) if recipe.look.repaint else moved

    return compose(scene, scene.content, list(map(paint, scene.regions)))


def color_maps(scene: Scene) -> list[ColorMap]:
    """For each region, the map from the content's colours to those of its styles."""
    return [fit_colors(scene.content, **_palettes(x)) for x in scene.regions]


def recolored(
    scene: Scene, recipe: Recipe, maps: Sequence[ColorMap] | None = None
) -> Image:
    """The content in the colours of the styles, for recipes that take no steps.

    By default, the maps are those of `color_maps`. The area outside of all regions
    keeps its colours; `finish` blends at the edges of the painted area.
    """
    if recipe.look.palette == "content":
        return scene.content
    share = np.float32(max(1, recipe.weights.content_ratio) ** -0.5)
    parts = zip(scene.regions, maps or color_maps(scene), strict=True)
    moved, total = np.zeros_like(scene.content), np.float32(0)
    for region, colors in parts:
        mask = np.float32(1) if region.mask is None else region.mask
        moved += mask * (colors(scene.content) - scene.content)
        total = total + mask
    return scene.content + share * moved / np.where(total > 0, total, 1)


def _palettes(region: Region) -> dict[str, Any]:
    """Masks, styles and blend of a region, as arguments for `pictures.color`."""
    images, masks = [x.image for x in region.styles], [x.mask for x in region.styles]
    own = {"mask": region.mask, "blend": region.blend}
    return own | {"references": images, "reference_masks": masks}


def scale_content(content: Image, shape: tuple[int, int]) -> Image:
    """A content, or a start image, at the size of a scale, clipped to [0, 1]."""
    return np.clip(resize(content, shape), 0, 1)


def compose(scene: Scene, image: Image, parts: Sequence[Image]) -> Image:
    """Replace each region of an image by its own part, an image of the same shape."""
    found = image
    for region, part in zip(scene.regions, parts, strict=True):
        if region.mask is None:
            return part
        found = found + region.mask * (part - image)
    return found


def sharpened(scene: Scene, image: Image) -> Image:
    """Sharpen an image of patches until each region is as crisp as its styles."""
    styles = lambda region: [(style.image, style.mask) for style in region.styles]
    parts = [sharpen(image, x.mask, styles(x)) for x in scene.regions]
    return compose(scene, image, parts)


def keep(scene: Scene, image: Image, photograph: Image) -> Image:
    """An image of a scale, with the photograph where nothing is painted."""
    if scene.paint_mask is None:
        return image
    small = scale_content(photograph, (image.shape[0], image.shape[1]))
    return np.where(scene.paint_mask > 0, image, small)


def first_image(key: Array, scene: Scene, recipe: Recipe) -> Image:
    """The image that a run starts from."""
    given = [[style.image for style in x.styles] for x in scene.regions]
    parts = [initial_image(key, scene.content, x, recipe) for x in given]
    return compose(scene, scene.content, parts)


def initial_image(
    key: Array, content: Image, styles: Sequence[Image], recipe: Recipe
) -> Image:
    """The image that the optimisation starts from, of the content's shape.

    The recipe's `init` chooses the image. `content`: the content. `noise`: noise around
    the mean colour of ImageNet, with the recipe's standard deviation `noise`. `style`:
    noise with the mean and the standard deviation of the styles' colours.
    """
    if recipe.look.init == "content":
        return content
    mean, spread = np.array([0.485, 0.458, 0.408]), np.full(3, recipe.look.noise)
    if recipe.look.init == "style":
        pixels = np.concatenate([style.reshape(-1, 3) for style in styles])
        mean, spread = pixels.mean(0), pixels.std(0)
    given = mean.astype(np.float32), spread.astype(np.float32)
    return np.asarray(_noise(key, *given, shape=content.shape))


@partial(jax.jit, static_argnames="shape")
def _noise(
    key: Array,
    mean: Float[Array, "3"],
    spread: Float[Array, "3"],
    shape: tuple[int, int, int],
) -> Image:
    noise = jax.random.normal(key, shape)
    return jnp.clip(mean[None, None] + spread[None, None] * noise, 0, 1)


def finish(
    scene: Scene,
    image: Image,
    photograph: Image,
    recipe: Recipe,
    palette: Image | None = None,
) -> Image:
    """Give a painted image the colours that the recipe asks for.

    The image must be upright; the scene may be turned. If all pictures are grey, the
    result is grey. Unpainted areas show the photograph as it was read. Scene and
    photograph may be of any scale. Where `colors` is `content`, the chroma comes from
    `palette`, by default from the photograph.
    """
    image, photograph = np.asarray(image), np.asarray(photograph)
    scene = turn(scene)._replace(turned=False) if scene.turned else scene
    if _is_grey(scene):
        image = np.asarray(to_grey(image))
    if recipe.look.colors == "style" and scene.paint_mask is None:
        return image
    shape = image.shape[0], image.shape[1]
    scene, original = fit_masks(scene, shape), scale_content(photograph, shape)
    if recipe.look.colors == "luminance":
        image = np.asarray(with_lightness(original, image))
    elif recipe.look.colors == "content":
        mask = scene.paint_mask
        wanted, shown = (original, mask) if palette is None else (palette, None)
        image = match_chroma(image, wanted, mask=mask, reference_mask=shown)
    if scene.paint_mask is None:
        return image
    return original + scene.paint_mask * (image - original)


def _is_grey(scene: Scene) -> bool:
    styles = [style.image for region in scene.regions for style in region.styles]
    # The content, which may be by far the largest, comes last.
    return all(np.ptp(x, axis=-1).max() <= GREY for x in (*styles, scene.content))
