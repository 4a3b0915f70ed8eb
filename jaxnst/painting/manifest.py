"""Manifests, as they are read: anybody may have written or changed one.

A manifest is the JSON beside a picture, or in it, from which it can be painted again.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from jaxnst.foreign import (
    Reader,
    each_value,
    flag,
    many,
    maybe,
    number,
    parse_json,
    read_fields,
    read_json,
    row,
    shallow,
    text,
    whole,
    wrong,
)
from jaxnst.recipes import FIELDS as RECIPE_FIELDS
from jaxnst.recipes import LayerWeights, Recipe

_pair = row(text, text)
_size = whole(1, 10**7)

MASKS: dict[str, Reader] = {
    "regions": many(row(text, many(text))),
    "keep_rest": flag,
    "style_masks": many(_pair),
    "style_scales": many(row(text, number(0.0))),
    "labels": many(text),
    "hold": maybe(text),
    "palette": maybe(text),
}
"""What reads each part of `masks`."""


def _recipe(name: str, value: Any) -> dict[str, Any]:
    """The values of a recipe by name; `recipe_of` reads those of this version."""
    read_fields(name, value, {"name": text})
    return each_value(shallow(2))(name, value)


FIELDS: dict[str, Reader] = {
    "content": text,
    "styles": many(text),
    "pictures_sha256": many(text),
    "blend": maybe(many(number(0.0))),
    "init": text,
    "masks": lambda name, value: read_fields(name, value, MASKS),
    "recipe": _recipe,
    "size": row(_size, _size),
    "seed": whole(0, 2**32 - 1),
    "weights": text,
    "weights_sha256": text,
}
"""What reads each field that every manifest has."""

MORE: dict[str, Reader] = {
    "status": text,
    "seconds": lambda name, value: read_fields(name, value, {"all": number(0.0)}),
    "tiles": many(maybe(_size)),
    "device": text,
    "versions": each_value(text),
}
"""What reads a field that a manifest may have."""


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file of JSON, checked.

    Raises:
        ValueError: In one line, if there is none.
        OSError: If the file cannot be read.
    """
    return check_manifest(read_json(path), str(path))


def parse_manifest(data: str) -> dict[str, Any]:
    """The manifest in a text, checked; a ValueError if there is none."""
    return check_manifest(parse_json(data), "a text")


def check_manifest(value: Any, where: str) -> dict[str, Any]:
    """What of a manifest is used, as JSON; a ValueError if it is none, or a video's."""
    if isinstance(value, dict) and "video" in value:
        raise ValueError(
            f"expected the manifest of a picture in {where}, got that of a video; "
            "rerun jaxnst video with the settings that it holds"
        )
    name = f"a manifest of jaxnst in {where}"
    read_fields(name, value, FIELDS)
    there = {key: read for key, read in MORE.items() if key in value}
    read_fields(name, value, there)
    return {key: value[key] for key in (*FIELDS, *there)}


GONE = [("state_memory", "device")]
"""Fields of recipes of earlier versions, with the value that means nothing now."""


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """A recipe from the JSON of its values.

    Raises:
        ValueError: If it is of another version, or was changed to what is none.
    """
    about = {"name": _plain, "summary": _plain}
    known = about | {name: _reader(kind) for name, kind in RECIPE_FIELDS.items()}
    values = {x: y for x, y in values.items() if (x, y) not in GONE}
    if missing := sorted(known.keys() - values.keys() - about.keys()):
        raise ValueError(
            f"expected all fields of a recipe in the manifest, got no {missing[0]}; "
            "paint it with the version of jaxnst that wrote it"
        )
    try:
        read = {key: known[key](key, value) for key, value in values.items()}
        return Recipe.from_values(**read)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"expected the fields of a recipe in the manifest, got others ({error}); "
            "paint it with the version of jaxnst that wrote it"
        ) from error


def _reader(kind: Any) -> Reader:
    """What reads a field of a recipe, by its type; the recipe checks the rest."""
    if kind is LayerWeights:
        return many(row(text, number(0.0)))
    if get_origin(kind) is tuple:
        return many(number(0.0))
    return _plain


def _plain(name: str, value: Any) -> Any:
    finite = not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, bool | int | float | str) and finite:
        return value
    raise wrong(name, "a text or a number", value)
