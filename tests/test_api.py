"""Laws of the package that no single function can keep: imports, signatures."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnst

ROOT = Path(__file__).parents[1]
FLOORS = {
    "jaxnst": [
        "interrupts", "types", "checks", "storage", "messages", "disk", "foreign",
        "process", "background", "compiled", "linalg", "pictures", "network", "losses",
        "masks", "weights", "recipes", "objective", "repaint", "lbfgs", "optimizers",
        "tiles", "transfer", "painting", "live", "request", "video", "studio",
        "command",
    ],
    "jaxnst/pictures": [
        "geometry", "color", "canvas", "tiff", "source", "files", "samples", "select",
    ],
    "jaxnst/network": ["conv", "vgg", "calibrate"],
    "jaxnst/losses": ["sums", "content", "neighbors", "sliced", "style", "variation"],
    "jaxnst/weights": ["readers", "format", "download", "convert", "registry"],
    "jaxnst/recipes": ["recipe", "named", "texts"],
    "jaxnst/painting": [
        "scales", "memory", "plan", "timing", "scene", "checkpoint", "loop",
        "plot", "stages", "stage", "painter", "multiscale", "lanes", "measurer", "grid",
    ],
    "jaxnst/repaint": ["filters", "flow", "bank", "match"],
    "jaxnst/request": [
        "defaults", "painting", "manifest", "terminal", "labels", "faces", "read",
        "expand",
    ],
    "jaxnst/studio": [
        "settings", "pictures", "history", "guard", "serve", "jobs", "news", "watch",
        "server",
    ],
    "jaxnst/video": [
        "temporal", "flow", "store", "tags", "decode", "clip", "sound", "write", "shot",
        "paint",
    ],
    "jaxnst/command": [
        "program_cache", "flags", "describe", "records", "reporter", "sheet",
        "machines", "mask", "stylize", "video", "again", "demo",
        "grid", "studio", "weights", "cli", "worker",
    ],
}  # fmt: skip
"""Rooms of each folder; each imports only rooms before it."""


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module != "jaxnst":
                yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", FLOORS)
def test_rooms_import_only_rooms_below_them(folder):
    order, package = FLOORS[folder], folder.replace("/", ".")
    rooms = {path.stem: [path] for path in (ROOT / folder).glob("*.py")}
    for path in (ROOT / folder).glob("*/__init__.py"):
        rooms[path.parent.name] = list(path.parent.rglob("*.py"))
    assert set(rooms) - {"__init__", "__main__"} == set(order)
    for floor, name in enumerate(order):
        for module in (m for path in rooms[name] for m in imports(path)):
            # The package's own face belongs to its users, who are above all rooms.
            assert module != "jaxnst", rooms[name]
            if module.startswith(f"{package}."):
                other = module.removeprefix(f"{package}.").split(".")[0]
                if other in order and other != name:
                    assert order.index(other) < floor, (name, module)


def test_only_one_file_imports_flax_and_none_imports_nnx():
    users = [
        path.name
        for path in (ROOT / "jaxnst").rglob("*.py")
        if any(module.split(".")[0] == "flax" for module in imports(path))
    ]
    assert users == ["vgg.py"]
    code = "import jaxnst, sys; sys.exit('flax.nnx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", jaxnst.__all__)
def test_public_functions_are_documented_and_have_keyword_only_defaults(name):
    item = getattr(jaxnst, name)
    assert item.__doc__
    if inspect.isfunction(item):
        assert "Args:" in item.__doc__
        for parameter in inspect.signature(item).parameters.values():
            assert parameter.name != "rng"
            if parameter.default is not parameter.empty:
                allowed = parameter.name in ("name", "size", "memory")
                assert parameter.kind is parameter.KEYWORD_ONLY or allowed
        if inspect.signature(item).return_annotation is not None:
            assert "Returns:" in item.__doc__
