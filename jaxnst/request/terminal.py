"""The command that asks for a painting, as it is typed into a terminal."""

from collections.abc import Callable
from pathlib import Path

from jaxnst.paths import as_argument, quoted
from jaxnst.recipes import Recipe, get_recipe
from jaxnst.recipes.texts import FIELDS, as_text
from jaxnst.request.defaults import QUALITY, with_steps
from jaxnst.request.painting import Painting

FLAGS = {
    "content_weight": "--content-weight",
    "style_scale": "--style-scale",
    "colors": "--colors",
    "init": "--init",
    "dtype": "--precision",
}
"""Fields of a recipe that are changed by a flag; all others by `--set`."""


def as_command(
    painting: Painting,
    out: Path,
    named: Callable[[str], Recipe] = get_recipe,
) -> list[str]:
    """The arguments of `jaxnst` that ask for a painting.

    Args:
        painting: What is asked for.
        out: Path of the result.
        named: Gives the recipe of a name, as the command begins with it.

    Returns:
        The arguments.

    Example:
        >>> from jaxnst.request.painting import StyleFile
        >>> painting = Painting(
        ...     content=Path("a.jpg"), styles=(StyleFile(path=Path("b.jpg")),),
        ...     recipe=get_recipe("kaggle"), size=256,
        ... )
        >>> " ".join(as_command(painting, Path("c.png")))
        'stylize a.jpg b.jpg -o c.png --size 256 --recipe kaggle'
    """
    pictures = [painting.content, *(style.path for style in painting.styles)]
    found = ["stylize", *map(as_argument, pictures), "-o", as_argument(out)]
    if painting.size is not None:
        found += ["--size", str(painting.size)]
    if painting.recipe.name != "painterly":
        found += ["--recipe", painting.recipe.name]
    found += _recipe_flags(painting, named(painting.recipe.name))
    if painting.seed:
        found += ["--seed", str(painting.seed)]
    if painting.network != painting.recipe.network:
        found += ["--weights", painting.network]
    if painting.blend is not None:
        found += [f"--blend={as_text(painting.blend)}"]
    if painting.start is not None:
        found += ["--init", as_argument(painting.start)]
    return found + _mask_flags(painting)


def _recipe_flags(painting: Painting, named: Recipe) -> list[str]:
    """Flags that turn the named recipe into that of a painting."""
    wanted, values, flags = painting.recipe, painting.recipe.values(), []
    for quality, factor in QUALITY.items():
        if wanted.replace(**_steps(with_steps(named, factor))) == wanted:
            flags += [] if quality == "normal" else ["--quality", quality]
            named = with_steps(named, factor)
            break
    usual = named.values()
    if painting.palette is not None:  # which says whose colours, too
        usual["colors"] = values["colors"]
    # Another optimiser would bring another learning rate.
    told = {"learning_rate"} if values["optimizer"] != usual["optimizer"] else set()
    for name in FIELDS:
        if values[name] == usual[name] and name not in told:
            continue
        if name == "rotate_styles" and values[name]:
            flags += ["--rotate-styles"]
        elif name in FLAGS:
            flags += [FLAGS[name], as_text(values[name])]
        else:
            flags += ["--set", f"{name}={as_text(values[name])}"]
    return flags


def _steps(recipe: Recipe) -> dict[str, int]:
    values = recipe.values()
    return {name: values[name] for name in ("first_steps", "steps")}


def _mask_flags(painting: Painting) -> list[str]:
    flags = []
    for region in painting.regions:
        styles = ",".join(quoted(style.path) for style in region.styles)
        flags += ["--region", f"{quoted(region.mask)}={styles}"]
    for style in dict.fromkeys(painting.all_styles):
        if style.mask is not None:
            flags += ["--style-mask", f"{quoted(style.mask)}={quoted(style.path)}"]
        if style.stroke_scale != 1:
            flags += [
                "--style-scale",
                f"{as_argument(style.path)}={as_text(style.stroke_scale)}",
            ]
    if painting.labels:
        flags += ["--labels", *map(as_argument, painting.labels)]
    if painting.content_mask is not None:
        flags += ["--content-mask", as_argument(painting.content_mask)]
    if painting.palette is not None:
        flags += ["--colors", as_argument(painting.palette)]
    if painting.faces == () and painting.recipe.look.repaint:
        flags += ["--no-faces"]
    return flags + ["--keep-rest"] * painting.keep_rest
