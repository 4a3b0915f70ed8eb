"""The tables of scripts/measure/parity.py and scripts/measure/fidelity.py, as tests.

Formats without a framework are compared with NumPy in readers/test_formats.py.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="PyTorch, a package of gigabytes that jaxnst itself never needs",
)


@pytest.fixture(scope="session")
def parity():
    """Worst relative error of the features, by format."""
    command = [sys.executable, str(SCRIPTS / "measure" / "parity.py"), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "name",
    [
        "Keras 3 .weights.h5",
        "Keras 3 .h5",
        "Keras 3 .keras",
        pytest.param("torchvision .pth zip", marks=needs_torch),
        pytest.param("torchvision .pth stream", marks=needs_torch),
        pytest.param("jcjohnson .pth zip", marks=needs_torch),
    ],
)
def test_converted_weights_see_what_their_framework_sees(parity, name):
    assert parity[name] < 1e-5


@pytest.fixture(scope="session")
def fidelity():
    """Losses of the first steps, of PyTorch and of ours, by recipe."""
    command = [sys.executable, str(SCRIPTS / "measure" / "fidelity.py"), "--json"]
    command += ["--size", "48", "--steps", "4"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@needs_torch
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("kaggle", 1e-5),
        ("udacity", 1e-5),
        ("boston", 1e-5),
        ("tf-blog", 1e-4),
        ("nnst", 1e-2),  # it adds a little to the lengths of its vectors
        ("crowson", 1e-2),  # it adds 1e-4 to the covariances
    ],
)
def test_recipes_go_the_way_of_their_sources(fidelity, name, tolerance):
    theirs, ours = fidelity[name]
    assert ours[0] == pytest.approx(theirs[0], rel=min(tolerance, 1e-2))
    assert ours == pytest.approx(theirs, rel=tolerance)


@needs_torch
@pytest.mark.parametrize("name", ["gatys2016", "gatys2016-code", "johnson"])
def test_recipes_with_lbfgs_begin_as_their_sources_and_get_further(fidelity, name):
    """Without a line search, theirs take steps that multiply the loss, and stay there;
    ours take them back."""
    theirs, ours = fidelity[name]
    assert ours[0] == pytest.approx(theirs[0], rel=1e-2)
    assert ours[-1] == min(ours) < ours[0]
    assert min(ours) < 1.05 * min(theirs)
