"""A recipe holds every setting of a style transfer.

`Program` holds the choices that compiled code depends on, `Recipe` those and the rest.
Both are frozen and hashable, so they may be static arguments or be closed over. Loss
weights and the learning rate are copied into `objective.Targets`, as arrays: change
them there, and nothing recompiles.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args, get_origin

import numpy as np

from jaxnst.losses import (
    CONTENT_LOSSES,
    STYLE_LOSSES,
    VARIATION_LOSSES,
    ContentLoss,
    StyleLoss,
    VariationLoss,
)
from jaxnst.messages import nearest
from jaxnst.network.vgg import Activations, Padding, Pooling, check_layers

LayerWeights = tuple[tuple[str, float], ...]

LOSS_TABLES: dict[str, Mapping[str, Any]] = {
    "content_loss": CONTENT_LOSSES,
    "style_loss": STYLE_LOSSES,
    "tv_loss": VARIATION_LOSSES,
}
"""Fields that name a row of a table of losses, or hold a row, with their tables."""


class Losses(NamedTuple):
    """The rows of the tables of losses that a program uses."""

    content: ContentLoss
    style: StyleLoss
    variation: VariationLoss


@dataclass(frozen=True, kw_only=True)
class Program:
    """The choices that compiled code depends on.

    Recipes with the same program share compiled code.

    Attributes:
        content_layers: (layer, weight) pairs whose features are compared directly.
        style_layers: (layer, weight) pairs whose statistics are compared.
        content_loss: Name of a row of `losses.CONTENT_LOSSES`, or a row of your own.
        style_loss: Of `losses.STYLE_LOSSES`, likewise.
        tv_loss: Of `losses.VARIATION_LOSSES`, likewise.
        normalize_gradients: Scale each layer's gradient to the L1 norm 1, at the layer,
            before its weights are applied.
        pooling: See `network.vgg.features`, likewise `pool_scale`, `padding`, `dtype`.
        input_gain: Factor on the image before the network's own input map.
        units: The optimiser works on the image in [0, 1] times this, by channel.
        optimizer: See `optimizers.tf1_adam` and `lbfgs.lbfgs`.
        beta1: Adam's decay of the mean gradient.
        beta2: Adam's decay of the mean squared gradient.
        epsilon: Adam's term in the denominator.
        history: Number of past steps that L-BFGS remembers.
        clip: Clip the image to [0, 1] after every step.
        ema_decay: Decay of the average over the iterates that is returned; 0 returns
            the last iterate.
        keep_best: Return the iterate that follows the lowest loss seen.
        state_dtype: Type that Adam's first moment, the history of L-BFGS and the
            content's features are kept in.

    Example:
        >>> from jaxnst import get_recipe
        >>> program = get_recipe("painterly").program
        >>> program.pooling, hasattr(program, "style_weight")
        ('average', False)
    """

    content_layers: LayerWeights
    style_layers: LayerWeights
    content_loss: str | ContentLoss = "mean"
    style_loss: str | StyleLoss
    tv_loss: str | VariationLoss = "nine_point"
    normalize_gradients: bool = False
    pooling: Pooling = "max"
    pool_scale: float = 1.0
    padding: Padding = "zeros"
    input_gain: float = 1.0
    units: tuple[float, float, float] = (1.0, 1.0, 1.0)
    optimizer: Literal["adam", "tf1_adam", "lbfgs"] = "adam"
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8
    history: int = 10
    clip: bool = True
    ema_decay: float = 0.0
    keep_best: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    state_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Refuse values that make no sense, saying which and why."""
        for field in fields(self):
            value = _plain(field.name, field.type, getattr(self, field.name))
            object.__setattr__(self, field.name, value)  # the class is frozen
            _check_value(field.name, field.type, value)
        check_layers(tuple(layer for layer, _ in self.content_layers))
        check_layers(tuple(layer for layer, _ in self.style_layers))
        for layer, weight in self.content_layers + self.style_layers:
            _check_value(f"the weight of {layer}", float, weight)
        for name in ("beta1", "beta2", "ema_decay"):
            if (value := getattr(self, name)) >= 1:
                raise ValueError(f"expected {name} in [0, 1), got {value}")
        if len(self.units) != 3 or min(self.units) <= 0:
            raise ValueError(f"expected three units > 0, got {self.units}")
        if self.keep_best and self.ema_decay:
            raise ValueError(
                "expected keep_best or an ema_decay, got both; one picture is returned"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers that are measured, in order and once."""
        return tuple(sorted(dict(self.content_layers + self.style_layers)))

    @property
    def losses(self) -> Losses:
        """The rows of the tables of losses."""
        held = ((getattr(self, name), table) for name, table in LOSS_TABLES.items())
        return Losses(*(table.get(row, row) for row, table in held))

    @property
    def additive(self) -> bool:
        """Whether the loss depends on an image through sums over positions alone.

        Tiles need that. Norms of gradients are sums too, but are known only after the
        loss, so `normalize_gradients` is not additive.
        """
        content, style, _ = self.losses
        return content.additive and style.additive and not self.normalize_gradients

    @cached_property
    def program(self) -> "Program":
        """The program alone, without what a recipe adds to it.

        Example:
            >>> from jaxnst import get_recipe
            >>> recipe = get_recipe("painterly")
            >>> recipe.replace(style_weight=2.0).program == recipe.program
            True
        """
        return Program(**{x.name: getattr(self, x.name) for x in fields(Program)})


@dataclass(frozen=True, kw_only=True)
class Recipe(Program):
    """Every setting of a style transfer: a `Program` and the fields below.

    Attributes:
        summary: One line on what it is and where it comes from.
        tv_weight: Factor on the total variation of the image.
        learning_rate: Adam's step in `units`; for L-BFGS the factor on the quasi-Newton
            step.
        activations: Scale of the activations that the loss weights assume, see
            `network.calibrate.calibrate`.
        palette: Colours of the content: `content` keeps its own; `style` first gives
            them the style's mean and covariance, see `pictures.color.match_palette`.
        init: Start image: `content`, `noise` or `style` (noise of the style's colours).
        noise: Standard deviation of `noise`, in units of the image's range [0, 1].
        detail: Fraction of the content's high-frequency detail that is added where the
            image is enlarged to the next scale.
        colors: Colours of the result: `style`; `content`, those of the photograph,
            which the styles are given before they are measured; `luminance`: only
            lightness is painted, the photograph keeps its chroma.
        rotate_styles: Whether styles are measured in all four directions, so that
            strokes may turn.
        repaint: At the end of each scale, lay the image out of patches of the styles,
            see `repaint.repaint`.
        first_steps: Steps at the coarsest scale.
        steps: Steps at every other scale.
        scales: Number of scales, at most.
        scale_factor: Ratio of the size of a scale to that of the one before.
        min_size: Long edge of the coarsest scale, in pixels, at least.
        size: Edge of the result in pixels, where no size is asked for.
        size_edge: Which edge `size` means.
        enlarge: Which pictures are enlarged to reach their size.
        style_scale: Ratio of the style's edge to the content's.
        squash_style: Resize the style to the content's exact shape.
    """

    name: str
    summary: str
    content_weight: float
    style_weight: float
    tv_weight: float = 0.0
    learning_rate: float = 0.02
    activations: Activations = "unit_mean"
    palette: Literal["content", "style"] = "content"
    init: Literal["content", "noise", "style"] = "content"
    noise: float = 0.1
    detail: float = 0.0
    colors: Literal["style", "content", "luminance"] = "style"
    rotate_styles: bool = False
    repaint: bool = False
    first_steps: int
    steps: int
    scales: int = 1
    scale_factor: float = 2**0.5
    min_size: int = 1
    size: int = 512
    size_edge: Literal["long", "short"] = "long"
    enlarge: Literal["none", "content", "both"] = "none"
    style_scale: float = 1.0
    squash_style: bool = False

    def __post_init__(self) -> None:
        """Refuse values that make no sense, saying which and why."""
        super().__post_init__()
        for name in ("learning_rate", "style_scale", "pool_scale", "input_gain"):
            if getattr(self, name) == 0:
                raise ValueError(f"expected {name} > 0, got 0")
        if self.scale_factor <= 1:
            raise ValueError(f"expected scale_factor > 1, got {self.scale_factor}")

    @cached_property
    def structure(self) -> "Recipe":
        """The recipe without its name, and with 1 for all that steps get as arrays.

        Recipes of the same structure share all compiled code.

        Example:
            >>> from jaxnst import get_recipe
            >>> recipe = get_recipe("painterly")
            >>> recipe.replace(style_weight=2.0).structure == recipe.structure
            True
        """
        ones = dict.fromkeys(ARRAYS, 1.0)
        return dataclasses.replace(self, name="", summary="", **ones)

    @property
    def arrays(self) -> dict[str, np.float32]:
        """The loss weights and the learning rate, as numbers that steps get.

        Example:
            >>> from jaxnst import get_recipe
            >>> float(get_recipe("painterly").arrays["style_weight"])
            1.0
        """
        return {x: np.float32(getattr(self, x)) for x in ARRAYS}

    @property
    def shares_canvases(self) -> bool:
        """Whether pictures of many shapes may share canvases, and scales their sizes.

        Not where zeros are padded around a picture, since filler is its own edge.
        """
        return self.padding == "replicate"

    @property
    def content_ratio(self) -> float:
        """Weight of the content over that of the style, 0 to 100."""
        most = 100 * self.style_weight
        return min(self.content_weight, most) / self.style_weight if most else 100.0

    def replace(self, **changes: Any) -> "Recipe":
        """Return a copy with some fields changed.

        Raises:
            ValueError: If a field is unknown, or a value is invalid or would have no
                effect, such as `beta1` of a recipe that uses L-BFGS.

        Example:
            >>> from jaxnst import get_recipe
            >>> get_recipe("painterly").replace(style_weight=2.0).style_weight
            2.0

            The learning rate of Adam is a distance, that of L-BFGS a factor. So a
            change between them also sets the learning rate, unless you set it:

            >>> get_recipe("painterly").replace(optimizer="adam").learning_rate
            0.02
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(
                    f"expected a field of Recipe, got {name!r}; "
                    f"did you mean {nearest(name, known)}?"
                )
        changed = dataclasses.replace(self, **_with_learning_rate(self, changes))
        for name in changes:
            if getattr(changed, name) != getattr(self, name):
                _check_used(changed, name)
        return changed

    def uses(self, name: str) -> bool:
        """Whether a field has an effect, given what the others are.

        Example:
            >>> from jaxnst import get_recipe
            >>> get_recipe("painterly").uses("style_scale")
            True
            >>> get_recipe("gatys2016").uses("style_scale")  # squashes its styles
            False
        """
        other, values = USED_WITH.get(name, ("", ()))
        return not other or getattr(self, other) in values

    def with_strength(self, strength: float) -> "Recipe":
        """A copy between the photograph, 0, and the painting, 1; at ½ it is the same.

        The content's weight is multiplied by `((1 - strength) / strength)²`; at 0 the
        image stays the content.

        Example:
            >>> from jaxnst import get_recipe
            >>> get_recipe("painterly").with_strength(0.25).content_weight
            2.7
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"expected a style strength in [0, 1], got {strength}")
        if strength == 0:
            plain: dict[str, Any] = {"palette": "content", "repaint": False}
            plain |= {"init": "content", "scales": 1, "first_steps": 1}
            plain |= {"learning_rate": 1e-12}
            return dataclasses.replace(self, **plain)
        weight = self.content_weight * ((1 - strength) / strength) ** 2
        return dataclasses.replace(self, content_weight=weight)

    def values(self) -> dict[str, Any]:
        """All fields by name, a loss of your own by its name, as JSON can hold them."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return held | {name: str(held[name]) for name in LOSS_TABLES}

    def __str__(self) -> str:
        """Return the recipe as a table of its fields."""
        rows = {"name": self.name, "summary": self.summary} | self.values()
        return "\n".join(f"{name:<20} {_readable(x)}" for name, x in rows.items())


LARGEST = {int: 2**31, float: 3.4e38}
"""What the numbers of a recipe are below: JAX has 32 bits for each."""

ARRAYS = ("content_weight", "style_weight", "tv_weight", "learning_rate")
"""Fields that steps get as arrays."""

USED_WITH = {
    "beta1": ("optimizer", ("adam", "tf1_adam")),
    "beta2": ("optimizer", ("adam", "tf1_adam")),
    "epsilon": ("optimizer", ("adam", "tf1_adam")),
    "history": ("optimizer", ("lbfgs",)),
    "noise": ("init", ("noise",)),
    "style_scale": ("squash_style", (False,)),
}
"""Fields that have an effect only with certain values of another field."""


def _check_used(recipe: Recipe, name: str) -> None:
    if not recipe.uses(name):
        other, values = USED_WITH[name]
        raise ValueError(
            f"{name} changes nothing where {other} is {getattr(recipe, other)}; "
            f"set {other} to {' or '.join(map(str, values))} as well, or leave it out"
        )


def _plain(name: str, kind: Any, value: Any) -> Any:
    """A field's value as Python's own, of NumPy's numbers and of lists too."""
    if isinstance(value, np.generic):
        return value.item()
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return math.inf  # which is refused
    if kind is LayerWeights:
        try:
            return tuple((str(layer), _plain(name, float, x)) for layer, x in value)
        except (TypeError, ValueError):
            raise ValueError(
                f"expected {name} as pairs such as (('relu1_1', 1.0),), got {value!r}"
            ) from None
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_plain(name, float, x) for x in value)
    return value


def _check_value(name: str, kind: Any, value: Any) -> None:
    if name in LOSS_TABLES:
        table, (_, row) = LOSS_TABLES[name], get_args(kind)
        fits = isinstance(value, row) or value in table
        wanted = f"{' or '.join(table)}, or a {row.__name__}"
    elif get_origin(kind) is Literal:
        fits, wanted = value in get_args(kind), " or ".join(get_args(kind))
    elif kind is float:
        fits = isinstance(value, int | float) and 0 <= value < LARGEST[kind]
        wanted = "to be a finite number ≥ 0"
    elif kind is int:
        fits = type(value) is int and 1 <= value < LARGEST[kind]
        wanted = "to be a whole number ≥ 1"
    elif kind is bool:
        fits, wanted = type(value) is bool, "to be True or False"
    else:
        return
    if not fits:
        most = LARGEST.get(kind, math.inf)
        too_large = isinstance(value, int | float) and value >= most
        most = f", below {most:g}" if too_large else ""
        raise ValueError(f"expected {name} {wanted}{most}, got {value!r:.60}")


def _readable(value: Any) -> str:
    if isinstance(value, tuple):
        pairs = (x if isinstance(x, tuple) else (x,) for x in value)
        return ", ".join(" ".join(_readable(x) for x in pair) for pair in pairs)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_learning_rate(recipe: Recipe, changes: dict[str, Any]) -> dict[str, Any]:
    """Add a learning rate to changes from one kind of optimiser to the other."""
    optimizer = changes.get("optimizer", recipe.optimizer)
    if (optimizer == "lbfgs") == (recipe.optimizer == "lbfgs"):
        return changes
    units = changes.get("units", recipe.units)
    rate = 1.0 if optimizer == "lbfgs" else 0.02 * units[0]
    return {"learning_rate": rate} | changes
