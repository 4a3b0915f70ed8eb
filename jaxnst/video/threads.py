"""Work that goes on in a thread beside painting: reading ahead, and writing."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Make each item in a thread while the one before is used.

    An exception of the items is raised where the item was expected. If the caller
    stops early, it waits for the item that is being made, and no more are made.

    Args:
        items: What to make; it is only touched by that thread.

    Returns:
        The same items, in order.

    Example:
        >>> list(ahead(x**2 for x in range(3)))
        [0, 1, 4]
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(kind: str, item: Any) -> None:
        while not stopped.is_set():
            try:
                return waiting.put((kind, item), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
        except BaseException as error:  # raised again by whoever waits
            put("error", error)
        put("end", None)

    # A daemon, so that a process that is interrupted twice does not wait for it.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, item = waiting.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            yield item
    finally:
        stopped.set()
        thread.join()  # Python aborts if it ends while a library's code runs here


@contextlib.contextmanager
def beside(
    consume: Callable[[Iterator[Item]], None],
) -> Iterator[Callable[[Item], None]]:
    """Let a function consume items in a thread, such as one that writes a file.

    Args:
        consume: Called with an iterator of the items. If the block raises, the iterator
            raises the same, so that nothing is left half done.

    Yields:
        A function that hands over an item. It waits while two others wait, and raises
        what the consumer raised.

    Example:
        >>> found = []
        >>> with beside(found.extend) as put:
        ...     put(1)
        ...     put(2)
        >>> found
        [1, 2]
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=2)
    raised: list[BaseException] = []

    def items() -> Iterator[Item]:
        while (found := waiting.get())[0] != "end":
            if found[0] == "error":
                raise found[1]
            yield found[1]

    def work() -> None:
        try:
            consume(items())
        except BaseException as error:  # raised again by whoever hands over
            raised.append(error)

    def put(kind: str, item: Any) -> None:
        while thread.is_alive():
            try:
                return waiting.put((kind, item), timeout=0.1)
            except queue.Full:
                continue

    def hand_over(item: Item) -> None:
        put("item", item)
        if raised:
            raise raised[0]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield hand_over
    except BaseException as error:
        put("error", error)
        thread.join()
        raise
    put("end", None)
    thread.join()
    if raised:
        raise raised[0]
