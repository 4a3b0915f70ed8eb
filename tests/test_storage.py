import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnst.storage import put, restore, store, take

X = jax.random.normal(jax.random.key(0), (7, 9, 3))
each_type = pytest.mark.parametrize(
    ("dtype", "error"), [("float32", 0.0), ("bfloat16", 2**-8)]
)


@each_type
def test_what_is_stored_comes_back_to_its_type_s_precision(dtype, error):
    kept = store(X, dtype)
    assert kept.nbytes == X.size * (4 if dtype == "float32" else 2)
    np.testing.assert_allclose(restore(kept), X, rtol=error)
    np.testing.assert_array_equal(store(restore(kept), dtype), kept)


@each_type
def test_parts_are_read_and_written_in_place(dtype, error):
    part = jnp.full((2, 3, 3), 0.5)
    kept = put(store(X, dtype), part, (4, jnp.int32(2), 0))
    assert kept.dtype == store(X, dtype).dtype
    np.testing.assert_array_equal(take(kept, (4, 2, 0), (2, 3, 3)), part)
    expected = restore(store(X, dtype)).at[4:6, 2:5].set(0.5)
    np.testing.assert_array_equal(restore(kept), expected)
