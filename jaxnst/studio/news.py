"""Events for a tab: only what has changed, in pieces of a bounded size."""

import json
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

MOST_BYTES, MOST_POINTS = 8000, 50
"""Most bytes of an event, unless a single item has more; most points of an item."""

Item = tuple[str, list[Any]]
"""Name of a list in an event, and values that are added to it together."""


class News:
    """The jobs as one tab knows them, so that it gets only changes.

    An event is an object of lists: `jobs` has the fields of each job that have changed,
    `order` the names of all jobs, `history` the results that have changed, and `gone`
    the names of deleted results. The `terms` of a job are points `from` an index on.
    """

    def __init__(self):
        self.told: dict[str, dict[str, Any]] | None = None

    def of_jobs(self, jobs: Iterable[dict[str, Any]]) -> Iterator[Item]:
        """The changes of the jobs that the tab does not know yet."""
        now, told = {job["id"]: job for job in jobs}, self.told or {}
        for name, job in now.items():
            old = told.get(name, {})
            new = {key: x for key, x in job.items() if key not in old or x != old[key]}
            points = new.pop("terms", None)
            if new:
                yield "jobs", [{"id": name} | new]
            if points is not None:
                pairs = zip(points, old.get("terms", []), strict=False)
                same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
                for at in range(same, max(len(points), same + 1), MOST_POINTS):
                    terms = {"from": at, "points": points[at : at + MOST_POINTS]}
                    yield "jobs", [{"id": name, "terms": terms}]
        # A tab that reconnects may know other jobs, so it first gets an order.
        if self.told is None or list(now) != list(told):
            yield "order", list(now)
        self.told = now


def pack(items: Iterable[Item]) -> Iterator[dict[str, list[Any]]]:
    """Events that have these items, in order, as few as their size allows.

    Example:
        >>> list(pack([("gone", ["a.png"]), ("gone", ["b.png"])]))
        [{'gone': ['a.png', 'b.png']}]
    """
    event: dict[str, list[Any]] = {}
    size = 0
    for kind, values in items:
        length = len(json.dumps(values))
        if event and size + length > MOST_BYTES:
            yield event
            event, size = {}, 0
        event.setdefault(kind, []).extend(values)
        size += length
    if event:
        yield event
