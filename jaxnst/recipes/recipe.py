"""A recipe is every choice of a style transfer: what is measured, how it is optimised.

A `Recipe` is frozen and hashable, so it may be a static argument or be closed over. Its
loss weights and its learning rate are copied into `objective.Targets`, as arrays:
change them there, and nothing recompiles.
"""

import dataclasses
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

from jaxnst.network.vgg import Activations, Padding, Pooling, check_layers

LayerWeights = tuple[tuple[str, float], ...]


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
        gram_reduction: `mean` of the squared differences of `FᵀF / (h w)`, a
            `quarter_mean`, `channels`: the mean for `FᵀF / (c h w)`, or `sums`: the
            mean for `FᵀF`, divided by `c h w`.
        tv_loss: `nine_point`, see `losses.total_variation`, or `squares`, see
            `losses.squared_variation`.
        content_weight: Factor on the content term.
        style_weight: Factor on the style term.
        tv_weight: Factor on the total variation of the image.
        normalize_gradients: Give each layer's gradient the L1 norm 1, at the layer,
            before its weights.
        activations: Those that the loss weights are meant for, see `vgg.calibrate`:
            `unit_mean`, `caffe` or `torchvision`.
        pooling: `max`, `average` or `l2`.
        pool_scale: Factor on every pooling's output.
        padding: Padding of the image, `zeros` or `replicate`.
        input_gain: Factor on the image before the network's own input map.
        palette: Colours of the content before anything else: its own, or mean and
            covariance of the style's, see `color.match_palette`.
        init: Start image: `content`, `noise` or `style` (noise of the style's colours).
        noise: Standard deviation of `noise`, in units of the image's range [0, 1].
        detail: Part of the content's detail, of what the scale before cannot show, that
            is added where the image is enlarged to the next scale.
        units: What the optimiser works on: the image in [0, 1] times this, by channel.
        optimizer: `adam`; `tf1_adam`, see `optimizers.tf1_adam`; or `lbfgs`.
        learning_rate: Adam's step in the units above; for L-BFGS the factor on the
            quasi-Newton step.
        beta1: Adam's decay of the mean gradient.
        beta2: Adam's decay of the mean squared gradient.
        epsilon: Adam's term in the denominator.
        history: Number of past steps that L-BFGS remembers.
        clip: Clip the image to [0, 1] after every step.
        ema_decay: Decay of the average over the iterates that is returned; 0 returns
            the last iterate.
        keep_best: Return the iterate that follows the lowest loss seen.
        first_steps: Steps at the coarsest scale.
        steps: Steps at every other scale.
        scales: Number of scales, at most.
        scale_factor: Size of a scale over that of the one before.
        min_size: Long edge of the coarsest scale, in pixels, at least.
        size: Edge of the result in pixels, where no size is asked for.
        size_edge: Which edge `size` means, `long` or `short`.
        enlarge: Which pictures are enlarged to reach their size: `none`, `content` or
            `both`, content and style.
        style_scale: Edge of the style over that of the content.
        squash_style: Resize the style to the content's exact shape.
        dtype: Type of the convolutions, `float32` or `bfloat16`.
        state_dtype: Type that Adam's first moment, the history of L-BFGS and the
            content's features are kept in, `float32` or `bfloat16`.
        state_memory: Where the image and the optimiser's state are kept: in that of
            the `device`, or of its `host`, which is often larger.
    """

    name: str
    summary: str
    content_layers: LayerWeights
    style_layers: LayerWeights
    style_loss: Literal["gram", "wasserstein2"]
    content_loss: Literal["mean", "half_sum", "correlation"] = "mean"
    gram_reduction: Literal["mean", "quarter_mean", "channels", "sums"] = "mean"
    tv_loss: Literal["nine_point", "squares"] = "nine_point"
    content_weight: float
    style_weight: float
    tv_weight: float = 0.0
    normalize_gradients: bool = False
    activations: Activations = "unit_mean"
    pooling: Pooling = "max"
    pool_scale: float = 1.0
    padding: Padding = "zeros"
    input_gain: float = 1.0
    palette: Literal["content", "style"] = "content"
    init: Literal["content", "noise", "style"] = "content"
    noise: float = 0.1
    detail: float = 0.0
    units: tuple[float, float, float] = (1.0, 1.0, 1.0)
    optimizer: Literal["adam", "tf1_adam", "lbfgs"] = "adam"
    learning_rate: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8
    history: int = 10
    clip: bool = True
    ema_decay: float = 0.0
    keep_best: bool = False
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
    dtype: Literal["float32", "bfloat16"] = "float32"
    state_dtype: Literal["float32", "bfloat16"] = "float32"
    state_memory: Literal["device", "host"] = "device"

    def __post_init__(self) -> None:
        """Refuse values that make no sense, saying which and why."""
        check_layers(tuple(layer for layer, _ in self.content_layers))
        check_layers(tuple(layer for layer, _ in self.style_layers))
        for field in dataclasses.fields(self):
            _check_value(field.name, field.type, getattr(self, field.name))
        for layer, weight in self.content_layers + self.style_layers:
            _check_value(f"the weight of {layer}", float, weight)
        for name in ("beta1", "beta2", "ema_decay"):
            if getattr(self, name) >= 1:
                raise ValueError(
                    f"expected {name} in [0, 1), got {getattr(self, name)}"
                )
        for name in ("learning_rate", "style_scale", "pool_scale", "input_gain"):
            if getattr(self, name) == 0:
                raise ValueError(f"expected {name} > 0, got 0")
        if self.scale_factor <= 1:
            raise ValueError(f"expected scale_factor > 1, got {self.scale_factor}")
        if len(self.units) != 3 or min(self.units) <= 0:
            raise ValueError(f"expected three units > 0, got {self.units}")
        if self.keep_best and self.ema_decay:
            raise ValueError(
                "expected keep_best or an ema_decay, got both; one picture is returned"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers that are measured, in order and once."""
        return tuple(
            sorted({name for name, _ in self.content_layers + self.style_layers})
        )

    @cached_property
    def program(self) -> "Recipe":
        """The part of the recipe that a batch has in common, the rest at defaults.

        Recipes of the same program share compiled code and the schedule of scales and
        steps: they differ only in numbers that steps get as arrays, and in what is
        settled before the first step.

        Example:
            >>> recipe = get_recipe("painterly")
            >>> recipe.replace(style_weight=2.0).program == recipe.program
            True
        """
        return dataclasses.replace(self, **ARRAYS, **SETTLED)

    @cached_property
    def sight(self) -> "Recipe":
        """The part of the recipe that decides how pictures are seen and measured."""
        return dataclasses.replace(self, **ARRAYS)

    def replace(self, **changes: Any) -> "Recipe":
        """Return a copy with some fields changed.

        Raises:
            ValueError: If a field is unknown, naming the nearest, a value is bad, or it
                would change nothing, such as `beta1` of a recipe that uses L-BFGS.

        Example:
            >>> get_recipe("painterly").replace(style_weight=2.0).style_weight
            2.0

            A step of Adam is a distance, one of L-BFGS a factor, so with another
            optimiser comes another learning rate, unless it is said:

            >>> get_recipe("painterly").replace(optimizer="adam").learning_rate
            0.02
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                nearest = get_close_matches(name, known, 1, 0.0)[0]
                raise ValueError(
                    f"expected a field of Recipe, got {name!r}; did you mean {nearest}?"
                )
        changed = dataclasses.replace(self, **_with_learning_rate(self, changes))
        for name in changes:
            if getattr(changed, name) != getattr(self, name):
                _check_used(changed, name)
        return changed

    def __str__(self) -> str:
        """Return the recipe as a table of its fields."""
        rows = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return "\n".join(f"{name:<20} {_readable(value)}" for name, value in rows)


ARRAYS = {
    "content_weight": 1.0,
    "style_weight": 1.0,
    "tv_weight": 1.0,
    "learning_rate": 1.0,
}
"""Fields that steps get as arrays, with what they are in `Recipe.program`."""


SETTLED = {
    "name": "",
    "summary": "",
    "palette": "content",
    "init": "content",
    "noise": 0.1,
    "detail": 0.0,
    "size": 512,
    "size_edge": "long",
    "enlarge": "none",
    "style_scale": 1.0,
    "squash_style": False,
    "state_memory": "device",
}
"""Fields that are settled before the first step, with what they are there."""


USED_WITH = {
    "beta1": ("optimizer", ("adam", "tf1_adam")),
    "beta2": ("optimizer", ("adam", "tf1_adam")),
    "epsilon": ("optimizer", ("adam", "tf1_adam")),
    "history": ("optimizer", ("lbfgs",)),
    "noise": ("init", ("noise",)),
    "gram_reduction": ("style_loss", ("gram",)),
    "style_scale": ("squash_style", (False,)),
}
"""Fields that mean something only beside certain values of another field."""


def _check_used(recipe: Recipe, name: str) -> None:
    other, values = USED_WITH.get(name, ("", ()))
    if other and getattr(recipe, other) not in values:
        raise ValueError(
            f"{name} changes nothing where {other} is {getattr(recipe, other)}; "
            f"set {other} to {' or '.join(map(str, values))} as well, or leave it out"
        )


def _check_value(name: str, kind: Any, value: Any) -> None:
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise ValueError(
            f"expected {name} {' or '.join(get_args(kind))}, got {value!r}"
        )
    if kind is float and not (_is_number(value) and value >= 0):
        raise ValueError(f"expected {name} to be a finite number ≥ 0, got {value!r}")
    if kind is int and (type(value) is not int or value < 1):
        raise ValueError(f"expected {name} to be a whole number ≥ 1, got {value!r}")
    if kind is bool and type(value) is not bool:
        raise ValueError(f"expected {name} to be True or False, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < float("inf")


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
    rate = 1.0 if optimizer == "lbfgs" else 0.02 * recipe.units[0]
    return {"learning_rate": rate} | changes
