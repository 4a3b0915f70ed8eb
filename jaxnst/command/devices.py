"""What is said about devices: errors with their cure, and a card that is not used."""

import os
import re
from collections.abc import Iterable
from importlib.util import find_spec

import jax

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
    """What to do about a device's error message; empty if that is not known.

    `flags` make a run take less memory.

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
