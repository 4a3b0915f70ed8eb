"""Laws of the package that no single function can keep: imports, signatures, README."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnst

ROOT = Path(__file__).parents[1]
ORDER = [
    "types", "images", "color", "conv", "vgg", "fetch", "readers", "weights", "convert",
    "assets", "losses", "recipes", "scales", "storage", "optimizers", "objective",
    "tiles", "memory", "transfer", "checkpoint", "multiscale", "lanes", "grid", "flags",
    "manifest", "reporter", "sheet", "grid_command", "torch_loop", "bench", "cli",
]  # fmt: skip


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_only_point_up():
    rooms = {path.stem: [path] for path in (ROOT / "jaxnst").glob("*.py")}
    for path in (ROOT / "jaxnst").glob("*/__init__.py"):
        rooms[path.parent.name] = list(path.parent.glob("*.py"))
    assert set(rooms) - {"__init__", "__main__"} == set(ORDER)
    for name in ORDER:
        for module in (m for path in rooms[name] for m in imports(path)):
            other = module.split(".")[1] if module.startswith("jaxnst.") else None
            if other in ORDER and other != name:
                assert ORDER.index(other) < ORDER.index(name), module


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
                allowed = parameter.name in ("name", "size")  # load_backbone, sample
                assert parameter.kind is parameter.KEYWORD_ONLY or allowed
        if inspect.signature(item).return_annotation is not None:
            assert "Returns:" in item.__doc__


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in blocks:
        exec(block, scope)


def test_the_recipe_table_of_the_readme_is_complete():
    text = (ROOT / "README.md").read_text()
    from jaxnst.recipes import RECIPES

    assert all(f"`{name}`" in text for name in RECIPES)
