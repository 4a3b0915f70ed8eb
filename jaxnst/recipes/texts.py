"""Reads fields of a recipe from text: FIELD=VALUE, as people type it."""

from typing import Any, get_origin

from jaxnst.messages import nearest
from jaxnst.recipes.named import get_recipe
from jaxnst.recipes.recipe import FIELDS, LayerWeights, as_text


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read `FIELD=VALUE` of a recipe; the value gets the field's own type.

    Raises:
        ValueError: If there is no such field (the message names the nearest one), or
            the value is of another type.

    Example:
        >>> parse_assignment("style_layers=relu1_1,relu2_1:2")
        ('style_layers', (('relu1_1', 1.0), ('relu2_1', 2.0)))
    """
    name, equals, value = text.partition("=")
    if not equals or name not in FIELDS:
        problem = f"no field is called {name!r}" if equals else f"no value in {text!r}"
        raise ValueError(
            f"{problem}; did you mean {nearest(name, FIELDS)}=…? jaxnst recipes "
            "painterly lists all fields"
        )
    return name, parse_value(name, value)


def parse_value(name: str, text: str) -> Any:
    """Read the value of a field of a recipe; it gets the field's own type.

    Raises:
        ValueError: If the value is of another type.
    """
    kind = FIELDS[name]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is LayerWeights:
            pairs = (part.partition(":") for part in text.split(","))
            return tuple((layer, float(x or 1)) for layer, _, x in pairs)
        if get_origin(kind) is tuple:
            return tuple(float(part) for part in text.split(","))
        return kind(text) if kind in (int, float) else text
    except (KeyError, ValueError):
        example = as_text(get_recipe("painterly").values()[name])
        kinds = {int: "a whole number", float: "a number", bool: "true or false"}
        wanted = kinds.get(kind, f"a value such as {example}")
        raise ValueError(f"{name} cannot be {text!r}; give {wanted}") from None
