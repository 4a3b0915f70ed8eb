"""The command that asks for a painting, as it is typed into a terminal."""

import re
from collections.abc import Callable
from pathlib import Path

from jaxnst.recipes import Recipe, get_recipe
from jaxnst.recipes.texts import FIELDS, as_text
from jaxnst.request.defaults import QUALITY, with_steps
from jaxnst.request.painting import Painting

FIELD_FLAGS = {
    "content_weight": (
        "weight of the content; with painterly, 0.05 keeps a hint of the photograph, "
        "5 nearly all of it"
    ),
    "style_weight": "weight of the style; a larger one keeps less of the photograph",
    "tv_weight": "weight of the total variation; a larger one is smoother",
    "optimizer": "optimiser of the picture",
    "learning_rate": "step size of the optimiser",
    "pooling": "pooling between the blocks of the network",
    "dtype": "type of the convolutions (default: float32 on a CPU, else bfloat16)",
    "rotate_styles": "also measure the styles turned by 90, 180 and 270 degrees",
}
"""Help of each flag that takes the same values as `--set`, by its field of the recipe;
`--style-scale`, `--colors` and `--init` take more values."""

FLAG_ONLY = ("init", "dtype", "rotate_styles")
"""Fields of the recipe that only a flag changes; `--set` changes all others."""

FLAG_NAMES = {"dtype": "--precision"}
"""Flags whose names differ from their fields of the recipe."""

PART = r'(?:"(?:[^"]|"")+"|[^",=]+)'
"""Regular expression of a path in a flag: in quotes, or without quotes, `,` and `=`."""


def flag_of(field: str) -> str:
    """The flag of a field of the recipe."""
    return FLAG_NAMES.get(field, "--" + field.replace("_", "-"))


def as_command(
    painting: Painting, out: Path, named: Callable[[str], Recipe] = get_recipe
) -> list[str]:
    """The arguments of `jaxnst` that paint a painting into a file.

    `named` returns the recipe of a name before flags change it.

    Example:
        >>> from jaxnst.request.painting import StyleFile
        >>> painting = Painting(
        ...     content=Path("a.jpg"), styles=(StyleFile(path=Path("b.jpg")),),
        ...     recipe=get_recipe("kaggle"), size=256,
        ... )
        >>> " ".join(as_command(painting, Path("c.png")))
        'stylize a.jpg b.jpg -o c.png --size 256 --recipe kaggle'
    """
    recipe, styles = painting.recipe, [style.path for style in painting.styles]
    argument = lambda path: path and as_argument(path)
    once = {
        "-o": as_argument(out),
        "--size": painting.size,
        "--recipe": None if recipe.name == "painterly" else recipe.name,
        "--seed": painting.seed or None,
        "--weights": painting.network if painting.network != recipe.network else None,
        "--init": argument(painting.start),
        "--content-mask": argument(painting.content_mask),
        "--colors": argument(painting.palette),
    }
    found = ["stylize", *map(as_argument, (painting.content, *styles))]
    for flag, value in once.items():
        found += [] if value is None else [flag, str(value)]
    found += _recipe_flags(painting, named(recipe.name))
    if painting.blend is not None:
        found += [f"--blend={as_text(painting.blend)}"]
    return found + _mask_flags(painting)


def _recipe_flags(painting: Painting, named: Recipe) -> list[str]:
    """Flags that turn the named recipe into that of a painting."""
    wanted, values, flags = painting.recipe, painting.recipe.values(), []
    usual = named.values()
    for quality, factor in QUALITY.items():
        plan = with_steps(named, factor).values()
        steps = {name: plan[name] for name in ("first_steps", "steps")}
        if wanted.replace(**steps) == wanted:
            flags += [] if quality == "normal" else ["--quality", quality]
            usual |= steps
            break
    if painting.palette is not None:  # then `--colors` names the palette
        usual["colors"] = values["colors"]
    # Another optimiser would change the default learning rate.
    told = {"learning_rate"} if values["optimizer"] != usual["optimizer"] else set()
    for name in FIELDS:
        if values[name] == usual[name] and name not in told:
            continue
        if name in FIELD_FLAGS and values[name] is True:
            flags += [flag_of(name)]
        elif name in (*FIELD_FLAGS, "style_scale", "colors", "init"):
            flags += [flag_of(name), as_text(values[name])]
        else:
            flags += ["--set", f"{name}={as_text(values[name])}"]
    return flags


def _mask_flags(painting: Painting) -> list[str]:
    flags = []
    for region in painting.regions:
        styles = ",".join(quoted(style.path) for style in region.styles)
        flags += ["--region", f"{quoted(region.mask)}={styles}"]
    for style in dict.fromkeys(painting.all_styles):
        if style.mask is not None:
            flags += ["--style-mask", f"{quoted(style.mask)}={quoted(style.path)}"]
        if style.stroke_scale != 1:
            scale = f"{as_argument(style.path)}={as_text(style.stroke_scale)}"
            flags += ["--style-scale", scale]
    if painting.labels:
        flags += ["--labels", *map(as_argument, painting.labels)]
    if painting.faces == () and painting.recipe.look.repaint:
        flags += ["--no-faces"]
    return flags + ["--keep-rest"] * painting.keep_rest


def quoted(path: Path) -> str:
    """A path as a part of a flag, in quotes if it contains `=` or commas.

    Example:
        >>> quoted(Path("a.jpg")), quoted(Path("a,b.jpg")), quoted(Path('a".jpg'))
        ('a.jpg', '"a,b.jpg"', '"a"".jpg"')
    """
    text = str(path)
    plain = re.fullmatch(PART, text) and not text.startswith(('"', "-"))
    return text if plain else '"' + text.replace('"', '""') + '"'


def as_argument(path: Path) -> str:
    """A path as an argument that is not taken for a flag.

    Example:
        >>> as_argument(Path("-a.jpg"))
        './-a.jpg'
    """
    text = str(path)
    return f"./{text}" if text.startswith("-") else text
