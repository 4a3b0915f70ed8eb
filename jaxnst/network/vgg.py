"""VGG-19 as a Flax Linen module, and the features it gives of one image.

The network is frozen and stateless, so `apply(params, image)` is all there is. The
layers are those of Simonyan and Zisserman (2014), "Very Deep Convolutional Networks
for Large-Scale Image Recognition": 3 x 3 convolutions, zero padding of 1, a ReLU after
each, 2 x 2 pooling between blocks. Images are RGB in [0, 1].
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.network.conv import convolve
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
"""Names of all layers, in order: `relu1_1` … `relu5_4`."""


def conv_name(layer: str) -> str:
    """Name of the convolution under a layer: `relu4_2` → `conv4_2`."""
    return layer.replace("relu", "conv")


def channels(layer: str) -> int:
    """Number of channels of a layer."""
    return BLOCKS[int(layer[4]) - 1][0]


def stride(layer: str) -> int:
    """Input pixels from one position of a layer to the next.

    Example:
        >>> stride("relu5_1")
        16
    """
    return 2 ** (int(layer[4]) - 1)


def receptive_field(layer: str) -> int:
    """Side of the input square that one position of a layer sees, in pixels.

    Example:
        >>> receptive_field("relu4_2")
        84
    """
    field = 1
    for name in LAYERS[: LAYERS.index(layer) + 1]:
        if name.endswith("_1") and stride(name) > 1:
            field += stride(name) // 2
        field += 2 * stride(name)
    return field


def kernel_shapes() -> dict[str, tuple[int, int, int, int]]:
    """Shape (3, 3, in, out) of each of the 16 convolution kernels, in order.

    Example:
        >>> kernel_shapes()["conv2_1"]
        (3, 3, 64, 128)
    """
    outs = [channels(layer) for layer in LAYERS]
    ins = [3, *outs[:-1]]
    return {
        conv_name(layer): (3, 3, i, o)
        for layer, i, o in zip(LAYERS, ins, outs, strict=True)
    }


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "scale", "offset", "mean_activation"],
    meta_fields=["family"],
)
@dataclass(frozen=True)
class Backbone:
    """A VGG-19 with all it needs to see an image; a pytree of arrays.

    Attributes:
        params: Kernels and biases by convolution name; may end before `conv5_4`.
        scale: The network sees `image * scale + offset`, per RGB channel.
        offset: See `scale`. Never folded into the first bias: the padding is zero
            *after* this map, so folding would change the border.
        mean_activation: Mean of each filter's ReLU output over many pictures, by
            layer name. See `unit_mean`.
        family: Whose activations these are: `caffe` for the Oxford weights, which see
            bytes; `torchvision`; or `rgb`, with an input map of its own.
    """

    params: Params
    scale: Float[Array, "3"]
    offset: Float[Array, "3"]
    mean_activation: dict[str, Float[Array, "_c"]]
    family: Family = "rgb"


class Conv(nn.Module):
    """3 x 3 convolution and bias; `nn.Conv` with our own `convolve`.

    Attributes:
        channels: Number of channels out.
        padding: `SAME` or `VALID`.
        dtype: Type to compute in.
    """

    channels: int
    padding: Literal["SAME", "VALID"]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        """Return the feature before the ReLU."""
        shape = (3, 3, x.shape[-1], self.channels)
        self.variable("params", "kernel", nn.initializers.he_normal(), None, shape)
        kernel = self.get_variable("params", "kernel")
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        cast = lambda array: array.astype(self.dtype)
        y = convolve(cast(x), jax.tree.map(cast, kernel), self.padding)
        return y + cast(bias)[None, None]


class VGG19(nn.Module):
    """The convolutional part of VGG-19, up to the deepest layer asked for.

    Attributes:
        layers: Names of the layers to return.
        pooling: Kind of 2 x 2 pooling between the blocks.
        pool_scale: Factor on every pooling's output; average and L2 pooling lower the
            activations of a network that was trained with max pooling.
        padding: Padding of conv1_1. All others pad zeros.
        dtype: Type the convolutions compute in, and that of the features.
    """

    layers: tuple[str, ...]
    pooling: Pooling = "max"
    pool_scale: float = 1.0
    padding: Padding = "zeros"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Image) -> Features:
        """Return the features of a network input, by layer name."""
        found = {}
        for layer in LAYERS[: max(map(LAYERS.index, self.layers)) + 1]:
            if layer.endswith("_1") and layer != "relu1_1":
                x = pool(x, self.pooling) * jnp.asarray(self.pool_scale, x.dtype)
            replicate = layer == "relu1_1" and self.padding == "replicate"
            if replicate:
                x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
            x = relu(
                Conv(
                    channels(layer),
                    "VALID" if replicate else "SAME",
                    self.dtype,
                    name=conv_name(layer),
                )(x)
            )
            # On a CPU it is computed once, and not again for everything that looks at
            # it. Elsewhere it is a part of the convolution.
            x = jax.lax.platform_dependent(
                x, cpu=jax.lax.optimization_barrier, default=lambda x: x
            )
            if layer in self.layers:
                found[layer] = x
        return found


@jax.custom_jvp
def relu(x: Feature) -> Feature:
    """`max(x, 0)`.

    Its derivative looks at the result and not, as that of `nn.relu`, at x: which then
    need not be kept, and a GPU's convolution can apply the ReLU itself.
    """
    return jnp.maximum(x, 0)


relu.defjvps(lambda tangent, y, x: jnp.where(y > 0, tangent, 0))


def pool(x: Feature, pooling: Pooling) -> Feature:
    """2 x 2 pooling with stride 2; an odd last row or column is dropped.

    Args:
        x: Feature, h w c.
        pooling: `max`; `average`; or `l2`, the root of the sum of the four squares
            (gradient zero where all four are zero).

    Returns:
        Feature, h//2 w//2 c.
    """
    h, w, c = x.shape
    x = x[: h // 2 * 2, : w // 2 * 2].reshape(h // 2, 2, w // 2, 2, c)
    match pooling:
        case "max":
            # The reshape keeps the backward pass an elementwise mask; the gradient of
            # XLA's windowed maximum is many times slower on a CPU. Ties share the
            # gradient; PyTorch and XLA give it to one of them.
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
    """Activations of an image, after the ReLU, at the layers asked for.

    No layer deeper than the deepest one asked for is computed.

    Args:
        backbone: The network.
        image: RGB in [0, 1], h w 3.
        layers: Layer names, such as `("relu1_1", "relu4_2")`.
        pooling: `max`, `average` or `l2`.
        pool_scale: Factor on every pooling's output.
        padding: Padding of the image, `zeros` or `replicate`. Zeros are put around the
            mapped input, so around the mean colour, as the network was trained.
        dtype: Type of the convolutions, `float32` or `bfloat16`.

    Returns:
        Dict from layer name to a feature of that type, h/stride w/stride c.

    Raises:
        ValueError: If a layer is unknown, missing from the backbone's parameters, or
            the image is smaller than the stride of the deepest layer.

    Example:
        >>> import jax, jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> feats = features(backbone, jax.numpy.ones((32, 48, 3)), layers=("relu3_1",))
        >>> feats["relu3_1"].shape
        (8, 12, 256)
    """
    check_layers(layers, backbone.params)
    smallest = max(map(stride, layers))
    if min(image.shape[:2]) < smallest:
        raise ValueError(
            f"expected an image of at least {smallest} px on each side for "
            f"{max(layers)}, got {image.shape[1]} x {image.shape[0]} px; enlarge it or "
            "use shallower layers"
        )
    network = VGG19(layers, pooling, pool_scale, padding, jnp.dtype(dtype))
    x = image * backbone.scale[None, None] + backbone.offset[None, None]
    return cast(Features, network.apply({"params": backbone.params}, x))


def check_layers(layers: tuple[str, ...], params: Params | None = None) -> None:
    """Raise a ValueError, naming the nearest layer, unless all layers are known.

    Args:
        layers: Layer names to check.
        params: If given, the layers must also be computable with these parameters.
    """
    if not layers:
        raise ValueError("expected at least one layer, got none")
    for layer in layers:
        if layer not in LAYERS:
            nearest = get_close_matches(layer, LAYERS, 1, 0.0)[0]
            raise ValueError(
                f"expected a layer relu1_1 … relu5_4, got {layer!r}; "
                f"did you mean {nearest}?"
            )
        if params is not None and conv_name(layer) not in params:
            raise ValueError(
                f"expected weights that reach {layer}, got weights that end at "
                f"{max(params)}; use shallower layers or other weights"
            )
