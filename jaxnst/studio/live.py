"""What a run shows while it paints: the latest picture, and a line for each look."""

import contextlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pil

from jaxnst.disk import write_whole
from jaxnst.painting.plan import total_work, work_done
from jaxnst.painting.stages import Progress
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import Recipe
from jaxnst.transfer import Info, current_image
from jaxnst.types import Image

FRAME, LINES, SO_FAR = "frame.jpg", "lines.jsonl", "so-far.png"
"""Files of the folder: the latest picture, the lines, and what a stopped run had."""

LONGEST = 768
"""Long edge of a frame, at most, in pixels."""

SELDOM, SHARE = 1.0, 0.01
"""Seconds between two frames, at least, and the share of the time they may take."""


MOST = 8
"""Most steps of a launch whose terms are shown."""


class LiveWriter:
    """Writes frames and lines of one run into a folder.

    A frame is due at the end of a scale, and once those before it have taken less than
    `SHARE` of the time, so that to watch a run does not slow it down.
    """

    def __init__(self, folder: Path, recipe: Recipe):
        self.folder, self.recipe = folder, recipe
        self.frames, self.due, self.began = 0, -math.inf, time.monotonic()
        self.first: tuple[float, float] | None = None  # when, and the work done by then

    def __call__(self, progress: Progress) -> None:
        """Show a run between two launches of steps."""
        now = time.monotonic()
        done = work_done(progress.stages, progress.scale, progress.taken)
        share = done / total_work(progress.stages)
        self.first = self.first or (now, share)
        if now >= self.due or progress.taken == progress.stage.steps:
            self.show(current_image(progress.state, self.recipe))
            spent = time.monotonic() - now
            self.due = now + max(SELDOM, spent / SHARE)
        self.write(self.line(progress, share))

    def line(self, progress: Progress, share: float) -> dict[str, Any]:
        """What is known of a run: where it is, and the time left."""
        assert self.first is not None
        stage = progress.stage
        before, now = self.first, time.monotonic()
        rate = (share - before[1]) / (now - before[0]) if now > before[0] else 0
        return {
            "scale": progress.scale,
            "scales": len(progress.stages),
            "size": stage.shape[::-1],
            "step": progress.taken,
            "steps": stage.steps,
            "done": round(share, 4),
            "left": round((1 - share) / rate, 1) if rate > 0 else None,
            "seconds": round(now - self.began, 2),
            "terms": self.terms(progress.info),
        }

    def terms(self, info: Info) -> dict[str, list[float | None]]:
        """The weighted terms of some steps of a launch, the last one among them."""
        count = len(info.loss)
        places = sorted({count - 1 - round(i * count / MOST) for i in range(MOST)})
        finite = lambda x: float(f"{x:.5g}") if math.isfinite(x) else None
        found = {}
        for name, term in info.terms._asdict().items():
            weighted = getattr(self.recipe, f"{name}_weight") * np.asarray(term)
            found[name] = [finite(weighted[i]) for i in places if i >= 0]
        return found

    def show(self, image: Image | np.ndarray) -> None:
        """Write the latest frame, whole or not at all."""
        pixels = (np.clip(np.asarray(image), 0, 1) * 255 + 0.5).astype(np.uint8)
        frame = pil.fromarray(pixels)
        if max(frame.size) > LONGEST:
            size = fit_shape(frame.size, LONGEST)
            frame = frame.resize(size, pil.Resampling.BILINEAR, reducing_gap=2.0)
        with write_whole(self.folder / FRAME) as file:
            frame.save(file, "JPEG", quality=88, subsampling=0)
        self.frames += 1

    def write(self, line: dict[str, Any]) -> None:
        """Add a line, at once."""
        with (self.folder / LINES).open("a") as file:
            file.write(json.dumps(line | {"frame": self.frames}) + "\n")


class LiveReader:
    """Follows what a `LiveWriter`, in whatever process, writes into a folder.

    Attributes:
        lines: All lines so far; of long runs, every second one again and again.
    """

    KEPT, POINTS = 400, 320

    def __init__(self, folder: Path):
        self.folder, self.offset = folder, 0
        self.lines: list[dict[str, Any]] = []

    def read(self) -> bool:
        """Take up the lines that were added; tell whether there were any."""
        path = self.folder / LINES
        if not path.exists():
            return False
        with path.open("rb") as file:
            file.seek(self.offset)
            whole, end, _ = file.read().rpartition(b"\n")
        if not end:
            return False
        self.offset += len(whole) + 1
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):  # torn, as by a full disk
                self.lines.append(json.loads(line))
        if len(self.lines) > self.KEPT:
            self.lines = [*self.lines[:-1:2], self.lines[-1]]
        return True

    def terms(self) -> list[dict[str, Any]]:
        """The terms of the steps so far, each with its scale, at most `POINTS`."""
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
