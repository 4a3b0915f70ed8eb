"""Large arrays stored at half their size: as integers, the bits of bfloat16.

XLA on a CPU converts a whole bfloat16 array to float32 to read a part of it, and NumPy
cannot save bfloat16. Integers avoid both problems.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt16

StateDtype = Literal["float32", "bfloat16"]

Stored = Float[Any, "*_shape"] | UInt16[Any, "*_shape"]
"""A float32 array, or the bits of a bfloat16 array."""

StoredFeatures = dict[str, Float[Any, "_h _w _c"] | UInt16[Any, "_h _w _c"]]
"""Stored activations by layer name."""


def store(array: Float[Array, "*_shape"], dtype: StateDtype) -> Stored:
    """Store an array as float32, or as the bits of bfloat16.

    Example:
        >>> kept = store(jnp.array([1 / 3]), "bfloat16")
        >>> kept.dtype, restore(kept).tolist()
        (dtype('uint16'), [0.333984375])
    """
    if dtype == "float32":
        return array.astype(jnp.float32)
    return jax.lax.bitcast_convert_type(array.astype(jnp.bfloat16), jnp.uint16)


def stored_zeros(shape: tuple[int, ...], dtype: StateDtype) -> Stored:
    """Zeros, stored in a dtype."""
    return jnp.zeros(shape, jnp.float32 if dtype == "float32" else jnp.uint16)


def unpack(stored: Stored) -> Float[Array, "*_shape"]:
    """A stored array in the dtype that it was stored in."""
    if dtype_of(stored) == "float32":
        return stored
    return jax.lax.bitcast_convert_type(stored, jnp.bfloat16)


def restore(stored: Stored) -> Float[Array, "*_shape"]:
    """A stored array in float32."""
    return unpack(stored).astype(jnp.float32)


def dtype_of(stored: Stored) -> StateDtype:
    """The dtype that an array was stored in."""
    return "bfloat16" if stored.dtype == jnp.uint16 else "float32"


def take(stored: Stored, start: tuple, shape: tuple[int, ...]) -> Array:
    """A part of a stored array in float32, from a start index for each axis."""
    return restore(jax.lax.dynamic_slice(stored, start, shape))


def put(stored: Stored, part: Float[Array, "..."], start: tuple) -> Stored:
    """A stored array with a part replaced, from a start index for each axis."""
    return jax.lax.dynamic_update_slice(stored, store(part, dtype_of(stored)), start)
