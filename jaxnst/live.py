"""Live view of a run: the latest picture, and a line for each update."""

import contextlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pil

from jaxnst.disk import write_whole
from jaxnst.painting.plan import patch_work
from jaxnst.painting.stages import Progress
from jaxnst.painting.timing import TimeLeft
from jaxnst.pictures.source import as_levels
from jaxnst.recipes import Recipe
from jaxnst.transfer import Info
from jaxnst.types import Image

FRAME, LINES, SO_FAR = "frame.jpg", "lines.jsonl", "so-far.png"
"""Files of the folder: the latest frame, the lines, the picture of a stopped run."""

LONGEST = 768
"""Largest long edge of a frame, in pixels."""

SELDOM, SHARE = 1.0, 0.01
"""Fewest seconds between two frames, and the largest share of time for frames."""

MOST = 8
"""Most steps of a launch whose terms are shown."""


class LiveWriter:
    """Writes frames and lines of a run, or lines of a grid, into a folder if given.

    A frame is due at both ends of a scale. Between them, frames take at most `SHARE` of
    the time, so watching a run does not slow it down.
    """

    def __init__(self, folder: Path | None):
        self.folder, self.frames, self.left = folder, 0, TimeLeft()
        self.due = -math.inf
        self.shape: tuple[int, int] | None = None  # of the latest frame
        self.say("Reading the pictures and the network")

    def say(self, doing: str) -> None:
        """Show in words what the run does, before or between its steps."""
        self.write({"doing": doing})

    def step(
        self,
        progress: Progress,
        recipe: Recipe,
        done: int,
        total: int,
        *,
        pictures: int | None = None,
    ) -> None:
        """Show the progress of a run, the time left, and the terms of its last steps.

        `done` of `total` units of work are done. In the line, `next` is the share that
        is done once the patches are laid. A grid paints `pictures` at a time, and shows
        no terms.
        """
        if self.folder is None:
            return
        share = done / total
        stage, left = progress.stage, self.left(share)
        patches = (pictures or 1) * patch_work(stage, recipe)
        laid = recipe.look.repaint and progress.taken == stage.steps
        self.write(
            {
                "doing": "Laying patches of the paintings" if laid else "",
                "scale": progress.stage_index,
                "scales": len(progress.stages),
                "size": stage.shape[::-1],
                "step": progress.taken,
                "steps": stage.steps,
                "done": round(share, 4),
                "next": round(share + laid * patches / total, 4),
                "left": None if left is None else round(left, 1),
                "terms": {} if pictures else shown_terms(progress.info, recipe),
            }
        )

    def write(self, line: dict[str, Any]) -> None:
        """Add a line at once; ignore errors, so that a full disk does not end a run."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError), (self.folder / LINES).open("a") as file:
            file.write(json.dumps(line | {"frame": self.frames}) + "\n")

    def frame(self, progress: Progress, *, newest: bool) -> None:
        """Write a frame if one is due, or always if `newest` is set."""
        now, stage = time.monotonic(), progress.stage
        ends = progress.taken in (stage.steps, len(progress.info.loss))
        if self.folder is not None and (newest or ends or now >= self.due):
            self.show(progress.image)
            # The first frame of a size is compiled too, so its time does not count.
            spent = time.monotonic() - now if self.shape == stage.shape else 0
            self.due, self.shape = now + max(SELDOM, spent / SHARE), stage.shape

    def show(self, image: Image | np.ndarray) -> None:
        """Write the latest frame, whole or not at all."""
        if self.folder is None:
            return
        frame = pil.fromarray(as_levels(image))
        frame.thumbnail((LONGEST, LONGEST), pil.Resampling.BILINEAR)
        with write_whole(self.folder / FRAME) as file:
            frame.save(file, "JPEG", quality=88, subsampling=0)
        self.frames += 1


def shown_terms(info: Info, recipe: Recipe) -> dict[str, list[float | None]]:
    """The weighted terms of some steps of a launch, including the last step."""
    count = len(info.loss)
    shown = np.linspace(count, 0, min(count, MOST), endpoint=False)[::-1]
    finite = lambda x: float(f"{x:.5g}") if math.isfinite(x) else None
    found = {}
    for name, term in info.terms._asdict().items():
        weighted = getattr(recipe.weights, f"{name}_weight") * np.asarray(term)
        found[name] = list(map(finite, weighted[shown.astype(int) - 1]))
    return found


class LiveReader:
    """Reads what a `LiveWriter` writes into a folder, in this or another process.

    Attributes:
        lines: Lines of the steps so far. In long runs, every second line is dropped.
        doing: Present work in words; empty while steps are taken.
    """

    KEPT, POINTS = 400, 320

    def __init__(self, folder: Path):
        self.folder, self.offset = folder, 0
        self.lines: list[dict[str, Any]] = []
        self.doing = ""

    def read(self) -> None:
        """Read the lines that were added since the last call."""
        path = self.folder / LINES
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(self.offset)
            whole, end, _ = file.read().rpartition(b"\n")
            self.offset += len(whole + end)
            for line in whole.splitlines():
                with contextlib.suppress(ValueError):  # cut, as by a full disk
                    found = json.loads(line)
                    self.doing = found.get("doing", "")
                    self.lines += [found] if "terms" in found else []
        if len(self.lines) > self.KEPT:
            self.lines = [*self.lines[:-1:2], self.lines[-1]]

    def as_json(self) -> dict[str, Any]:
        """The state of a run, for the studio's page."""
        last = self.lines[-1] if self.lines else None
        return {
            "doing": self.doing,
            "now": last,
            "frame": last["frame"] if last else 0,
            "terms": self.terms(),
        }

    def terms(self) -> list[dict[str, Any]]:
        """Terms of up to about `POINTS` of the steps so far, with the scale of each."""
        points = [
            {"scale": line["scale"]} | dict(zip(line["terms"], values, strict=True))
            for line in self.lines
            for values in zip(*line["terms"].values(), strict=True)
        ]
        every = 1
        while len(points) > every * self.POINTS:
            every *= 2  # so that most of the points stay what they were
        return points[:-1:every] + points[-1:]

    def frame(self) -> bytes | None:
        """The latest frame, a JPEG; None before the first one."""
        path = self.folder / FRAME
        return path.read_bytes() if path.exists() else None
