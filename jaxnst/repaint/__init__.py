"""Repaint a picture with patches of its styles, coarse to fine.

For every patch of the picture, a search finds the most similar patch of the styles. The
found patches are averaged into a new picture: coarse strokes first, then finer ones.

Each level of the pyramid is padded to a canvas, so that all pictures, and all scales of
a run, share a few programs.

Constants of the look, here and in `bank`, `filters`, `flow` and `match`, were chosen by
eye at 512 px on photographs and oil paintings.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxnst.checks import check_image, check_list, check_mask, check_strength
from jaxnst.compiled import Runner, kept_jit, shape_of
from jaxnst.masks import fit_mask
from jaxnst.pictures.canvas import Canvas, exact, extend, square
from jaxnst.pictures.color import match_lightness
from jaxnst.pictures.geometry import crop_middle
from jaxnst.process import COMPILE_FAST
from jaxnst.repaint.bank import (
    LENGTH,
    RADIUS,
    SIDE,
    WINDOW,
    Bank,
    Descriptors,
    RowMoments,
    Styles,
    count_rows,
    describe,
    find_directions,
    make_bank,
    match_moments,
    mean_around,
)
from jaxnst.repaint.filters import clarify, find_edges, find_lone_marks, halves
from jaxnst.repaint.flow import ANGLES, TurnedStyle, lead_strokes, turn_style
from jaxnst.repaint.match import (
    Distances,
    Matches,
    improve,
    overuse_penalty,
    refine,
    search,
)
from jaxnst.types import Image, Mask

COARSEST = 16
"""Smallest short edge of the coarsest level, in pixels."""

HOLD = 1
"""Factor of the guide's weight h, see `repaint`, at the finest level. At a level of n
halvings, h is n + 1 times as large."""

EDGE_HOLD = 37.5
"""At edges of the content, this factor times the edge strength above `FLAT` is added to
`HOLD`."""

FLAT = 0.2
"""Edge strength, 0 to 1, up to which the content counts as flat. In flat parts, `HOLD`
stays as it is, so larger forms of the styles appear: facets of a sky, bands, swirls."""

HEIGHT = 0.5
"""Weight of a patch's height in its picture. It lets skies be painted with skies."""

SEARCH_ROUNDS = 6
"""Rounds of search and averaging at each level; more rounds give longer strokes."""

BLUR = 0.005
"""Squared distance of descriptors at which a patch has half the weight of a perfect
match in the average of overlapping patches."""

BAND = 2**20
"""Largest number of pixels of a level that are painted at once."""

HALO = 64
"""Rows above and below a band that its patches may depend on."""

STYLE_PIXELS = 2**22
"""Largest number of pixels of all styles together, rotated copies included."""

BRUSH = np.outer(WINDOW, WINDOW).astype(np.float32) ** 2
"""Weights of the pixels of a patch in the average. The middle counts most, which keeps
strokes crisp; wider weights would give longer strokes."""


class Level(NamedTuple):
    """The picture and its guide at one level of the pyramid, on its canvas.

    Attributes:
        shown: The guide g, h w 3: the content at its edges, the picture elsewhere.
        hold: Weight h of the guide, h w 1.
        where: Weight of each pixel in the statistics of patches, h w 1, of mean 1.
        heights: Height of each pixel in the picture, h w 1, see `find_heights`.
        directions: Wanted directions of strokes, see `flow.lead_strokes`.
        extent: Height and width of the picture; None for a band of a picture.
    """

    shown: Image
    hold: Mask
    where: Mask
    heights: Mask
    directions: Float[Array | np.ndarray, "_h _w 2"]
    extent: Int[Array | np.ndarray, "2"] | None


class Layout(NamedTuple):
    """The levels of a picture, and the styles at each level, both coarsest first."""

    levels: list[Level]
    paint: list[Styles]


def repaint(
    image: Image,
    content: Image,
    styles: Sequence[Image],
    content_ratio: float,
    blend: Float[Array | np.ndarray, "_n"] | None = None,
    *,
    mask: Mask | None = None,
    held: Mask | None = None,
    style_masks: Sequence[Mask | None] = (),
    canvas: Canvas | None = None,
    turned: bool = False,
) -> Float[np.ndarray, "_h _w 3"]:
    """Repaint a picture with patches of its styles.

    At each level of a pyramid, coarsest first, the patch around a pixel p is copied
    from the place m(p) of the styles that minimises
    `|P(x, p) - P(s, m)|² + h(p) |P(g, p) - P(s, m)|²`. Here s are the styles, and x is
    the picture so far. The guide g is the content at the content's edges, and elsewhere
    `image` with the lights and darks of the styles. P describes a patch by its low
    frequencies and, with less weight, by its height in the picture and the direction of
    its strokes. The weight h is proportional to `content_ratio`, and larger at edges of
    the content. Overlapping patches are averaged. Each level repeats this
    `SEARCH_ROUNDS` times.

    - The coarsest level is searched exactly. Every other level starts from the matches
      of the coarser level, which keeps strokes whole. Then each pixel tries the matches
      of its neighbours, and random places nearby. Patches that are used too often get a
      larger distance.
    - An average of patches has less contrast than the styles, so a search for it would
      find flatter and flatter patches. So the picture's descriptors first get the mean
      and deviation of the styles' descriptors, and are then searched for.
    - If the strokes of a style flow, their direction counts more, and so do rotated
      copies of the style, see `ANGLES`. Strokes follow the edges of the content, which
      keeps thin forms whole. Elsewhere they follow neighbouring strokes.
    - Each level starts with the patches of the coarser matches, mixed with g. The more
      empty paper the styles have, the larger is the share of g. At a small size a
      drawing has no empty paper, so its lines would cover everything, and stay.

    The same pictures always give the same result. The function runs Python between
    compiled levels, so it cannot be part of `jit`.

    Args:
        image: The picture, RGB in [0, 1], h w 3. If it has more than `BAND` pixels, it
            is painted in horizontal bands, which join without a seam.
        content: The photograph, of the same shape; its edges guide the search. Its
            faint forms are strengthened first, see `clarify`.
        styles: RGB images of any size, preferably of the size at which the style loss
            measures them. Large ones are cropped to their middles, so that all styles
            and their rotated copies together have at most `STYLE_PIXELS` pixels.
        content_ratio: Content weight divided by style weight, see
            `LossWeights.content_ratio`.
        blend: Weight of each style. Distances to a style's patches are divided by its
            weight. Default: equal weights.
        mask: The part of the picture whose statistics are matched to those of the
            styles. Default: all of it.
        held: Factor on the weight h at each pixel, an array h w 1, ≥ 0. Default: 1.
        style_masks: The part of each style that is used. Default: all of it.
        canvas: Canvas whose shape compiled programs share. Default: no padding.
        turned: Whether rows and columns of all the given pictures are swapped.

    Returns:
        RGB in [0, 1], of the picture's shape.

    Raises:
        ValueError: If an image is not RGB in [0, 1], a mask is not h w 1 in [0, 1], or
            `held` is not h w 1 and ≥ 0.

    Example:
        >>> import jaxnst
        >>> content, style = jaxnst.sample("harbour", 64), jaxnst.sample("swirls", 64)
        >>> ratio = jaxnst.get_recipe("painterly").weights.content_ratio
        >>> repaint(content, content, [style], ratio).shape
        (48, 64, 3)

    Reference:
        Hertzmann et al. (2001), "Image Analogies", by the texture optimisation of
        Kwatra et al. (2005), with the search of Barnes et al. (2009), "PatchMatch".
        Directions after Hertzmann (1998), "Painterly Rendering with Curved Brush
        Strokes".
    """
    check_image(image)
    check_image(content, "content")
    check_list(styles, "style")
    for style in styles:
        check_image(style, "style")
    for each in (mask, *style_masks):
        check_mask(each)
    check_strength(held, "held")
    canvas = canvas or exact(image.shape)
    paint = make_paint(styles, style_masks, blend, canvas, turned=turned)
    given = image, content, content_ratio, mask, held, paint
    levels = make_levels(*given, canvas=canvas, turned=turned)
    laid = lay_levels(Layout(levels, paint), Runner())
    return np.asarray(laid)[: image.shape[0], : image.shape[1]]


def make_paint(
    styles: Sequence[Image],
    masks: Sequence[Mask | None],
    blend: Float[Array | np.ndarray, "_n"] | None,
    canvas: Canvas,
    *,
    turned: bool,
) -> list[Styles]:
    """Make the `Styles` of each level for a picture's canvas, coarsest first.

    The arguments are those of `repaint`. The work is done on the host.
    """
    longest = lambda images: max(max(x.shape[:2]) for x in images)
    most = STYLE_PIXELS // (len(styles) * (1 + len(ANGLES)))
    crop = lambda x: None if x is None else crop_middle(np.asarray(x), most)
    parts = [crop(x) for x in masks or [None] * len(styles)]
    styles = [np.asarray(crop(x), np.float32) for x in styles]
    weights = np.ones(len(styles)) if blend is None else np.abs(np.asarray(blend))
    weights = (weights / np.mean(weights)).tolist()
    shortest = min(*canvas.shape, *(min(x.shape[:2]) for x in styles))
    count = 1 + max(0, math.floor(math.log2(shortest / COARSEST)))
    edge = max(longest(styles), min(canvas.size[1], math.isqrt(most)))
    laid = list(chain(*map(turn_style, styles, parts, weights)))
    pyramid = zip(*(halves(x.image, count) for x in laid), strict=True)
    found = []
    for level, small in enumerate(pyramid):
        side = square((1, 1), edge).halved(level).size[0]
        if canvas.part is None:
            side = longest(small)
        pairs = zip(small, laid, strict=True)
        banks = [_on_square(x, style, side, turned) for x, style in pairs]
        found.append(Styles(*map(np.stack, zip(*banks, strict=True))))
    return found[::-1]


def make_levels(
    image: Image,
    content: Image,
    content_ratio: float,
    mask: Mask | None,
    held: Mask | None,
    paint: list[Styles],
    *,
    canvas: Canvas,
    turned: bool,
) -> list[Level]:
    """Make the levels of a picture, coarsest first, on the host.

    The arguments are those of `repaint`. The image gets the lights and darks of the
    styles. Otherwise a grey image would find patches that are only grey on average:
    white paper with black lines.
    """
    colors, weights = map(np.concatenate, (paint[-1].pixels, paint[-1].weights))
    seen = {"mask": mask, "reference_masks": [weights[..., None]]}
    image = np.clip(np.asarray(image, np.float32), 0, 1)
    pictures = match_lightness(image, [colors], **seen), clarify(content)
    pyramid = zip(*(halves(x, len(paint)) for x in pictures), strict=True)

    def level(number: int, shown: Image, drawn: Image) -> Level:
        shape, strength = shown.shape[:2], np.float32((1 + number) * content_ratio)
        own = canvas.halved(number)._replace(shape=shape)
        every = np.ones((*shape, 1), np.float32)
        fit = lambda x, most=1.0: every if x is None else fit_mask(x, shape, most=most)
        edge, where = find_edges(drawn)[..., None], own.place(fit(mask), "constant")
        hold = HOLD + EDGE_HOLD * np.maximum(edge - np.float32(FLAT), 0)
        return Level(
            own.place(shown + edge * (drawn - shown)),
            own.place(strength * hold * fit(held, math.inf)),
            where / (np.mean(where) + np.float32(1e-9)),
            own.place(find_heights(shape, turned)),
            own.place(lead_strokes(drawn)),
            np.array(shape, np.int32),
        )

    return [level(number, *pair) for number, pair in enumerate(pyramid)][::-1]


def level_shapes(count: int, canvas: Canvas) -> list[Any]:
    """Shapes of the levels that `make_levels` returns."""

    def level(number: int) -> Any:
        size = canvas.halved(number).size
        shapes: Any = [shape_of((*size, channels)) for channels in (3, 1, 1, 1, 2)]
        extent: Any = jax.ShapeDtypeStruct((2,), np.int32)
        return Level(*shapes, extent=extent)

    return [level(number) for number in reversed(range(count))]


def _on_square(image: Image, style: TurnedStyle, edge: int, turned: bool) -> Styles:
    """One style at one level, on a square canvas of side `edge`."""
    h, w = image.shape[:2]
    own = square((h, w), edge)
    part = np.ones((h, w, 1)) if style.mask is None else fit_mask(style.mask, (h, w))
    used = np.zeros((h, w, 1), np.float32)
    inner = slice(RADIUS, h - RADIUS), slice(RADIUS, w - RADIUS)
    weight = style.weight / find_lone_marks(image)[..., None]
    used[inner] = np.where(part >= part[inner].max() / 2, weight, 0)[inner]
    return Styles(
        own.place(image),
        own.place(used, "constant")[..., 0],
        own.place(find_heights((h, w), turned)),
        np.array(style.flow, np.float32),
        np.array(style.plain, np.float32),
    )


def find_heights(
    shape: tuple[int, int], turned: bool = False
) -> Float[np.ndarray, "_h _w 1"]:
    """Height of each pixel, h w 1: -`HEIGHT` at the top to `HEIGHT` at the bottom."""
    heights = HEIGHT * np.linspace(-1, 1, shape[turned], dtype=np.float32)
    heights = heights[None, :, None] if turned else heights[:, None, None]
    return np.broadcast_to(heights, (*shape, 1))


def lay_levels(layout: Layout, call: Runner) -> Float[Any, "*_lanes _h _w 3"]:
    """Paint all levels, coarsest first, and return the picture of the finest."""
    first = layout.levels[0], layout.paint[0]
    matches, laid = call(lay_level, *first, call(find_first, *first))
    pairs = zip(layout.levels[1:], pairwise(layout.paint), strict=True)
    for level, (coarse, fine) in pairs:
        edges = coarse.weights.shape[-1], fine.weights.shape[-1]
        given = matches, *edges, level.hold.shape[-3:-1]
        like = jax.ShapeDtypeStruct(level.hold.shape[:-1], np.int32)
        matches = call.host(lambda given=given: refine(*given), like)
        matches, laid = call(lay_level, level, fine, matches)
    return laid


@kept_jit(name="the patches", compiler_options=COMPILE_FAST)
def find_first(level: Level, styles: Styles) -> Matches:
    """First matches of the coarsest level, by exact search."""
    bank, laid = make_bank(styles), level.shown
    counted = count_rows(query_descriptors(level, laid), level.where)
    return search(make_queries(level, laid, counted, bank), bank, level.extent)


def query_descriptors(level: Level, laid: Image) -> Descriptors:
    """Descriptors of the wanted patches, without directions."""
    found = describe(laid) + level.hold * describe(level.shown)
    return jnp.concatenate([found / (1 + level.hold), level.heights], axis=-1)


def make_queries(
    level: Level, laid: Image, counted: RowMoments, bank: Bank
) -> Descriptors:
    """Descriptors to search for, including directions.

    They have the mean and deviation of the styles' descriptors. Directions follow the
    edges of the content, and elsewhere the strokes around.
    """
    norm = partial(jnp.linalg.norm, axis=-1, keepdims=True)
    # Beyond the picture, the filler has streaks; they are not strokes.
    around = 2 * mean_around((level.where > 0) * find_directions(laid))
    wanted = level.directions + (1 - norm(level.directions)) * around
    wanted = LENGTH * bank.length / (norm(wanted) + 0.1) * wanted
    found = match_moments(query_descriptors(level, laid), counted, bank)
    return jnp.concatenate([found, wanted], axis=-1)


@kept_jit(name="the patches", compiler_options=COMPILE_FAST)
def lay_level(level: Level, styles: Styles, matches: Matches) -> tuple[Matches, Image]:
    """Search and paint the patches of a level, in bands of at most `BAND` pixels."""
    bank, place = make_bank(styles), level._replace(extent=None)
    height, width, _ = level.shown.shape
    rows = math.ceil(height / math.ceil(height * width / BAND))

    def count(_: Array, band: Level, laid: Image) -> RowMoments:
        return count_rows(query_descriptors(band, laid), band.where)

    def lay_first(_: Array, matches: Matches) -> Image:
        return render_patches(matches, jnp.zeros(matches.shape), bank)

    def again(i: Array, state: tuple[Matches, Image]) -> tuple[Matches, Image]:
        matches, laid = state
        laid = extend(laid, level.extent)
        counted = _in_bands(count, rows, place, laid)
        prices = overuse_penalty(matches, level.where, bank)
        priced = bank._replace(factors=bank.factors * prices)

        def lay_again(first: Array, band: Level, matches: Matches, laid: Image) -> Any:
            queries = make_queries(band, laid, counted, bank)
            found = improve(matches, queries, priced, i, first)
            return found.matches, render_patches(*found, bank)

        return _in_bands(lay_again, rows, place, matches, laid)

    first = _in_bands(lay_first, rows, matches)
    first = first + jnp.mean(styles.plain) * (level.shown - first)
    return jax.lax.fori_loop(0, SEARCH_ROUNDS, again, (matches, first))


def _in_bands(function: Callable, rows: int, *trees: PyTree) -> PyTree:
    """Apply a function to horizontal bands of arrays, each with a halo around it.

    The function gets the index of the first row, and the rows of each tree of arrays.
    It returns arrays with as many rows.
    """
    height = len(jax.tree.leaves(trees)[0])
    if rows == height:
        return function(jnp.zeros((), int), *trees)
    taller = min(height, rows + 2 * HALO)
    cut = jax.lax.dynamic_slice_in_dim

    def band(first: Array | int) -> PyTree:
        return jax.tree.map(lambda x: cut(jnp.asarray(x), first, taller), trees)

    def add(i: Array, whole: PyTree) -> PyTree:
        start = jnp.minimum(i * rows, height - rows)
        first = jnp.clip(start - HALO, 0, height - taller)

        def put(x: Array, y: Array) -> Array:
            inner = cut(y, start - first, rows)
            return jax.lax.dynamic_update_slice_in_dim(x, inner, start, 0)

        return jax.tree.map(put, whole, function(first, *band(first)))

    shapes = jax.eval_shape(lambda: function(jnp.zeros((), int), *band(0)))
    empty = jax.tree.map(lambda x: jnp.zeros((height, *x.shape[1:]), x.dtype), shapes)
    return jax.lax.fori_loop(0, math.ceil(height / rows), add, empty)


def render_patches(matches: Matches, distances: Distances, bank: Bank) -> Image:
    """Average the overlapping patches of the matches. Small distances count more."""
    h, w = matches.shape
    last, width = len(bank.pixels) - 1, bank.factors.shape[1]
    trust = jnp.pad(1 / (1 + distances / BLUR), RADIUS)
    around = jnp.pad(matches, RADIUS)

    def add(i: Int[Array, ""], sums: tuple[Image, Array]) -> tuple[Image, Array]:
        total, weight = sums
        y, x = jnp.divmod(i, SIDE)
        place = jax.lax.dynamic_slice(around, (y, x), (h, w))
        place = place - width * (y - RADIUS) - (x - RADIUS)
        own = jax.lax.dynamic_slice(trust, (y, x), (h, w)) * jnp.asarray(BRUSH)[y, x]
        own = own[..., None]
        return total + own * bank.pixels[jnp.clip(place, 0, last)], weight + own

    sums = jnp.zeros((h, w, 3)), jnp.zeros((h, w, 1))
    total, weight = jax.lax.fori_loop(0, SIDE**2, add, sums)
    return total / weight
