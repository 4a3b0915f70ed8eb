"""A few hundred of what scripts/measure/fuzz.py tries by the thousand."""

import warnings

import pytest
from helpers import load_script

fuzz = load_script("measure/fuzz.py")


@pytest.mark.parametrize("kind", ["pictures", "weights", "arguments"])
def test_damaged_files_and_senseless_arguments_are_read_or_refused(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decoders, about damage that they repair
        found = fuzz.try_all(kind, 300, seed=1)
    assert found.keys() <= {"read", "refused"}
