"""Large arrays at half their size: bfloat16, held as the integers of its bits.

XLA on a CPU makes a float32 of a whole bfloat16 array to read a part of it, and NumPy
cannot save one; integers are what they are everywhere.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt16

StateDtype = Literal["float32", "bfloat16"]

Stored = Float[Any, "*_shape"] | UInt16[Any, "*_shape"]
"""A float32 array as it is, or one of bfloat16 as its bits."""

StoredFeatures = dict[str, Float[Any, "_h _w _c"] | UInt16[Any, "_h _w _c"]]
"""Activations by layer name, put away."""


def store(array: Float[Array, "*_shape"], dtype: StateDtype) -> Stored:
    """Put an array away in a type.

    Example:
        >>> kept = store(jnp.array([1 / 3]), "bfloat16")
        >>> kept.dtype, restore(kept).tolist()
        (dtype('uint16'), [0.333984375])
    """
    if dtype == "float32":
        return array.astype(jnp.float32)
    return jax.lax.bitcast_convert_type(array.astype(jnp.bfloat16), jnp.uint16)


def stored_zeros(shape: tuple[int, ...], dtype: StateDtype) -> Stored:
    """Zeros, put away in a type."""
    return jnp.zeros(shape, jnp.float32 if dtype == "float32" else jnp.uint16)


def unpack(stored: Stored) -> Float[Array, "*_shape"]:
    """Get an array back in the type that it was put away in."""
    if dtype_of(stored) == "float32":
        return stored
    return jax.lax.bitcast_convert_type(stored, jnp.bfloat16)


def restore(stored: Stored) -> Float[Array, "*_shape"]:
    """Get an array back in float32."""
    return unpack(stored).astype(jnp.float32)


def dtype_of(stored: Stored) -> StateDtype:
    """The type that an array was put away in."""
    return "bfloat16" if stored.dtype == jnp.uint16 else "float32"


def take(stored: Stored, start: tuple, shape: tuple[int, ...]) -> Array:
    """Get a part of an array back, from a start index for each axis."""
    return restore(jax.lax.dynamic_slice(stored, start, shape))


def put(stored: Stored, part: Float[Array, "..."], start: tuple) -> Stored:
    """The array with a part replaced, from a start index for each axis."""
    return jax.lax.dynamic_update_slice(stored, store(part, dtype_of(stored)), start)
