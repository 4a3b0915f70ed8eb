"""The examples in the docstrings give what they say; those in scripts/ paint."""

import doctest
import importlib
import json
import pkgutil
import re

import matplotlib
import pytest
from helpers import SCRIPTS, light_recipe

import jaxnst

EXAMPLES = SCRIPTS / "examples"
PAINT = {
    "jaxnst",
    "jaxnst.painting.grid",
    "jaxnst.painting.loop",
    "jaxnst.painting.multiscale",
    "jaxnst.video.paint",
}
"""Modules whose examples paint: by light recipes here, for speed."""

MODULES = [
    module.name
    for module in pkgutil.walk_packages(jaxnst.__path__, "jaxnst.")
    if module.name != "jaxnst.__main__"
]


@pytest.mark.parametrize("name", ["jaxnst", *MODULES])
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example saves its picture
    if name in PAINT:
        monkeypatch.setattr(jaxnst, "get_recipe", light_recipe)
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
    "path", sorted(EXAMPLES.glob("*.*")), ids=lambda path: path.stem
)
def test_scripts_and_notebooks_paint(path, tmp_path, monkeypatch):
    """Small, in few steps and by fewer layers, but as they are written."""
    code = path.read_text()
    if path.suffix == ".ipynb":
        cells = json.loads(code)["cells"]
        assert not any(cell.get("outputs") for cell in cells)
        sources = (cell["source"] for cell in cells if cell["cell_type"] == "code")
        code = "\n".join(map("".join, sources))
    code, sizes = re.subn(r"\bsize( ?= ?)\d+", r"size\g<1>48", code)
    assert sizes
    code = re.sub(r"\b(steps|length)( ?= ?)\d+", r"\g<1>\g<2>4", code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxnst, "get_recipe", light_recipe)
    matplotlib.use("agg")
    exec(code, {"__name__": "__main__"})
    assert list(tmp_path.glob("*.png"))
