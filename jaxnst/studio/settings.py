"""The settings that are chosen on the page, their checks, and their painting."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from jaxnst.foreign import convert, shown
from jaxnst.messages import nearest
from jaxnst.recipes import FIELDS, Recipe, get_recipe
from jaxnst.recipes.texts import parse_assignment
from jaxnst.request.defaults import QUALITY, with_steps

COLORS = get_args(FIELDS["colors"])
"""Values of `colors`, in addition to the name of a picture."""

MOST_STYLES, MOST_REGIONS = 8, 8
"""Most paintings and most regions of a result."""

LIMITS = {"size": (16, 20_000), "preview_size": (32, 512), "seed": (0, 2**32 - 1)}
"""Smallest and largest whole numbers; the command checks whether memory suffices."""

SLIDERS = {
    "content_weight": ((0.0, 1e6), (1 / 3, 1.0, 3.0)),
    "style_scale": ((0.05, 20.0), (0.6, 1.0, 1.5)),
}
"""Fields of the recipe with sliders: their limits, and the factors of a preview."""

Id = Annotated[str, Meta(pattern=r"^[\w.-]{1,120}$")]
"""The id of a picture, see `pictures.Picture`."""

Assignment = Annotated[str, Meta(pattern=r"^\S{1,240}$")]
"""A further setting, FIELD=VALUE, which `changes` reads."""

Weight = Annotated[float, Meta(ge=0, le=1e6)]


@dataclass(frozen=True)
class Region:
    """A part of the photograph with its own styles; pictures are given by id."""

    mask: Id
    styles: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MOST_STYLES)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that are chosen on the page; pictures are given by id.

    Attributes:
        content: The photograph.
        styles: Paintings; at least one, unless a region has some.
        blend: A weight for each painting. Default: equal weights.
        size: Long edge of the result, in pixels. Default: by the rule of the recipe.
        content_weight: Weight of the photograph. Default: the recipe's.
        style_scale: Size of the strokes. Default: the recipe's.
        colors: One of `COLORS`, or a picture that gives the colours.
        content_mask: Mask, white where the photograph is preserved more strongly.
        set: Further fields of the recipe, FIELD=VALUE.
        preview_size: Long edge of the variations to choose from, in pixels.
    """

    content: Id
    styles: Annotated[tuple[Id, ...], Meta(max_length=MOST_STYLES)] = ()
    blend: tuple[Weight, ...] | None = None
    size: int | None = None
    quality: Literal["draft", "normal", "best"] = "normal"
    recipe: str = "painterly"
    content_weight: float | None = None
    style_scale: float | None = None
    colors: Id = "style"
    regions: Annotated[tuple[Region, ...], Meta(max_length=MOST_REGIONS)] = ()
    keep_rest: bool = False
    content_mask: Id | None = None
    seed: int = 0
    bits: Literal[8, 16] = 8
    set: Annotated[tuple[Assignment, ...], Meta(max_length=16)] = ()
    preview_size: int = 128

    def as_json(self) -> dict[str, Any]:
        """The same as JSON that `read_settings` reads."""
        return msgspec.to_builtins(self)

    def renamed(self, name: Callable[[str], str]) -> "Settings":
        """A copy in which the function `name` replaces the id of each picture."""
        regions = (Region(name(x.mask), (*map(name, x.styles),)) for x in self.regions)
        return dataclasses.replace(
            self,
            content=name(self.content),
            styles=tuple(map(name, self.styles)),
            regions=tuple(regions),
            content_mask=self.content_mask and name(self.content_mask),
            colors=self.colors if self.colors in COLORS else name(self.colors),
        )


KINDS = get_type_hints(Settings, include_extras=True)


def read_settings(data: Any) -> Settings:
    """Settings from JSON that anybody may have sent.

    Raises:
        ValueError: If anything is invalid; the message is one line.

    Example:
        >>> read_settings({"content": "a.jpg", "styles": ["b.jpg"], "size": 256}).size
        256
    """
    values, wrong, _ = check_settings(data)
    if wrong:
        raise ValueError(next(iter(wrong.values())))
    if "content" not in values:
        raise ValueError("no photograph is chosen; choose one")
    found = Settings(**values)
    if not found.styles and not found.regions:
        raise ValueError("no painting is chosen; choose at least one")
    if found.blend is not None:
        if len(found.blend) != len(found.styles):
            raise ValueError(
                f"expected a weight for each of {len(found.styles)} paintings, got "
                f"{len(found.blend)}"
            )
        if not any(found.blend):
            raise ValueError("all paintings have the weight 0; give one some weight")
    if found.keep_rest and (found.styles or not found.regions):
        raise ValueError("keep_rest needs regions and no styles; change one of them")
    return found


def check_settings(data: Any) -> tuple[dict[str, Any], dict[str, str], Recipe]:
    """Read settings from JSON that need not be complete yet.

    Returns:
        The valid values by name, a message about each invalid value by name, and the
        recipe, with the changes of the settings if these are valid.

    Example:
        >>> check_settings({"size": 10, "seed": 3})[:2]
        ({'seed': 3}, {'size': 'expected size from 16 to 20000, got 10'})
    """
    if not isinstance(data, dict):
        raise ValueError(f"expected settings as an object, got {shown(data)}")
    values, wrong = {}, {}
    limits = LIMITS | {name: limit for name, (limit, _) in SLIDERS.items()}
    for name, value in data.items():
        if name not in KINDS:
            close = nearest(str(name), KINDS)
            raise ValueError(
                f"there is no setting {shown(name)}; did you mean {close}?"
            )
        if value is not None:
            low, high = limits.get(name, (-math.inf, math.inf))
            try:
                if type(value) in (int, float) and not low <= value <= high:
                    raise ValueError(
                        f"expected {name} from {low} to {high}, got {shown(value)}"
                    )
                values[name] = convert(value, KINDS[name], name)
            except ValueError as error:
                wrong[name] = str(error)
    recipe = get_recipe(values.get("recipe", "painterly"))
    try:
        recipe = recipe.replace(**changes(values))
    except ValueError as error:
        wrong.setdefault("set", str(error))
    return values, wrong, recipe


def changes(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the recipe that settings change, other than by `quality`.

    A slider is left out if it has no effect in the recipe.

    Raises:
        ValueError: If a field or its value is invalid; the message is the command's.

    Example:
        >>> changes({"recipe": "delicate", "set": ("style_weight=2",)})
        {'style_weight': 2.0}
    """
    further = dict(map(parse_assignment, values.get("set", ())))
    recipe = get_recipe(values.get("recipe", "painterly")).replace(**further)
    given = [name for name in SLIDERS if values.get(name) is not None]
    chosen = {name: values[name] for name in given if recipe.uses(name)}
    if (colors := values.get("colors", "style")) != "style":
        chosen["colors"] = colors if colors in COLORS else "content"
    if twice := chosen.keys() & further:
        raise ValueError(f"{min(twice)} is set here and by a control; remove one")
    return further | chosen


def painting_of(
    settings: Settings, sources: Path, weights: str | None
) -> dict[str, Any]:
    """The painting that settings ask for, as JSON, see `request.manifest`.

    Its recipe has only the chosen fields; the process that paints adds the defaults of
    its machine.

    Args:
        settings: What is chosen.
        sources: Folder of the pictures.
        weights: Name or path of the network's weights; None for the recipe's.

    Returns:
        The JSON.
    """
    path = lambda name: name and str(sources / name)
    style = lambda name, weight=1.0: {"path": path(name), "weight": weight}
    blend = settings.blend or (1.0,) * len(settings.styles)
    factor = QUALITY[settings.quality]
    plan = with_steps(get_recipe(settings.recipe), factor).schedule
    steps = {"first_steps": plan.first_steps, "steps": plan.steps}
    return {
        "content": path(settings.content),
        "styles": list(map(style, settings.styles, blend)),
        "regions": [
            {"mask": path(region.mask), "styles": list(map(style, region.styles))}
            for region in settings.regions
        ],
        "keep_rest": settings.keep_rest,
        "content_mask": path(settings.content_mask),
        "palette": None if settings.colors in COLORS else path(settings.colors),
        "recipe": {"name": settings.recipe} | steps | changes(vars(settings)),
        "size": settings.size,
        "seed": settings.seed,
        "weights": weights,
    }


def variations(settings: Settings) -> list[dict[str, float]]:
    """Values of the sliders in a preview: all combinations around the chosen values.

    A field that has no effect in the recipe stays as it is.

    Example:
        >>> chosen = Settings(content="a", styles=("b",), recipe="gatys2016")
        >>> [list(x) for x in variations(chosen)]
        [['content_weight'], ['content_weight'], ['content_weight']]
    """
    named = get_recipe(settings.recipe)
    recipe = named.replace(**changes(vars(settings)))
    chosen, usual, values = recipe.values(), named.values(), {}
    for name, ((low, high), factors) in SLIDERS.items():
        if recipe.uses(name):
            middle = chosen[name] or usual[name]
            around = (min(max(middle * factor, low), high) for factor in factors)
            values[name] = dict.fromkeys(float(f"{x:.2g}") for x in around)
    combined = itertools.product(*values.values())
    return [dict(zip(values, cell, strict=True)) for cell in combined]
