"""Programs are compiled in threads, before they are needed."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from jaxtyping import PyTree

from jaxnst.process import usual_numbers

OnWait = Callable[[str, float], None]
"""`on_wait(program, seconds)` is called about every second while a program that is
needed is being compiled."""


class Call(NamedTuple):
    """A call of a jitted function.

    Attributes:
        name: What the program is called where it is waited for.
        function: From `jax.jit`.
        args: Its arguments; to compile it, `jax.ShapeDtypeStruct` will do.
        static: Its static arguments.
    """

    name: str
    function: Any
    args: tuple
    static: dict[str, Any]


class Ahead:
    """Compiles programs in threads, in the order in which they will be needed.

    XLA compiles without Python's lock, so several are compiled at a time, beside the
    steps that run already.

    Args:
        on_wait: See `OnWait`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> double, shape = jax.jit(lambda x: 2 * x), jax.ShapeDtypeStruct((3,), "f4")
        >>> ahead = Ahead(lambda program, seconds: None)
        >>> ahead.compile(Call("doubling", double, (shape,), {}))
        ShapeDtypeStruct(shape=(3,), dtype=float32)
        >>> ahead.run(Call("doubling", double, (jnp.ones(3),), {})).tolist()
        [2.0, 2.0, 2.0]
        >>> ahead.close()
    """

    def __init__(self, on_wait: OnWait):
        self.on_wait = on_wait
        self.pool = ThreadPoolExecutor(os.cpu_count())
        self.jobs: dict[str, Future] = {}

    def compile(self, call: Call) -> PyTree:
        """Begin to compile a call, and return the shapes of its result."""
        name, function, args, static = call

        def work() -> None:
            with usual_numbers():
                function.lower(*args, **static).compile()

        self.jobs[name] = self.pool.submit(work)
        return function.eval_shape(*args, **static)

    def run(self, call: Call) -> Any:
        """Make a call, whose program is found if it was begun to be compiled."""
        self.wait(call.name)
        return call.function(*call.args, **call.static)

    def wait(self, name: str) -> None:
        """Wait until a program is compiled, if it was begun.

        An error is left to the call itself, which raises it again.
        """
        job, began = self.jobs.pop(name, None), time.monotonic()
        while job is not None and wait([job], timeout=1).not_done:
            self.on_wait(name, time.monotonic() - began)

    def close(self) -> None:
        """Forget what is not begun; what is being compiled ends by itself."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.jobs.clear()
