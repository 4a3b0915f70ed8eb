"""Networks of random numbers, as NumPy arrays."""

import numpy as np
import pytest
from oracle import NAMES


@pytest.fixture(scope="session")
def full(backbone):
    return {
        name: {key: np.asarray(array) for key, array in conv.items()}
        for name, conv in backbone.params.items()
    }


@pytest.fixture(scope="session")
def small(full):
    """The least that is read: three convolutions, 450 kB."""
    return {name: full[name] for name in NAMES[:3]}
