"""The paintings of a grid: one for each combination of pictures and settings."""

import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxnst.disk import LONGEST_NAME
from jaxnst.painting.lanes import Lane, apply_setting, combine
from jaxnst.painting.plan import plan_run
from jaxnst.pictures.files import has_alpha, image_shape
from jaxnst.recipes.texts import as_text
from jaxnst.request.painting import Painting, StyleFile


class Item(NamedTuple):
    """A picture of a grid; `setting` names the varied values, or is empty."""

    painting: Painting
    setting: str
    out: Path


def expand(
    base: Painting,
    contents: Sequence[Path],
    vary: Mapping[str, Sequence[Any]],
    out: Path,
) -> list[Item]:
    """All pictures of a grid: contents outermost, then styles, then settings.

    Args:
        base: Painting with all styles, and with the values that do not vary.
        contents: The contents.
        vary: Values to try, by name: a field of the recipe, `recipe`, `seed`, `blend`
            (of all styles together), or `region` (styles of the one region).
        out: Folder of the results, which all get different names.
    """
    settings = combine(vary, ["region"])
    columns = [(style,) for style in base.styles] or [()]
    if "blend" in vary:
        columns = [base.styles]
    names = _names(contents) | _names([style.path for style in base.styles])
    found: dict[str, Item] = {}
    for content, styles, setting in itertools.product(contents, columns, settings):
        own = replace(base, content=content, styles=styles)
        painting, words = _apply(own, setting), _words(setting)
        parts = [*(names[x] for x in (content, *(y.path for y in styles))), words]
        name = "__".join(filter(None, parts)).replace(":", "-").replace("/", "-")
        if len(os.fsencode(name)) + 4 > LONGEST_NAME:
            raise ValueError(f"the name {name} is too long; rename its pictures")
        item = Item(painting, words, out / f"{name}.png")
        if found.setdefault(name.casefold(), item) is not item:
            raise ValueError(f"two results have the name {name}; rename a picture")
    return list(found.values())


def _apply(painting: Painting, setting: Mapping[str, Any]) -> Painting:
    rest = {name: x for name, x in setting.items() if name != "region"}
    recipe = apply_setting(painting.recipe, rest, len(painting.styles))
    changes: dict[str, Any] = {"seed": setting.get("seed", painting.seed)}
    if "blend" in setting:
        pairs = zip(painting.styles, setting["blend"], strict=True)
        changes["styles"] = tuple(replace(style, weight=x) for style, x in pairs)
    if "region" in setting:
        if len(painting.regions) != 1:
            raise ValueError(
                "--vary region=… needs exactly one --region; add --region MASK=STYLE"
            )
        style = StyleFile(path=setting["region"])
        changes["regions"] = (replace(painting.regions[0], styles=(style,)),)
    return replace(painting, recipe=recipe, **changes)


def _words(setting: Mapping[str, Any]) -> str:
    """A setting in a few words, such as `style_weight=100,seed=2`."""
    special = {"recipe": lambda recipe: recipe.name, "region": lambda path: path.stem}
    texts = (f"{x}={special.get(x, as_text)(value)}" for x, value in setting.items())
    return ",".join(texts)


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Names without suffix, but with it if two pictures would have the same name."""
    count = Counter(path.stem.casefold() for path in paths)
    twice = lambda path: count[path.stem.casefold()] > 1
    return {x: x.name.replace(".", "-") if twice(x) else x.stem for x in paths}


def lanes_of(paintings: Sequence[Painting]) -> list[Lane]:
    """A lane for each painting, with the paths of its pictures; see `painting.grid`.

    Example:
        >>> from jaxnst import get_recipe
        >>> from jaxnst.pictures.samples import sample_path
        >>> style = StyleFile(path=sample_path("swirls"))
        >>> one = Painting(
        ...     content=sample_path("harbour"), styles=(style,), size=64,
        ...     recipe=get_recipe("painterly"),
        ... )
        >>> [lane.shape for lane in lanes_of([one, one])]
        [(48, 64), (48, 64)]
    """
    native, alpha = cache(image_shape), cache(has_alpha)

    def lane(painting: Painting) -> Lane:
        content, parts = painting.content, None
        shape = painting.shape(native(content))
        if painting.masked or alpha(content):
            masks = painting.regions, painting.keep_rest, painting.content_mask
            parts = content, *masks, painting.palette, painting.faces
        return Lane(
            content=content,
            styles=tuple(replace(style, weight=1.0) for style in painting.styles),
            setting={},
            shape=shape,
            recipe=painting.recipe,
            key=jax.random.key(painting.seed),
            blend=painting.blend,
            stages=plan_run(shape, painting.recipe),
            parts=parts,
        )

    return list(map(lane, paintings))
