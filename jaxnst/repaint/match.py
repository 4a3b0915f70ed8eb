"""The search: for each patch of a picture, the most similar patch in the bank.

A match is the index of a place in the bank, row by row. The matches of two pixels
continue each other if the offset between them is the offset between the pixels. No
match lies beyond the border of a style.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from jaxnst.pictures.canvas import extend
from jaxnst.repaint.bank import NOWHERE, Bank, Descriptors, mean_around
from jaxnst.types import Mask

COHERENCE = 0.6
"""Fraction by which the distance of a match shrinks if the match continues those of all
four neighbours."""

OVERUSE = 16
"""Largest factor on the distance to an overused patch. The factor is the patch's use
over its fair share. It keeps a lone motif from being copied everywhere."""

STEPS = (4, 1, 2, 1)
"""Distances in pixels over which matches spread, one after another."""

NEAR = 32
"""Longest random move in pixels. The first round of a level also tries longer moves."""

MULTIPLIER, INCREMENT = np.uint32(1664525), np.uint32(1013904223)
"""Constants of Knuth's linear congruential generator, as in "Numerical Recipes". It
compiles much faster than JAX's generators."""

NEIGHBOURS = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])

Matches = Int[Array, "_h _w"]
"""Index in the bank of the patch of each pixel."""

Distances = Float[Array, "_h _w"]


class Found(NamedTuple):
    """Matches, and their squared distances times the bank's factors."""

    matches: Matches
    distances: Distances


def search(
    queries: Descriptors, bank: Bank, extent: Int[Array | np.ndarray, "2"] | None = None
) -> Matches:
    """The nearest patch for each query, by exact search.

    Beyond the `extent` of the picture, the matches at its edge are repeated.
    """
    height = len(queries) if extent is None else extent[0]
    rows, factors = bank.descriptors, bank.factors.reshape(-1)
    lengths = jnp.sum(rows**2, axis=-1)

    def search_row(y: Int[Array, ""], found: Matches) -> Matches:
        products = jnp.matmul(queries[y], rows.T, precision="highest")
        own = jnp.sum(queries[y] ** 2, axis=-1, keepdims=True)
        distances = factors[None] * (lengths[None] - 2 * products + own)
        # On a CPU, argmin takes five times as long as a minimum and a comparison.
        distances = jax.lax.optimization_barrier(distances)
        least = jnp.min(distances, axis=-1, keepdims=True)
        places = jnp.where(distances == least, jnp.arange(len(rows))[None], len(rows))
        return found.at[y].set(jnp.min(places, axis=-1))

    found = jnp.zeros(queries.shape[:2], int)
    found = jax.lax.fori_loop(0, height, search_row, found)
    return extend(found[..., None], extent)[..., 0]


def refine(
    matches: Int[Array | np.ndarray, "*_lanes _h _w"],
    coarse: int,
    fine: int,
    shape: tuple[int, int],
) -> Int[np.ndarray, "*_lanes _new_h _new_w"]:
    """Turn the matches of a level into those of the next finer level, on the host.

    Each pixel becomes four. If its match is at (y, x) of a style, the four matches are
    at (2y, 2x), (2y, 2x + 1), (2y + 1, 2x) and (2y + 1, 2x + 1) of the same style.
    `coarse` and `fine` are the edges of the styles' canvases at the two levels. `shape`
    is the shape of the picture's finer canvas.
    """
    matches = np.asarray(matches)
    row, column = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    last = [side - 1 for side in matches.shape[-2:]]
    known = np.minimum(row // 2, last[0]), np.minimum(column // 2, last[1])
    style, place = np.divmod(matches[(..., *known)], coarse**2)
    y, x = np.divmod(place, coarse)
    y = np.minimum(2 * y + row % 2, fine - 1)
    x = np.minimum(2 * x + column % 2, fine - 1)
    return ((style * fine + y) * fine + x).astype(np.int32)


def overuse_penalty(matches: Matches, where: Mask, bank: Bank) -> Float[Array, "_h _w"]:
    """Factor on the distance to each patch: above 1 if it is used too often."""
    used = jnp.zeros(bank.factors.size).at[matches.reshape(-1)].add(where.reshape(-1))
    used = used.reshape(bank.factors.shape)
    shown = bank.descriptors[:, 0].reshape(used.shape) < NOWHERE
    weights = jnp.where(shown, 1 / bank.factors, 0)
    due = weights * used.sum() / weights.sum()
    nearby = mean_around(used[..., None])[..., 0]
    return jnp.clip(nearby / (due + 1e-6), 1, OVERUSE)


def improve(
    matches: Matches,
    queries: Descriptors,
    bank: Bank,
    seed: int | Int[Array, ""],
    first_row: int | Int[Array, ""] = 0,
) -> Found:
    """Improve matches: try those of neighbours, and random places.

    `seed` is the number of the round. Far places are tried only in round 0, because
    later almost none is better. Random numbers depend on a pixel's row in the whole
    picture, where a band begins at `first_row`.
    """
    h, w, _ = queries.shape
    last, width = bank.factors.size - 1, bank.factors.shape[1]
    factors = bank.factors.reshape(-1)
    rows = first_row + jnp.arange(h, dtype=jnp.uint32)
    places = 2 * w * rows[:, None, None] + np.arange(2 * w).reshape(1, w, 2)
    seeds = mix(mix(places.astype(jnp.uint32)) + seed)

    def distances(matches: Matches) -> Distances:
        found = bank.descriptors[matches]
        return factors[matches] * jnp.sum((queries - found) ** 2, axis=-1)

    def shift(matches: Matches, move: Int[Array, "2"]) -> Matches:
        """The places that continue the matches of the pixels `move` away."""
        reach = max(STEPS)
        padded = jnp.pad(matches, reach, mode="edge")
        start = (reach - move[0], reach - move[1])
        return jax.lax.dynamic_slice(padded, start, (h, w)) + width * move[0] + move[1]

    def try_places(state: Found, offer: Matches) -> Found:
        matches, least = state
        offer = jnp.clip(offer, 0, last)
        found = distances(offer)
        continued = [shift(matches, jnp.asarray(move)) for move in NEIGHBOURS]

        def seen(distance: Distances, places: Matches) -> Distances:
            agree = sum((places == x).astype(jnp.float32) for x in continued)
            return distance * (1 - COHERENCE / 4 * agree)

        better = seen(found, offer) < seen(least, matches)
        return Found(jnp.where(better, offer, matches), jnp.where(better, found, least))

    # Tries, in order: far random places, neighbours' matches, near random places. Each
    # is a move over pixels, and a reach. One loop compiles in half the time of two.
    reaches = [2**n for n in reversed(range(max(bank.factors.shape).bit_length()))]
    wander = [(0, 0, reach) for reach in reaches]
    spread = [(*step * move, 0) for step in STEPS for move in NEIGHBOURS]
    far = sum(reach > NEAR for reach in reaches)
    tries = jnp.asarray([*wander[:far], *spread, *wander[far:]])

    def attempt(i: Int[Array, ""], carry: tuple[Found, Array]) -> tuple[Found, Array]:
        state, bits = carry
        bits, move, reach = MULTIPLIER * bits + INCREMENT, tries[i, :2], tries[i, 2]
        high = (bits >> 17).astype(jnp.int32)  # the better bits of such a generator
        offset = (high * (2 * reach + 1) >> 15) - reach
        offset = width * offset[..., 0] + offset[..., 1]
        return try_places(state, shift(state.matches, move) + offset), bits

    state = Found(matches, distances(matches)), seeds
    first = jnp.where(jnp.equal(seed, 0), 0, far)
    return jax.lax.fori_loop(first, len(tries), attempt, state)[0]


def mix(numbers: UInt32[Array, "*_shape"]) -> UInt32[Array, "*_shape"]:
    """Scramble numbers; different numbers stay different.

    Reference:
        Appleby (2011), "MurmurHash3", its last step.
    """
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        numbers = (numbers ^ (numbers >> shift)) * np.uint32(factor)
    return numbers ^ (numbers >> 16)
