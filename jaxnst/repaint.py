"""Repaint a picture with the paint of its styles, found by nearest neighbours.

At half the size, each cell of 2 x 2 pixels looks for its features among those of the
styles. The picture is laid out of the styles' own pixels from the places found, as
overlapping patches. So its finest octave is made of real strokes.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxnst.linalg import float32
from jaxnst.network.vgg import Backbone, channels
from jaxnst.objective import measure
from jaxnst.pictures.geometry import resize
from jaxnst.recipes import Program, Recipe
from jaxnst.types import Image, Scalar

COLUMNS = (("relu1_1", 0.5), ("relu2_1", 1.0), ("relu3_1", 1.0))
"""The layers whose features are looked up, and their weights."""

COHERENCE = 0.1
"""What a match gains, in cosine, by each of four neighbours that it continues."""

RARITY = 0.05
"""What a place costs, in cosine, by the logarithm of its style's weight in a blend."""

SWEEPS = 30
"""Rounds in which matches spread to their neighbours, half of the cells in each."""

SEARCHED = 2**14
"""Places that are searched, at most; others are reached from the neighbours' matches.
So time and memory grow with the area of the picture, not with its square."""

MARGIN = 2
"""Cells at the border of a style that are not used: its frame, and padded features."""

BAND = 2**18
"""Pixels of half the picture that are looked up at once."""

HALO = 32
"""Rows beyond a band that its matches see."""

LARGEST = 2**21
"""Pixels of the styles that are used, at most."""

PATCH = np.exp(-3 * ((np.arange(12) - 5.5) / 6) ** 2).astype(np.float32)
"""Weights of the pixels of a patch of 3 x 3 cells, along each axis."""

Columns = Float[Array, "_h _w _c"]
Matches = Int[Array, "_h _w 2"]


class Bank(NamedTuple):
    """The cells of all styles, one style below the other.

    Attributes:
        columns: Features of each cell, h w c.
        costs: What it costs to use a cell, h w; infinite at borders.
        cells: Pixels of each cell in the whole styles, h w 4 4 3.
    """

    columns: Columns
    costs: Float[Array, "_h _w"]
    cells: Float[Array, "_h _w 4 4 3"]


def repaint(
    backbone: Backbone,
    image: Image,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    blend: Float[Array, "_n"] | None = None,
) -> Image:
    """Lay out a picture of pixels of its styles.

    A cell p of half the picture matches the cell m(p) of half the styles that maximises
    `cos(q(p), f(m)) + COHERENCE · #{d: m(p + d) = m(p) + d}`, with features f, four
    neighbours d, and the query `q = s f(content) + (1 - s) f(image)`. The share s is
    `w / (w + 2)`, with w the content's weight over the style's. The maximum is exact
    for the cosine alone; from there, matches spread to their neighbours as long as that
    is better.

    Args:
        backbone: The network, prepared for the recipe.
        image: The picture, RGB in [0, 1], h w 3. One of more than 4 `BAND` pixels is
            looked up in horizontal bands.
        content: What it is to show, of the same shape.
        styles: RGB images of any size, as large as they are measured beside the
            picture; of more than `LARGEST` pixels in all, the middle is used.
        recipe: How the network sees them, and the weights.
        blend: Weight of each style. Default: equal weights.

    Returns:
        RGB in [0, 1], of the picture's shape.

    Example:
        >>> import jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> content, style = jaxnst.sample("harbour", 64), jaxnst.sample("swirls", 64)
        >>> recipe = jaxnst.get_recipe("painterly")
        >>> repaint(backbone, content, content, [style], recipe).shape
        (48, 64, 3)

    Reference:
        Hertzmann et al. (2001), "Image Analogies", with coherence as in Ashikhmin
        (2001), "Synthesizing Natural Textures". Features and query are those of Kolkin
        et al. (2022), "Neural Neighbor Style Transfer", who match them by gradient
        descent instead.
    """
    weights = jnp.ones(len(styles)) if blend is None else jnp.abs(blend)
    middles = [_middle(style, LARGEST // len(styles)) for style in styles]
    program, share = recipe.program, recipe.content_share
    bank = make_bank(backbone, middles, weights / jnp.mean(weights), program)
    halves = _half(content), _half(image)
    height, width, _ = halves[0].shape
    # Multiples of four, so that the chessboards of `cohere` agree.
    rows = 4 * math.ceil(height / 4 / math.ceil(height * width / BAND))
    taller = min(height, rows + 2 * HALO)
    bands = []
    for start in range(0, height, rows):
        first = min(max(0, start - HALO), height - taller)
        seen = (half[first : first + taller] for half in halves)
        laid = _lay_band(backbone, *seen, bank, program, share)
        bands.append(laid[2 * (start - first) :][: 2 * min(rows, height - start)])
    return jnp.concatenate(bands)[: image.shape[0], : image.shape[1]]


def _half(image: Image) -> Image:
    """A picture at half its size, which is made a multiple of four before."""
    pads = [(0, -side % 4) for side in image.shape[:2]]
    padded = jnp.pad(image, [*pads, (0, 0)], mode="edge")
    half = padded.shape[0] // 2, padded.shape[1] // 2
    return jnp.clip(resize(padded, half), 0, 1)


def _middle(style: Image, pixels: int) -> Image:
    h, w, _ = style.shape
    part = min(1, math.sqrt(pixels / (h * w)))
    height, width = int(h * part), int(w * part)
    y, x = (h - height) // 2, (w - width) // 2
    return style[y : y + height, x : x + width]


@partial(jax.jit, static_argnames="program")
def _lay_band(
    backbone: Backbone,
    content: Image,
    image: Image,
    bank: Bank,
    program: Program,
    content_share: float | Scalar,
) -> Image:
    shown, seen = (hypercolumns(backbone, x, program) for x in (content, image))
    queries = _unit(content_share * shown + (1 - content_share) * seen)
    return lay(cohere(search(queries, bank), queries, bank), bank)


@partial(jax.jit, static_argnames="program")
def make_bank(
    backbone: Backbone,
    styles: Sequence[Image],
    weights: Float[Array, "_n"],
    program: Program,
) -> Bank:
    """The cells of styles, and their features at half the styles' size."""
    styles, parts = [jnp.clip(style, 0, 1) for style in styles], []
    for style, weight in zip(styles, weights, strict=True):
        half = style.shape[0] // 2, style.shape[1] // 2
        small = jnp.clip(resize(style, half), 0, 1)
        columns = hypercolumns(backbone, small, program)
        h, w, _ = columns.shape
        margin = min(MARGIN, (min(h, w) - 1) // 2)
        inner = (h - 2 * margin, w - 2 * margin)
        costs = jnp.full(inner, -RARITY * jnp.log(weight))
        costs = jnp.pad(costs, margin, constant_values=jnp.inf)
        cells = style[: 4 * h, : 4 * w].reshape(h, 4, w, 4, 3).swapaxes(1, 2)
        parts.append(Bank(columns, costs, cells))
    width = max(part.costs.shape[1] for part in parts)

    def join(*arrays: Array, fill: float = 0) -> Array:
        pads = [
            [(0, 0), (0, width - x.shape[1])] + [(0, 0)] * (x.ndim - 2) for x in arrays
        ]
        padded = map(partial(jnp.pad, constant_values=fill), arrays, pads)
        return jnp.concatenate(list(padded))

    columns, costs, cells = zip(*parts, strict=True)
    return Bank(join(*columns), join(*costs, fill=jnp.inf), join(*cells))


def hypercolumns(backbone: Backbone, image: Image, program: Program) -> Columns:
    """Centred features of length 1, of all `COLUMNS` at once, for each cell."""
    shape = image.shape[0] // 2, image.shape[1] // 2
    feats = measure(backbone, image, program, tuple(dict(COLUMNS)))
    parts = []
    for layer, weight in COLUMNS:
        resized = jax.image.resize(
            float32(feats[layer]), (*shape, channels(layer)), "linear"
        )
        parts.append(weight / math.sqrt(channels(layer)) * resized)
    return _unit(jnp.concatenate(parts, axis=-1))


def _unit(columns: Columns) -> Columns:
    centred = columns - jnp.mean(columns, axis=-1, keepdims=True)
    length = jnp.linalg.norm(centred, axis=-1, keepdims=True)
    return centred / (length + 1e-6)


def search(queries: Columns, bank: Bank) -> Matches:
    """Row and column of the best of the `SEARCHED` cells, for each query."""
    step = math.ceil(math.sqrt(bank.costs.size / SEARCHED))
    costs = bank.costs[::step, ::step]
    columns = bank.columns[::step, ::step].reshape(costs.size, -1)

    def best(query: Float[Array, "_c"]) -> Int[Array, ""]:
        return jnp.argmax(columns @ query - costs.reshape(-1))

    rows = queries.reshape(-1, queries.shape[-1])
    found = jax.lax.map(best, rows, batch_size=1024)
    places = jnp.stack(jnp.divmod(found, costs.shape[1]), axis=-1) * step
    return places.reshape(*queries.shape[:2], 2)


def cohere(first: Matches, queries: Columns, bank: Bank) -> Matches:
    """Let matches spread to their neighbours, see `repaint`.

    Cells are visited like the fields of a chessboard, so no two neighbours change at
    once. The picture's opposite borders count as neighbours.
    """
    steps = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])
    last = np.array(bank.costs.shape) - 1
    row, column = np.indices(queries.shape[:2])

    def sweep(i: Int[Array, ""], matches: Matches) -> Matches:
        # The places that would continue the neighbours' matches.
        offers = [
            jnp.clip(jnp.roll(matches, -d, (0, 1)) - d[None, None], 0, last[None, None])
            for d in steps
        ]

        def worth(place: Matches) -> Float[Array, "_h _w"]:
            y, x = place[..., 0], place[..., 1]
            cosine = jnp.sum(queries * bank.columns[y, x], axis=-1)
            continued = sum(jnp.all(offer == place, axis=-1) for offer in offers)
            return cosine - bank.costs[y, x] + COHERENCE * continued

        places = jnp.stack([matches, first, *offers])
        best = jnp.argmax(jax.lax.map(worth, places), axis=0)
        better = jnp.take_along_axis(places, best[None, ..., None], axis=0)[0]
        turn = (row + column) % 2 == i % 2
        return jnp.where(turn[..., None], better, matches)

    return jax.lax.fori_loop(0, SWEEPS, sweep, first)


def lay(matches: Matches, bank: Bank) -> Image:
    """Average overlapping patches of 3 x 3 cells around the matches."""
    h, w, _ = matches.shape
    last = np.array(bank.costs.shape) - 1
    weights = np.outer(PATCH, PATCH).reshape(3, 4, 3, 4).swapaxes(1, 2)
    total = jnp.zeros((h + 2, w + 2, 4, 4, 3))
    weight = jnp.zeros((h + 2, w + 2, 4, 4, 1))
    for i in range(3):
        for j in range(3):
            place = jnp.clip(
                matches + np.array([[[i - 1, j - 1]]]), 0, last[None, None]
            )
            own = weights[i, j][None, None, :, :, None]
            cells = bank.cells[place[..., 0], place[..., 1]]
            total = total.at[i : i + h, j : j + w].add(own * cells)
            weight = weight.at[i : i + h, j : j + w].add(own)
    cells = (total / weight)[1:-1, 1:-1]
    return cells.swapaxes(1, 2).reshape(4 * h, 4 * w, 3)
