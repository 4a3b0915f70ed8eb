"""Estimates of the time that a run takes: from its progress, and from earlier runs."""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnst.foreign import write_json
from jaxnst.painting.plan import Stages
from jaxnst.recipes import Program


class TimeLeft:
    """Estimates the time that is left, from the progress since the first call.

    Time before the first call does not count: programs are compiled then.
    """

    def __init__(self):
        self.first: tuple[float, float] | None = None  # time, share done

    def __call__(self, done: float) -> float | None:
        """Seconds left when the share `done` of the work is done; None if unknown."""
        now = time.monotonic()
        began, before = self.first = self.first or (now, done)
        return (1 - done) * (now - began) / (done - before) if done > before else None


def step_key(device: str, program: Program) -> str:
    """Short key of all that a step's time depends on, except the picture's size."""
    return hashlib.sha256(f"{device} {program}".encode()).hexdigest()[:16]


def remember_times(path: Path, key: str, seconds: Mapping[int, float]) -> None:
    """Save the seconds of a step by number of pixels, and ignore errors of writing.

    The key is from `step_key`.
    """
    times = _read(path)
    own = times.get(key, {}) | {str(n): x for n, x in seconds.items()}
    with contextlib.suppress(OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, times | {key: own})


def expected_seconds(path: Path, key: str, stages: Stages) -> float | None:
    """Seconds that the steps of a run will take, without compiling.

    Each stage uses the remembered time of the nearest size, scaled in proportion to
    the pixels. Returns None if nothing is known.
    """
    known = {int(n): seconds for n, seconds in _read(path).get(key, {}).items()}
    if not known:
        return None

    def step(pixels: int) -> float:
        nearest = min(known, key=lambda other: abs(math.log(other / pixels)))
        return known[nearest] * pixels / nearest

    return sum(stage.steps * step(math.prod(stage.shape)) for stage in stages)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return {}
