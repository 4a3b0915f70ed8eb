"""How long a run will take: by what is done of it, and by earlier runs."""

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
    """How long work will take, by the time since the first look at it.

    Before that look, programs are compiled.
    """

    def __init__(self):
        self.first: tuple[float, float] | None = None  # when, and what was done

    def __call__(self, done: float) -> float | None:
        """Seconds that are left when that share of the work is done, if known."""
        now = time.monotonic()
        began, before = self.first = self.first or (now, done)
        return (1 - done) * (now - began) / (done - before) if done > before else None


def step_key(device: str, program: Program) -> str:
    """A short name of all that a step's time depends on, but for the picture's size."""
    return hashlib.sha256(f"{device} {program}".encode()).hexdigest()[:16]


def remember_times(path: Path, key: str, seconds: Mapping[int, float]) -> None:
    """Keep the seconds of a step, by the number of pixels, if the file can be written.

    The key is from `step_key`.
    """
    times = _read(path)
    own = times.get(key, {}) | {str(n): x for n, x in seconds.items()}
    with contextlib.suppress(OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, times | {key: own})


def expected_seconds(path: Path, key: str, stages: Stages) -> float | None:
    """Seconds that the steps of a run will take, without compiling.

    Each stage takes the remembered time of the picture nearest in size, in proportion
    to the pixels. None if nothing is known.
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
