"""What tests of several files share."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def load_script(path: str) -> ModuleType:
    """Load a file of scripts/ as a module; it finds the modules beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS / Path(path).parent)
        return importlib.import_module(Path(path).stem)
