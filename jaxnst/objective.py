"""The objective: targets measured once, and the loss of the image at every step.

`measure` computes the features of an image; `summarize` reduces them to a `Summary`;
`compare` turns the summary into the loss. The loss depends on an image only through its
summary.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxnst.checks import OPTIMIZED, check_image, check_list
from jaxnst.compiled import kept_jit
from jaxnst.losses import normalize_gradient
from jaxnst.masks import layer_weights, multiply_masks
from jaxnst.network.vgg import Backbone, channels, features, stride
from jaxnst.pictures.canvas import Canvas, exact, extend, inside
from jaxnst.process import COMPILE_FAST
from jaxnst.recipes import LayerWeights, Program, Recipe
from jaxnst.storage import Stored, StoredFeatures, restore, store
from jaxnst.types import Feature, Features, Image, Mask, Scalar, Weights

StyleTarget = dict[str, Any]
"""Results of `StyleLoss.prepare`, by layer."""

StyleSummary = dict[str, Any]
"""Results of `StyleLoss.summarize`, by layer."""


class RegionTargets(NamedTuple):
    """The style targets of one region of the image.

    Attributes:
        style: Target of the style, from `StyleLoss.prepare`, by layer.
        weights: For each layer, weights of the positions, with mean 1, see
            `masks.layer_weights`. Empty if the region is the whole image.
        share: Area of the region, as a fraction of the image. The region's term is
            multiplied by it, so a style acts on each pixel of a small region as
            strongly as on each pixel of a whole image.
    """

    style: StyleTarget
    weights: dict[str, Mask]
    share: Scalar


class Agreement(NamedTuple):
    """An image to agree with, such as the previous frame of a video, warped.

    Attributes:
        image: RGB in [0, 1], h w 3.
        reliability: How much each pixel counts, h w 1 in [0, 1].
        weight: Factor on the mean squared difference, see `disagreement`.
    """

    image: Image
    reliability: Mask
    weight: Scalar


class Targets(NamedTuple):
    """The targets of an image. New values of the arrays never recompile.

    Attributes:
        content: Results of `ContentLoss.prepare`, by layer, packed by `storage.store`.
        regions: Parts of the image and their styles.
        held: For each layer, weights of the positions in the content term, with mean 1.
            Empty if all positions count equally.
        paint_mask: Where the image may change. None: everywhere.
        learning_rate: Factor on the optimiser's step. It does not change the loss.
        agreement: Image to agree with. Default: none.
        extent: Height and width of the picture on its canvas. None: the whole canvas.
    """

    content: StoredFeatures
    regions: tuple[RegionTargets, ...]
    held: dict[str, Mask]
    paint_mask: Weights
    content_weight: Scalar
    style_weight: Scalar
    tv_weight: Scalar
    learning_rate: Scalar
    agreement: Agreement | None = None
    extent: Int[Array | np.ndarray, "2"] | None = None


class Terms(NamedTuple):
    """The parts of the loss, not yet multiplied by the weights in `Targets`."""

    content: Scalar
    style: Scalar
    tv: Scalar


@runtime_checkable
class Objective(Protocol):
    """A differentiable function that returns a loss and its terms, as `objective`."""

    def __call__(
        self, image: Image, backbone: Backbone, targets: Targets, program: Program, /
    ) -> tuple[Scalar, Terms]:
        """Return the loss of an image, and its terms."""
        ...


class Summary(NamedTuple):
    """All that the loss needs to know of an image: the result of each `summarize`.

    `content`, and each of the `regions`, are dicts by layer.
    """

    content: dict[str, Any]
    regions: tuple[StyleSummary, ...]
    tv: Any


def make_targets(
    backbone: Backbone,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    *,
    blend: Float[Array, "_n"] | None = None,
) -> Targets:
    """Measure the targets of `objective` from a content and its styles.

    Args:
        backbone: The network, calibrated for the recipe, see `calibrate.calibrate`.
        content: RGB in [0, 1], h w 3, of the size that is optimised.
        styles: One or more RGB images of any size.
        recipe: Recipe with the losses, the layers and the weights.
        blend: Weight of each style; the weights are divided by the sum of their
            absolute values. Default: equal weights.

    Returns:
        The targets.

    Raises:
        ValueError: If `blend` does not have one weight for each style or has only
            zeros, or an image is not RGB in [0, 1].

    Example:
        >>> import jaxnst
        >>> recipe = jaxnst.get_recipe("painterly")
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> backbone = jaxnst.calibrate(backbone, recipe.program.activations)
        >>> content, style = jaxnst.sample("harbour", 48), jaxnst.sample("swirls", 48)
        >>> targets = make_targets(backbone, content, [style], recipe)
        >>> targets.content["relu4_2@2"].shape, float(targets.style_weight)
        ((2, 3, 512), 1.0)
    """
    check_image(content, "content")
    check_list(styles, "style")
    for style in styles:
        check_image(style, "style")
    program, canvas = recipe.program, exact(content.shape)
    feats = measure_content(backbone, content, program=program)
    summaries = [measure_style(backbone, style, program=program) for style in styles]
    shares = even_blend(blend, len(styles))
    ranks = style_ranks([style.shape for style in styles], program)
    measured = prepare_styles(summaries, shares, program=program, ranks=ranks)
    targets = assemble_targets(feats, [(measured, None)], recipe, canvas)
    return jax.device_put(targets)


def assemble_targets(
    content: StoredFeatures,
    regions: Sequence[tuple[StyleTarget, Mask | None]],
    recipe: Recipe,
    canvas: Canvas,
    *,
    content_strength: Mask | None = None,
    paint_mask: Mask | None = None,
) -> Targets:
    """Join measured targets with a recipe's weights and learning rate, on the host.

    Each region is a pair of its target, from `prepare_styles`, and its mask. All masks
    are on the canvas.
    """
    layers = layer_names(recipe.program.style_layers)
    whole = math.prod(canvas.shape)
    share = lambda mask: np.float32(1 if mask is None else np.sum(mask) / whole)
    numbers: dict[str, Any] = jax.tree.map(np.float32, asdict(recipe.weights))
    numbers["content_weight"] = numbers["content_weight"] * share(content_strength)
    return Targets(
        content=content,
        regions=tuple(
            RegionTargets(styles, layer_weights(mask, layers), share(mask))
            for styles, mask in regions
        ),
        held=layer_weights(content_strength, tuple(content)),
        paint_mask=paint_mask,
        extent=canvas.extent,
        **numbers,
    )


@kept_jit("program", name="the targets", compiler_options=COMPILE_FAST)
def measure_content(
    backbone: Backbone,
    content: Image,
    content_strength: Mask | None = None,
    *,
    program: Program,
) -> StoredFeatures:
    """Measure the features of a content, as targets of the image."""
    layers, loss = layer_names(program.content_layers), program.losses.content
    weights = layer_weights(content_strength, layers)

    def prepare(layer: str, feat: Feature) -> Stored:
        statistics = loss.measure(feat, weights.get(layer))
        return store(loss.prepare(feat, statistics), program.state_dtype)

    feats = measure(backbone, content, program, layers)
    return {layer: prepare(layer, feat) for layer, feat in feats.items()}


@kept_jit("program", name="the targets", compiler_options=COMPILE_FAST)
def measure_style(
    backbone: Backbone, style: Image, mask: Mask | None = None, *, program: Program
) -> StyleSummary:
    """Summarise one style, or the part of it that a mask shows."""
    weights = layer_weights(mask, layer_names(program.style_layers))
    found = summarize_style(backbone, style, weights, program)
    return normalize_summary(found, program)


def summarize_style(
    backbone: Backbone, style: Image, weights: dict[str, Mask], program: Program
) -> StyleSummary:
    """Reduce a style, or a tile of a style, to weighted sums over its positions."""
    feats = measure(backbone, style, program, layer_names(program.style_layers))
    summarize = program.losses.style.summarize
    return {layer: summarize(x, weights.get(layer)) for layer, x in feats.items()}


def normalize_summary(summary: StyleSummary, program: Program) -> StyleSummary:
    """Turn the sums of one style into means, so that its size does not matter."""
    blend, one = program.losses.style.blend, jnp.ones(1)
    return {layer: blend([own], one) for layer, own in summary.items()}


def even_blend(blend: Any, styles: int) -> Float[Array | np.ndarray, "_n"]:
    """Check the weights of styles. If `blend` is None, return equal weights."""
    if blend is None:
        return np.ones(styles, np.float32)
    check_blend(blend, styles)
    return blend if isinstance(blend, Tracer) else np.asarray(blend, np.float32)


def style_ranks(shapes: Sequence[tuple[int, ...]], program: Program) -> tuple[int, ...]:
    """Upper bound on the rank of the styles' covariance, at each style layer."""
    return tuple(
        min(sum(h * w // stride(layer) ** 2 for h, w, *_ in shapes), channels(layer))
        for layer in layer_names(program.style_layers)
    )


def check_blend(blend: Any, styles: int) -> None:
    """Raise a ValueError unless there is one weight for each style, and not all are 0.

    If the weights are traced, only their number is checked.
    """
    known = not isinstance(blend, Tracer)
    total = float(np.abs(blend).sum()) if known else 1.0
    if np.shape(blend) != (styles,):
        raise ValueError(
            f"the blend {blend} does not have one weight for each style; give {styles}"
        )
    if not 0 < total < np.inf:
        raise ValueError(
            f"the blend {blend} cannot be normalised; give finite weights, not all 0"
        )


@kept_jit("program", "ranks", name="the targets", compiler_options=COMPILE_FAST)
def prepare_styles(
    summaries: Sequence[StyleSummary],
    blend: Float[Array | np.ndarray, "_n"],
    *,
    program: Program,
    ranks: tuple[int, ...],
) -> StyleTarget:
    """Make the target of a blend of styles. `ranks` are from `style_ranks`."""
    shares = jnp.asarray(blend / jnp.sum(jnp.abs(blend)))
    loss, prepared = program.losses.style, {}
    for layer, rank in zip(layer_names(program.style_layers), ranks, strict=True):
        parts = [summary[layer] for summary in summaries]
        prepared[layer] = loss.prepare(loss.blend(parts, shares), rank)
    return prepared


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
    """Compute the loss of an image, and its terms.

    `content_weight · Σ_l v_l C_l + style_weight · Σ_r a_r Σ_l w_l S_rl + tv_weight ·
    TV`. C_l is the content loss at layer l, and v_l the layer's weight in it. S_rl is
    the style loss at layer l in region r, w_l the layer's weight in it, and a_r the
    region's share of the image. TV is the variation loss. If the targets have an
    `agreement`, as in videos, `disagreement` is added.

    Args:
        image: RGB in [0, 1].
        backbone: The network, calibrated for the recipe.
        targets: From `make_targets`, for the same program.
        program: The losses, the layers and their weights.

    Returns:
        The loss, and its unweighted terms.

    Example:
        >>> import jaxnst
        >>> recipe = jaxnst.get_recipe("tf-blog")
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> backbone = jaxnst.calibrate(backbone, recipe.program.activations)
        >>> content, style = jaxnst.sample("harbour", 48), jaxnst.sample("swirls", 48)
        >>> targets = make_targets(backbone, content, [style], recipe)
        >>> loss, terms = objective(content, backbone, targets, recipe.program)
        >>> bool(terms.content < 1e-6), bool(loss > 0)
        (True, True)

    Reference:
        Gatys, Ecker, Bethge (2016), eq. 7.
    """
    check_image(image, beyond=OPTIMIZED)
    image = extend(image, targets.extent)
    summary = summarize(image, backbone, targets, program)
    return compare(summary, image, targets, program)


def disagreement(image: Image, agreement: Agreement) -> Scalar:
    """Weighted mean squared difference between an image and an `Agreement`.

    `weight · mean_p (c_p |x_p - y_p|² / 3)` with the pixels x_p and y_p of the images,
    and the reliability c_p.

    Example:
        >>> other = Agreement(jnp.ones((2, 2, 3)), jnp.ones((2, 2, 1)), jnp.float32(8))
        >>> float(disagreement(jnp.full((2, 2, 3), 0.5), other))
        2.0

    Reference:
        Ruder, Dosovitskiy, Brox (2016), "Artistic style transfer for videos", eq. 7.
    """
    squares = (image - agreement.image) ** 2
    return agreement.weight * jnp.mean(agreement.reliability * squares)


def summarize(
    image: Image,
    backbone: Backbone,
    targets: Targets,
    program: Program,
    owned: Weights = None,
) -> Summary:
    """Reduce an image to its `Summary`, for `compare`.

    For a tile, `owned` marks the pixels that count.
    """
    feats = measure(backbone, image, program, program.layers)

    def seen(weights: LayerWeights, weight: Scalar) -> Features:
        """Features at some layers, whose gradients may be normalised."""
        if not program.normalize_gradients:
            return {layer: feats[layer] for layer, _ in weights}
        return {
            layer: normalize_gradient(feats[layer], own * weight)
            for layer, own in weights
        }

    content, style, variation = program.losses
    contents = seen(program.content_layers, targets.content_weight)
    styles = seen(program.style_layers, targets.style_weight)
    stored, held = targets.content, targets.held
    found = {
        layer: content.summarize(feat, restore(stored[layer]), held.get(layer))
        for layer, feat in contents.items()
    }
    regions = tuple(
        {
            layer: style.summarize_image(feat, wanted[layer], weights.get(layer))
            for layer, feat in styles.items()
        }
        for wanted, weights, _ in targets.regions
    )
    pixels = multiply_masks(owned, inside(image.shape, targets.extent))
    return Summary(found, regions, variation.summarize(image, pixels))


def compare(
    summary: Summary, image: Image, targets: Targets, program: Program
) -> tuple[Scalar, Terms]:
    """Compute the loss of an image, and its terms, from its summary."""
    shape = image.shape if targets.extent is None else targets.extent
    content, style, variation = program.losses
    contents = (
        weight * content.distance(summary.content[layer])
        for layer, weight in program.content_layers
    )
    pairs = zip(summary.regions, targets.regions, strict=True)
    places = [(*pair, *layer) for pair in pairs for layer in program.style_layers]
    distances = style.compare(
        [seen[layer] for seen, _, layer, _ in places],
        [region.style[layer] for _, region, layer, _ in places],
    )
    styles = (
        region.share * weight * distance
        for (_, region, _, weight), distance in zip(places, distances, strict=True)
    )
    zero = jnp.float32(0)
    tv = variation.distance(summary.tv, shape)
    terms = Terms(sum(contents, start=zero), sum(styles, start=zero), tv)
    loss = (
        targets.content_weight * terms.content
        + targets.style_weight * terms.style
        + targets.tv_weight * terms.tv
    )
    if targets.agreement is not None:
        loss = loss + disagreement(image, targets.agreement)
    return loss, terms
