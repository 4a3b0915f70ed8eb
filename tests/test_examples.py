"""The examples in the docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import jaxnst

MODULES = [
    module.name
    for module in pkgutil.walk_packages(jaxnst.__path__, "jaxnst.")
    if module.name != "jaxnst.__main__"
]


@pytest.mark.parametrize("name", ["jaxnst", *MODULES])
def test_examples(name):
    if name.endswith("torch_loop"):
        pytest.importorskip("torch", reason="PyTorch is not installed")
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
