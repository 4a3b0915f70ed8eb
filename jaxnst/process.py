"""Settings of the painting process: dtypes, compiler options, threads, memory.

JAX starts threads of its own when it first computes, so a process that has painted must
not be forked: use `multiprocessing.get_context("spawn")`.
"""

import contextlib
import ctypes
from collections.abc import Iterator

import jax
import scipy.linalg  # noqa: F401  (loads JAX's LAPACK before its threads are limited)
from threadpoolctl import threadpool_limits

CompilerOptions = dict[str, bool | str]

COMPILE_FAST: CompilerOptions = {
    "xla_backend_optimization_level": "1",
    "xla_gpu_autotune_level": "0",
}
"""Compiler options that compile fast, for programs that run once a scale."""

STEP_OPTIONS: CompilerOptions = {"xla_gpu_enable_triton_gemm": False}
"""Compiler options of steps. On a GPU, matrix products are as fast without Triton,
for which XLA would try hundreds of programs."""

single_threaded_lapack = threadpool_limits.wrap(limits=1, user_api="blas")
"""Decorator that limits LAPACK to one thread. XLA on a CPU calls LAPACK from several
threads of its own. More threads inside LAPACK would make a step many times slower, and
its results would depend on their number."""


def usual_options() -> CompilerOptions:
    """Compiler options of all programs, for the devices of this process.

    With one device, the options turn off XLA's newer fusion emitters for CPUs, with
    which compiling takes 1.5 times as long. Several devices need the emitters: without
    them, the number of devices would change the rounding.
    """
    known = jax.__version_info__ < (0, 12)  # a later XLA may not know the option
    alone = known and jax.device_count() == 1
    return {"xla_cpu_use_fusion_emitters": False} if alone else {}


@contextlib.contextmanager
def standard_dtypes() -> Iterator[None]:
    """Compute in float32, with jit and standard promotion, whatever the user has set.

    It can also decorate functions. Arguments of float64 stay float64.
    """
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.disable_jit(False),  # else the patches alone would be millions of calls
        jax.transfer_guard("allow"),  # constants are moved
    ):
        yield


def return_freed_memory() -> None:
    """Return the memory of compilation to the system; glibc would keep most of it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # there is no glibc
        ctypes.CDLL(None).malloc_trim(0)
