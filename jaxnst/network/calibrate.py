"""The network's activations at the scale that a recipe is meant for."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.network.conv import winograd_kernels
from jaxnst.network.vgg import Activations, Backbone, conv_name


def accelerate(backbone: Backbone, layers: tuple[str, ...]) -> Backbone:
    """Prepare the kernels for Winograd's convolution, for many steps on a CPU.

    Features and gradients change by a few parts in 10⁶, and come about twice as fast.
    The prepared kernels take nine times the memory, 0.47 GB up to relu5_1. The first
    block stays as it is: with 64 channels little time is won, and much memory lost.

    Args:
        backbone: Any backbone.
        layers: Names of the layers that will be asked for.

    Returns:
        The prepared backbone, without what is deeper than those layers.
    """
    deepest = conv_name(max(layers))
    params = {name: conv for name, conv in backbone.params.items() if name <= deepest}
    prepared = winograd_kernels(
        {name: x["kernel"] for name, x in params.items() if len(x["bias"]) > 64}
    )
    params |= {name: params[name] | {"kernel": x} for name, x in prepared.items()}
    return dataclasses.replace(backbone, params=params)


MEAN_LEVELS = {
    "caffe": {
        "relu1_1": 100.0,
        "relu2_1": 150.0,
        "relu4_2": 500.0,
        "relu5_1": 60.0,
    },
    "torchvision": {
        "relu1_1": 2.0,
        "relu2_1": 1.5,
        "relu3_1": 1.0,
        "relu4_1": 0.7,
        "relu4_2": 1.5,
        "relu5_1": 0.4,
    },
}
"""Mean activations, from that layer on, that stand for those of the two VGG-19 which
recipes were published for. Their overall size is as there. Between the layers they were
chosen by eye: the deep layers of other weights should not outweigh the rest of a style,
and relu4_2, which holds the content, needs to be louder to hold it."""


def calibrate(backbone: Backbone, activations: Activations) -> Backbone:
    """Bring the activations to the scale that a recipe's loss weights are meant for.

    A content loss grows with the square of the activations and a Gram loss with their
    fourth power, so published loss weights mean little with any other weights.

    Args:
        backbone: Any backbone.
        activations: `unit_mean`, see there; or `caffe` or `torchvision`: weights of
            that family stay exactly as they are, and others are scaled, a factor for
            each layer, to that family's `MEAN_LEVELS`.

    Returns:
        The calibrated backbone.
    """
    if activations == "unit_mean":
        return unit_mean(backbone)
    if backbone.family == activations:
        return backbone
    level, wanted = 1.0, {}
    for layer, mean in backbone.mean_activation.items():
        level = MEAN_LEVELS[activations].get(layer, level)
        wanted[layer] = jnp.full_like(mean, level / jnp.mean(mean))
    return _rescale(backbone, wanted)


@jax.jit
def unit_mean(backbone: Backbone) -> Backbone:
    """Rescale the filters so that each one's mean activation is 1.

    Loss weights then mean the same with any VGG-19.

    Args:
        backbone: Any backbone. A filter that hardly ever fires is treated as if its
            mean were a twentieth of its layer's, so that it does not become noise.

    Returns:
        The rescaled backbone.

    Reference:
        Gatys, Ecker, Bethge (2015), "Texture Synthesis Using Convolutional Neural
        Networks", section 2.
    """
    return _rescale(
        backbone,
        {
            layer: 1 / jnp.maximum(mean, 0.05 * jnp.mean(mean))
            for layer, mean in backbone.mean_activation.items()
        },
    )


@jax.jit
def _rescale(backbone: Backbone, factors: dict[str, Float[Array, "_c"]]) -> Backbone:
    """Multiply every feature by a factor for each channel.

    `W /= factor_before` on the input axis, then `W *= factor` and `b *= factor` on the
    output axis. That is exact, because convolution, ReLU and pooling all commute with a
    positive scale. The result has no family any more.
    """
    params, means, before = {}, {}, jnp.ones(3)
    for name, conv in backbone.params.items():
        layer = name.replace("conv", "relu")
        factor = factors[layer]
        params[name] = {
            "kernel": conv["kernel"] * (factor[None] / before[:, None])[None, None],
            "bias": conv["bias"] * factor,
        }
        means[layer] = backbone.mean_activation[layer] * factor
        before = factor
    return dataclasses.replace(
        backbone, params=params, mean_activation=means, family="rgb"
    )
