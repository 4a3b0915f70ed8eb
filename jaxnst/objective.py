"""What is minimised: targets are measured once, the loss of an image many times."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxnst import losses
from jaxnst.network.vgg import Backbone, channels, features, stride
from jaxnst.recipes import LayerWeights, Recipe
from jaxnst.storage import Stored, StoredFeatures, restore, store
from jaxnst.types import Features, Image, Scalar

Styles = dict[str, Float[Array, "_c _c"] | losses.Gaussian]
"""Gram matrix or Gaussian of a style, by layer."""

StyleSummary = dict[str, Float[Array, "_c _c"] | losses.Moments]
"""Gram matrix or moments of an image, by layer."""


class Targets(NamedTuple):
    """What an image is compared with; a pytree of arrays, so nothing in it recompiles.

    Attributes:
        content: Features of the content, by layer, standardised where correlations
            are compared, and `storage.store`d.
        style: Gram matrix or Gaussian of the style, by layer.
        content_weight: Factor on the content term.
        style_weight: Factor on the style term.
        tv_weight: Factor on the total variation.
        learning_rate: Factor on the optimiser's step; the loss does not depend on it.
    """

    content: StoredFeatures
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


class Summary(NamedTuple):
    """All that the loss depends on of an image: sums over its pixels or positions.

    Attributes:
        content: Mean squared difference from the content, or cross moments, by layer.
        style: Gram matrix or moments, by layer.
        tv: Sums of squared differences of neighbouring pixels.
    """

    content: dict[str, Scalar | losses.CrossMoments]
    style: StyleSummary
    tv: Scalar | losses.Differences


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


def weigh(content: StoredFeatures, style: Styles, recipe: Recipe) -> Targets:
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
def measure_content(
    backbone: Backbone, content: Image, recipe: Recipe
) -> StoredFeatures:
    """Features that the image is compared with, see `make_targets`."""
    layers = tuple(layer for layer, _ in recipe.content_layers)
    feats = measure(backbone, content, recipe, layers)
    if recipe.content_loss == "correlation":
        feats = {layer: losses.standardize(feat) for layer, feat in feats.items()}
    return {layer: store(feat, recipe.state_dtype) for layer, feat in feats.items()}


@partial(jax.jit, static_argnames="recipe")
def measure_style(backbone: Backbone, style: Image, recipe: Recipe) -> StyleSummary:
    """Gram matrices or moments of one style."""
    layers = tuple(layer for layer, _ in recipe.style_layers)
    return summarize_style(measure(backbone, style, recipe, layers), recipe)


def measure_styles(
    backbone: Backbone,
    styles: Sequence[Image],
    recipe: Recipe,
    *,
    blend: Float[Array, "_n"] | None = None,
) -> Styles:
    """Statistics of one or more styles, averaged, see `make_targets`."""
    summaries = [measure_style(backbone, style, recipe) for style in styles]
    return blend_styles(summaries, [s.shape for s in styles], recipe, blend=blend)


def blend_styles(
    summaries: Sequence[StyleSummary],
    shapes: Sequence[tuple[int, ...]],
    recipe: Recipe,
    *,
    blend: Float[Array, "_n"] | None = None,
) -> Styles:
    """Average what was measured of styles of these shapes, see `make_targets`."""
    blend = jnp.ones(len(shapes)) if blend is None else jnp.asarray(blend, jnp.float32)
    check_blend(blend, len(shapes))
    areas = {
        layer: sum(shape[0] * shape[1] // stride(layer) ** 2 for shape in shapes)
        for layer, _ in recipe.style_layers
    }
    ranks = tuple((layer, min(n, channels(layer))) for layer, n in areas.items())
    return _blend(summaries, blend, recipe, ranks)


def check_blend(blend: Any, styles: int) -> None:
    """Raise a ValueError unless there is a weight for each style, one of them not 0.

    Args:
        blend: Weights; of traced ones only the number is checked.
        styles: Number of styles.
    """
    known = not isinstance(blend, Tracer)
    total = float(np.abs(blend).sum()) if known else 1.0
    if np.shape(blend) != (styles,) or not 0 < total < np.inf:
        raise ValueError(
            f"expected {styles} finite blend weights, one for each style and one of "
            f"them other than 0, got {blend}"
        )


@partial(jax.jit, static_argnames=("recipe", "ranks"))
def _blend(
    summaries: Sequence[StyleSummary],
    blend: Float[Array, "_n"],
    recipe: Recipe,
    ranks: tuple[tuple[str, int], ...],
) -> Styles:
    blend = blend / jnp.sum(jnp.abs(blend))
    mixed: Any = jax.tree.map(
        lambda *xs: sum(w * x for w, x in zip(blend, xs, strict=True)), *summaries
    )
    if recipe.style_loss == "gram":
        return mixed
    return {layer: losses.gaussian(mixed[layer], rank=n) for layer, n in ranks}


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
    summary = summarize(image, backbone, targets, recipe)
    return compare(summary, image.shape, targets, recipe)


def summarize(
    image: Image, backbone: Backbone, targets: Targets, recipe: Recipe
) -> Summary:
    """Reduce an image to what the loss depends on, see `objective`."""
    feats = measure(backbone, image, recipe, recipe.layers)

    def seen(weights: LayerWeights, weight: Scalar) -> Features:
        if not recipe.normalize_gradients:
            return feats
        return {
            layer: losses.normalize_gradient(feats[layer], own * weight)
            for layer, own in weights
        }

    content = seen(recipe.content_layers, targets.content_weight)
    return Summary(
        summarize_content(content, targets.content, recipe),
        summarize_style(seen(recipe.style_layers, targets.style_weight), recipe),
        summarize_tv(image, recipe),
    )


def summarize_content(
    feats: Features, targets: StoredFeatures, recipe: Recipe
) -> dict[str, Scalar | losses.CrossMoments]:
    """Reduce features, and those of a content, to what the content term depends on."""
    reduce = losses.content_loss
    if recipe.content_loss == "correlation":
        reduce = losses.cross_moments
    return {
        layer: reduce(feats[layer], restore(targets[layer]))
        for layer, _ in recipe.content_layers
    }


def summarize_style(feats: Features, recipe: Recipe) -> StyleSummary:
    """Reduce features to what the style term depends on."""
    reduce = losses.gram_matrix if recipe.style_loss == "gram" else losses.moments
    return {layer: reduce(feats[layer]) for layer, _ in recipe.style_layers}


def summarize_tv(
    image: Image, recipe: Recipe, counted: Float[Array, "_h _w 1"] | None = None
) -> Scalar | losses.Differences:
    """Reduce an image, or the pixels counted, to what its variation depends on."""
    if recipe.tv_loss == "squares":
        return losses.squared_variation(image, counted)
    return losses.differences(image, counted)


def compare(
    summary: Summary, shape: tuple[int, ...], targets: Targets, recipe: Recipe
) -> tuple[Scalar, Terms]:
    """The loss of an image of that shape, from its summary, see `objective`."""
    content = _total(
        weight
        * _content_distance(summary.content[layer], targets.content[layer], recipe)
        for layer, weight in recipe.content_layers
    )
    style = _total(
        weight
        * _style_distance(
            summary.style[layer], targets.style[layer], shape, layer, recipe
        )
        for layer, weight in recipe.style_layers
    )
    terms = Terms(content, style, _variation(summary.tv, shape))
    loss = (
        targets.content_weight * terms.content
        + targets.style_weight * terms.style
        + targets.tv_weight * terms.tv
    )
    return loss, terms


def _variation(summary: Scalar | losses.Differences, shape: tuple[int, ...]) -> Scalar:
    if isinstance(summary, losses.Differences):
        return losses.total_variation(summary, shape)
    return summary


def _total(parts: Iterable[Scalar]) -> Scalar:
    return sum(parts, start=jnp.float32(0))


def _content_distance(summary: Any, target: Stored, recipe: Recipe) -> Scalar:
    if recipe.content_loss == "correlation":
        return losses.correlation_loss(summary)
    return summary * (target.size / 2) if recipe.content_loss == "half_sum" else summary


def _style_distance(
    summary: Any, target: Any, shape: tuple[int, ...], layer: str, recipe: Recipe
) -> Scalar:
    if recipe.style_loss == "wasserstein2":
        return losses.wasserstein2_loss(summary, target)
    c = channels(layer)
    h, w = (side // stride(layer) for side in shape[:2])
    reduction = {"mean": 1, "quarter_mean": 1 / 4, "channels": c**-2, "sums": h * w / c}
    return losses.gram_loss(summary, target) * reduction[recipe.gram_reduction]
