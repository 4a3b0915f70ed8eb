"""Repaint a picture with the paint of its styles, patch by patch, coarse to fine.

Every patch of the picture is looked up among the patches of the styles. The picture is
then laid out of the styles' own pixels: coarse strokes first, finer ones inside them.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxnst.recipes import Recipe
from jaxnst.types import Image

RADIUS = 3
"""Pixels from the centre of a patch to its edge: patches are 7 x 7 px at each level."""

COARSEST = 32
"""Short edge of the coarsest level, at least, in pixels."""

HOLD = 0.125
"""How strongly the finest level holds to the picture; coarser ones hold in proportion
to their number."""

DRAWN = 7.5
"""How much more strongly it is held at an edge of the content, and to the content."""

CONTRAST = 0.05
"""Standard deviation of luminance, within 5 x 5 px, of half an edge."""

COHERENCE = 0.3
"""How much nearer, relatively, a patch counts that continues all its neighbours."""

ROUNDS = 3
"""How often, at each level, patches are looked up and laid."""

BLUR = 0.005
"""Squared distance of descriptors at which a patch counts half as much as a perfect one
where patches overlap."""

BAND = 2**20
"""Pixels of a level that are laid at once."""

HALO = 96
"""Rows beyond a band that its patches see."""

LARGEST = 2**21
"""Pixels of the styles that are used, at most."""

NOWHERE = 1e3
"""What fills descriptors of places that are no whole patch, so nothing matches them."""

STEPS = (8, 4, 2, 1, 2, 1)
"""Distances in pixels over which matches spread, one after another."""

NEIGHBOURS = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])

SIDE = 2 * RADIUS + 1

WINDOW = np.exp(-2 * (np.arange(-RADIUS, RADIUS + 1) / RADIUS) ** 2)
"""Weights of the pixels of a patch along each axis."""

Descriptors = Float[Array, "_h _w _c"]
Distances = Float[Array, "_h _w"]
Matches = Int[Array, "2 _h _w"]
"""Row and column, among the styles, of the patch of each pixel."""


class Found(NamedTuple):
    """Matches, and their squared distances times the bank's factors."""

    matches: Matches
    distances: Distances


class Bank(NamedTuple):
    """The patches of all styles at a level, one style below the other.

    Attributes:
        pixels: RGB, h w 3.
        descriptors: What the patch around each pixel looks like, h w c.
        factors: What distances to it are multiplied by, h w.
    """

    pixels: Image
    descriptors: Descriptors
    factors: Float[Array, "_h _w"]


def repaint(
    image: Image,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    blend: Float[Array, "_n"] | None = None,
) -> Image:
    """Lay out a picture of patches of its styles.

    At each level of a pyramid of halves, coarsest first, the patch around a pixel p is
    laid from the place m(p) of the styles that minimises
    `|P(x, p) - P(s, m)|² + h(p) |P(g, p) - P(s, m)|²`. Here g is the picture, s the
    styles, x what is laid so far, and P the low frequencies of a patch. Patches of
    overlapping places are averaged. This repeats `ROUNDS` times. The strength h grows
    with the ratio of the content's weight to the style's, and where the content has an
    edge.

    Matches start from those of the coarser level, which keeps strokes whole; where
    there is none they are exact. Then they spread to neighbours, and are tried at
    random places nearby. The same pictures always give the same result.

    Args:
        image: The picture, RGB in [0, 1], h w 3. One of more than `BAND` pixels is
            laid in horizontal bands, which join without a seam.
        content: What is held at its edges, in place of the picture, of the same shape.
        styles: RGB images of any size, as large as they are measured beside the
            picture; of more than `LARGEST` pixels in all, the middle is used.
        recipe: The weights of content and style.
        blend: Weight of each style: distances to its patches are divided by it.
            Default: equal weights.

    Returns:
        RGB in [0, 1], of the picture's shape.

    Example:
        >>> import jaxnst
        >>> content, style = jaxnst.sample("harbour", 64), jaxnst.sample("swirls", 64)
        >>> recipe = jaxnst.get_recipe("painterly")
        >>> repaint(content, content, [style], recipe).shape
        (48, 64, 3)

    Reference:
        Hertzmann et al. (2001), "Image Analogies", by the texture optimisation of
        Kwatra et al. (2005), with the search of Barnes et al. (2009), "PatchMatch".
    """
    if blend is None:
        blend = jnp.ones(len(styles))
    styles = [_middle(style, LARGEST // len(styles)) for style in styles]
    shortest = min(min(x.shape[:2]) for x in (image, *styles))
    levels = 1 + max(0, math.floor(math.log2(shortest / COARSEST)))
    pyramid = zip(*(_halves(x, levels) for x in (image, content, *styles)), strict=True)
    matches, laid = None, image
    for level, (shown, drawn, *small) in reversed(list(enumerate(pyramid))):
        bank = make_bank(small, blend)
        edge = find_edges(drawn)
        shown = shown + edge[..., None] * (drawn - shown)
        hold = (1 + level) * recipe.content_ratio * (HOLD + DRAWN * edge)
        if matches is None:
            matches = search(describe(shown), bank)
        else:
            matches = refine(matches, shown.shape[:2], bank)
        matches, laid = _lay_bands(shown, hold, matches, bank)
    return laid


def _middle(style: Image, pixels: int) -> Image:
    h, w, _ = style.shape
    part = min(1, math.sqrt(pixels / (h * w)))
    height, width = int(h * part), int(w * part)
    y, x = (h - height) // 2, (w - width) // 2
    return style[y : y + height, x : x + width]


@partial(jax.jit, static_argnames="levels")
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


@jax.jit
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


@jax.jit
def find_edges(image: Image) -> Float[Array, "_h _w"]:
    """How much of an edge each pixel has nearby, 0 to 1."""
    grey = jnp.mean(image, axis=-1)
    window = jnp.full((5, 5), 1 / 25)

    def local_mean(x: Float[Array, "_h _w"]) -> Float[Array, "_h _w"]:
        return jax.scipy.signal.convolve2d(jnp.pad(x, 2, mode="edge"), window, "valid")

    centred = grey - jnp.mean(grey)
    variance = local_mean(centred**2) - local_mean(centred) ** 2
    deviation = jnp.sqrt(jnp.maximum(variance, 0))
    return deviation / (deviation + CONTRAST)


@jax.jit
def make_bank(styles: Sequence[Image], blend: Float[Array, "_n"]) -> Bank:
    """The patches of styles; those that cross a border are filled with `NOWHERE`."""
    width = max(style.shape[1] for style in styles)
    blend = jnp.abs(blend) / jnp.mean(jnp.abs(blend))
    parts = []
    for style, weight in zip(styles, blend, strict=True):
        h, w, _ = style.shape
        inner = describe(style)[RADIUS : h - RADIUS, RADIUS : w - RADIUS]
        inner = jnp.where(weight > 0, inner, NOWHERE)
        around = [(RADIUS, RADIUS), (RADIUS, RADIUS + width - w), (0, 0)]
        factors = jnp.full((h, width), 1 / jnp.where(weight > 0, weight, 1))
        pixels = jnp.pad(style, [(0, 0), (0, width - w), (0, 0)])
        found = jnp.pad(inner, around, constant_values=NOWHERE)
        parts.append(Bank(pixels, found, factors))
    return Bank(*map(jnp.concatenate, zip(*parts, strict=True)))


@jax.jit
def search(queries: Descriptors, bank: Bank) -> Matches:
    """Row and column of the nearest patch, by exact search."""
    rows = bank.descriptors.reshape(-1, queries.shape[-1])
    lengths, factors = jnp.sum(rows**2, axis=-1), bank.factors.reshape(-1)

    def nearest(query: Float[Array, "_c"]) -> Int[Array, ""]:
        products = jnp.matmul(rows, query, precision="highest")
        return jnp.argmin(factors * (lengths - 2 * products + query @ query))

    found = jax.lax.map(nearest, queries.reshape(-1, rows.shape[1]), batch_size=256)
    places = jnp.stack(jnp.divmod(found, bank.factors.shape[1]))
    return places.reshape(2, *queries.shape[:2])


def refine(matches: Matches, shape: tuple[int, ...], bank: Bank) -> Matches:
    """Matches of a level from those of the level of half the size."""
    row, column = np.indices(shape[:2])
    odd = np.stack([row % 2, column % 2])
    last = np.array(bank.factors.shape)[:, None, None] - 1
    return jnp.minimum(2 * matches[:, row // 2, column // 2] + odd, last)


def _lay_bands(
    shown: Image, hold: Float[Array, "_h _w"], matches: Matches, bank: Bank
) -> tuple[Matches, Image]:
    """`_lay_level` in horizontal bands, each with a halo that it depends on."""
    height, width, _ = shown.shape
    rows = math.ceil(height / math.ceil(height * width / BAND))
    taller = min(height, rows + 2 * HALO)
    found, laid = [], []
    for start in range(0, height, rows):
        first = min(max(0, start - HALO), height - taller)
        seen, inner = slice(first, first + taller), slice(start - first, None)
        there, picture = _lay_level(
            shown[seen], hold[seen], matches[:, seen], bank, first
        )
        found.append(there[:, inner][:, :rows])
        laid.append(picture[inner][:rows])
    return jnp.concatenate(found, axis=1), jnp.concatenate(laid)


@jax.jit
def _lay_level(
    shown: Image,
    hold: Float[Array, "_h _w"],
    matches: Matches,
    bank: Bank,
    first_row: int | Int[Array, ""],
) -> tuple[Matches, Image]:
    """Look up and lay the patches of a level, `ROUNDS` times."""
    wanted, hold = describe(shown), hold[..., None]
    laid = lay(matches, jnp.zeros(shown.shape[:2]), bank)

    def again(i: Int[Array, ""], state: tuple[Matches, Image]) -> tuple[Matches, Image]:
        matches, laid = state
        queries = (describe(laid) + hold * wanted) / (1 + hold)
        key = jax.random.fold_in(jax.random.key(0), i)
        matches, distances = improve(matches, queries, bank, key, first_row)
        return matches, lay(matches, distances, bank)

    return jax.lax.fori_loop(0, ROUNDS, again, (matches, laid))


def improve(
    matches: Matches,
    queries: Descriptors,
    bank: Bank,
    key: Array,
    first_row: int | Int[Array, ""] = 0,
) -> Found:
    """Better matches, from neighbours and random places.

    Random numbers depend on the row of the whole picture, not on that of a band. The
    picture's opposite borders count as neighbours.
    """
    h, w, _ = queries.shape
    last = np.array(bank.factors.shape)[:, None, None] - 1
    keys = jax.vmap(partial(jax.random.fold_in, key))(first_row + jnp.arange(h))

    def distances(matches: Matches) -> Distances:
        y, x = matches
        squares = (queries - bank.descriptors[y, x]) ** 2
        return bank.factors[y, x] * jnp.sum(squares, axis=-1)

    def shift(matches: Matches, move: Int[Array, "2"]) -> Matches:
        """The places that continue the matches of the pixels `move` away."""
        return jnp.roll(matches, move, (1, 2)) + move[:, None, None]

    def try_places(state: Found, offer: Matches) -> Found:
        matches, least = state
        offer = jnp.clip(offer, 0, last)
        found = distances(offer)
        continued = [shift(matches, jnp.asarray(move)) for move in NEIGHBOURS]

        def seen(distance: Distances, places: Matches) -> Distances:
            agree = [jnp.all(places == x, axis=0) for x in continued]
            return distance * (1 - COHERENCE / 4 * sum(agree))

        better = seen(found, offer) < seen(least, matches)
        return Found(jnp.where(better, offer, matches), jnp.where(better, found, least))

    moves = jnp.concatenate([step * NEIGHBOURS for step in STEPS])

    def spread(i: Int[Array, ""], state: Found) -> Found:
        return try_places(state, shift(state[0], moves[i]))

    def wander(i: Int[Array, ""], state: Found) -> Found:
        reach = max(bank.factors.shape) >> i
        own = jax.vmap(partial(jax.random.fold_in, data=i))(keys)
        draw = lambda key: jax.random.randint(key, (2, w), -reach, reach + 1)
        return try_places(state, state[0] + jax.vmap(draw)(own).swapaxes(0, 1))

    state = Found(matches, distances(matches))
    state = jax.lax.fori_loop(0, len(moves), spread, state)
    halvings = max(bank.factors.shape).bit_length()
    return jax.lax.fori_loop(0, halvings, wander, state)


def lay(matches: Matches, distances: Distances, bank: Bank) -> Image:
    """Average the overlapping patches around the matches, near ones most."""
    _, h, w = matches.shape
    trust = 1 / (1 + distances / BLUR)
    padded = jnp.pad(trust, RADIUS)
    around = jnp.pad(matches, [(0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)])
    last = np.array(bank.factors.shape)[:, None, None] - 1
    weights = jnp.asarray(np.outer(WINDOW, WINDOW).astype(np.float32))

    def add(i: Int[Array, ""], sums: tuple[Image, Array]) -> tuple[Image, Array]:
        total, weight = sums
        y, x = jnp.divmod(i, SIDE)
        place = jax.lax.dynamic_slice(around, (0, y, x), (2, h, w))
        place = place - jnp.stack([y, x])[:, None, None] + RADIUS
        row, column = jnp.clip(place, 0, last)
        own = jax.lax.dynamic_slice(padded, (y, x), (h, w)) * weights[y, x]
        own = own[..., None]
        return total + own * bank.pixels[row, column], weight + own

    sums = jnp.zeros((h, w, 3)), jnp.zeros((h, w, 1))
    total, weight = jax.lax.fori_loop(0, SIDE**2, add, sums)
    return total / weight
