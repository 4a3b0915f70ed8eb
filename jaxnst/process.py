"""The process that paints: its numbers, its memory, its threads.

JAX starts threads of its own when it first computes, so a process that has painted must
not be forked: use `multiprocessing.get_context("spawn")`.
"""

import contextlib
import ctypes
from collections.abc import Iterator

import jax
import scipy.linalg  # noqa: F401  (JAX's LAPACK: there before its threads are limited)
from threadpoolctl import threadpool_limits

CompilerOptions = dict[str, bool | str]

COMPILE_FAST: CompilerOptions = {
    "xla_backend_optimization_level": "1",
    "xla_gpu_autotune_level": "0",
}
"""Compiler options of what runs once a scale: tuning it takes longer than it saves."""

STEP_OPTIONS: CompilerOptions = {"xla_gpu_enable_triton_gemm": False}
"""Compiler options of steps. On a GPU their products are as fast without Triton's, for
which XLA would try hundreds of programs."""

single_threaded_lapack = threadpool_limits.wrap(limits=1, user_api="blas")
"""Decorator. XLA on a CPU calls LAPACK for eigenvalues, several at a time, from threads
of its own; threads of LAPACK's on top make a step many times slower, and its results
depend on their number."""


def usual_options() -> CompilerOptions:
    """Compiler options of all programs on the devices that are there.

    On one CPU they leave out XLA's newer code for fusions, which takes half as long
    again to compile. Several devices need it: without it their number would change the
    rounding.
    """
    known = jax.__version_info__ < (0, 12)  # a later XLA may not know the option
    alone = known and jax.device_count() == 1
    return {"xla_cpu_use_fusion_emitters": False} if alone else {}


@contextlib.contextmanager
def standard_dtypes() -> Iterator[None]:
    """Compute in float32 with JAX's usual promotion, compiled, whatever is set outside.

    It decorates functions too. Arrays of float64 that come in are still float64.
    """
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.disable_jit(False),  # else the patches alone would be millions of calls
        jax.transfer_guard("allow"),  # constants are moved
    ):
        yield


def return_freed_memory() -> None:
    """Give the system back what compiling took; glibc would keep most of it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # there is no glibc
        ctypes.CDLL(None).malloc_trim(0)
