"""What a tab is told: only what has changed, in events of a bounded size."""

import json
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

MOST_BYTES, MOST_POINTS = 8000, 50
"""Bytes of an event, unless a single result has more, and points of a plot in it."""

Item = tuple[str, list[Any]]
"""A list of an event, and what is added to it at once."""


class News:
    """What one tab knows of the jobs, so that it is told the rest.

    An event is an object of lists: `jobs` has the fields of each job that have changed,
    `order` the names of all jobs, `history` the results that have changed, and `gone`
    the names of those that are gone. The `terms` of a job are points `from` a place on.
    """

    def __init__(self):
        self.told: dict[str, dict[str, Any]] | None = None

    def of_jobs(self, jobs: Iterable[dict[str, Any]]) -> Iterator[Item]:
        """What of the jobs is new to the tab."""
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
        # A tab that comes again may know others, so it gets an order at first.
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
