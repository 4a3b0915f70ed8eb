"""Names for the arrays that travel through the package.

Axes: `h w c` are height, width, channels; there is no batch axis anywhere, batching
is the caller's `jax.vmap`. A throw-away axis (`_h`) may differ between arguments.
"""

from typing import Any

import numpy as np
from jax import Array
from jaxtyping import Float

Image = Float[Array | np.ndarray, "_h _w 3"]
"""RGB, sRGB-encoded, nominally in [0, 1]; not clipped unless a function says so."""

Feature = Float[Array, "_h _w _c"]
"""Activations of one layer."""

Features = dict[str, Feature]
"""Activations by layer name, such as `relu4_2`."""

Params = dict[str, dict[str, Any]]
"""`{"conv1_1": {"kernel": (3, 3, in, out), "bias": (out,)}, …}`; a kernel may also be a
`conv.WinogradKernel`."""

Scalar = Float[Array, ""]
"""A float of rank 0."""

Mask = Float[Array | np.ndarray, "_h _w 1"]
"""How much each pixel, or each position of a layer, counts, in [0, 1] or of mean 1."""

Weights = Mask | None
"""How much each position of a feature, or each pixel, counts; None: once."""
