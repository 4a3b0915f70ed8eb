"""Repaint a picture with the paint of its styles, patch by patch, coarse to fine.

Every patch of the picture is looked up among the patches of the styles. The picture is
then laid out of the styles' own pixels: coarse strokes first, finer ones inside them.

Levels of a pyramid lie on canvases, so that the levels of all pictures, and of all
scales of a run, share a few programs.

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
"""Short edge of the coarsest level, at least, in pixels."""

HOLD = 1
"""How strongly the finest level holds to the picture; coarser ones hold in proportion
to their number."""

EDGE_HOLD = 37.5
"""How much more strongly it is held at an edge of the content, and to the content."""

FLAT = 0.2
"""How much of an edge the content has, at most, where it is flat. Nothing more is held
there, so the larger forms of the styles come in: facets of a sky, bands, swirls."""

HEIGHT = 0.5
"""What half the height of a picture counts: skies are rather painted as skies."""

SEARCH_ROUNDS = 6
"""How often, at each level, patches are looked up and laid: the more often, the longer
strokes run."""

BLUR = 0.005
"""Squared distance of descriptors at which a patch counts half as much as a perfect one
where patches overlap."""

BAND = 2**20
"""Pixels of a level that are laid at once."""

HALO = 64
"""Rows beyond a band that its patches see."""

STYLE_PIXELS = 2**22
"""Pixels of the styles that are used at most, turned ones counted."""

BRUSH = np.outer(WINDOW, WINDOW).astype(np.float32) ** 2
"""Weights of the pixels of a patch that is laid: its middle counts most, which keeps
strokes crisp; the wider it counts, the longer they run."""


class Level(NamedTuple):
    """What is painted at a level, on its canvas.

    Attributes:
        shown: What is held: the picture, at edges the content, h w 3.
        hold: How strongly, h w 1.
        where: How much each pixel counts where patches are counted, h w 1, of mean 1.
        heights: What each pixel's height in the picture counts, h w 1.
        directions: Where strokes are led, see `flow.lead_strokes`.
        extent: Height and width of the picture; None of a band of it.
    """

    shown: Image
    hold: Mask
    where: Mask
    heights: Mask
    directions: Float[Array | np.ndarray, "_h _w 2"]
    extent: Int[Array | np.ndarray, "2"] | None


class Layout(NamedTuple):
    """What is painted and with what, level by level, the coarsest first."""

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
    """Lay out a picture of patches of its styles.

    At each level of a pyramid of halves, coarsest first, the patch around a pixel p is
    laid from the place m(p) of the styles that minimises
    `|P(x, p) - P(s, m)|² + h(p) |P(g, p) - P(s, m)|²`. Here s are the styles, x is what
    is laid so far. The guide g is the content where that has edges, and elsewhere
    `image` with the lights and darks of the styles. P describes a patch: its low
    frequencies and, with less weight, its height in the picture and the direction of
    its strokes.
    The strength h grows with the ratio of the content's weight to the style's, and
    where the content has an edge. Patches of overlapping places are averaged. This
    repeats `SEARCH_ROUNDS` times.

    - Matches start from those of the coarser level, which keeps strokes whole; at the
      coarsest they are exact. They spread to neighbours, and are tried at random places
      nearby. Patches that are used too often get a larger distance.
    - An average is duller than paint and would find ever duller patches, so queries are
      first given the mean and deviation of the styles' patches.
    - The more the strokes of a style flow, the more their direction counts, and the
      more it is also used turned by `ANGLES`. Strokes run along the edges of the
      content and, far from any, as those around them: thin forms stay whole.
    - At each level x begins as what the coarser matches lay, mixed with g: the plainer
      the styles are, the more of g. At a small size a drawing has no plain paper, so
      its lines would be laid everywhere, and stay.

    The same pictures always give the same result. It runs Python between compiled
    levels, so it cannot be part of `jit`.

    Args:
        image: The picture, RGB in [0, 1], h w 3. One of more than `BAND` pixels is
            laid in horizontal bands, which join without a seam.
        content: The photograph, of the same shape; its edges guide the search. Its
            faint forms are strengthened first, see `clarify`.
        styles: RGB images of any size, as large as the style loss measures them; of
            more than `STYLE_PIXELS` pixels in all, the middle is used.
        content_ratio: Weight of the content over that of the style, see
            `LossWeights.content_ratio`.
        blend: Weight of each style: distances to its patches are divided by it.
            Default: equal weights.
        mask: The part of the picture whose patches are counted and get the mean and
            deviation of the styles' patches. Default: all of it.
        held: How strongly the content holds, place by place: a factor ≥ 0 on h.
            Default: 1.
        style_masks: The part of each style that is used. Default: all of it.
        canvas: The padded shape that compiled programs share. Default: the picture's.
        turned: Whether all pictures are transposed.

    Returns:
        RGB in [0, 1], of the picture's shape.

    Raises:
        ValueError: If an image is not RGB in [0, 1], or a mask not h w 1 in [0, 1].

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
    """What a picture on a canvas is painted with, level by level; on the host.

    The arguments are those of `repaint`.
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
    """What is painted, level by level; on the host, with arguments of `repaint`.

    The image gets the lights and darks of the paint: one that is too grey would find
    patches that are grey as a whole, white paper with black lines.
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
    """The shapes of what `make_levels` returns."""

    def level(number: int) -> Any:
        size = canvas.halved(number).size
        shapes: Any = [shape_of((*size, channels)) for channels in (3, 1, 1, 1, 2)]
        extent: Any = jax.ShapeDtypeStruct((2,), np.int32)
        return Level(*shapes, extent=extent)

    return [level(number) for number in reversed(range(count))]


def _on_square(image: Image, style: TurnedStyle, edge: int, turned: bool) -> Styles:
    """The image of a style at a level, on a canvas of that edge."""
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
    """How far each pixel is from the middle row of its picture, h w 1."""
    heights = HEIGHT * np.linspace(-1, 1, shape[turned], dtype=np.float32)
    heights = heights[None, :, None] if turned else heights[:, None, None]
    return np.broadcast_to(heights, (*shape, 1))


def lay_levels(layout: Layout, call: Runner) -> Float[Any, "*_lanes _h _w 3"]:
    """Lay all levels, one after another, and give the last one."""
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
    """The matches of the coarsest level."""
    bank, laid = make_bank(styles), level.shown
    counted = count_rows(query_descriptors(level, laid), level.where)
    return search(make_queries(level, laid, counted, bank), bank, level.extent)


def query_descriptors(level: Level, laid: Image) -> Descriptors:
    """What the patches that are looked for look like."""
    found = describe(laid) + level.hold * describe(level.shown)
    return jnp.concatenate([found / (1 + level.hold), level.heights], axis=-1)


def make_queries(
    level: Level, laid: Image, counted: RowMoments, bank: Bank
) -> Descriptors:
    """What patches are looked for: as lively as those of the styles, and directed.

    They run where the content leads them, and elsewhere as the strokes around them do.
    """
    norm = partial(jnp.linalg.norm, axis=-1, keepdims=True)
    # Filler beyond the picture has streaks, which are no strokes.
    around = 2 * mean_around((level.where > 0) * find_directions(laid))
    wanted = level.directions + (1 - norm(level.directions)) * around
    wanted = LENGTH * bank.length / (norm(wanted) + 0.1) * wanted
    found = match_moments(query_descriptors(level, laid), counted, bank)
    return jnp.concatenate([found, wanted], axis=-1)


@kept_jit(name="the patches", compiler_options=COMPILE_FAST)
def lay_level(level: Level, styles: Styles, matches: Matches) -> tuple[Matches, Image]:
    """Look up and lay the patches of a level, in bands of at most `BAND` pixels."""
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

    The function takes the first row of a band, and the rows of each tree of arrays; it
    returns arrays of as many rows.
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
    """Average the overlapping patches around the matches, near ones most."""
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
