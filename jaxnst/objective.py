"""What is minimised: targets are measured once, the loss of an image many times."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst import losses
from jaxnst.recipes import Recipe
from jaxnst.types import Feature, Features, Image, Scalar
from jaxnst.vgg import Backbone, features, stride

Styles = dict[str, Float[Array, "_c _c"] | losses.Gaussian]
"""Gram matrix or Gaussian of a style, by layer."""


class Targets(NamedTuple):
    """What an image is compared with; a pytree of arrays, so nothing in it recompiles.

    Attributes:
        content: Features of the content, by layer.
        style: Gram matrix or Gaussian of the style, by layer.
        content_weight: Factor on the content term.
        style_weight: Factor on the style term.
        tv_weight: Factor on the total variation.
        learning_rate: Factor on the optimiser's step; the loss does not depend on it.
    """

    content: Features
    style: Styles
    content_weight: Scalar
    style_weight: Scalar
    tv_weight: Scalar
    learning_rate: Scalar


class Terms(NamedTuple):
    """The parts of the loss, before the factors of `Targets`."""

    content: Scalar
    style: Scalar
    tv: Scalar


def make_targets(
    backbone: Backbone,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    *,
    blend: Float[Array, "_n"] | None = None,
) -> Targets:
    """Measure what the image shall be compared with.

    Args:
        backbone: The network, as the recipe wants it (see `vgg.calibrate`).
        content: RGB in [0, 1], h w 3, of the size that is optimised.
        styles: One or more RGB images of any size.
        recipe: What to measure.
        blend: Weight of each style; they are divided by the sum of their absolute
            values. Default: equal weights.

    Returns:
        The targets.

    Raises:
        ValueError: If the number of weights is not that of the styles.
    """
    return weigh(
        measure_content(backbone, content, recipe.program),
        measure_styles(backbone, styles, recipe.program, blend=blend),
        recipe,
    )


def weigh(content: Features, style: Styles, recipe: Recipe) -> Targets:
    """Targets of what was measured, with the numbers of a recipe."""
    return Targets(
        content=content,
        style=style,
        content_weight=jnp.float32(recipe.content_weight),
        style_weight=jnp.float32(recipe.style_weight),
        tv_weight=jnp.float32(recipe.tv_weight),
        learning_rate=jnp.float32(recipe.learning_rate),
    )


@partial(jax.jit, static_argnames="recipe")
def measure_content(backbone: Backbone, content: Image, recipe: Recipe) -> Features:
    """Features that the image is compared with, see `make_targets`."""
    layers = tuple(layer for layer, _ in recipe.content_layers)
    return measure(backbone, content, recipe, layers)


@partial(jax.jit, static_argnames="recipe")
def measure_styles(
    backbone: Backbone,
    styles: Sequence[Image],
    recipe: Recipe,
    *,
    blend: Float[Array, "_n"] | None = None,
) -> Styles:
    """Statistics of one or more styles, averaged, see `make_targets`."""
    blend = jnp.ones(len(styles)) if blend is None else jnp.asarray(blend, jnp.float32)
    if blend.shape != (len(styles),):
        raise ValueError(
            f"expected one blend weight for each of the {len(styles)} styles, "
            f"got {blend.size}"
        )
    blend = blend / jnp.sum(jnp.abs(blend))
    style_layers = tuple(layer for layer, _ in recipe.style_layers)
    statistic = losses.gram_matrix if recipe.style_loss == "gram" else losses.moments
    statistics = [
        {layer: statistic(feature) for layer, feature in found.items()}
        for found in (measure(backbone, s, recipe, style_layers) for s in styles)
    ]
    mixed = jax.tree.map(
        lambda *xs: sum(w * x for w, x in zip(blend, xs, strict=True)), *statistics
    )
    if recipe.style_loss == "wasserstein2":
        for layer in style_layers:
            area = sum((s.shape[0] * s.shape[1]) // stride(layer) ** 2 for s in styles)
            mixed[layer] = losses.gaussian(mixed[layer], rank=area)
    return mixed


def measure(
    backbone: Backbone, image: Image, recipe: Recipe, layers: tuple[str, ...]
) -> Features:
    """Features of an image in the way a recipe looks at it."""
    return features(
        backbone,
        image * recipe.input_gain,
        layers=layers,
        pooling=recipe.pooling,
        pool_scale=recipe.pool_scale,
        padding=recipe.padding,
        dtype=recipe.dtype,
    )


def objective(
    image: Image, backbone: Backbone, targets: Targets, recipe: Recipe
) -> tuple[Scalar, Terms]:
    """The loss of an image, and its parts.

    `content_weight · Σ_l w_l C_l + style_weight · Σ_l w_l S_l + tv_weight · TV`.

    Args:
        image: RGB in [0, 1], h w 3.
        backbone: The network, as the recipe wants it.
        targets: From `make_targets`, for the same recipe.
        recipe: What to measure.

    Returns:
        The loss, and its unweighted terms.
    """
    feats = measure(backbone, image, recipe, recipe.layers)

    def seen(layer: str, norm: Scalar) -> Feature:
        if recipe.normalize_gradients:
            return losses.normalize_gradient(feats[layer], norm)
        return feats[layer]

    content = _total(
        weight
        * _content_distance(
            seen(layer, weight * targets.content_weight), targets.content[layer], recipe
        )
        for layer, weight in recipe.content_layers
    )
    style = _total(
        weight
        * _style_distance(
            seen(layer, weight * targets.style_weight), targets.style[layer], recipe
        )
        for layer, weight in recipe.style_layers
    )
    terms = Terms(content, style, VARIATIONS[recipe.tv_loss](image))
    loss = (
        targets.content_weight * terms.content
        + targets.style_weight * terms.style
        + targets.tv_weight * terms.tv
    )
    return loss, terms


VARIATIONS = {
    "nine_point": losses.total_variation,
    "squares": losses.squared_variation,
}


def _total(parts: Iterable[Scalar]) -> Scalar:
    return sum(parts, start=jnp.float32(0))


def _content_distance(feature: Feature, target: Feature, recipe: Recipe) -> Scalar:
    if recipe.content_loss == "correlation":
        return losses.correlation_loss(feature, target)
    loss = losses.content_loss(feature, target)
    return loss * (feature.size / 2) if recipe.content_loss == "half_sum" else loss


def _style_distance(feature: Feature, target: Any, recipe: Recipe) -> Scalar:
    if recipe.style_loss == "wasserstein2":
        return losses.wasserstein2_loss(losses.moments(feature), target)
    h, w, c = feature.shape
    reduction = {"mean": 1, "quarter_mean": 1 / 4, "channels": c**-2, "sums": h * w / c}
    loss = losses.gram_loss(losses.gram_matrix(feature), target)
    return loss * reduction[recipe.gram_reduction]
