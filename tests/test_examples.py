"""The examples in the docstrings give what they say; those in scripts/ paint."""

import doctest
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys

import pytest
from helpers import SCRIPTS

import jaxnst

EXAMPLES = SCRIPTS / "examples"
MODULES = [
    module.name
    for module in pkgutil.walk_packages(jaxnst.__path__, "jaxnst.")
    if module.name != "jaxnst.__main__"
]


PAINT = "painting.multiscale", "painting.loop", "painting.grid", "video.paint"
"""Modules whose examples paint: with fewer layers here, for speed."""


@pytest.mark.parametrize("name", ["jaxnst", *MODULES])
def test_examples(name, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example saves its picture
    if name.removeprefix("jaxnst.") in PAINT:
        request.getfixturevalue("light_recipes")
    module = importlib.import_module(name)
    # A type-checking decorator hides functions from the default finder.
    tests = [
        test
        for item in [module, *vars(module).values()]
        if item is module or getattr(item, "__module__", None) == module.__name__
        for test in doctest.DocTestFinder(recurse=False).find(
            item, getattr(item, "__name__", name), module=False, globs=vars(module)
        )
    ]
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        assert runner.run(test).failed == 0, test.name


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem
)
def test_scripts_of_the_examples_paint(path, tmp_path):
    subprocess.run([sys.executable, str(path)], cwd=tmp_path, check=True)
    assert list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem
)
def test_notebooks_paint(path, tmp_path):
    cells = json.loads(path.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    code, sizes = re.subn(r"(?m)^size = \d+", "size = 48", "\n".join(sources))
    code = re.sub(r"(?m)^steps = \d+", "steps = 4", code)
    assert sizes == 1
    assert not any(cell.get("outputs") for cell in cells)
    headless = os.environ | {"MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=headless, check=True)
    assert list(tmp_path.glob("*.png"))
