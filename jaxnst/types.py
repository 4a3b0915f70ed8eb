"""Types of the arrays that the package uses.

Axes: `h w c` are height, width and channels. There is no batch axis; callers use
`jax.vmap`. An axis with an underscore (`_h`) may differ between arguments.
Arrays are JAX's, or NumPy's on the host.
"""

from typing import Any

from jaxtyping import Float

Image = Float[Any, "_h _w 3"]
"""RGB, sRGB-encoded, nominally in [0, 1]; not clipped unless a function says so."""

Feature = Float[Any, "_h _w _c"]
"""Activations of one layer."""

Features = dict[str, Feature]
"""Activations by layer name, such as `relu4_2`."""

Params = dict[str, dict[str, Any]]
"""`{"conv1_1": {"kernel": (3, 3, in, out), "bias": (out,)}, …}`; a kernel may also be a
`conv.WinogradKernel`."""

Scalar = Float[Any, ""]
"""A float of rank 0."""

Mask = Float[Any, "_h _w 1"]
"""Weight of each pixel, in [0, 1], or of each position of a layer, with mean 1."""

Weights = Mask | None
"""Weight of each pixel, or of each position of a feature. None: each counts once."""
