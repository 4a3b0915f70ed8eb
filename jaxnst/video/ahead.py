"""Work that goes on in a thread beside painting."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Make each item in a thread while the one before is used.

    An exception of the items is raised where the item was expected. If the caller
    stops early, no more items are made than the one that is waiting.

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

    # A daemon, so that a process that is interrupted does not wait for it.
    threading.Thread(target=work, daemon=True).start()
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
