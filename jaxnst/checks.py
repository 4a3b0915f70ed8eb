"""Checks of the arguments of public functions, before anything is computed."""

import math
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

USUAL, OPTIMIZED = 0.25, 9.0
"""How far numbers may be outside [0, 1]. `USUAL` is for pictures, because resampling
filters overshoot. `OPTIMIZED` is for images that are optimised without clipping."""


def check_image(
    image: Any,
    name: str = "image",
    *,
    channels: int = 3,
    most: float = 1.0,
    beyond: float = USUAL,
) -> None:
    """Raise a ValueError unless something is an RGB image, h w 3, of floats in [0, 1].

    Under `jit`, `vmap` or `grad`, only the shape and the dtype are checked.

    With 1 channel, the image is a mask, which may be of booleans. Numbers must be in
    [0, `most`], with a tolerance of `beyond` on both sides. Messages call the image
    `name`.

    Example:
        >>> check_image(np.zeros((4, 6, 3), np.uint8), "content")
        Traceback (most recent call last):
        ValueError: expected content as floats in [0, 1], got uint8; divide by 255
    """
    kind = "RGB" if channels == 3 else "mask"
    bounds = f"[0, {most:g}]"
    wanted = f"expected {name} as {kind}, an array of h w {channels} in {bounds}"
    if not hasattr(image, "shape") or not hasattr(image, "dtype"):
        load = "load_image(path)" if channels == 3 else "load_mask(path)"
        raise ValueError(f"{wanted}, got a {type(image).__name__}; see {load}")
    if len(image.shape) != 3 or image.shape[2] != channels or 0 in image.shape:
        shape = " x ".join(map(str, image.shape)) or "a number"
        raise ValueError(f"{wanted}, got {shape}; {_cure(image.shape, channels)}")
    floats = jnp.issubdtype(image.dtype, jnp.floating)
    if not floats and not (channels == 1 and image.dtype == bool):
        white = {"uint8": 255, "uint16": 65535}.get(str(image.dtype))
        cure = f"divide by {white}" if white else "convert it"
        raise ValueError(
            f"expected {name} as floats in {bounds}, got {image.dtype}; {cure}"
        )
    if isinstance(image, Tracer) or not floats:
        return
    numbers = np.asarray(image)  # on the host, where nothing is compiled for it
    low, high = float(numbers.min()), float(numbers.max())
    finite = np.isfinite([low, high]).all()
    if not (finite and -beyond <= low and high <= most + beyond):
        cure = "replace NaN and infinity"
        if finite:
            white = 255 if high <= 255 else 65535
            cure = f"divide by {white}" if high > 16 and low >= 0 else "scale it"
        raise ValueError(
            f"expected {name} in {bounds}, got numbers from {low:g} to {high:g}; {cure}"
        )


def _cure(shape: tuple[int, ...], channels: int) -> str:
    """What to do with an array of a shape that is not h w c."""
    if len(shape) == 4:
        return "give one image at a time, image[0], or see jax.vmap and stylize_grid"
    if len(shape) == 2:
        grey = "repeat its grey: image[..., None].repeat(3, 2)"
        return grey if channels == 3 else "add an axis: mask[..., None]"
    if len(shape) == 3 and shape[0] == channels:
        return "put the channels last: image.transpose(1, 2, 0)"
    if len(shape) == 3 and shape[2] == 4 and channels == 3:
        return "blend it over a colour, and give its alpha as a mask"
    if len(shape) == 3 and shape[2] == 1 and channels == 3:
        return "repeat its grey: image.repeat(3, 2)"
    return "see load_image" if channels == 3 else "see load_mask"


def check_list(images: Any, name: str) -> None:
    """Raise a ValueError unless something is a list or a tuple."""
    if not isinstance(images, list | tuple):
        got = "one array" if hasattr(images, "shape") else f"a {type(images).__name__}"
        raise ValueError(f"expected a list of {name}s, got {got}; give [{name}]")


def check_kind(value: Any, kind: type, source: str) -> None:
    """Raise a ValueError unless a value is of a kind; `source` tells how to get one."""
    if not isinstance(value, kind):
        raise ValueError(f"expected a {kind.__name__}, got {value!r:.60}; see {source}")


def check_mask(mask: Any, name: str = "mask") -> None:
    """Raise a ValueError unless something is a mask, h w 1 in [0, 1], or None."""
    if mask is not None:
        check_image(mask, name, channels=1, beyond=1e-3)


def check_strength(strength: Any, name: str = "content_strength") -> None:
    """Raise a ValueError unless something is h w 1, finite and ≥ 0, or None."""
    if strength is not None:
        check_image(strength, name, channels=1, most=math.inf, beyond=0.0)


def check_key(key: Any) -> None:
    """Raise a ValueError unless this is one random key, new-style or legacy."""
    try:
        jax.eval_shape(jax.random.bits, key)
    except (TypeError, ValueError) as error:
        got = f"shape {key.shape}" if hasattr(key, "shape") else repr(key)
        raise ValueError(
            f"expected one random key, got {got}; make one by jax.random.key(0)"
        ) from error


def check_untraced(name: str, *arguments: Any) -> None:
    """Raise a ValueError if a function is called inside jit, vmap or grad.

    The function `name` runs Python between compiled steps, so it cannot be transformed.
    """
    # An array that is made while `jit` traces is traced, too.
    leaves = jax.tree.leaves((arguments, jnp.zeros(())))
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        raise ValueError(
            f"expected {name} outside of jit, vmap and grad, got traced arrays; "
            "make_targets, objective and make_transfer compose with them (grad only "
            "through Adam), and stylize_grid paints many pictures at once"
        )


def check_installed(module: str, user: str, extra: str) -> None:
    """Raise a ValueError if `module` is missing, which `user` needs.

    The message names the `extra` that installs the module.

    Example:
        >>> check_installed("numpy", "--trace", "plot")
    """
    if find_spec(module) is None:
        raise ValueError(
            f"{user} needs the extra {extra}; pip install 'jaxnst[{extra}]'"
        )
