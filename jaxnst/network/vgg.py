"""VGG-19 as a Flax Linen module, and its features of one image.

The network is frozen and stateless, so Linen's `apply(params, image)` is all that is
needed. Each of its sixteen convolutions is 3 x 3 with zero padding of 1 and a ReLU
after it; 2 x 2 pooling separates the five blocks. Images are RGB in [0, 1].

Reference:
    Simonyan, Zisserman (2014), "Very Deep Convolutional Networks for Large-Scale Image
    Recognition".
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxnst.checks import check_image
from jaxnst.messages import nearest
from jaxnst.network.conv import convolve
from jaxnst.pictures.canvas import pad_edge
from jaxnst.types import Feature, Features, Image, Params

Pooling = Literal["max", "average", "l2"]
Padding = Literal["zeros", "replicate"]
Activations = Literal["unit_mean", "caffe", "torchvision"]
Family = Literal["rgb", "caffe", "torchvision"]

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of convolutions of each block."""

LAYERS = tuple(
    f"relu{block}_{i}"
    for block, (_, count) in enumerate(BLOCKS, 1)
    for i in range(1, count + 1)
)
"""All layers, in order: `relu1_1` … `relu5_4`. With a suffix `@2`, `@4` or `@8`, as in
`relu3_1@2`, the picture is first shrunk to a half, a quarter or an eighth."""


def conv_name(layer: str) -> str:
    """Name of the convolution of a layer, as in a backbone's `params`."""
    return layer.replace("relu", "conv")


def layer_name(conv: str) -> str:
    """Name of the layer of a convolution; the inverse of `conv_name`."""
    return conv.replace("conv", "relu")


def shrinkage(layer: str) -> int:
    """Factor by which the picture is shrunk for a layer: 1, 2, 4 or 8."""
    return int(layer.partition("@")[2] or 1)


def network_layer(layer: str) -> str:
    """The layer without `@2`, `@4` or `@8`: one of `LAYERS`."""
    return layer.partition("@")[0]


def channels(layer: str) -> int:
    """Number of channels of a layer."""
    return BLOCKS[int(layer[4]) - 1][0]


def stride(layer: str) -> int:
    """Distance between neighbouring positions of a layer, in pixels of the image.

    Example:
        >>> stride("relu5_1"), stride("relu3_1@4")
        (16, 16)
    """
    return 2 ** (int(layer[4]) - 1) * shrinkage(layer)


def receptive_field(layer: str) -> int:
    """Side of the square of the image that one position of a layer depends on.

    Each convolution adds two strides; each pooling adds half of the stride after it.

    Example:
        >>> receptive_field("relu4_2")
        84
    """
    factor, side = shrinkage(layer), 1
    for name in LAYERS[: LAYERS.index(network_layer(layer)) + 1]:
        if name.endswith("_1") and stride(name) > 1:
            side += stride(name) // 2
        side += 2 * stride(name)
    # `shrink` has four taps per axis: after 0 to 3 of them a pixel sees 1, 4, 10, 22.
    return (side - 1) * factor + 3 * factor - 2


def deepest(layers: tuple[str, ...]) -> str:
    """The layer with the largest stride; among several, the last one in the network.

    Example:
        >>> deepest(("relu1_1", "relu3_2", "relu2_1@2"))
        'relu3_2'
    """
    return max(layers, key=lambda layer: (stride(layer), layer))


def shrink(image: Image) -> Image:
    """Shrink a picture to half its size, filtered by (1 3 3 1) / 8 along each axis.

    At the border, the taps inside the picture are scaled to the sum 1.
    """
    h, w, channels = image.shape
    even = image[: h // 2 * 2, : w // 2 * 2]
    return jax.image.resize(even, (h // 2, w // 2, channels), "linear")


def kernel_shapes() -> dict[str, tuple[int, int, int, int]]:
    """Shapes of VGG-19's sixteen kernels, by convolution name, in order."""
    shapes, before = {}, 3
    for layer in LAYERS:
        shapes[conv_name(layer)] = (3, 3, before, channels(layer))
        before = channels(layer)
    return shapes


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Backbone:
    """A VGG-19 with its input map, as a pytree: all that `features` needs.

    Attributes:
        params: Kernels (3 3 in out) and biases (out,) by convolution name, in order.
            They may end before `conv5_4`.
        scale: The network's input is `image * scale + offset`, for each RGB channel.
        offset: See `scale`. It is kept apart from the first bias, because the input is
            padded with zeros *after* the offset is added.
        mean_activation: For each layer, by name, the mean of each filter's ReLU output
            over many pictures, (c,). `calibrate` brings the means to a recipe's scale.
        family: Family of the activations: `caffe` for the Oxford weights, whose input
            is in 0 to 255; `torchvision`; or `rgb` for any others.
    """

    params: Params
    scale: Float[Any, "3"]
    offset: Float[Any, "3"]
    mean_activation: dict[str, Float[Any, "_c"]]
    family: Family = field(default="rgb", metadata={"static": True})


class Conv(nn.Module):
    """3 x 3 convolution by `conv.convolve`, and a bias. Initialises no parameters."""

    pad: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        """Convolve a feature."""
        cast = lambda tree: jax.tree.map(lambda x: x.astype(self.dtype), tree)
        params = cast(self.variables["params"])
        y = convolve(cast(x), params["kernel"], self.pad)
        return y + params["bias"][None, None]


class VGG19(nn.Module):
    """VGG-19 up to the deepest of `layers`; the fields are arguments of `features`.

    `padding` applies to conv1_1. All other convolutions pad zeros.
    """

    layers: tuple[str, ...]
    pooling: Pooling = "max"
    pool_scale: float = 1.0
    padding: Padding = "zeros"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Image) -> Features:
        """Compute the features of a network input, `image * scale + offset`."""
        found = {}
        for layer in LAYERS[: max(map(LAYERS.index, self.layers)) + 1]:
            pad = 1
            if layer.endswith("_1") and layer != "relu1_1":
                x = pool(x, self.pooling) * jnp.asarray(self.pool_scale, x.dtype)
            elif layer == "relu1_1" and self.padding == "replicate":
                x, pad = pad_edge(x), 0
            x = relu(Conv(pad, self.dtype, name=conv_name(layer))(x))
            # On a CPU the barrier keeps XLA from computing the ReLU again for each of
            # its users. Elsewhere the ReLU is fused with the convolution.
            x = jax.lax.platform_dependent(
                x, cpu=jax.lax.optimization_barrier, default=lambda x: x
            )
            if layer in self.layers:
                found[layer] = x
        return found


@jax.custom_jvp
def relu(x: Feature) -> Feature:
    """`max(x, 0)`, with a derivative computed from the result instead of x.

    The backward pass does not need x, unlike that of `nn.relu`. On a GPU, the
    convolution can then apply the ReLU itself.
    """
    return jnp.maximum(x, 0)


relu.defjvps(lambda tangent, y, x: jnp.where(y > 0, tangent, 0))


def pool(x: Feature, pooling: Pooling) -> Feature:
    """2 x 2 pooling with stride 2. An odd last row or column is dropped.

    `l2` is the root of the sum of the four squares. Where all four are zero, its
    gradient is zero.

    Example:
        >>> x = jnp.array([[1.0, 2.0], [2.0, 4.0]])[:, :, None]
        >>> [float(pool(x, kind)[0, 0, 0]) for kind in ("max", "average", "l2")]
        [4.0, 2.25, 5.0]
    """
    h, w, c = x.shape
    x = x[: h // 2 * 2, : w // 2 * 2].reshape(h // 2, 2, w // 2, 2, c)
    match pooling:
        case "max":
            # Thanks to the reshape, the backward pass is an elementwise mask; that of
            # XLA's windowed maximum is many times slower on a CPU. Equal maxima share
            # the gradient; PyTorch and XLA give it to one of them.
            return x.max(axis=(1, 3))
        case "average":
            return x.mean(axis=(1, 3))
        case "l2":
            squares = jnp.sum(x * x, axis=(1, 3))
            return jnp.sqrt(jnp.maximum(squares, jnp.finfo(x.dtype).tiny))
    raise ValueError(f"expected pooling max, average or l2, got {pooling!r}")


def features(
    backbone: Backbone,
    image: Image,
    *,
    layers: tuple[str, ...],
    pooling: Pooling = "max",
    pool_scale: float = 1.0,
    padding: Padding = "zeros",
    dtype: str = "float32",
) -> Features:
    """Activations of an image after the ReLU, at the given layers.

    The network is computed only up to the deepest of these layers.

    Args:
        backbone: The network.
        image: RGB in [0, 1], h w 3.
        layers: Layer names, such as `("relu1_1", "relu4_2")`. For `relu3_1@2`, the
            picture is first shrunk to half its size, see `shrink`; for `@4`, to a
            quarter; for `@8`, to an eighth.
        pooling: See `pool`.
        pool_scale: Factor on the output of each pooling. In a network that was trained
            with max pooling, average pooling lowers the activations; L2 pooling raises
            them.
        padding: Padding of the image: `zeros`, or `replicate` for its own border
            pixels. Zeros are padded after the input map, so they stand for the mean
            colour, as in training.
        dtype: Type of the convolutions, `float32` or `bfloat16`.

    Returns:
        Dict from layer name to a feature of type `dtype`, h//stride w//stride c.

    Raises:
        ValueError: If no layer is asked for, a layer is unknown or missing from the
            backbone's parameters, the image is not h w 3 of floats, or a side of it is
            smaller than the largest stride.

    Example:
        >>> import jax, jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> feats = features(backbone, jax.numpy.ones((32, 48, 3)), layers=("relu3_1",))
        >>> feats["relu3_1"].shape
        (8, 12, 256)
    """
    check_layers(layers, backbone.params)
    check_image(image, beyond=math.inf)  # `input_gain` may exceed [0, 1]
    smallest = stride(deepest(layers))
    if min(image.shape[:2]) < smallest:
        raise ValueError(
            f"expected an image of at least {smallest} px on each side for "
            f"{deepest(layers)}, got {image.shape[1]} x {image.shape[0]} px; enlarge "
            "it or use shallower layers"
        )
    found, size = {}, 1
    for factor in sorted(set(map(shrinkage, layers))):
        while size < factor:
            image, size = shrink(image), 2 * size
        here = {network_layer(x): x for x in layers if shrinkage(x) == factor}
        network = VGG19(tuple(here), pooling, pool_scale, padding, jnp.dtype(dtype))
        x = image * backbone.scale[None, None] + backbone.offset[None, None]
        seen = cast(Features, network.apply({"params": backbone.params}, x))
        found |= {here[name]: feature for name, feature in seen.items()}
    return found


def check_layers(layers: tuple[str, ...], params: Params | None = None) -> None:
    """Raise a ValueError unless layers exist, and `params` (if given) reach them."""
    if not layers:
        raise ValueError("expected at least one layer, got none")
    for layer in layers:
        base, at, factor = layer.partition("@")
        if base not in LAYERS or (at and factor not in ("2", "4", "8")):
            raise ValueError(
                f"expected a layer relu1_1 … relu5_4, or one with @2, @4 or @8, got "
                f"{layer!r}; did you mean {nearest(base, LAYERS)}?"
            )
        if params is not None and conv_name(base) not in params:
            raise ValueError(
                f"expected weights that reach {layer}, got weights that end at "
                f"{max(params)}; use shallower layers or other weights"
            )
