"""A recipe holds every setting of a style transfer, in parts.

Compiled code depends only on the `Program`. It gets the `LossWeights` as arrays, in
`objective.Targets`, so changing weights never recompiles. The host follows the
`Schedule`, the `Sizes` and the `Look`. All parts are frozen and hashable, so they may
be static arguments or be closed over.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
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

Units = tuple[float, float, float]

LOSS_TABLES: dict[str, Mapping[str, Any]] = {
    "content_loss": CONTENT_LOSSES,
    "style_loss": STYLE_LOSSES,
    "tv_loss": VARIATION_LOSSES,
}
"""Tables of losses, by field of the recipe. A field names a row or holds a row."""


NUMBER_LIMITS = {int: 2**31, float: 3.4e38}
"""Numbers of a recipe are below these limits: JAX has 32 bits for each."""

RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("beta1", "beta2", "ema_decay"), ("a number in [0, 1)", lambda x: x < 1)
    ),
    **dict.fromkeys(
        ("learning_rate", "style_scale", "pool_scale", "input_gain"),
        ("a number > 0", lambda x: x > 0),
    ),
    "scale_factor": ("a number > 1", lambda x: x > 1),
    "units": ("three units > 0", lambda x: len(x) == 3 and min(x) > 0),
}
"""Conditions on fields in addition to their types, in words and as a test."""


def as_text(value: Any) -> str:
    """Write a value as the text that `texts.parse_value` reads.

    Example:
        >>> as_text((("relu1_1", 1.0), ("relu2_1", 0.5)))
        'relu1_1:1,relu2_1:0.5'
    """
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else str(value)
    if not isinstance(value, tuple):
        return str(value)
    parts = (x if isinstance(x, tuple) else (x,) for x in value)
    return ",".join(":".join(map(as_text, part)) for part in parts)


def _check(part: Any) -> None:
    """Convert fields to Python's own types; a ValueError if one is invalid."""
    for field in fields(part):
        value = _read(field.name, field.type, getattr(part, field.name))
        object.__setattr__(part, field.name, value)  # the class is frozen
        wanted, holds = RANGES.get(field.name, ("", bool))
        if wanted and not holds(value):
            raise ValueError(f"{field.name} cannot be {as_text(value)}; give {wanted}")


def _read(name: str, kind: Any, value: Any) -> Any:
    """Convert a field's value; numbers of NumPy and lists are accepted."""
    value = value.item() if isinstance(value, np.generic) else value
    if kind is LayerWeights:
        try:
            pairs = [(str(layer), weight) for layer, weight in value]
        except (TypeError, ValueError):
            raise ValueError(
                f"{name} cannot be {value!r}; give pairs such as (('relu1_1', 1.0),)"
            ) from None
        check_layers(tuple(layer for layer, _ in pairs))
        weigh = lambda layer, x: _read(f"the weight of {layer}", float, x)
        return tuple((layer, weigh(layer, weight)) for layer, weight in pairs)
    if kind is Units and isinstance(value, tuple | list):
        return tuple(_read(name, float, x) for x in value)
    number, most = type(value) in (int, float), NUMBER_LIMITS.get(kind, 0)
    if name in LOSS_TABLES:
        table, (_, row) = LOSS_TABLES[name], get_args(kind)
        fits = isinstance(value, row) or value in table
        wanted = f"{' or '.join(table)}, or a {row.__name__}"
    elif get_origin(kind) is Literal:
        fits, wanted = value in get_args(kind), " or ".join(get_args(kind))
    elif kind is float:
        fits, wanted = number and 0 <= value < most, "a finite number ≥ 0"
    elif kind is int:
        least = int(name not in ("first_steps", "steps"))
        fits = type(value) is int and least <= value < most
        wanted = f"a whole number ≥ {least}"
    elif kind is bool:
        fits, wanted = type(value) is bool, "True or False"
    else:
        fits, wanted = False, "three numbers"
    if not fits:
        below = f", below {most:g}" if most and number and value >= most else ""
        raise ValueError(f"{name} cannot be {value!r:.60}; give {wanted}{below}")
    return float(value) if kind is float else value


class Losses(NamedTuple):
    """The three losses that a program uses."""

    content: ContentLoss
    style: StyleLoss
    variation: VariationLoss


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is minimised, and how: all choices that compiled code depends on.

    Recipes with the same program share compiled code.

    Attributes:
        content_layers: (layer, weight) pairs of the content loss.
        style_layers: (layer, weight) pairs of the style loss.
        content_loss: Name in `losses.CONTENT_LOSSES`, or a `ContentLoss` of your own.
        style_loss: Name in `losses.STYLE_LOSSES`, or a `StyleLoss` of your own.
        tv_loss: Name in `losses.VARIATION_LOSSES`, or a `VariationLoss` of your own.
        normalize_gradients: Scale the gradient at each layer to the L1 norm 1, then
            multiply it by the weights of the layer and of the term.
        activations: The scale of activations that the loss weights were chosen for,
            see `network.calibrate.calibrate`.
        pooling: See `network.vgg.features`, also for `pool_scale`, `padding` and
            `dtype`.
        input_gain: Factor on the image before the network's own input map.
        units: Factors on red, green and blue: the optimiser sees `units * image`.
        optimizer: `adam`, as in optax, or see `optimizers.tf1_adam` and `lbfgs.lbfgs`.
        beta1: Adam's decay of the mean gradient.
        beta2: Adam's decay of the mean squared gradient.
        epsilon: Adam's term in the denominator.
        history: Number of past steps that L-BFGS remembers.
        clip: Clip the image to [0, 1] after every step.
        ema_decay: If > 0, an average of the iterates with this decay is returned; if 0,
            the last iterate.
        keep_best: Return the image after the step whose loss, which is computed before
            the image moves, was the lowest.
        state_dtype: Dtype in which Adam's first moment, the history of L-BFGS and the
            content's features are kept.

    Example:
        >>> from jaxnst import get_recipe
        >>> recipe = get_recipe("painterly")
        >>> recipe.replace(style_weight=2.0).program == recipe.program
        True
    """

    content_layers: LayerWeights = (("relu4_2", 1.0),)
    style_layers: LayerWeights
    content_loss: str | ContentLoss = "mean"
    style_loss: str | StyleLoss
    tv_loss: str | VariationLoss = "nine_point"
    normalize_gradients: bool = False
    activations: Activations = "unit_mean"
    pooling: Pooling = "max"
    pool_scale: float = 1.0
    padding: Padding = "zeros"
    input_gain: float = 1.0
    units: Units = (1.0, 1.0, 1.0)
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
        """Raise a ValueError that names an invalid value."""
        _check(self)
        if self.keep_best and self.ema_decay:
            raise ValueError(
                "expected keep_best or an ema_decay, got both; leave out one of them"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """Sorted names of all measured layers, without duplicates."""
        return tuple(sorted(dict(self.content_layers + self.style_layers)))

    @property
    def losses(self) -> Losses:
        """The losses, looked up in their tables."""
        held = ((getattr(self, name), table) for name, table in LOSS_TABLES.items())
        return Losses(*(table.get(row, row) for row, table in held))

    @property
    def additive(self) -> bool:
        """Whether the loss depends on an image only through sums over positions.

        Tiles need such a loss. Norms of gradients are sums too, but are known only
        after the loss, so `normalize_gradients` is not additive.
        """
        content, style, _ = self.losses
        return content.additive and style.additive and not self.normalize_gradients

    @property
    def shares_canvases(self) -> bool:
        """Whether pictures of many shapes may share canvases and sizes of scales.

        They cannot with zero padding, since filler repeats the edge of a picture.
        """
        return self.padding == "replicate"


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms, and the learning rate; steps get them as arrays.

    Attributes:
        tv_weight: Factor on the variation loss.
        learning_rate: For Adam, the step in the optimiser's numbers, see
            `Program.units`; for L-BFGS, the factor on the quasi-Newton step.
    """

    content_weight: float = 1.0
    style_weight: float = 1.0
    tv_weight: float = 0.0
    learning_rate: float = 0.02

    __post_init__ = _check

    @property
    def content_ratio(self) -> float:
        """`content_weight / style_weight`, at most 100."""
        most = 100 * self.style_weight
        return min(self.content_weight, most) / self.style_weight if most else 100.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The scales that a picture is painted at, coarse to fine, and their steps.

    Attributes:
        first_steps: Steps at the coarsest scale. With 0, nothing is painted: the
            photograph gets the colours of the styles, if `Look.palette` says so.
        steps: Steps at every other scale. With 0, only patches are laid there.
        scales: Largest number of scales.
        scale_factor: Ratio of the size of a scale to the size of the scale before.
        min_size: Smallest long edge of the coarsest scale, in pixels.
    """

    first_steps: int
    steps: int
    scales: int = 1
    scale_factor: float = 2**0.5
    min_size: int = 1

    __post_init__ = _check


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the result and the styles are.

    Attributes:
        size: Edge of the result in pixels, unless another size is asked for.
        size_edge: Which edge `size` means.
        enlarge: Which pictures are enlarged to reach their size.
        style_scale: Ratio of the style's edge to the content's.
        squash_style: Resize the style to the content's exact shape.
    """

    size: int = 512
    size_edge: Literal["long", "short"] = "long"
    enlarge: Literal["none", "content", "both"] = "none"
    style_scale: float = 1.0
    squash_style: bool = False

    __post_init__ = _check


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is done to pictures before, between and after the steps.

    Attributes:
        palette: Colours of the content. `content`: they stay. `style`: they get the
            mean and covariance of the styles' colours, see
            `pictures.color.match_palette`. If `repaint` is set, they then also get the
            lights and darks of the styles, see `pictures.color.match_lightness`.
        init: Start image: `content`, `noise` or `style` (noise of the styles' colours).
        noise: Standard deviation of the pixels, in [0, 1], if `init` is `noise`.
        detail: Fraction of the content's high-frequency detail that is added where the
            image is enlarged to the next scale.
        colors: Colours of the result. `style`: those of the styles. `content`: those of
            the photograph; styles are recoloured before they are measured. `luminance`:
            only lightness is painted; the photograph keeps its chroma.
        rotate_styles: Whether each style is measured in four directions, a quarter turn
            apart, so that strokes may turn.
        repaint: Whether the image is rebuilt from patches of the styles at the end of
            each scale, see `repaint.repaint`.
    """

    palette: Literal["content", "style"] = "content"
    init: Literal["content", "noise", "style"] = "content"
    noise: float = 0.1
    detail: float = 0.0
    colors: Literal["style", "content", "luminance"] = "style"
    rotate_styles: bool = False
    repaint: bool = False

    __post_init__ = _check


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a style transfer.

    Names of fields are unique across the parts (`program`, `weights`, …), so `replace`
    and `values` name a field without its part.

    Attributes:
        name: Unique name.
        summary: One line on what the recipe is and where it comes from.
        network: Default network, by its name in `load_backbone`.
        program: What is minimised, and how; all that compiled code depends on.
        weights: Weights of the loss terms, and the learning rate.
        schedule: Scales and steps.
        sizes: How large the result and the styles are.
        look: What is done to pictures before, between and after the steps.
    """

    name: str
    summary: str
    network: Literal["embedded", "imagenet"] = "imagenet"
    program: Program
    weights: LossWeights = LossWeights()
    schedule: Schedule
    sizes: Sizes = Sizes()
    look: Look = Look()

    def __post_init__(self) -> None:
        """Refuse a recipe that would do nothing at its larger scales."""
        plan, laid = self.schedule, self.look.repaint
        if self.paints and plan.scales > 1 and not (plan.steps or laid):
            raise ValueError(
                "expected steps ≥ 1 where no patches are laid, got 0; set steps ≥ 1, "
                "or scales to 1"
            )

    @property
    def paints(self) -> bool:
        """Whether steps are taken; otherwise the photograph only changes its colours.

        Example:
            >>> from jaxnst import get_recipe
            >>> get_recipe("painterly").paints, get_recipe("palette").paints
            (True, False)
        """
        return self.schedule.first_steps > 0

    def values(self) -> dict[str, Any]:
        """All fields by name, fit for JSON; a loss of your own is given by its name."""
        parts = [getattr(self, part) for part in PARTS]
        held = {x.name: getattr(part, x.name) for part in parts for x in fields(part)}
        named = {name: getattr(held[name], "name", held[name]) for name in LOSS_TABLES}
        return {"name": self.name, "summary": self.summary} | held | named

    def replace(self, **changes: Any) -> "Recipe":
        """Return a copy with some fields changed, in any part.

        Raises:
            ValueError: If a field is unknown, or a value is invalid or would have no
                effect, such as `beta1` of a recipe that uses L-BFGS.

        Example:
            >>> from jaxnst import get_recipe
            >>> get_recipe("painterly").replace(style_weight=2.0).weights.style_weight
            2.0

            The learning rate of Adam is a distance, that of L-BFGS a factor. So a
            change between them sets `learning_rate` anew, unless you set it, too:

            >>> adam = get_recipe("painterly").replace(optimizer="adam")
            >>> adam.weights.learning_rate
            0.02
        """
        known = ["name", "summary", *FIELDS]
        for name in changes:
            if name not in known:
                raise ValueError(
                    f"expected a field of Recipe, got {name!r}; "
                    f"did you mean {nearest(name, known)}?"
                )
        before, optimizer = self.program, changes.get("optimizer")
        if optimizer and (optimizer == "lbfgs") != (before.optimizer == "lbfgs"):
            units = changes.get("units", before.units)
            rate = 1.0 if optimizer == "lbfgs" else 0.02 * units[0]
            changes = {"learning_rate": rate} | changes
        given = lambda kind: {
            x.name: changes[x.name] for x in fields(kind) if x.name in changes
        }
        parts = {
            part: dataclasses.replace(getattr(self, part), **given(kind))
            for part, kind in PARTS.items()
        }
        changed = dataclasses.replace(self, **given(Recipe), **parts)
        old, new = self.values(), changed.values()
        for name in changes:
            if new[name] != old[name] and (why := changed._why_unused(name)):
                raise ValueError(f"{name} has no effect where {why}")
        return changed

    def uses(self, name: str) -> bool:
        """Whether a field has an effect, given the values of the others.

        Example:
            >>> from jaxnst import get_recipe
            >>> get_recipe("painterly").uses("style_scale")
            True
            >>> get_recipe("gatys2016").uses("style_scale")  # squashes its styles
            False
        """
        return not self._why_unused(name)

    def _why_unused(self, name: str) -> str:
        """Why a field has no effect, and what to do; empty if it has an effect."""
        if not self.paints and name in OF_STEPS:
            return "no steps are taken"
        if name not in USED_WITH:
            return ""
        other, useful = USED_WITH[name]
        value, wanted = self.values()[other], " or ".join(map(str, useful))
        if value in useful:
            return ""
        return f"{other} is {value}; set {other} to {wanted}, or leave {name} out"

    def with_strength(self, strength: float) -> "Recipe":
        """Return a copy with more or less style; strength ½ changes nothing.

        `content_weight` is multiplied by `((1 - strength) / strength)²`, so strength 1
        drops the content loss. At strength 0, the photograph stays as it is.

        Example:
            >>> from jaxnst import get_recipe
            >>> get_recipe("kaggle").with_strength(0.25).weights.content_weight
            9.0
        """
        if not 0 <= strength <= 1:
            raise ValueError(
                f"the style strength cannot be {strength}; give a number in [0, 1]"
            )
        if strength == 0:
            return self.replace(palette="content", repaint=False, first_steps=0)
        weight = self.weights.content_weight * ((1 - strength) / strength) ** 2
        return self.replace(content_weight=weight)

    def __str__(self) -> str:
        """Return the recipe as a table of its fields, as `--set` takes them."""
        return "\n".join(f"{x:<20} {as_text(y)}" for x, y in self.values().items())


PARTS = {x.name: x.type for x in fields(Recipe) if dataclasses.is_dataclass(x.type)}
"""The parts of a recipe."""

FIELDS = {x.name: x.type for kind in PARTS.values() for x in fields(kind)}
"""Fields of all parts that can be set, with their types."""

USED_WITH = {
    **dict.fromkeys(("beta1", "beta2", "epsilon"), ("optimizer", ("adam", "tf1_adam"))),
    "history": ("optimizer", ("lbfgs",)),
    "noise": ("init", ("noise",)),
    "style_scale": ("squash_style", (False,)),
}
"""Fields that have an effect only with certain values of another field."""


OF_STEPS = ("style_scale", "rotate_styles", "detail", "init", "tv_weight")
"""Fields that people may set, but that have no effect without steps."""
