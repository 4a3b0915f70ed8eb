"""Style losses: distances between the statistics of two features.

A style loss is a row of `STYLE_LOSSES`. To add your own, make a `StyleLoss` from a
function that sums over positions, and a function that compares the sum to a target.

Features, h w c, are taken after the ReLU, in the network's dtype: float32 or bfloat16.
Weights, h w 1, say how much each position counts. Without weights, each counts once.
Sums over positions accumulate in float32 at the highest matmul precision, because TF32
and bfloat16 are too inaccurate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.linalg import HIGHEST, eigh, float32, products, root_traces
from jaxnst.losses.neighbors import (
    blend_samples,
    index_features,
    neighbor_sum,
    sample_features,
)
from jaxnst.losses.sliced import (
    blend_quantiles,
    quantiles,
    sliced_wasserstein_loss,
    slices,
)
from jaxnst.losses.sums import WeightedSum, blend_means, sum_positions, total_weight
from jaxnst.types import Feature, Scalar, Weights


@dataclass(frozen=True)
class StyleLoss:
    """A style loss: a sum over positions, and the distance computed from it.

    Attributes:
        name: Name of the loss in a recipe.
        summarize: `summarize(feature, weights) -> summary`, for example a
            `WeightedSum`. `weights` may be None.
        distance: `distance(summary, target) -> loss`, ≥ 0, between the image's summary
            and the style's target.
        prepare: `prepare(summary, rank) -> target`, computed once from the style's
            summary; `rank` is the number of the style's positions or the number of
            channels, whichever is less. Targets of different ranks are padded with
            zeros to one shape. Default: the summary's mean.
        blend: `blend(summaries, shares) -> summary` of several styles; the absolute
            values of the shares sum to 1. Default: the average of the means.
        additive: Whether the summaries of a picture's tiles add up to the summary of
            the picture. If not, the loss cannot be used in tiles.
        distances: `distances(summaries, targets) -> losses` of several layers at once.
            Default: `distance` of one layer after another.
        summarize_against: `summarize_against(feature, target, weights) -> summary` of
            the image, if the summary depends on the target. `summarize` is then used
            only for styles, and large styles are cropped, not divided into tiles.
            Default: `summarize`.
    """

    name: str
    summarize: Callable[[Feature, Weights], Any]
    distance: Callable[[Any, Any], Scalar]
    prepare: Callable[[Any, int], Any] = lambda summary, rank: summary.mean
    blend: Callable[[list[Any], Float[Array, "_n"]], Any] = blend_means
    additive: bool = True
    distances: Callable[[list[Any], list[Any]], list[Scalar]] | None = None
    summarize_against: Callable[[Feature, Any, Weights], Any] | None = None

    def summarize_image(
        self, feature: Feature, target: Any, weights: Weights = None
    ) -> Any:
        """Summarise a feature of the image, for `distance`."""
        if self.summarize_against is None:
            return self.summarize(feature, weights)
        return self.summarize_against(feature, target, weights)

    def compare(self, summaries: list[Any], targets: list[Any]) -> list[Scalar]:
        """Distances between the summaries and targets of several layers."""
        if self.distances is not None:
            return self.distances(summaries, targets)
        return [self.distance(*pair) for pair in zip(summaries, targets, strict=True)]


def gram_sum(feature: Feature, weights: Weights = None) -> WeightedSum:
    """Sum the products of channels over the positions, `FᵀWF` with weights W."""
    rows = feature.reshape(-1, feature.shape[-1])
    flat = None if weights is None else weights.reshape(-1, 1)
    return WeightedSum(products(rows, flat), total_weight(feature, weights))


def gram_matrix(feature: Feature, weights: Weights = None) -> Float[Array, "_c _c"]:
    """Average the products of channels over the positions, `G = FᵀF / (h w)`.

    Example:
        >>> gram_matrix(jnp.full((4, 4, 1), 3.0)).tolist()
        [[9.0]]

    Reference:
        Gatys, Ecker, Bethge (2016), eq. 3. There, the sum is not divided by h w.
    """
    return gram_sum(feature, weights).mean


def gram_loss(gram: Float[Array, "_c _c"], target: Float[Array, "_c _c"]) -> Scalar:
    """Mean squared difference of two Gram matrices, `mean((G - A)²)`.

    Eq. 4 of Gatys et al. (2016) is a quarter of this loss.
    """
    return jnp.mean((gram - target) ** 2)


class Moments(NamedTuple):
    """The channels F and their products FᵀF, summed or averaged over the positions.

    Moments of several styles may be averaged, unlike covariances.

    Attributes:
        mean: Mean (or sum) of F.
        second: Mean (or sum) of FᵀF.
    """

    mean: Float[Array, "_c"]
    second: Float[Array, "_c _c"]


def moment_sum(feature: Feature, weights: Weights = None) -> WeightedSum:
    """Sums over the positions of F and FᵀF, as `Moments`."""
    second, weight = gram_sum(feature, weights)
    mean = sum_positions(float32(feature), weights)
    return WeightedSum(Moments(mean, second), weight)


def moments(feature: Feature, weights: Weights = None) -> Moments:
    """Mean and raw second moment of the channels over the positions."""
    return moment_sum(feature, weights).mean


def covariance(m: Moments) -> Float[Array, "_c _c"]:
    """Covariance of the channels, `E[FᵀF] - E[F]ᵀE[F]`."""
    return m.second - jnp.outer(m.mean, m.mean)


class Gaussian(NamedTuple):
    """A Gaussian fitted to a style at one layer, factored for `wasserstein2_loss`.

    Attributes:
        mean: Mean of the channels.
        root: Factor R of the covariance `R Rᵀ`.
        trace: Trace of the covariance.
        floor: Variances below this are about as small as rounding errors.
    """

    mean: Float[Array, "_c"]
    root: Float[Array, "_c _r"]
    trace: Scalar
    floor: Scalar


def gaussian(m: Moments, *, rank: int | None = None) -> Gaussian:
    """Fit a `Gaussian` to a style, and factor its covariance once.

    Args:
        m: Moments of the style, or an average of the moments of several.
        rank: Number of eigenvectors to keep, at most c. The rank of a covariance is at
            most the number of the style's positions; leaving out the null space makes
            every step cheaper. Default: c.
    """
    values, vectors = eigh(covariance(m))
    kept = slice(-min(rank or len(values), len(values)), None)
    values = jnp.maximum(values, 0)
    root = vectors[:, kept] * jnp.sqrt(values[kept])[None]
    # In float32, the eigenvalues of `wasserstein2_loss`'s K have errors of about 1e-7
    # of the largest, values[-1]². Their roots have errors of about 3e-4 of values[-1].
    return Gaussian(m.mean, root, jnp.sum(values), 3e-4 * values[-1] + 1e-12)


def wasserstein2_loss(m: Moments, target: Gaussian) -> Scalar:
    """Squared Wasserstein-2 distance between two Gaussians, divided by their dimension.

    `c · L = |μ - μ*|² + tr Σ + tr Σ* - 2 tr (Σ*^½ Σ Σ*^½)^½` with c channels, the
    image's mean μ and covariance Σ, and the style's μ* and Σ*. With `Σ* = R Rᵀ` the
    last trace is the sum of the square roots of the eigenvalues λ of `K = Rᵀ Σ R`. The
    gradient of this sum is `½ K^-½`, so no Lyapunov equation is solved. The loss is
    correct even with fewer positions than channels: zero eigenvalues add nothing. Each
    root is smoothed to `λ / √(λ + floor²)`, which bounds the gradient. The
    smoothed root is never more than `√λ`, and it is subtracted. So L is never below the
    exact distance, and a little above zero for equal Gaussians.

    Args:
        m: Moments of the image's feature.
        target: Gaussian of the style.

    Returns:
        The loss, ≥ 0.

    Reference:
        Mroueh (2019), "Wasserstein Style Transfer", eq. 2. The widespread
        implementation adds 1e-4 to the diagonal of both covariances instead and
        approximates the square root by 12 Newton-Schulz rounds.
    """
    return wasserstein2_losses([m], [target])[0]


def wasserstein2_losses(
    moments: Sequence[Moments], targets: Sequence[Gaussian]
) -> list[Scalar]:
    """`wasserstein2_loss` of several layers, with their matrix roots in one batch."""
    matmul = partial(jnp.matmul, precision=HIGHEST)
    sigmas = [_symmetric_covariance(*m) for m in moments]
    pairs = zip(sigmas, targets, strict=True)
    ks = [matmul(matmul(x.root.T, sigma), x.root) for sigma, x in pairs]
    crosses = root_traces(ks, [target.floor for target in targets])

    def loss(m: Moments, sigma: Array, target: Gaussian, cross: Scalar) -> Scalar:
        apart = jnp.sum((m.mean - target.mean) ** 2 + jnp.diagonal(sigma))
        return (apart + target.trace - 2 * cross) / len(m.mean)

    return list(map(loss, moments, sigmas, targets, crosses))


@jax.custom_vjp
def _symmetric_covariance(
    mean: Float[Array, "_c"], second: Float[Array, "_c _c"]
) -> Float[Array, "_c _c"]:
    """`covariance`, with a cheaper derivative that assumes a symmetric cotangent."""
    return covariance(Moments(mean, second))


_symmetric_covariance.defvjp(
    lambda mean, second: (_symmetric_covariance(mean, second), mean),
    lambda mean, slope: (-2 * jnp.matmul(slope, mean, precision=HIGHEST), slope),
)


def normalize_gradient(feature: Feature, norm: Scalar) -> Feature:
    """Return a feature unchanged, and scale its gradient to a given L1 norm.

    Reference:
        jcjohnson/neural-style (2015), option `-normalize_gradients`.
    """

    @jax.custom_vjp
    def identity(feature: Feature, norm: Scalar) -> Feature:
        return feature

    def backward(norm: Scalar, grad: Feature) -> tuple[Feature, Scalar]:
        scale = norm / (jnp.sum(jnp.abs(float32(grad))) + 1e-8)
        return (grad * scale).astype(grad.dtype), jnp.zeros_like(norm)

    identity.defvjp(lambda feature, norm: (feature, norm), backward)
    return identity(feature, norm)


def _scaled_gram(
    name: str, scale: Callable[[Scalar, int], Scalar | float]
) -> StyleLoss:
    """A style loss: `gram_loss` times `scale(image's positions, channels)`."""

    def distance(summary: WeightedSum, target: Float[Array, "_c _c"]) -> Scalar:
        return gram_loss(summary.mean, target) * scale(summary.weight, len(target))

    return StyleLoss(name, gram_sum, distance)


STYLE_LOSSES = {
    row.name: row
    for row in (
        _scaled_gram("gram", lambda positions, channels: 1),
        _scaled_gram("gram_quarter_mean", lambda positions, channels: 1 / 4),
        _scaled_gram("gram_channels", lambda positions, channels: channels**-2),
        _scaled_gram("gram_sums", lambda positions, channels: positions / channels),
        StyleLoss(
            "wasserstein2",
            moment_sum,
            lambda summary, target: wasserstein2_loss(summary.mean, target),
            lambda summary, rank: gaussian(summary.mean, rank=rank),
            distances=lambda summaries, targets: wasserstein2_losses(
                [summary.mean for summary in summaries], targets
            ),
        ),
        StyleLoss(
            "sliced_wasserstein",
            slices,
            sliced_wasserstein_loss,
            lambda summary, rank: quantiles(summary),
            blend_quantiles,
            additive=False,
        ),
        StyleLoss(
            "nearest_neighbors",
            sample_features,
            lambda summary, target: summary.mean,
            lambda summary, rank: index_features(summary),
            blend_samples,
            summarize_against=neighbor_sum,
        ),
    )
}
"""Style losses by name. `gram` is the mean squared difference of `FᵀF / (h w)`, and
`gram_quarter_mean` is a quarter of it. `gram_channels` is the mean squared difference
of `FᵀF / (c h w)`. `gram_sums` is `h w / c` times `gram`, with the image's h w."""
