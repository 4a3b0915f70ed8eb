"""Records of a run for people: a trace, a plot and a timelapse."""

import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from PIL import Image as pil

from jaxnst.checks import check_installed
from jaxnst.disk import write_whole
from jaxnst.painting.plot import draw_losses
from jaxnst.painting.stages import Progress
from jaxnst.pictures.geometry import fit_shape
from jaxnst.pictures.source import as_levels
from jaxnst.recipes import LossWeights
from jaxnst.request.painting import Run
from jaxnst.types import Image
from jaxnst.video.clip import Clip
from jaxnst.video.write import write_clip

TIMELAPSES = (".gif", ".webp", ".mp4")
"""Suffixes of a timelapse."""

PLOTS = (".png", ".svg", ".pdf")
"""Suffixes of a plot."""

PREVIEW_EDGE = 512
"""Long edge of a timelapse, at most, in pixels."""

FRAME, LAST = 120, 2400
"""Milliseconds for which a picture of a timelapse is shown, and the last picture."""


def check_records(run: Run) -> None:
    """Raise a ValueError if a record cannot be kept."""
    for path, suffixes in ((run.timelapse, TIMELAPSES), (run.plot, PLOTS)):
        if path is not None and path.suffix.lower() not in suffixes:
            known = ", ".join(suffixes)
            raise ValueError(f"{path} has an unknown ending; use one of {known}")
    if run.plot is not None:
        check_installed("matplotlib", "--plot", "plot")
    if run.timelapse is not None and run.timelapse.suffix.lower() == ".mp4":
        check_installed("av", "--timelapse FILE.mp4", "video")


class Records:
    """Collects the records that `run` asks for, chunk by chunk.

    `before` is the `state` of the interrupted run that is resumed, if any.
    """

    def __init__(
        self, run: Run, shape: tuple[int, int], before: Mapping[str, np.ndarray]
    ):
        self.run = run
        self.lines: list[dict[str, Any]] = json.loads(str(before.get("lines", "[]")))
        self.terms = list(before.get("terms", ()))
        self.frames = [before[x] for x in sorted(before) if x.startswith("frame")]
        spent = self.lines[-1]["seconds"] if self.lines else 0
        self.began = time.monotonic() - spent
        self.shape = fit_shape(shape, min(PREVIEW_EDGE, max(shape)))

    def add(self, progress: Progress) -> None:
        """Record a chunk of steps."""
        if len(progress.info.loss):
            self.lines.append(self.line(progress))
        rows = zip(*progress.info.terms, strict=True)
        self.terms += [(progress.stage_index, *row) for row in rows]
        if self.run.timelapse is not None:
            self.add_frame(progress.image)
        if self.run.trace is not None:
            with write_whole(self.run.trace) as file:
                file.writelines(f"{json.dumps(x)}\n".encode() for x in self.lines)

    def state(self) -> dict[str, np.ndarray]:
        """The records so far, as arrays for a checkpoint."""
        found = {"lines": np.array(json.dumps(self.lines)), "terms": self.table}
        return found | {f"frame{i:06}": x for i, x in enumerate(self.frames)}

    @property
    def table(self) -> np.ndarray:
        """A row for each step: its scale, and the unweighted terms."""
        return np.array(self.terms, np.float64)

    def line(self, progress: Progress) -> dict[str, Any]:
        """A line of the trace; terms are unweighted."""
        terms = progress.info.terms._asdict()
        return {
            "scale": progress.stage_index,
            "size": progress.stage.shape[::-1],
            "step": progress.taken,
            "loss": float(progress.info.loss[-1]),
            **{name: float(term[-1]) for name, term in terms.items()},
            "seconds": round(time.monotonic() - self.began, 4),
            "memory": psutil.Process().memory_info().rss,
        }

    def add_frame(self, image: Image | np.ndarray) -> None:
        """Keep a picture for the timelapse."""
        size = self.shape[1], self.shape[0]
        frame = pil.fromarray(as_levels(image)).resize(size, pil.Resampling.BICUBIC)
        self.frames.append(np.asarray(frame))

    @property
    def step_seconds(self) -> dict[int, float]:
        """Median seconds of a step, by the number of pixels of the picture.

        The first line of a scale is left out, since its time includes compiling.
        """
        found: dict[int, list[float]] = {}
        for before, line in itertools.pairwise(self.lines):
            if before["scale"] == line["scale"]:
                seconds = line["seconds"] - before["seconds"]
                own = found.setdefault(math.prod(line["size"]), [])
                own.append(seconds / (line["step"] - before["step"]))
        return {pixels: median(own) for pixels, own in found.items()}


def save_timelapse(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Write an animated picture or a film of frames, h w 3 of levels from 0 to 255.

    The last frame is shown for longer. A film has even sides, so an odd last row or
    column is left out.
    """
    height, width, _ = frames[0].shape
    if path.suffix.lower() == ".mp4":
        height, width = height // 2 * 2, width // 2 * 2
        # Players cut the last frame of a film short.
        frames = [*frames, *[frames[-1]] * (LAST // FRAME - 1)]
    times = tuple(Fraction(i * FRAME, 1000) for i in range(len(frames)))
    clip = Clip(
        path=path,
        kind="animation",
        shape=(height, width),
        numbers=range(len(frames)),
        times=times,
        end=times[-1] + Fraction(LAST, 1000),
        read=lambda numbers, shape: iter(frames),
    )
    images = (x[:height, :width].astype(np.float32) / 255 for x in frames)
    write_clip(path, clip, images)


def save_plot(path: Path, table: np.ndarray, weights: LossWeights) -> None:
    """Write a plot of the loss, see `draw_losses`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    draw_losses(figure.subplots(), table, weights)
    with write_whole(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower())
