"""Bring the activations of any VGG-19 to the scale that a recipe's loss weights expect.

Also here: kernels prepared for fast convolutions on a CPU.
"""

import dataclasses
import math

import jax
import numpy as np
from jaxtyping import Float

from jaxnst.network.conv import WinogradKernel, is_large, transform_kernels
from jaxnst.network.vgg import (
    Activations,
    Backbone,
    Params,
    conv_name,
    layer_name,
    network_layer,
    shrinkage,
    stride,
)


def accelerate(
    backbone: Backbone, layers: tuple[str, ...], pixels: int | float = math.inf
) -> Backbone:
    """Prepare the `large_kernels` up to some layers for a CPU's fast convolution.

    Features and gradients take about half the time and change by a few parts in 10⁶.
    The prepared kernels take nine times the memory, 0.47 GB up to relu5_1.
    """
    params = _needed(backbone, layers)
    if names := large_kernels(backbone, layers, pixels):
        given = {name: params[name]["kernel"] for name in names}
        for name, transforms in transform_kernels(given).items():
            kernel = WinogradKernel(given[name], *transforms)
            params[name] = params[name] | {"kernel": kernel}
    return dataclasses.replace(backbone, params=params)


def _needed(backbone: Backbone, layers: tuple[str, ...]) -> Params:
    deepest = conv_name(max(network_layer(layer) for layer in layers))
    return {name: conv for name, conv in backbone.params.items() if name <= deepest}


def large_kernels(
    backbone: Backbone, layers: tuple[str, ...], pixels: int | float = math.inf
) -> tuple[str, ...]:
    """The convolutions up to some layers for which Winograd's algorithm pays.

    `pixels` is the number of pixels of the largest picture. Those of the first block
    stay as they are: with 64 channels it saves little time and takes much memory.
    """
    seen = pixels / min(map(shrinkage, layers)) ** 2

    def pays(name: str) -> bool:
        kernel = backbone.params[name]["kernel"]
        positions = seen / stride(layer_name(name)) ** 2
        return kernel.shape[-1] > 64 and is_large(positions, kernel)

    return tuple(filter(pays, _needed(backbone, layers)))


MEAN_LEVELS = {
    "caffe": {"relu1_1": 100.0, "relu2_1": 150.0, "relu4_2": 500.0, "relu5_1": 60.0},
    "torchvision": {
        "relu1_1": 2.0,
        "relu2_1": 1.5,
        "relu3_1": 1.0,
        "relu4_1": 0.7,
        "relu4_2": 1.5,
        "relu5_1": 0.4,
    },
}
"""Mean activations that other weights are brought to, for recipes published with one of
these two VGG-19. Each holds from its layer to the next one named. The overall size is
that of the published weights. The ratios between layers were chosen by eye: deep layers
of other weights should not outweigh the rest of a style, and relu4_2 needs larger
activations to preserve the content."""


def calibrate(backbone: Backbone, activations: Activations) -> Backbone:
    """Bring the activations to the scale that a recipe's loss weights expect.

    A content loss grows with the square of the activations and a Gram loss with their
    fourth power, so published loss weights fit only the network they were chosen for.
    `unit_mean` divides each filter by its mean activation. `caffe` and `torchvision`
    leave weights of that family as they are, and scale each layer of others to its
    `MEAN_LEVELS`. Calibrate before you `accelerate`.

    Args:
        backbone: From `load_backbone`.
        activations: As a recipe says: `recipe.program.activations`.

    Returns:
        The network in that scale.

    Example:
        >>> from jaxnst.weights.registry import load_backbone
        >>> caffe = calibrate(load_backbone("embedded"), "caffe")
        >>> round(float(caffe.mean_activation["relu4_2"].mean()))
        500
    """
    if activations == "unit_mean":
        return unit_mean(backbone)
    if backbone.family == activations:
        return backbone
    level, wanted = 1.0, {}
    for layer, mean in backbone.mean_activation.items():
        level = MEAN_LEVELS[activations].get(layer, level)
        mean = np.asarray(mean)
        wanted[layer] = np.full_like(mean, level / np.mean(mean))
    return _rescale(backbone, wanted)


def unit_mean(backbone: Backbone) -> Backbone:
    """Rescale the filters so that the mean activation of each is 1.

    Loss weights then mean the same with any VGG-19. A filter that is almost silent is
    treated as if its mean were a twentieth of its layer's, so that its noise is not
    amplified.

    Reference:
        Gatys, Ecker, Bethge (2015), "Texture Synthesis Using Convolutional Neural
        Networks", section 2.
    """
    means = jax.tree.map(np.asarray, backbone.mean_activation)
    factors = {
        layer: 1 / np.maximum(mean, 0.05 * np.mean(mean))
        for layer, mean in means.items()
    }
    return _rescale(backbone, factors)


def _rescale(
    backbone: Backbone, factors: dict[str, Float[np.ndarray, "_c"]]
) -> Backbone:
    """Multiply each channel of every feature by a factor.

    `W /= factor_before` on the input axis, then `W *= factor` and `b *= factor` on the
    output axis. This is exact, because convolution, ReLU and pooling all commute with a
    positive factor. It is done on the host, where nothing has to be compiled.
    """
    params, means, before = {}, {}, np.ones(3, np.float32)
    for name, conv in jax.tree.map(np.asarray, backbone.params).items():
        layer = layer_name(name)
        factor = factors[layer]
        params[name] = {
            "kernel": conv["kernel"] * (factor[None] / before[:, None])[None, None],
            "bias": conv["bias"] * factor,
        }
        means[layer] = np.asarray(backbone.mean_activation[layer]) * factor
        before = factor
    params, means = jax.device_put((params, means))
    return dataclasses.replace(
        backbone, params=params, mean_activation=means, family="rgb"
    )
