"""The examples in the docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import jaxnst

MODULES = [m.name for m in pkgutil.iter_modules(jaxnst.__path__) if m.name[0] != "_"]


@pytest.mark.parametrize("name", ["", *MODULES])
def test_examples(name):
    if name == "torch_loop":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    module = importlib.import_module(f"jaxnst.{name}".rstrip("."))
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
