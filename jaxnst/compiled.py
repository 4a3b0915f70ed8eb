"""Compiled programs, kept in memory and on disk.

`kept_jit` replaces `jax.jit` for the few large functions of a run. A program that
another process has compiled is loaded in a fraction of a second, without tracing.
"""

import contextlib
import functools
import gc
import hashlib
import os
import pickle
import platform
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import serialize_executable
from jaxtyping import PyTree

from jaxnst.disk import write_whole
from jaxnst.process import (
    CompilerOptions,
    return_freed_memory,
    standard_dtypes,
    usual_options,
)


class Program(NamedTuple):
    """A compiled call: the shapes of its results, and a future of the executable."""

    shapes: PyTree
    compiled: Future


class KeptJit:
    """A function decorated by `kept_jit`, and its compiled programs."""

    def __init__(
        self, function: Callable, static: tuple[str, ...], name: str, **options: Any
    ):
        self.static, self.options, self.programs = static, options, {}
        self.name = name or function.__name__.replace("_", " ")
        self.__wrapped__, self.__doc__ = function, function.__doc__
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.__module__ = function.__module__
        KEPT.append(self)

    @functools.cached_property
    def jit(self) -> Any:
        """The function, decorated by `jax.jit`.

        Its name contains a hash of all that it depends on. So JAX's own cache has a
        program only if ours had it, too. Otherwise we might get a program from JAX's
        cache, and such a program cannot be saved again.
        """
        function = lambda *args, **static: self.__wrapped__(*args, **static)
        functools.update_wrapper(function, self.__wrapped__)
        function.__name__ = f"{self.__name__}_{_surroundings()[:8]}"
        return jax.jit(function, static_argnames=self.static, **self.options)

    @functools.cached_property
    def batched(self) -> "KeptJit":
        """The function for many pictures at once. Each argument gets a leading axis."""
        function = lambda *args, **static: jax.vmap(
            functools.partial(self.__wrapped__, **static)
        )(*args)
        function.__name__ = f"{self.__name__}_batched"
        function.__qualname__ = f"{self.__qualname__}_batched"
        return KeptJit(function, self.static, self.name, **self.options)

    def keeps(self, args: PyTree) -> bool:
        """Whether the program is kept: its arrays are on the host or first device."""
        first = {jax.devices()[0]}
        here = lambda x: not isinstance(x, jax.Array) or x.devices() == first
        return all(hasattr(x, "dtype") and here(x) for x in jax.tree.leaves(args))

    def __call__(self, *args: Any, **static: Any) -> Any:
        """Call the function. The first call loads or compiles its program."""
        if any(isinstance(x, Tracer) for x in jax.tree.leaves(args)):
            return self.__wrapped__(*args, **static)
        if not self.keeps(args):
            return self.jit(*args, **static)
        try:
            compiled = self.prepare(*args, **static).compiled.result()
        except CancelledError:  # by another run that has ended
            compiled = self.prepare(*args, **static).compiled.result()
        return compiled(*args)

    def prepare(self, *args: Any, **static: Any) -> Program:
        """Begin to load or compile the program for arguments, or for their shapes."""
        shapes = jax.tree.map(_shape, args)
        leaves, structure = jax.tree.flatten(shapes)
        key = tuple(leaves), structure, tuple(sorted(static.items())), *_settings()
        program = self.programs.get(key)
        if program is None or _has_failed(program.compiled):
            program = self._load(shapes, static) or self._compile(shapes, static)
            self.programs[key] = program
        return program

    def _path(self, shapes: PyTree, static: dict[str, Any]) -> Path | None:
        """The file of a call; None if it may not be kept on disk."""
        folder = private_folder()
        if folder is None:
            return None
        call = f"{self.options} {jax.tree.leaves(shapes)} {jax.tree.structure(shapes)}"
        around = f"{usual_options()} {_settings()} {_surroundings()}"
        key = f"{self.__qualname__} {call} {sorted(static.items())} {around}"
        if " at 0x" in key:
            return None  # the address of a user's function, which changes
        return folder / f"kept_{self.__name__}-{_hash(key.encode()).hex()}-cache"

    def _load(self, shapes: PyTree, static: dict[str, Any]) -> Program | None:
        path = self._path(shapes, static)
        if path is None:
            return None
        try:
            data = path.read_bytes()
            with contextlib.suppress(OSError):  # in a read-only folder
                os.utime(path)  # used just now, for `jaxnst cache`
            digest, data = data[:32], data[32:]
            if _hash(data) != digest:
                return None
            results, *program = pickle.loads(data)  # ours, see `private_folder`
        except Exception:  # missing, damaged, or of classes that are gone
            return None

        def load() -> Any:
            try:
                return serialize_executable.deserialize_and_load(
                    *program, execution_devices=jax.devices()[:1]
                )
            except Exception:  # the device does not take it
                return self._compile(shapes, static).compiled.result()

        return Program(results, _loaders().submit(load))

    def _compile(self, shapes: PyTree, static: dict[str, Any]) -> Program:
        with standard_dtypes():
            traced = self.jit.trace(*shapes, **static)
        results = jax.tree.map(_shape, traced.out_info)

        def work() -> Any:
            HITS.count = 0
            with standard_dtypes():
                compiled = traced.lower().compile(usual_options())
            path = self._path(shapes, static)
            # If the disk is full or the device cannot do this, compile again next time.
            with contextlib.suppress(Exception):
                if path is not None and not HITS.count:
                    program = serialize_executable.serialize(compiled)
                    data = pickle.dumps((results, *program))
                    with write_whole(path) as file:
                        file.write(_hash(data) + data)
            return compiled

        return Program(results, _compilers().submit(work))


HITS = threading.local()
"""How many programs this thread has got from JAX's own cache since it was set to 0."""


def _count_hits(event: str, **about: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        HITS.count = getattr(HITS, "count", 0) + 1


jax.monitoring.register_event_listener(_count_hits)

KEPT: list[KeptJit] = []
"""All functions of `kept_jit`, whose programs `clear_compiled` frees."""


def kept_jit(
    *static: str,
    name: str = "",
    donate: tuple[str, ...] = (),
    compiler_options: CompilerOptions | None = None,
) -> Callable[[Callable], Any]:
    """Decorate a function like `jax.jit`, and keep its compiled programs.

    `static` are names of arguments; calls must give these by name. People see `name`
    while they wait for a program. Inside a JAX transformation, a call runs the
    undecorated function. With arrays on other devices than the first, it runs `jax.jit`
    of the function.

    Example:
        >>> import jax.numpy as jnp
        >>> @kept_jit("times")
        ... def repeat(x, *, times):
        ...     return jnp.tile(x, times)
        >>> repeat.prepare(jax.ShapeDtypeStruct((2,), "float32"), times=3).shapes
        ShapeDtypeStruct(shape=(6,), dtype=float32)
        >>> repeat(jnp.ones(2), times=3).shape
        (6,)
    """
    options = {"donate_argnames": donate, "compiler_options": compiler_options}
    return lambda function: KeptJit(function, static, name, **options)


def clear_compiled() -> None:
    """Free all compiled programs; later calls load or compile them again."""
    for function in KEPT:
        function.programs.clear()
    jax.clear_caches()
    gc.collect()
    return_freed_memory()


@contextlib.contextmanager
def compiling_ahead() -> Iterator[None]:
    """At the end of the block, cancel the compilations that have not begun."""
    try:
        yield
    finally:
        for function in KEPT:
            for program in list(function.programs.values()):
                program.compiled.cancel()


def private_folder() -> Path | None:
    """JAX's cache folder, where programs are kept. None if others may write there.

    Loading a program runs its code, so nobody else may have written it.
    """
    named = jax.config.values["jax_compilation_cache_dir"]
    if not named or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if not hasattr(os, "getuid"):
        return Path(named)
    with contextlib.suppress(OSError):
        about = os.stat(named)
        if about.st_uid == os.getuid() and not about.st_mode & 0o022:
            return Path(named)
    return None


def _settings() -> tuple[str, ...]:
    """JAX's settings that change programs; `standard_dtypes` fixes the others."""
    names = "jax_disable_most_optimizations", "jax_default_matmul_precision"
    return tuple(str(jax.config.values[name]) for name in names)


@functools.cache
def _surroundings() -> str:
    """Hash of all that a program depends on, except the call and the settings."""
    device = jax.devices()[0]
    versions = jax.__version__, version("jaxlib"), platform.python_version()
    processor = platform.machine(), platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor += tuple(x for x in lines if x.startswith(("flags", "model name")))
    client = device.client.platform_version, device.device_kind
    variables = [os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    house = Path(__file__).parent
    source = [(str(x), x.stat().st_mtime_ns) for x in sorted(house.rglob("*.py"))]
    told = versions, processor, client, variables, source
    return _hash(repr(told).encode()).hex()


@functools.cache
def _loaders() -> ThreadPoolExecutor:
    # Loaded programs call LAPACK; JAX registers it when it first lowers such a call.
    jax.jit(jnp.linalg.eigh).lower(np.eye(2, dtype=np.float32))
    return ThreadPoolExecutor(os.cpu_count(), "jaxnst-load")


@functools.cache
def _compilers() -> ThreadPoolExecutor:
    """Threads to compile in; XLA releases Python's lock, so they run in parallel."""
    return ThreadPoolExecutor(os.cpu_count(), "jaxnst-compile")


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _has_failed(job: Future) -> bool:
    return job.cancelled() or (job.done() and job.exception() is not None)


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


OnWait = Callable[[str, float], None]
"""`on_wait(program, seconds)` is called about every second while a program that is
needed is being compiled."""


class Runner:
    """Waits until a program is compiled, and calls it.

    Meanwhile `on_wait` gets the program's name and `place`, such as `at 512 px`.
    """

    def __init__(self, place: str = "", on_wait: OnWait | None = None):
        self.place, self.on_wait = place, on_wait

    def __call__(self, function: KeptJit, *args: Any, **static: Any) -> Any:
        """Call a program."""
        if function.keeps(args):
            job, began = function.prepare(*args, **static).compiled, time.monotonic()
            while wait([job], timeout=1).not_done:
                if self.on_wait is not None:
                    program = f"{function.name} {self.place}"
                    self.on_wait(program, time.monotonic() - began)
        return function(*args, **static)

    def host(self, make: Callable[[], PyTree], like: PyTree) -> PyTree:
        """Compute something on the host; `like` has the shapes of the result."""
        return make()


class Preparer(Runner):
    """Begins to compile the programs that a `Runner` will call, and returns shapes."""

    def __call__(self, function: KeptJit, *args: Any, **static: Any) -> Any:
        """Begin to compile a program, and return the shapes of its results."""
        return function.prepare(*args, **static).shapes

    def host(self, make: Callable[[], PyTree], like: PyTree) -> PyTree:
        """Compute nothing, and return the shapes."""
        return like


def shape_of(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a float32 array."""
    return jax.ShapeDtypeStruct(shape, np.float32)
