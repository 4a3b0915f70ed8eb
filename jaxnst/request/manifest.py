"""A painting as JSON, and the manifest, from which a result can be repainted.

Anybody may have written or changed this JSON, so all values are checked.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from jaxnst.foreign import Text, convert, read_json
from jaxnst.recipes import Recipe, get_recipe
from jaxnst.recipes.texts import FIELDS
from jaxnst.request.painting import LARGEST_SIZE, Painting
from jaxnst.weights.registry import ASSETS

Side = Annotated[int, Meta(ge=1, le=LARGEST_SIZE)]


@dataclass(frozen=True, kw_only=True)
class _Form(Painting):
    """A painting as it is in JSON, with the fields of its recipe not read yet."""

    recipe: dict[str, Any]  # pyright: ignore[reportIncompatibleVariableOverride]


def as_json(painting: Painting) -> dict[str, Any]:
    """A painting as JSON that `painting_of` reads.

    Example:
        >>> painting = Painting(content=Path("a.jpg"), recipe=get_recipe("kaggle"))
        >>> painting_of(as_json(painting)) == painting
        True
    """
    values: dict[str, Any] = vars(painting) | {"recipe": painting.recipe.values()}
    return msgspec.to_builtins(_Form(**values), enc_hook=str)


def painting_of(
    value: Any, named: Callable[[str], Recipe] = get_recipe, *, name: str = "a painting"
) -> Painting:
    """A painting from JSON; a ValueError in one line if the JSON is not a painting.

    `named` returns the recipe of a name; its values replace missing fields. `name` is
    the word for the JSON in the message.
    """
    form = convert(value, _Form, name)
    values: dict[str, Any] = vars(form) | {"recipe": recipe_of(form.recipe, named)}
    return Painting(**values)


def recipe_of(
    values: Mapping[str, Any], named: Callable[[str], Recipe] = get_recipe
) -> Recipe:
    """A recipe from JSON: the recipe of its name, changed by the fields in the JSON.

    Raises a ValueError if there is no such recipe or field, or if a value is invalid.

    Example:
        >>> recipe_of({"name": "kaggle", "steps": 9}).values()["steps"]
        9
    """
    name = values.get("name", "painterly")
    known = {key: x for key, x in values.items() if key not in ("name", "summary")}
    if unknown := known.keys() - FIELDS:
        raise ValueError(
            f"expected the fields of a recipe, got {min(unknown)!r}; paint it with the "
            "version of jaxnst that wrote it"
        )
    try:
        return named(name).replace(**{key: _tuples(x) for key, x in known.items()})
    except (TypeError, RecursionError) as error:  # a list where a name should be
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"expected the fields of a recipe, got others: {why}"
        ) from None


def _tuples(value: Any) -> Any:
    """A JSON value with its lists turned into tuples, as a recipe has them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


HASHED = "size", "pictures_sha256", "weights_sha256"
"""Fields of a manifest that identify its picture, together with the painting."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that is needed to repaint a picture, and the outcome of its run.

    Attributes:
        painting: The painting; once written, its paths are relative to the manifest.
        size: Width and height of the result.
        pictures_sha256: Hashes of `Painting.paths`.
        weights_sha256: Hash of the network's file.
        tiles: Size of the tiles of each scale; None for a scale painted whole.
        seconds: Seconds of the run: `all`, and those of its parts.
    """

    painting: Painting
    size: tuple[Side, Side]
    pictures_sha256: tuple[Text, ...]
    weights_sha256: Text
    device: Text = ""
    versions: dict[Text, Text] = field(default_factory=dict)
    status: Text = ""
    tiles: tuple[Side | None, ...] | None = None
    seconds: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """The values that manifests of the same picture share, without paths."""
        return self._as_json(self.painting.map(lambda path: Path()), *HASHED)

    def beside(self, out: Path) -> dict[str, Any]:
        """The manifest as saved beside a result, with paths relative to its folder."""
        return self._with_paths(partial(path_from, out.parent))

    def inside(self) -> dict[str, Any]:
        """The manifest as saved inside a picture: names of files, without folders."""
        return self._with_paths(lambda path: path.name)

    def _with_paths(self, path_of: Callable[[Path], str]) -> dict[str, Any]:
        """The manifest with other paths, and without the outcome of the run."""
        weights = self.painting.network
        weights = weights if weights in ASSETS else path_of(Path(weights))
        named = self.painting.map(lambda path: Path(path_of(path)))
        named = dataclasses.replace(named, weights=weights)
        return self._as_json(named, *HASHED, "device", "versions")

    def _as_json(self, painting: Painting, *names: str) -> dict[str, Any]:
        """A painting and fields of the manifest, with lists for tuples."""
        values = as_json(painting) | {name: getattr(self, name) for name in names}
        return json.loads(json.dumps(values))


@dataclass(frozen=True, kw_only=True)
class _ManifestForm(Manifest):
    """A manifest as it is in JSON, where fields of the painting stand beside others."""

    painting: None = None  # pyright: ignore[reportIncompatibleVariableOverride]


def path_from(folder: Path, path: Path) -> str:
    """A path relative to a folder; only its name if it is on another drive."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.name


def manifest_path(out: Path) -> Path:
    """Path of the manifest of a picture, beside the picture."""
    return out.with_name(out.name + ".json")


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file of JSON; a ValueError in one line if there is none."""
    return check_manifest(read_json(path), str(path))


def check_manifest(value: Any, where: str) -> Manifest:
    """The manifest of a picture from JSON; a ValueError if the JSON is not one."""
    name = f"a manifest of jaxnst in {where}"
    if isinstance(value, dict) and "video" in value:
        raise ValueError(
            f"expected the manifest of a picture in {where}, got that of a video; "
            "rerun jaxnst video with the settings that it holds"
        )
    form = convert(value, _ManifestForm, name)
    recipe = value.get("recipe")
    if isinstance(recipe, dict) and (missing := set(FIELDS) - recipe.keys()):
        raise ValueError(
            f"expected all fields of a recipe in {where}, got no {min(missing)}; "
            "paint it with the version of jaxnst that wrote it"
        )
    # A manifest without `faces` was written before faces were preserved.
    painting = painting_of({"faces": []} | value | {"size": max(form.size)}, name=name)
    if len(form.pictures_sha256) != len(painting.paths):
        raise ValueError(
            f"expected a hash of each of {len(painting.paths)} pictures in {where}, "
            f"got {len(form.pictures_sha256)}; paint the picture with jaxnst stylize"
        )
    values: dict[str, Any] = vars(form) | {"painting": painting}
    return Manifest(**values)
