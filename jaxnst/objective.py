"""The objective: targets are measured once, the loss of the image at every step.

`measure` computes the features of an image; `summarize` reduces them to a `Summary`;
`compare` turns the summary into the loss. The loss depends on an image only through its
summary.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxnst.losses import normalize_gradient
from jaxnst.network.vgg import Backbone, channels, features, stride
from jaxnst.recipes import LayerWeights, Program, Recipe
from jaxnst.storage import StoredFeatures, restore, store
from jaxnst.types import Features, Image, Scalar, Weights

Styles = dict[str, Any]
"""What `StyleLoss.prepare` makes of a style, by layer."""

StyleSummary = dict[str, Any]
"""What `StyleLoss.summarize` makes of an image, by layer."""


class Targets(NamedTuple):
    """What an image is compared with: a pytree of arrays, so no new value recompiles.

    Attributes:
        content: Content targets from `ContentLoss.prepare`, by layer, in the format of
            `storage.store`.
        style: Style targets from `StyleLoss.prepare`, by layer.
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


@runtime_checkable
class Objective(Protocol):
    """The loss of an image and its terms, such as `objective`.

    A function `f(image, backbone, targets, program) -> (loss, terms)` of an image,
    h w 3, the network, the targets, and the choices that compiled code depends on. It
    must be differentiable with respect to the image.
    """

    def __call__(
        self, image: Image, backbone: Backbone, targets: Targets, program: Program, /
    ) -> tuple[Scalar, Terms]:
        """Return the loss of an image, and its terms."""
        ...


class Summary(NamedTuple):
    """All that the loss needs to know of an image: sums over pixels or positions.

    Attributes:
        content: What `ContentLoss.summarize` gives, by layer.
        style: What `StyleLoss.summarize` gives, by layer.
        tv: What `VariationLoss.summarize` gives.
    """

    content: dict[str, Any]
    style: StyleSummary
    tv: Any


def make_targets(
    backbone: Backbone,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    *,
    blend: Float[Array, "_n"] | None = None,
) -> Targets:
    """Measure the targets that the image is compared with.

    Args:
        backbone: The network, prepared for the recipe (see `calibrate.calibrate`).
        content: RGB in [0, 1], h w 3, of the size that is optimised.
        styles: One or more RGB images of any size.
        recipe: What to measure.
        blend: Weight of each style; they are divided by the sum of their absolute
            values. Default: equal weights.

    Returns:
        The targets.

    Raises:
        ValueError: If there is not one weight for each style.

    Example:
        >>> import jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> content, style = jaxnst.sample("harbour", 48), jaxnst.sample("swirls", 48)
        >>> recipe = jaxnst.get_recipe("painterly")
        >>> targets = make_targets(backbone, content, [style], recipe)
        >>> targets.content["relu3_1"].shape, float(targets.style_weight)
        ((9, 12, 256), 1.0)
    """
    return with_weights(
        measure_content(backbone, content, recipe.program),
        measure_styles(backbone, styles, recipe.program, blend=blend),
        recipe,
    )


def with_weights(content: StoredFeatures, style: Styles, recipe: Recipe) -> Targets:
    """Join measured content and style with a recipe's weights and learning rate."""
    return Targets(
        content=content,
        style=style,
        content_weight=jnp.float32(recipe.content_weight),
        style_weight=jnp.float32(recipe.style_weight),
        tv_weight=jnp.float32(recipe.tv_weight),
        learning_rate=jnp.float32(recipe.learning_rate),
    )


@partial(jax.jit, static_argnames="program")
def measure_content(
    backbone: Backbone, content: Image, program: Program
) -> StoredFeatures:
    """Measure the features of a content that an image is compared with.

    Args:
        backbone: The network, prepared for the recipe.
        content: RGB in [0, 1], h w 3.
        program: What to measure.

    Returns:
        The features, by layer, stored in the program's `state_dtype`.
    """
    feats = measure(backbone, content, program, layer_names(program.content_layers))
    loss = program.losses.content
    return {
        layer: store(loss.prepare(feat, loss.measure(feat, None)), program.state_dtype)
        for layer, feat in feats.items()
    }


@partial(jax.jit, static_argnames="program")
def measure_style(backbone: Backbone, style: Image, program: Program) -> StyleSummary:
    """Summarise one style.

    Args:
        backbone: The network, prepared for the recipe.
        style: RGB in [0, 1], h w 3.
        program: What to measure.

    Returns:
        Its summary, by layer.
    """
    feats = measure(backbone, style, program, layer_names(program.style_layers))
    return own_means(summarize_style(feats, program, {}), program)


def own_means(summary: StyleSummary, program: Program) -> StyleSummary:
    """Turn the sums of one style into means, so that its size does not matter."""
    blend, one = program.losses.style.blend, jnp.ones(1)
    return {layer: blend([own], one) for layer, own in summary.items()}


def measure_styles(
    backbone: Backbone,
    styles: Sequence[Image],
    program: Program,
    *,
    blend: Float[Array, "_n"] | None = None,
) -> Styles:
    """Summarise one or more styles and make the style's targets of them.

    Args:
        backbone: The network, prepared for the recipe.
        styles: RGB images in [0, 1], of any size.
        program: What to measure.
        blend: Weight of each style, see `make_targets`.

    Returns:
        The targets of the style, by layer.

    Raises:
        ValueError: If there is not one weight for each style.
    """
    summaries = [measure_style(backbone, style, program) for style in styles]
    return blend_styles(summaries, [s.shape for s in styles], program, blend=blend)


def blend_styles(
    summaries: Sequence[StyleSummary],
    shapes: Sequence[tuple[int, ...]],
    program: Program,
    *,
    blend: Float[Array, "_n"] | None = None,
) -> Styles:
    """Blend the summaries of styles and make the style's targets of them.

    Args:
        summaries: Summary of each style, by layer.
        shapes: Height and width of each style.
        program: What was measured.
        blend: Weight of each style, see `make_targets`.

    Returns:
        The targets of the style, by layer.

    Raises:
        ValueError: If there is not one weight for each style.
    """
    blend = jnp.ones(len(shapes)) if blend is None else jnp.asarray(blend, jnp.float32)
    check_blend(blend, len(shapes))
    return prepare_styles(summaries, blend, program, style_ranks(shapes, program))


def style_ranks(shapes: Sequence[tuple[int, ...]], program: Program) -> tuple[int, ...]:
    """Upper bound on the rank of the styles' covariance, at each style layer."""

    def rank(layer: str) -> int:
        positions = sum(h * w // stride(layer) ** 2 for h, w, *_ in shapes)
        return min(positions, channels(layer))

    return tuple(rank(layer) for layer in layer_names(program.style_layers))


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


@partial(jax.jit, static_argnames=("program", "ranks"))
def prepare_styles(
    summaries: Sequence[StyleSummary],
    blend: Float[Array, "_n"],
    program: Program,
    ranks: tuple[int, ...],
) -> Styles:
    """`blend_styles` for covariances of these ranks, at each style layer."""
    shares = blend / jnp.sum(jnp.abs(blend))
    loss = program.losses.style

    def prepared(layer: str, rank: int) -> Any:
        parts = [summary[layer] for summary in summaries]
        return loss.prepare(loss.blend(parts, shares), rank)

    layers = layer_names(program.style_layers)
    return {layer: prepared(layer, n) for layer, n in zip(layers, ranks, strict=True)}


def measure(
    backbone: Backbone, image: Image, program: Program, layers: tuple[str, ...]
) -> Features:
    """Features of an image, with the pooling, padding and dtype of a program."""
    return features(
        backbone,
        image * program.input_gain,
        layers=layers,
        pooling=program.pooling,
        pool_scale=program.pool_scale,
        padding=program.padding,
        dtype=program.dtype,
    )


def layer_names(weights: LayerWeights) -> tuple[str, ...]:
    """The names of the layers in (layer, weight) pairs."""
    return tuple(layer for layer, _ in weights)


def objective(
    image: Image, backbone: Backbone, targets: Targets, program: Program
) -> tuple[Scalar, Terms]:
    """The loss of an image, and its parts.

    `content_weight · Σ_l w_l C_l + style_weight · Σ_l w_l S_l + tv_weight · TV`.

    Args:
        image: RGB in [0, 1], h w 3.
        backbone: The network, prepared for the recipe.
        targets: From `make_targets`, for the same program.
        program: What to measure; a recipe is one too.

    Returns:
        The loss, and its unweighted terms.

    Example:
        >>> import jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> content, style = jaxnst.sample("harbour", 48), jaxnst.sample("swirls", 48)
        >>> recipe = jaxnst.get_recipe("tf-blog")
        >>> targets = make_targets(backbone, content, [style], recipe)
        >>> loss, terms = objective(content, backbone, targets, recipe.program)
        >>> bool(terms.content < 1e-6), bool(loss > 0)
        (True, True)

    Reference:
        Gatys, Ecker, Bethge (2016), eq. 7.
    """
    summary = summarize(image, backbone, targets, program)
    return compare(summary, image.shape, targets, program)


def summarize(
    image: Image, backbone: Backbone, targets: Targets, program: Program
) -> Summary:
    """Reduce an image to what the loss depends on, see `objective`."""
    feats = measure(backbone, image, program, program.layers)

    def seen(weights: LayerWeights, weight: Scalar) -> Features:
        if not program.normalize_gradients:
            return feats
        return {
            layer: normalize_gradient(feats[layer], own * weight)
            for layer, own in weights
        }

    content = {layer: restore(feat) for layer, feat in targets.content.items()}
    return Summary(
        summarize_content(
            seen(program.content_layers, targets.content_weight), content, program, {}
        ),
        summarize_style(seen(program.style_layers, targets.style_weight), program, {}),
        program.losses.variation.summarize(image, None),
    )


def summarize_content(
    feats: Features,
    content: Features,
    program: Program,
    weights: Mapping[str, Weights],
) -> dict[str, Any]:
    """Reduce features, and those of a content, to what the content term depends on.

    Args:
        feats: Features of the image, by layer, h w c.
        content: Targets of the content, by layer, of the same shapes.
        program: What to measure.
        weights: How much each position counts, h w 1, by layer. Where a layer is
            missing, each counts once.

    Returns:
        The summaries, by layer.
    """
    loss = program.losses.content
    return {
        layer: loss.summarize(feats[layer], content[layer], weights.get(layer))
        for layer in layer_names(program.content_layers)
    }


def summarize_style(
    feats: Features, program: Program, weights: Mapping[str, Weights]
) -> StyleSummary:
    """Reduce features to what the style term depends on, see `summarize_content`."""
    loss = program.losses.style
    return {
        layer: loss.summarize(feats[layer], weights.get(layer))
        for layer in layer_names(program.style_layers)
    }


def compare(
    summary: Summary, shape: tuple[int, ...], targets: Targets, program: Program
) -> tuple[Scalar, Terms]:
    """The loss of an image from its summary, see `objective`.

    Args:
        summary: From `summarize`.
        shape: Height and width of the image.
        targets: From `make_targets`, for the same program.
        program: What was measured.

    Returns:
        The loss, and its unweighted terms.
    """
    content, style, variation = program.losses
    terms = Terms(
        _total(
            weight * content.distance(summary.content[layer])
            for layer, weight in program.content_layers
        ),
        _total(
            weight * style.distance(summary.style[layer], targets.style[layer])
            for layer, weight in program.style_layers
        ),
        variation.distance(summary.tv, shape),
    )
    loss = (
        targets.content_weight * terms.content
        + targets.style_weight * terms.style
        + targets.tv_weight * terms.tv
    )
    return loss, terms


def _total(parts: Iterable[Scalar]) -> Scalar:
    return sum(parts, start=jnp.float32(0))
