"""The process that paints: its memory, its compiled programs, its threads.

JAX starts threads of its own when it first computes, so a process that has painted must
not be forked: use `multiprocessing.get_context("spawn")`.
"""

import builtins
import contextlib
import ctypes
import gc
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import scipy.linalg  # noqa: F401  (JAX's LAPACK: there before its threads are limited)
from threadpoolctl import threadpool_limits

CompilerOptions = dict[str, bool | str]

COMPILE_FAST: CompilerOptions = {
    "xla_backend_optimization_level": "1",
    "xla_gpu_autotune_level": "0",
}
"""Compiler options of what runs once a scale: tuning it takes longer than it saves."""

if jax.__version_info__ < (0, 12):  # a later XLA may not know the option
    # The newer code for fusions on a CPU takes a third longer to compile.
    COMPILE_FAST |= {"xla_cpu_use_fusion_emitters": False}

STEP_OPTIONS: CompilerOptions = {"xla_gpu_enable_triton_gemm": False}
"""Compiler options of steps. On a GPU their products are as fast without Triton's, for
which XLA would try hundreds of programs."""

single_threaded_lapack = threadpool_limits.wrap(limits=1, user_api="blas")
"""Decorator. XLA on a CPU calls LAPACK for eigenvalues, several at a time, from threads
of its own; threads of LAPACK's on top make a step many times slower, and its results
depend on their number."""


@contextlib.contextmanager
def usual_numbers() -> Iterator[None]:
    """Compute in float32 with JAX's usual promotion, compiled, whatever is set outside.

    It decorates functions too. Arrays of float64 that come in are still float64.
    """
    with contextlib.ExitStack() as usual:
        usual.enter_context(jax.enable_x64(False))
        usual.enter_context(jax.numpy_dtype_promotion("standard"))
        # Without `jit`, the patches alone would be millions of calls.
        usual.enter_context(jax.disable_jit(False))
        usual.enter_context(jax.transfer_guard("allow"))  # constants are moved
        yield


CURES = {
    "RESOURCE_EXHAUSTED|out of memory|OUT_OF_MEMORY": (
        "memory ran out: use a smaller {flags}; on a GPU, nvidia-smi shows who holds "
        "its memory"
    ),
    "DNN library|CuDNN|CUDNN|DNN support": (
        "cuDNN did not start: another one is found first (unset LD_LIBRARY_PATH), or "
        "the GPU is full (nvidia-smi shows by whom; XLA_PYTHON_CLIENT_PREALLOCATE="
        "false takes less at first)"
    ),
    "CUBLAS|cuBLAS|cublas|BLAS support|CUSOLVER|cuSolver|gpusolver|CUFFT|CUSPARSE": (
        "a library of CUDA did not start: the GPU is full (nvidia-smi shows by whom), "
        "or another CUDA is found first (unset LD_LIBRARY_PATH)"
    ),
    "PTX|ptxas|libdevice|DRIVER|driver version|NO_BINARY_FOR_GPU": (
        "the driver does not suit this CUDA: update the NVIDIA driver, or reinstall "
        "with pip install 'jaxnst[cuda]'"
    ),
    "CUDA_ERROR|cudaError": (
        "the GPU failed: check it with nvidia-smi, or paint without it by "
        "JAX_PLATFORMS=cpu"
    ),
}
"""What to do about errors of devices, by words of their messages; the first one holds.
"""


def cure(message: str, flags: str) -> str:
    """What to do about a device's error; empty if that is not known.

    Args:
        message: The error's message.
        flags: The flags that make a run take less memory.

    Example:
        >>> cure("DNN library initialization failed.", "--size")[:19]
        'cuDNN did not start'
    """
    found = (text for words, text in CURES.items() if re.search(words, message))
    return next(found, "").format(flags=flags)


GPU_SIGNS = (
    "/proc/driver/nvidia/version",
    "/dev/nvidia0",
    "/usr/lib/wsl/lib/nvidia-smi",
)
"""Files of which one is there where Linux has an NVIDIA card."""


def unused_gpu(signs: Iterable[str] = GPU_SIGNS) -> str:
    """That there is an NVIDIA card that JAX does not use, and why; empty if not.

    Nothing is said where `JAX_PLATFORMS` has chosen the device.
    """
    chosen = os.environ.get("JAX_PLATFORMS") or jax.default_backend() != "cpu"
    if chosen or not any(map(os.path.exists, signs)):
        return ""
    if any(map(find_spec, ("jax_cuda12_plugin", "jax_cuda13_plugin"))):
        return "the NVIDIA card cannot be used: check its driver with nvidia-smi"
    return "the NVIDIA card is not used: pip install 'jaxnst[cuda]'"


def return_freed_memory() -> None:
    """Give the system back what compiling took; glibc would keep most of it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # there is no glibc
        ctypes.CDLL(None).malloc_trim(0)


def forget_programs() -> None:
    """Free all compiled programs; what is called again is compiled again."""
    jax.clear_caches()
    gc.collect()
    return_freed_memory()


PROGRAM = re.compile(r".+-[0-9a-f]{64}-(cache|atime)")
"""Name of a file in which JAX keeps a compiled program, or the time of its last use."""

MOST_PROGRAMS = 10**9
"""Bytes of kept programs in a folder of ours, at most."""


def kept_programs(folder: Path) -> list[Path]:
    """Files in a folder in which JAX keeps compiled programs; none if it is missing."""
    if not folder.is_dir():
        return []
    return [x for x in folder.iterdir() if PROGRAM.fullmatch(x.name) and x.is_file()]


def delete_programs(programs: Iterable[Path]) -> int:
    """Delete kept programs, which may be in use or gone; returns how many were left."""
    left = 0
    for path in programs:
        try:
            path.unlink(missing_ok=True)
        except OSError:  # on Windows, while another process reads it
            left += 1
    return left


def bound_programs(folder: Path, most: int) -> None:
    """Delete the least recently used programs of a folder that holds too many bytes.

    JAX has a bound of its own, but before each program that it writes, it reads the
    times of all others: 0.4 s where there are 14,000.
    """
    found = []
    for path in kept_programs(folder):
        with contextlib.suppress(FileNotFoundError):  # another process deletes, too
            about = path.stat()
            found.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    excess = sum(size for _, size, _ in found) - most
    for _, size, path in sorted(found):
        if excess <= 0:
            return
        delete_programs([path])
        excess -= size


def keep_programs(folder: Path, most: int | None = None) -> str:
    """Let JAX save compiled programs in a folder, and load them from there.

    Args:
        folder: Where they are kept; it is made.
        most: Bytes that they may take; programs used least recently are deleted.
            Default: no bound but JAX's own, `JAX_COMPILATION_CACHE_MAX_SIZE`.

    Returns:
        Why it does not; empty if it does.
    """
    why = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if most is not None:
            bound_programs(folder, most)
    except OSError as error:
        why = f"compiled programs cannot be kept in {folder} ({error.strerror})"
    jax.config.update("jax_compilation_cache_dir", None if why else str(folder))
    # Also programs that compile fast: there are a hundred, which together take seconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return why


TROUBLE = re.compile(
    r"Error (reading|writing) persistent compilation cache entry"
    r"(?: for '.*?': (\w+): (.*))?",
    re.DOTALL,
)
"""JAX's warning about a kept program: what failed, the exception and its message."""


@contextlib.contextmanager
def one_warning(
    folder: Path, tell: Callable[[str], None], *, ours: bool = True
) -> Iterator[None]:
    """Tell once that kept programs cannot be read or written; JAX would each time.

    Where one in a folder of ours is damaged, all in it are deleted, since JAX never
    replaces a damaged one.
    """
    told = []

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        if (trouble := TROUBLE.match(str(message))) is None:
            return usual(message, *where, **more)
        if not told:
            tell(f"{explain(*trouble.groups(default=''))}; compiling anew")
        told.append(message)

    def explain(verb: str, kind: str, why: str) -> str:
        # A file that is locked, gone or somebody else's is not damaged.
        error = getattr(builtins, kind, Exception)
        if verb == "writing" or kind == "Timeout" or issubclass(error, OSError):
            verb = {"reading": "read from", "writing": "kept in"}[verb]
            return f"compiled programs cannot be {verb} {folder} ({why})"
        if not ours:
            return (
                f"programs in {folder} are damaged: jaxnst cache --clear deletes them"
            )
        delete_programs(kept_programs(folder))
        return f"programs in {folder} were damaged and are deleted"

    with warnings.catch_warnings():
        usual, warnings.showwarning = warnings.showwarning, show
        yield
