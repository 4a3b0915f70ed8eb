"""A recipe is every choice of a style transfer: what is measured, how it is optimised.

A `Recipe` is frozen and hashable, so it may be a static argument or be closed over. Its
loss weights are copied into `objective.Targets`, as arrays: change them there, and
nothing recompiles.
"""

import dataclasses
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

import optax

from jaxnst.vgg import Padding, Pooling, check_layers

LayerWeights = tuple[tuple[str, float], ...]

GATYS_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every choice of a style transfer.

    Attributes:
        name: Name to ask for it by.
        summary: One line on what it is and where it comes from.
        content_layers: (layer, weight) pairs whose features are compared directly.
        style_layers: (layer, weight) pairs whose statistics are compared.
        style_loss: `gram` or `wasserstein2`.
        content_loss: `mean` of the squared differences, `half_sum` of them, or
            `correlation`, see `losses.correlation_loss`.
        gram_reduction: `mean` of the squared differences, or `quarter_mean`.
        content_weight: Factor on the content term.
        style_weight: Factor on the style term.
        tv_weight: Factor on the total variation of the image.
        unit_mean: Divide every filter by its mean activation, see `vgg.unit_mean`.
        pooling: `max`, `average` or `l2`.
        pool_scale: Factor on every pooling's output.
        padding: Padding of the image, `zeros` or `replicate`.
        palette: Colours of the content before anything else: its own, or mean and
            covariance of the style's, see `color.match_palette`.
        init: Start image: `content`, `noise` or `style` (noise of the style's colours).
        optimizer: `adam` or `lbfgs`.
        learning_rate: Adam's step in units of the image's range [0, 1]; for L-BFGS the
            factor on the quasi-Newton step before the line search.
        beta1: Adam's decay of the mean gradient.
        beta2: Adam's decay of the mean squared gradient.
        epsilon: Adam's term in the denominator.
        history: Number of past steps that L-BFGS remembers.
        clip: Clip the image to [0, 1] after every step.
        ema_decay: Decay of the average over the iterates that is returned; 0 returns
            the last iterate.
        first_steps: Steps at the coarsest scale.
        steps: Steps at every other scale.
        min_size: Long edge of the coarsest scale, in pixels, at least; the scales are
            √2 apart. None: a single scale.
        style_scale: Long edge of the style over that of the content.
        squash_style: Resize the style to the content's exact shape.
        dtype: Type of the convolutions, `float32` or `bfloat16`.
    """

    name: str
    summary: str
    content_layers: LayerWeights
    style_layers: LayerWeights
    style_loss: Literal["gram", "wasserstein2"]
    content_loss: Literal["mean", "half_sum", "correlation"] = "mean"
    gram_reduction: Literal["mean", "quarter_mean"] = "mean"
    content_weight: float
    style_weight: float
    tv_weight: float = 0.0
    unit_mean: bool = True
    pooling: Pooling = "max"
    pool_scale: float = 1.0
    padding: Padding = "zeros"
    palette: Literal["content", "style"] = "content"
    init: Literal["content", "noise", "style"] = "content"
    optimizer: Literal["adam", "lbfgs"] = "adam"
    learning_rate: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8
    history: int = 10
    clip: bool = True
    ema_decay: float = 0.0
    first_steps: int
    steps: int
    min_size: int | None = None
    style_scale: float = 1.0
    squash_style: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Refuse values that make no sense, saying which and why."""
        check_layers(tuple(layer for layer, _ in self.content_layers))
        check_layers(tuple(layer for layer, _ in self.style_layers))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if get_origin(field.type) is Literal:
                choices = get_args(field.type)
                if value not in choices:
                    raise ValueError(
                        f"expected {field.name} {' or '.join(choices)}, got {value!r}"
                    )
            elif field.type is float and not (_is_number(value) and value >= 0):
                raise ValueError(
                    f"expected {field.name} to be a finite number ≥ 0, got {value!r}"
                )
            elif field.type is int and (type(value) is not int or value < 1):
                raise ValueError(
                    f"expected {field.name} to be a whole number ≥ 1, got {value!r}"
                )
        for name in ("beta1", "beta2", "ema_decay"):
            if getattr(self, name) >= 1:
                raise ValueError(
                    f"expected {name} in [0, 1), got {getattr(self, name)}"
                )
        if self.min_size is not None and self.min_size < 1:
            raise ValueError(f"expected min_size ≥ 1 or None, got {self.min_size}")
        for name in ("learning_rate", "style_scale", "pool_scale"):
            if getattr(self, name) == 0:
                raise ValueError(f"expected {name} > 0, got 0")

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers that are measured, in order and once."""
        return tuple(
            sorted({name for name, _ in self.content_layers + self.style_layers})
        )

    def replace(self, **changes: Any) -> "Recipe":
        """Return a copy with some fields changed.

        Raises:
            ValueError: If a field is unknown, naming the nearest, or a value is bad.

        Example:
            >>> get_recipe("painterly").replace(style_weight=2.0).style_weight
            2.0
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                nearest = get_close_matches(name, known, 1, 0.0)[0]
                raise ValueError(
                    f"expected a field of Recipe, got {name!r}; did you mean {nearest}?"
                )
        return dataclasses.replace(self, **changes)

    def __str__(self) -> str:
        """Return the recipe as a table of its fields."""
        rows = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return "\n".join(f"{name:<18} {_readable(value)}" for name, value in rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < float("inf")


def _readable(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{layer} {weight:g}" for layer, weight in value)
    return str(value)


def equal_weights(layers: tuple[str, ...]) -> LayerWeights:
    """Give each layer the weight 1 / number of layers."""
    return tuple((layer, 1 / len(layers)) for layer in layers)


PAINTERLY = Recipe(
    name="painterly",
    summary="Coarse to fine, Wasserstein-2 style distance, averaged Adam (the default)",
    content_layers=(("relu3_1", 0.5), ("relu4_2", 0.5)),
    style_layers=tuple(
        zip(GATYS_STYLE_LAYERS, (0.35, 0.25, 0.2, 0.12, 0.08), strict=True)
    ),
    content_loss="correlation",
    style_loss="wasserstein2",
    content_weight=0.4,
    style_weight=1.0,
    tv_weight=12.0,
    pooling="average",
    padding="replicate",
    palette="style",
    learning_rate=0.02,
    ema_decay=0.95,
    first_steps=150,
    steps=75,
    min_size=128,
)
"""The default: coarse to fine by √2, Wasserstein-2 between Gaussians, warm Adam with an
average of the iterates.

Reference:
    The scheme is Katherine Crowson's (style-transfer-pytorch, 2020-2023); the loss is
    that of Mroueh (2019), "Wasserstein Style Transfer".
"""

GATYS_2016 = Recipe(
    name="gatys2016",
    summary="Gatys, Ecker, Bethge (CVPR 2016): Gram matrices, L-BFGS from noise",
    content_layers=(("relu4_2", 1.0),),
    style_layers=equal_weights(GATYS_STYLE_LAYERS),
    style_loss="gram",
    content_loss="half_sum",
    gram_reduction="quarter_mean",
    # The paper's 1e-3 is for its own network's activations; with it the content, a sum
    # over all positions, leaves no style at all here.
    content_weight=5e-6,
    style_weight=1.0,
    pooling="average",
    init="noise",
    optimizer="lbfgs",
    learning_rate=1.0,
    history=20,
    clip=False,
    first_steps=500,
    steps=500,
    squash_style=True,
)
"""The paper: average pooling, the sums of eq. 1 and 4, a start from white noise.

Reference:
    Gatys, Ecker, Bethge (2016), "Image Style Transfer Using Convolutional Neural
    Networks", CVPR.
"""

RECIPES = {recipe.name: recipe for recipe in (PAINTERLY, GATYS_2016)}
"""The named recipes."""


def get_recipe(name: str) -> Recipe:
    """Look a recipe up by its name.

    Args:
        name: One of `RECIPES`.

    Returns:
        The recipe.

    Raises:
        ValueError: If there is none of that name, naming the nearest.

    Example:
        >>> get_recipe("gatys2016").pooling
        'average'
    """
    if name not in RECIPES:
        nearest = get_close_matches(name, RECIPES, 1, 0.0)[0]
        raise ValueError(
            f"expected a recipe out of {', '.join(RECIPES)}, got {name!r}; "
            f"did you mean {nearest}?"
        )
    return RECIPES[name]


def make_optimizer(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """Build the optax optimiser that a recipe asks for."""
    if recipe.optimizer == "adam":
        adam = optax.adam(
            recipe.learning_rate, recipe.beta1, recipe.beta2, recipe.epsilon
        )
        return optax.with_extra_args_support(adam)
    return optax.lbfgs(recipe.learning_rate, memory_size=recipe.history)
