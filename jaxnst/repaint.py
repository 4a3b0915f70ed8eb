"""Repaint a picture with the paint of its styles, patch by patch, coarse to fine.

Every patch of the picture is looked up among the patches of the styles. The picture is
then laid out of the styles' own pixels: coarse strokes first, finer ones inside them.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt32

from jaxnst.checks import check_image, check_list, check_mask
from jaxnst.masks import fit_mask
from jaxnst.pictures.geometry import crop_middle
from jaxnst.types import Image, Mask, Scalar

RADIUS = 3
"""Pixels from the centre of a patch to its edge: patches are 7 x 7 px at each level."""

COARSEST = 16
"""Short edge of the coarsest level, at least, in pixels."""

HOLD = 0.125
"""How strongly the finest level holds to the picture; coarser ones hold in proportion
to their number."""

DRAWN = 15
"""How much more strongly it is held at an edge of the content, and to the content."""

CONTRAST = 0.25
"""Standard deviation of colours within 5 x 5 px, in those of all, of half an edge."""

CLARITY = 3
"""How many times at most faint forms of the content are strengthened."""

GRAIN = 0.015
"""Standard deviation of luminance, in a neighbourhood, of a half strengthened form:
what is fainter is rather grain than a form."""

HEIGHT = 0.5
"""What half the height of a picture counts: skies are rather painted as skies."""

COHERENCE = 0.8
"""How much nearer, relatively, a patch counts that continues all its neighbours."""

OVERUSE = 4
"""How many times its share, at most, a patch is counted as used. The root of that
multiplies distances, so that a lone motif is not copied everywhere."""

ROUNDS = 6
"""How often, at each level, patches are looked up and laid."""

GAIN = 2
"""How many times at most what is looked for is made livelier, or calmer."""

BLUR = 0.005
"""Squared distance of descriptors at which a patch counts half as much as a perfect one
where patches overlap."""

BAND = 2**20
"""Pixels of a level that are laid at once."""

HALO = 64
"""Rows beyond a band that its patches see."""

LARGEST = 2**21
"""Pixels of the styles that are used, at most."""

NOWHERE = 1e3
"""What fills descriptors of places that are no whole patch, so nothing matches them."""

STEPS = (8, 4, 2, 1, 2, 1)
"""Distances in pixels over which matches spread, one after another."""

MULTIPLIER, INCREMENT = np.uint32(1664525), np.uint32(1013904223)
"""Of a linear congruential generator, Knuth's, as in "Numerical Recipes". It compiles
in a fraction of the time of JAX's."""

NEIGHBOURS = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])

SIDE = 2 * RADIUS + 1

WINDOW = np.exp(-2 * (np.arange(-RADIUS, RADIUS + 1) / RADIUS) ** 2)
"""Weights of the pixels of a patch along each axis, where patches are compared."""

BRUSH = np.outer(WINDOW, WINDOW).astype(np.float32) ** 4
"""Weights of the pixels of a patch that is laid: its middle counts most, which keeps
strokes crisp."""

Descriptors = Float[Array, "_h _w _c"]
Distances = Float[Array, "_h _w"]
Matches = Int[Array, "_h _w 2"]
"""Row and column, among the styles, of the patch of each pixel."""


class Found(NamedTuple):
    """Matches, and their squared distances times the bank's factors."""

    matches: Matches
    distances: Distances


class Moments(NamedTuple):
    """Means of the descriptors of each row, and of their squares, h c."""

    mean: Float[Array, "_h _c"]
    square: Float[Array, "_h _c"]


class LevelMasks(NamedTuple):
    """Masks of a level, see `repaint`; None where there is none."""

    mask: Mask | None
    held: Mask | None
    styles: Sequence[Mask | None]


class Bank(NamedTuple):
    """The patches of all styles at a level, one style below the other.

    Attributes:
        pixels: RGB, h w 3.
        descriptors: What the patch around each pixel looks like, h w c.
        factors: What distances to it are multiplied by, h w.
        mean: Mean of the descriptors, c.
        deviation: Their standard deviation, c.
    """

    pixels: Image
    descriptors: Descriptors
    factors: Float[Array, "_h _w"]
    mean: Float[Array, "_c"]
    deviation: Float[Array, "_c"]


def repaint(
    image: Image,
    content: Image,
    styles: Sequence[Image],
    content_ratio: float | Scalar,
    blend: Float[Array, "_n"] | None = None,
    *,
    mask: Mask | None = None,
    held: Mask | None = None,
    style_masks: Sequence[Mask | None] = (),
) -> Image:
    """Lay out a picture of patches of its styles.

    At each level of a pyramid of halves, coarsest first, the patch around a pixel p is
    laid from the place m(p) of the styles that minimises
    `|P(x, p) - P(s, m)|² + h(p) |P(g, p) - P(s, m)|²`. Here g is the picture, s the
    styles, x what is laid so far, and P the low frequencies of a patch and, with less
    weight, its height in the picture. Patches of overlapping places are averaged. This
    repeats `ROUNDS` times. The strength h grows with the ratio of the content's weight
    to the style's, and where the content has an edge. An average is duller than paint
    and would find ever duller patches, so what is looked for is first given the mean
    and deviation of the styles' patches; and what is used more than its share counts as
    farther.

    Matches start from those of the coarser level, which keeps strokes whole; where
    there is none they are exact. Then they spread to neighbours, and are tried at
    random places nearby. The same pictures always give the same result.

    Args:
        image: The picture, RGB in [0, 1], h w 3. One of more than `BAND` pixels is
            laid in horizontal bands, which join without a seam.
        content: What is held at its edges, in place of the picture, of the same shape.
            Its faint forms are strengthened first, see `clarify`.
        styles: RGB images of any size, as large as they are measured beside the
            picture; of more than `LARGEST` pixels in all, the middle is used.
        content_ratio: Weight of the content over that of the style, see
            `Recipe.content_ratio`.
        blend: Weight of each style: distances to its patches are divided by it.
            Default: equal weights.
        mask: The part of the picture whose patches are counted and made as lively as
            those of the styles. Default: all of it.
        held: How strongly the content holds, place by place: a factor on h. Default: 1.
        style_masks: The part of each style that is used. Default: all of it.

    Returns:
        RGB in [0, 1], of the picture's shape.

    Raises:
        ValueError: If an image is not RGB in [0, 1], or a mask not h w 1 in [0, 1].

    Example:
        >>> import jaxnst
        >>> content, style = jaxnst.sample("harbour", 64), jaxnst.sample("swirls", 64)
        >>> ratio = jaxnst.get_recipe("painterly").content_ratio
        >>> repaint(content, content, [style], ratio).shape
        (48, 64, 3)

    Reference:
        Hertzmann et al. (2001), "Image Analogies", by the texture optimisation of
        Kwatra et al. (2005), with the search of Barnes et al. (2009), "PatchMatch".
    """
    check_image(image)
    check_image(content, "content")
    check_list(styles, "style")
    for style in styles:
        check_image(style, "style")
    for each in (mask, held, *style_masks):
        check_mask(each)
    masks = LevelMasks(mask, held, style_masks)
    return _repaint(image, content, styles, content_ratio, blend, masks)


@jax.jit
def _repaint(
    image: Image,
    content: Image,
    styles: Sequence[Image],
    content_ratio: float | Scalar,
    blend: Float[Array, "_n"] | None,
    masks: LevelMasks,
) -> Image:
    """`repaint` of pictures and masks that are checked."""
    mask, held, style_masks = masks
    if blend is None:
        blend = jnp.ones(len(styles))
    parts = style_masks or [None] * len(styles)
    most = LARGEST // len(styles)
    crop = lambda x: None if x is None else crop_middle(x, most)
    styles, parts = [crop_middle(x, most) for x in styles], [crop(x) for x in parts]
    shortest = min(min(x.shape[:2]) for x in (image, *styles))
    levels = 1 + max(0, math.floor(math.log2(shortest / COARSEST)))
    content = clarify(content)
    pyramid = zip(*(_halves(x, levels) for x in (image, content, *styles)), strict=True)
    matches, laid = None, image
    for level, (shown, drawn, *small) in reversed(list(enumerate(pyramid))):
        height, width, _ = shown.shape
        rows = math.ceil(height / math.ceil(height * width / BAND))
        strength = (1 + level) * content_ratio
        fit = lambda x, like: None if x is None else fit_mask(x, like.shape[:2])
        masks = LevelMasks(
            fit(mask, shown),
            fit(held, shown),
            [fit(x, like) for x, like in zip(parts, small, strict=True)],
        )
        given = shown, drawn, small, blend, masks, strength, matches
        matches, laid = _lay_level(*given, rows)
    return laid


def _halves(image: Image, levels: int) -> list[Image]:
    """An image at its size, a half of it, a quarter, and so on."""
    found = [jnp.clip(image, 0, 1)]
    for _ in range(levels - 1):
        pads = [(0, side % 2) for side in found[-1].shape[:2]]
        even = jnp.pad(found[-1], [*pads, (0, 0)], mode="edge")
        h, w, _ = even.shape
        found.append(jnp.mean(even.reshape(h // 2, 2, w // 2, 2, 3), axis=(1, 3)))
    return found


def _cosines() -> np.ndarray:
    """The ten lowest frequencies of a patch, y x 1 frequency, weighted by `WINDOW`."""
    waves = np.cos(np.pi / SIDE * np.outer(np.arange(SIDE) + 0.5, np.arange(4)))
    waves *= WINDOW[:, None]
    waves /= np.linalg.norm(waves, axis=0)
    pairs = [(i, j) for i in range(4) for j in range(4) if i + j < 4]
    kernels = [np.outer(waves[:, i], waves[:, j]) for i, j in pairs]
    return np.stack(kernels, axis=-1)[:, :, None].astype(np.float32)


def describe(image: Image) -> Descriptors:
    """What the patch around each pixel looks like: cosine transform of its colours."""
    h, w, _ = image.shape
    padded = jnp.pad(image, [(RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)], mode="edge")
    found = jax.lax.conv_general_dilated(
        padded.transpose(2, 0, 1)[..., None],
        jnp.asarray(_cosines()),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    return found.transpose(1, 2, 0, 3).reshape(h, w, -1)


def find_edges(image: Image) -> Float[Array, "_h _w"]:
    """How much of an edge each pixel has nearby, 0 to 1."""
    deviation = jnp.sqrt(_local_variance(image, 5))
    whole = jnp.sqrt(jnp.mean(jnp.var(image, axis=(0, 1))))
    return deviation / (deviation + CONTRAST * whole + 1e-3)


def _local_variance(
    image: Float[Array, "_h _w _c"], side: int
) -> Float[Array, "_h _w"]:
    """Variance within the square around each pixel, a mean over the channels."""
    centred = image - jnp.mean(image, axis=(0, 1), keepdims=True)
    blur = jax.vmap(partial(_local_mean, side=side), -1, -1)
    variance = blur(centred**2) - blur(centred) ** 2
    return jnp.mean(jnp.maximum(variance, 0), axis=-1)


def _local_mean(x: Float[Array, "_h _w"], side: int) -> Float[Array, "_h _w"]:
    """Mean of the square around each pixel, of that odd side."""
    padded = jnp.pad(x, side // 2, mode="edge")[None, ..., None]
    for shape in ((side, 1), (1, side)):
        padded = jax.lax.conv_general_dilated(
            padded,
            jnp.full((*shape, 1, 1), 1 / side),
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
    return padded[0, ..., 0]


def clarify(image: Image) -> Image:
    """Strengthen faint forms: thin and dark ones, too, find a stroke of their own.

    What differs from the mean of a neighbourhood, of a sixth of the short edge, is
    multiplied by 1 to `CLARITY`: the less, the livelier the neighbourhood is.
    """
    side = 2 * (min(image.shape[:2]) // 12) + 1
    grey = jnp.mean(image, axis=-1)
    variance = _local_variance(grey[..., None], side)
    faint = 1 - jnp.sqrt(variance) / (jnp.std(grey) + 1e-6)
    form = variance / (variance + GRAIN**2)
    gain = 1 + (CLARITY - 1) * form * jnp.clip(faint, 0, 1)
    mean = jax.vmap(partial(_local_mean, side=side), -1, -1)(image)
    return jnp.clip(mean + (image - mean) * gain[..., None], 0, 1)


def make_bank(
    styles: Sequence[Image], blend: Float[Array, "_n"], masks: Sequence[Mask]
) -> Bank:
    """The patches of styles where their masks are at least half as high as anywhere.

    Those that cross a border are filled with `NOWHERE`.
    """
    width = max(style.shape[1] for style in styles)
    blend = jnp.abs(blend) / jnp.mean(jnp.abs(blend))
    parts = []
    for style, weight, mask in zip(styles, blend, masks, strict=True):
        h, w, _ = style.shape
        found = jnp.concatenate([describe(style), find_heights(h, w)], axis=-1)
        inner = found[RADIUS : h - RADIUS, RADIUS : w - RADIUS]
        part = mask[RADIUS : h - RADIUS, RADIUS : w - RADIUS, 0]
        weights = jnp.where(part >= jnp.max(part) / 2, weight, 0)
        right = [(0, 0), (0, width - w)]
        around = [(RADIUS, RADIUS), (RADIUS, RADIUS + width - w)]
        pads = ([*right, (0, 0)], [*around, (0, 0)], around)
        parts.append(list(map(jnp.pad, (style, inner, weights), pads)))
    pixels, descriptors, weights = map(jnp.concatenate, zip(*parts, strict=True))
    each = jnp.broadcast_to(weights[..., None], descriptors.shape)
    mean = jnp.average(descriptors, (0, 1), each)
    variance = jnp.average((descriptors - mean[None, None]) ** 2, (0, 1), each)
    descriptors = jnp.where(each > 0, descriptors, NOWHERE)
    factors = 1 / jnp.where(weights > 0, weights, 1)
    return Bank(pixels, descriptors, factors, mean, jnp.sqrt(variance))


def find_heights(h: int, w: int) -> Descriptors:
    """How far each pixel is from the middle row of its picture, h w 1."""
    heights = HEIGHT * jnp.linspace(-1, 1, h)
    return jnp.broadcast_to(heights[:, None, None], (h, w, 1))


def search(queries: Descriptors, bank: Bank) -> Matches:
    """Row and column of the nearest patch, by exact search."""
    rows = bank.descriptors.reshape(-1, queries.shape[-1])
    lengths, factors = jnp.sum(rows**2, axis=-1), bank.factors.reshape(-1)

    def nearest(query: Float[Array, "_c"]) -> Int[Array, ""]:
        products = jnp.matmul(rows, query, precision="highest")
        return jnp.argmin(factors * (lengths - 2 * products + query @ query))

    found = jax.lax.map(nearest, queries.reshape(-1, rows.shape[1]), batch_size=256)
    places = jnp.stack(jnp.divmod(found, bank.factors.shape[1]), axis=-1)
    return places.reshape(*queries.shape[:2], 2)


def refine(matches: Matches, shape: tuple[int, ...], bank: Bank) -> Matches:
    """Matches of a level from those of the level of half the size."""
    row, column = np.indices(shape[:2])
    odd = np.stack([row % 2, column % 2], axis=-1)
    return jnp.minimum(2 * matches[row // 2, column // 2] + odd, _last(bank))


def _last(bank: Bank) -> Int[np.ndarray, "1 1 2"]:
    return np.array(bank.factors.shape)[None, None] - 1


def _lay_level(
    shown: Image,
    drawn: Image,
    styles: Sequence[Image],
    blend: Float[Array, "_n"],
    masks: LevelMasks,
    strength: float | Float[Array, ""],
    coarser: Matches | None,
    rows: int,
) -> tuple[Matches, Image]:
    """Look up and lay the patches of a level, in bands of that many rows."""
    every = lambda x, like: jnp.ones((*like.shape[:2], 1)) if x is None else x
    where = every(masks.mask, shown)
    where = where / (jnp.mean(where) + 1e-9)
    weights = () if masks.mask is None else (where,)
    pairs = zip(masks.styles, styles, strict=True)
    bank = make_bank(styles, blend, [every(x, style) for x, style in pairs])
    edge = find_edges(drawn)[..., None]
    shown = shown + edge * (drawn - shown)
    hold = strength * (HOLD + DRAWN * edge)
    if masks.held is not None:
        hold = hold * masks.held
    heights = find_heights(*shown.shape[:2])

    def look(shown: Image, hold: Array, heights: Array, laid: Image) -> Descriptors:
        found = (describe(laid) + hold * describe(shown)) / (1 + hold)
        return jnp.concatenate([found, heights], axis=-1)

    def count(_: Array, *band: Array) -> Moments:
        shown, hold, heights, laid, *weights = band
        return count_rows(look(shown, hold, heights, laid), *weights)

    def lay_first(_: Array, matches: Matches) -> Image:
        return lay(matches, jnp.zeros(matches.shape[:2]), bank)

    def again(i: Array, state: tuple[Matches, Image]) -> tuple[Matches, Image]:
        matches, laid = state
        counted = _in_bands(count, rows, shown, hold, heights, laid, *weights)
        prices = find_prices(matches, where, bank)
        priced = bank._replace(factors=bank.factors * prices)

        def lay_again(first: Array, matches: Matches, *band: Array) -> tuple:
            queries = enliven(look(*band), counted, bank)
            found = improve(matches, queries, priced, i, first)
            return found.matches, lay(*found, bank)

        return _in_bands(lay_again, rows, matches, shown, hold, heights, laid)

    if coarser is None:
        queries = look(shown, hold, heights, shown)
        matches = search(enliven(queries, count_rows(queries, *weights), bank), bank)
    else:
        matches = refine(coarser, shown.shape, bank)
    laid = _in_bands(lay_first, rows, matches)
    return jax.lax.fori_loop(0, ROUNDS, again, (matches, laid))


def _in_bands(function: Callable, rows: int, *arrays: Array) -> PyTree:
    """Apply a function to horizontal bands of arrays, each with a halo around it.

    The function takes the first row of a band, and the rows of each array; it returns
    arrays of as many rows.
    """
    height = len(arrays[0])
    if rows == height:
        return function(jnp.zeros((), int), *arrays)
    taller = min(height, rows + 2 * HALO)
    cut = jax.lax.dynamic_slice_in_dim

    def add(i: Array, whole: PyTree) -> PyTree:
        start = jnp.minimum(i * rows, height - rows)
        first = jnp.clip(start - HALO, 0, height - taller)
        band = function(first, *(cut(x, first, taller) for x in arrays))

        def put(x: Array, y: Array) -> Array:
            inner = cut(y, start - first, rows)
            return jax.lax.dynamic_update_slice_in_dim(x, inner, start, 0)

        return jax.tree.map(put, whole, band)

    shapes = jax.eval_shape(function, jnp.zeros((), int), *(x[:taller] for x in arrays))
    empty = jax.tree.map(lambda x: jnp.zeros((height, *x.shape[1:]), x.dtype), shapes)
    return jax.lax.fori_loop(0, math.ceil(height / rows), add, empty)


def count_rows(descriptors: Descriptors, weights: Mask | None = None) -> Moments:
    """Means of each row of descriptors and of their squares; the weights' mean is 1."""
    # Without weights there is no product that would take the memory of descriptors.
    weighted = lambda x: x if weights is None else weights * x
    mean = lambda x: jnp.mean(weighted(x), axis=1)
    return Moments(mean(descriptors), mean(descriptors**2))


def enliven(queries: Descriptors, counted: Moments, bank: Bank) -> Descriptors:
    """Give descriptors the mean and deviation of the bank's."""
    mean, square = (jnp.mean(rows, axis=0) for rows in counted)
    deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0))
    gain = jnp.clip(bank.deviation / (deviation + 1e-6), 1 / GAIN, GAIN)
    return queries * gain[None, None] + (bank.mean - gain * mean)[None, None]


def find_prices(matches: Matches, mask: Mask, bank: Bank) -> Float[Array, "_h _w"]:
    """What distances to a patch are multiplied by that is used more than its share."""
    place = matches[..., 0], matches[..., 1]
    used = jnp.zeros(bank.factors.shape).at[place].add(mask[..., 0])
    weights = jnp.where(bank.descriptors[..., 0] < NOWHERE, 1 / bank.factors, 0)
    due = weights * used.sum() / weights.sum()
    return jnp.sqrt(jnp.clip(_local_mean(used, 9) / (due + 1e-6), 1, OVERUSE))


def improve(
    matches: Matches,
    queries: Descriptors,
    bank: Bank,
    seed: int | Int[Array, ""],
    first_row: int | Int[Array, ""] = 0,
) -> Found:
    """Better matches, from neighbours and random places.

    Random numbers depend on the row of the whole picture, not on that of a band.
    """
    h, w, _ = queries.shape
    rows = first_row + jnp.arange(h, dtype=jnp.uint32)
    places = 2 * w * rows[:, None, None] + np.arange(2 * w).reshape(1, w, 2)
    seeds = mix(mix(places.astype(jnp.uint32)) + seed)

    def distances(matches: Matches) -> Distances:
        y, x = matches[..., 0], matches[..., 1]
        squares = (queries - bank.descriptors[y, x]) ** 2
        return bank.factors[y, x] * jnp.sum(squares, axis=-1)

    def shift(matches: Matches, move: Int[Array, "2"]) -> Matches:
        """The places that continue the matches of the pixels `move` away."""
        reach = max(STEPS)
        pads = [(reach, reach), (reach, reach), (0, 0)]
        padded = jnp.pad(matches, pads, mode="edge")
        start = (reach - move[0], reach - move[1], 0)
        return jax.lax.dynamic_slice(padded, start, matches.shape) + move[None, None]

    def try_places(state: Found, offer: Matches) -> Found:
        matches, least = state
        offer = jnp.clip(offer, 0, _last(bank))
        found = distances(offer)
        continued = [shift(matches, jnp.asarray(move)) for move in NEIGHBOURS]

        def seen(distance: Distances, places: Matches) -> Distances:
            agree = [jnp.all(places == x, axis=-1) for x in continued]
            return distance * (1 - COHERENCE / 4 * sum(agree))

        better = seen(found, offer) < seen(least, matches)
        return Found(
            jnp.where(better[..., None], offer, matches),
            jnp.where(better, found, least),
        )

    # Matches first spread, then wander: places of both kinds are tried by one loop,
    # which compiles in half the time of two.
    halvings = max(bank.factors.shape).bit_length()
    spread = np.concatenate([step * NEIGHBOURS for step in STEPS])
    moves = jnp.concatenate([spread, np.zeros((halvings, 2), int)])

    def attempt(i: Int[Array, ""], carry: tuple[Found, Array]) -> tuple[Found, Array]:
        state, bits = carry
        wanders = i >= len(spread)
        bits = jnp.where(wanders, MULTIPLIER * bits + INCREMENT, bits)
        reach = max(bank.factors.shape) >> jnp.maximum(i - len(spread), 0)
        high = (bits >> 17).astype(jnp.int32)  # the better bits of such a generator
        offset = (high * (2 * reach + 1) >> 15) - reach
        offer = shift(state.matches, moves[i]) + jnp.where(wanders, offset, 0)
        return try_places(state, offer), bits

    state = Found(matches, distances(matches)), seeds
    return jax.lax.fori_loop(0, len(moves), attempt, state)[0]


def mix(numbers: UInt32[Array, "*_shape"]) -> UInt32[Array, "*_shape"]:
    """Different numbers for different numbers, without order.

    Reference:
        Appleby (2011), "MurmurHash3", its last step.
    """
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        numbers = (numbers ^ (numbers >> shift)) * np.uint32(factor)
    return numbers ^ (numbers >> 16)


def lay(matches: Matches, distances: Distances, bank: Bank) -> Image:
    """Average the overlapping patches around the matches, near ones most."""
    h, w, _ = matches.shape
    trust = jnp.pad(1 / (1 + distances / BLUR), RADIUS)
    around = jnp.pad(matches, [(RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)])

    def add(i: Int[Array, ""], sums: tuple[Image, Array]) -> tuple[Image, Array]:
        total, weight = sums
        y, x = jnp.divmod(i, SIDE)
        place = jax.lax.dynamic_slice(around, (y, x, 0), (h, w, 2))
        place = place - jnp.stack([y, x])[None, None] + RADIUS
        place = jnp.clip(place, 0, _last(bank))
        own = jax.lax.dynamic_slice(trust, (y, x), (h, w)) * jnp.asarray(BRUSH)[y, x]
        own = own[..., None]
        pixels = bank.pixels[place[..., 0], place[..., 1]]
        return total + own * pixels, weight + own

    sums = jnp.zeros((h, w, 3)), jnp.zeros((h, w, 1))
    total, weight = jax.lax.fori_loop(0, SIDE**2, add, sums)
    return total / weight
