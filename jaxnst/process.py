"""The process that paints: its memory, its compiled programs, its threads."""

import contextlib
import ctypes
import gc

import jax
import scipy.linalg  # noqa: F401  (JAX's LAPACK: there before its threads are limited)
from threadpoolctl import threadpool_limits

single_threaded_lapack = threadpool_limits.wrap(limits=1, user_api="blas")
"""Decorator. XLA on a CPU calls LAPACK for eigenvalues, several at a time, from threads
of its own; threads of LAPACK's on top make a step many times slower, and its results
depend on their number."""


def return_freed_memory() -> None:
    """Give the system back what compiling took; glibc would keep most of it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # there is no glibc
        ctypes.CDLL(None).malloc_trim(0)


def forget_programs() -> None:
    """Free all compiled programs; what is called again is compiled again."""
    jax.clear_caches()
    gc.collect()
    return_freed_memory()
