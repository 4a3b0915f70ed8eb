"""Bring the activations of any VGG-19 to the scale that a recipe's loss weights expect.

Also here: kernels prepared for fast convolutions on a CPU.
"""

import dataclasses
import math

import jax
import numpy as np

from jaxnst.network.conv import WinogradKernel, is_large, transform_kernels
from jaxnst.network.vgg import (
    Activations,
    Backbone,
    channels,
    conv_name,
    layer_name,
    network_layer,
    shrinkage,
    stride,
)


def accelerate(
    backbone: Backbone, layers: tuple[str, ...], pixels: int | float = math.inf
) -> Backbone:
    """Prepare the kernels of a network for fast convolution on a CPU.

    Kernels after the deepest of `layers` are dropped. Features and gradients then take
    about half the time, and change by a few parts in 10⁶. Prepared kernels take nine
    times the memory: 0.47 GB up to relu5_1. `pixels` is the number of pixels of the
    largest picture. Kernels of small convolutions stay as they are.
    """
    last = conv_name(max(map(network_layer, layers)))
    params = {name: conv for name, conv in backbone.params.items() if name <= last}
    seen = pixels / min(map(shrinkage, layers)) ** 2
    kernels = {
        name: conv["kernel"]
        for name, conv in params.items()
        # With the 64 channels of the first block it saves little and takes much memory.
        if channels(layer_name(name)) > 64
        and is_large(seen / stride(layer_name(name)) ** 2, conv["kernel"])
    }
    if kernels:
        for name, transforms in transform_kernels(kernels).items():
            kernel = WinogradKernel(kernels[name], *transforms)
            params[name] = params[name] | {"kernel": kernel}
    return dataclasses.replace(backbone, params=params)


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
"""Mean activations to which other networks are scaled, for recipes published with one
of these two VGG-19s. Each value holds from its layer up to the next layer listed. Their
overall size is that of the published network. The ratios between layers were chosen by
eye: deep layers of other networks should not outweigh the rest of a style, and relu4_2
needs larger activations to preserve the content."""


def calibrate(backbone: Backbone, activations: Activations) -> Backbone:
    """Bring the activations to the scale that a recipe's loss weights expect.

    A content loss grows with the square of the activations and a Gram loss with their
    fourth power, so published loss weights fit only the network they were chosen for.
    With `caffe` or `torchvision`, a network of this family stays as it is. In any other
    network, each layer is scaled until its mean activation is the one in `MEAN_LEVELS`.
    With `unit_mean`, each filter's mean activation becomes 1. The mean of an almost
    silent filter counts as at least a twentieth of its layer's mean, so that the noise
    of the filter is not amplified. Calibrate before `accelerate`.

    Args:
        backbone: From `load_backbone`.
        activations: The wanted scale, from `recipe.program.activations`.

    Returns:
        The network with activations of that scale.

    Example:
        >>> from jaxnst.weights.registry import load_backbone
        >>> caffe = calibrate(load_backbone("embedded"), "caffe")
        >>> round(float(caffe.mean_activation["relu4_2"].mean()))
        500

    Reference:
        Gatys, Ecker, Bethge (2015), "Texture Synthesis Using Convolutional Neural
        Networks", section 2, for `unit_mean`.
    """
    if backbone.family == activations:
        return backbone
    params, means = {}, {}
    level, before = 1.0, np.ones(3, np.float32)
    # On the host, because nothing is compiled there.
    for name, conv in jax.tree.map(np.asarray, backbone.params).items():
        layer = layer_name(name)
        mean = np.asarray(backbone.mean_activation[layer])
        if activations == "unit_mean":
            factor = 1 / np.maximum(mean, 0.05 * np.mean(mean))
        else:
            level = MEAN_LEVELS[activations].get(layer, level)
            factor = np.full_like(mean, level / np.mean(mean))
        # This multiplies each channel by its factor, exactly, because convolution, ReLU
        # and pooling all commute with a positive factor.
        params[name] = {
            "kernel": conv["kernel"] * (factor[None] / before[:, None])[None, None],
            "bias": conv["bias"] * factor,
        }
        means[layer], before = mean * factor, factor
    params, means = jax.device_put((params, means))
    return dataclasses.replace(
        backbone, params=params, mean_activation=means, family="rgb"
    )
