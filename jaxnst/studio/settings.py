"""What is chosen on the page, checked, and the arguments that paint it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from jaxnst.foreign import Reader, flag, many, number, one_of, shown, whole, wrong
from jaxnst.messages import nearest
from jaxnst.paths import as_argument, quoted
from jaxnst.recipes import FIELDS, RECIPES, Recipe
from jaxnst.recipes.texts import parse_assignment

QUALITIES = ("draft", "normal", "best")
"""Names of `--quality`."""

COLORS = get_args(FIELDS["colors"])
"""Whose colours a result may have, in addition to those of a picture."""

MOST_STYLES, MOST_REGIONS, MOST_SET = 8, 8, 16
"""Most paintings, regions and further settings of a picture."""

LIMITS = {"size": (16, 20_000), "preview_size": (32, 512), "seed": (0, 2**32 - 1)}
"""Least and largest whole numbers; what fits into memory is checked by the command."""

CONTROL_LIMITS = {"content_weight": (0.0, 1e6), "style_scale": (0.05, 20.0)}
"""Least and largest numbers of the sliders, which variations keep to as well."""

ID = re.compile(r"[\w.-]{1,120}")
"""What the names of pictures look like; only pictures that are known have one."""

ASSIGNMENT = re.compile(r"\S{1,240}")
"""A further setting, FIELD=VALUE, which `recipe_of` reads."""

CONTROLS = ("content_weight", "style_scale")
"""Fields of a recipe with a slider on the page."""

CONTENT_STEPS, STROKE_STEPS = (1 / 3, 1.0, 3.0), (0.6, 1.0, 1.5)
"""Factors on the content weight and on the size of strokes that a preview shows."""


class Region(NamedTuple):
    """A part of the photograph with styles of its own; pictures by their names."""

    mask: str
    styles: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is chosen on the page; pictures by their names.

    Attributes:
        content: The photograph.
        styles: Paintings; at least one, unless a region has some.
        blend: A weight for each painting. Default: equal weights.
        size: Long edge of the result, in pixels. Default: by the rule of the recipe.
        content_weight: How much the photograph holds. Default: the recipe's.
        style_scale: Size of the strokes. Default: the recipe's.
        colors: One of `COLORS`, or a picture whose colours are wanted.
        hold: Where the photograph holds; white fully, black not at all.
        set: Further fields of the recipe, FIELD=VALUE.
        preview_size: Long edge of the variations to choose from, in pixels.
    """

    content: str
    styles: tuple[str, ...] = ()
    blend: tuple[float, ...] | None = None
    size: int | None = None
    quality: str = "normal"
    recipe: str = "painterly"
    content_weight: float | None = None
    style_scale: float | None = None
    colors: str = "style"
    rotate_styles: bool = False
    regions: tuple[Region, ...] = ()
    keep_rest: bool = False
    hold: str | None = None
    seed: int = 0
    bits: Literal[8, 16] = 8
    set: tuple[str, ...] = ()
    preview_size: int = 128

    @property
    def pictures(self) -> list[str]:
        """Names of all pictures, each once."""
        own = [
            name for region in self.regions for name in (region.mask, *region.styles)
        ]
        palette = () if self.colors in COLORS else (self.colors,)
        held = () if self.hold is None else (self.hold,)
        return list(dict.fromkeys([self.content, *self.styles, *own, *held, *palette]))

    def as_json(self) -> dict[str, Any]:
        """The same as JSON that `read_settings` reads."""
        return asdict(self) | {"regions": [x._asdict() for x in self.regions]}


def read_settings(data: Any) -> Settings:
    """Settings from JSON that anybody may have sent.

    Raises:
        ValueError: In one line, if anything is not as it should be.

    Example:
        >>> read_settings({"content": "a.jpg", "styles": ["b.jpg"], "size": 256}).size
        256
    """
    given = _given(data)
    if "content" not in given:
        raise ValueError("expected a photograph, got none; choose one")
    values = {name: READERS[name](name, x) for name, x in given.items()}
    recipe_of(values)
    found = Settings(**values)
    if not found.styles and not found.regions:
        raise ValueError("expected a painting, got none; choose at least one")
    if found.blend is not None:
        if len(found.blend) != len(found.styles):
            raise ValueError(
                f"expected a weight for each of {len(found.styles)} paintings, got "
                f"{len(found.blend)}"
            )
        if not any(found.blend):
            raise ValueError("expected a painting with some weight, got all at 0")
    if found.keep_rest and (found.styles or not found.regions):
        raise ValueError("expected to keep what regions leave, or paintings for it")
    return found


def wrong_settings(data: Any) -> dict[str, str]:
    """What is wrong with settings that need not be complete yet: a line for each.

    Example:
        >>> wrong_settings({"size": 10})
        {'size': 'expected a whole number from 16 to 20000 for size, got 10'}
    """
    values, wrong = {}, {}
    for name, value in _given(data).items():
        try:
            values[name] = READERS[name](name, value)
        except ValueError as error:
            wrong[name] = str(error)
    try:
        recipe_of(values)
    except ValueError as error:
        wrong.setdefault("set", str(error))
    return wrong


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """The recipe that settings ask for, by the steps of the quality `normal`.

    The size of strokes is left out where the recipe gives them none of their own.

    Raises:
        ValueError: If a field or its value cannot be, as the command would say it.

    Example:
        >>> recipe = recipe_of({"recipe": "delicate", "set": ("style_weight=2",)})
        >>> recipe.weights.style_weight
        2.0
    """
    further = dict(map(parse_assignment, values.get("set", ())))
    recipe = RECIPES[values.get("recipe", "painterly")].replace(**further)
    given = [name for name in CONTROLS if values.get(name) is not None]
    chosen = {name: values[name] for name in given if recipe.uses(name)}
    chosen |= {"rotate_styles": True} if values.get("rotate_styles") else {}
    if (colors := values.get("colors", "style")) != "style":
        chosen["colors"] = colors if colors in COLORS else "content"
    if twice := chosen.keys() & further:
        raise ValueError(
            f"expected {min(twice)} once, got it here and by a control; remove one"
        )
    return recipe.replace(**chosen)


def _given(data: Any) -> dict[str, Any]:
    """What is set of settings that anybody may have sent; all names are known."""
    if not isinstance(data, dict):
        raise ValueError(f"expected settings as an object, got {shown(data)}")
    known = [field.name for field in fields(Settings)]
    for name in data:
        if name not in known:
            close = nearest(str(name), known)
            raise ValueError(f"expected a setting such as {close}, got {shown(name)}")
    return {name: value for name, value in data.items() if value is not None}


def stylize_arguments(
    settings: Settings, paths: Mapping[str, Path], out: Path, weights: str
) -> list[str]:
    """Arguments of the `jaxnst` command that paint it; `paths` has every picture.

    Example:
        >>> paths = {"a": Path("a.jpg"), "b": Path("b.jpg")}
        >>> settings = Settings(content="a", styles=("b",), size=256)
        >>> stylize_arguments(settings, paths, Path("out.png"), "auto")
        ['stylize', 'a.jpg', 'b.jpg', '-o', 'out.png', '--size', '256']
    """
    found = ["stylize", as_argument(paths[settings.content])]
    found += [as_argument(paths[name]) for name in settings.styles]
    found += ["-o", as_argument(out)]
    if settings.size is not None:
        found += ["--size", str(settings.size)]
    found += [] if settings.quality == "normal" else ["--quality", settings.quality]
    if settings.blend is not None and len(settings.styles) > 1:
        found += [f"--blend={','.join(f'{x:g}' for x in settings.blend)}"]
    if settings.content_weight is not None:
        found += ["--content-weight", f"{settings.content_weight:g}"]
    strokes = recipe_of(vars(settings)).uses("style_scale")
    if strokes and settings.style_scale is not None:
        found += ["--style-scale", f"{settings.style_scale:g}"]
    found += [] if settings.bits == 8 else ["--bits", str(settings.bits)]
    return found + _shared_arguments(settings, paths, weights)


def grid_arguments(
    settings: Settings, paths: Mapping[str, Path], folder: Path, weights: str
) -> list[str]:
    """Arguments of the `jaxnst` command that paint variations to choose from.

    Rows are content weights and columns sizes of strokes, if these have an effect, see
    `variations`.
    """
    found = ["grid", "--content", as_argument(paths[settings.content])]
    if settings.styles:
        found += ["--style", *(as_argument(paths[name]) for name in settings.styles)]
    found += ["-o", as_argument(folder), "--size", str(settings.preview_size)]
    found += ["--quality", "draft"]
    contents, strokes = variations(settings)
    for name, values in (("content_weight", contents), ("style_scale", strokes)):
        if values:
            found += ["--vary", f"{name}={','.join(f'{x:g}' for x in values)}"]
    if len(settings.styles) > 1:
        blend = settings.blend or (1.0,) * len(settings.styles)
        found += ["--vary", f"blend={','.join(f'{x:g}' for x in blend)}"]
    return found + _shared_arguments(settings, paths, weights)


def variations(settings: Settings) -> tuple[list[float], list[float]]:
    """Content weights and sizes of strokes of a preview, around what is chosen.

    There are no sizes where the recipe gives strokes no size of their own.

    Example:
        >>> chosen = Settings(content="a", styles=("b",), recipe="gatys2016")
        >>> variations(chosen)[1]
        []
    """
    recipe = recipe_of(vars(settings))
    usual = RECIPES[settings.recipe].weights
    weight = recipe.weights.content_weight or usual.content_weight

    def around(name: str, value: float, factors: Sequence[float]) -> list[float]:
        low, high = CONTROL_LIMITS[name]
        values = (min(max(value * factor, low), high) for factor in factors)
        return list(dict.fromkeys(float(f"{x:.2g}") for x in values))

    strokes = STROKE_STEPS if recipe.uses("style_scale") else ()
    return (
        around("content_weight", weight, CONTENT_STEPS),
        around("style_scale", recipe.sizes.style_scale, strokes),
    )


def _shared_arguments(
    settings: Settings, paths: Mapping[str, Path], weights: str
) -> list[str]:
    found = []
    if settings.recipe != "painterly":
        found += ["--recipe", settings.recipe]
    if settings.colors != "style":
        palette = settings.colors not in COLORS
        whose = as_argument(paths[settings.colors]) if palette else settings.colors
        found += ["--colors", whose]
    for region in settings.regions:
        styles = ",".join(quoted(paths[name]) for name in region.styles)
        found += ["--region", f"{quoted(paths[region.mask])}={styles}"]
    if settings.hold is not None:
        found += ["--content-mask", as_argument(paths[settings.hold])]
    found += ["--keep-rest"] * settings.keep_rest
    found += ["--rotate-styles"] * settings.rotate_styles
    found += [] if settings.seed == 0 else ["--seed", str(settings.seed)]
    for assignment in settings.set:
        found += ["--set", assignment]
    return found + ([] if weights == "auto" else ["--weights", weights])


def _text(pattern: re.Pattern[str], wanted: str) -> Reader:
    def read(name: str, value: Any) -> str:
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        raise wrong(name, wanted, value)

    return read


_picture = _text(ID, "a picture")


def _region(name: str, value: Any) -> Region:
    if isinstance(value, dict) and value.keys() == {"mask", "styles"}:
        styles = many(_picture, MOST_STYLES)(name, value["styles"])
        if styles:
            return Region(_picture(name, value["mask"]), styles)
    raise wrong(name, "a mask and its paintings", value)


READERS = {
    "content": _picture,
    "styles": many(_picture, MOST_STYLES),
    "blend": many(number(0.0, 1e6), MOST_STYLES),
    "size": whole(*LIMITS["size"]),
    "quality": one_of(QUALITIES),
    "recipe": one_of(tuple(RECIPES)),
    "content_weight": number(*CONTROL_LIMITS["content_weight"]),
    "style_scale": number(*CONTROL_LIMITS["style_scale"]),
    "colors": _picture,
    "rotate_styles": flag,
    "regions": many(_region, MOST_REGIONS),
    "keep_rest": flag,
    "hold": _picture,
    "seed": whole(*LIMITS["seed"]),
    "bits": one_of((8, 16)),
    "set": many(_text(ASSIGNMENT, "FIELD=VALUE"), MOST_SET),
    "preview_size": whole(*LIMITS["preview_size"]),
}
"""What reads each setting: a function of its name and of what was sent."""
