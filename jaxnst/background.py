"""Work in one thread, while the caller does other work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import TypeVar

X = TypeVar("X")
Y = TypeVar("Y")


def background_map(
    function: Callable[[X], Y], items: Iterable[X], *, most: int
) -> Iterator[Y]:
    """Map a function over items, as `map` does, but in a thread.

    The caller's thread makes the items, whose number may be infinite. If more than
    `most` calls wait, the caller waits for the first of these. If the caller stops, or
    making an item fails, the waiting calls are still made. A call's exception is raised
    instead of its result.

    Example:
        >>> list(background_map(len, ["a", "bc"], most=1))
        [1, 2]
    """
    waiting: deque[Future[Y]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for item in items:
            waiting.append(thread.submit(function, item))
            if waiting[0].done() or len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def ahead(items: Iterable[X]) -> Iterator[X]:
    """Make each item in a thread while the caller uses the one before."""
    rest = ([x] for x in items)  # an empty list is the end
    for found in background_map(lambda _: next(rest, []), repeat(None), most=1):
        if not found:
            return
        yield found[0]
