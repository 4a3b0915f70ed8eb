"""Records of a run that people look at: a trace, a plot, a timelapse."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
from PIL import Image as pil

from jaxnst.checks import check_installed
from jaxnst.disk import write_whole
from jaxnst.live import LiveWriter
from jaxnst.painting.plot import draw_losses
from jaxnst.painting.stages import Progress
from jaxnst.pictures.files import as_pillow
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import LossWeights, Recipe
from jaxnst.request.run import Run
from jaxnst.types import Image

TIMELAPSES = (".gif", ".webp", ".mp4")
"""Suffixes of a timelapse."""

PLOTS = (".png", ".svg", ".pdf")
"""Suffixes of a plot."""

PREVIEW_EDGE = 512
"""Long edge of a timelapse, at most, in pixels."""

FRAME, LAST = 120, 2400
"""Milliseconds that a picture of a timelapse is shown, and the last one."""


def check_records(run: Run) -> None:
    """Raise a ValueError if a record cannot be kept."""
    for path, suffixes in ((run.timelapse, TIMELAPSES), (run.plot, PLOTS)):
        if path is not None and path.suffix.lower() not in suffixes:
            wanted = ", ".join(suffixes)
            raise ValueError(f"expected a file ending in {wanted}, got {str(path)!r}")
    film = run.timelapse is not None and run.timelapse.suffix.lower() == ".mp4"
    if run.plot is not None:
        check_installed("matplotlib", "for --plot", "plot")
    if film:
        check_installed("av", "for --timelapse FILE.mp4", "video")


Tolerate = Callable[[str], AbstractContextManager[None]]
"""See `PictureReporter.tolerate_write_errors`."""


class Records:
    """What is kept of a run, chunk by chunk.

    Args:
        run: What is to be kept.
        recipe: How the picture is painted.
        shape: Its height and width.
        live: What shows the run, if anybody watches.
        before: What `state` gave when the run that is resumed was stopped.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        shape: tuple[int, int],
        live: LiveWriter | None = None,
        before: Mapping[str, np.ndarray] | None = None,
    ):
        self.run, self.recipe, self.live = run, recipe, live
        before = before or {}
        self.lines: list[dict[str, Any]] = json.loads(str(before.get("lines", "[]")))
        self.terms = list(before.get("terms", ()))
        names = sorted(name for name in before if name.startswith("frame"))
        self.frames = [before[x] for x in names] if run.timelapse else []
        spent = self.lines[-1]["seconds"] if self.lines else 0
        self.began = time.monotonic() - spent
        self.shape = fit_shape(shape, min(PREVIEW_EDGE, max(shape)))
        if run.trace is not None:
            with write_whole(run.trace) as file:
                file.write("".join(map(as_line, self.lines)).encode())

    def __call__(self, progress: Progress, *, last: bool = False) -> None:
        """Keep what a chunk of steps did, perhaps the last one of a stopped run."""
        if self.live is not None:
            self.live(progress, newest=last)
        self.lines.append(self.line(progress))
        terms = progress.info.terms
        self.terms += [(progress.stage_index, *row) for row in zip(*terms, strict=True)]
        if self.run.timelapse is not None:
            self.add_frame(progress.image)
        if self.run.trace is not None:
            with self.run.trace.open("a") as file:
                file.write(as_line(self.lines[-1]))

    def state(self) -> dict[str, np.ndarray]:
        """All that is kept, as arrays for a checkpoint."""
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
            "seconds": round(time.monotonic() - self.began, 2),
            "memory": psutil.Process().memory_info().rss,
        }

    def add_frame(self, image: Image | np.ndarray) -> None:
        """Keep a picture for the timelapse."""
        size = self.shape[1], self.shape[0]
        frame = as_pillow(image).resize(size, pil.Resampling.BICUBIC)
        self.frames.append(np.asarray(frame))

    def finish(self, image: Image | np.ndarray, tolerate: Tolerate) -> None:
        """Show the picture, and write the plot and the timelapse, whatever fails."""
        run = self.run
        if self.live is not None:
            with tolerate("frame"):
                self.live.show(image)
        if run.plot is not None and self.terms:
            with tolerate("plot"):
                save_plot(run.plot, self.table, self.recipe.weights)
        if run.timelapse is not None:
            with tolerate("timelapse"):
                self.add_frame(image)
                frames = list(map(pil.fromarray, self.frames))
                save_timelapse(run.timelapse, frames)


def as_line(values: dict[str, Any]) -> str:
    """A line of the trace as it is written."""
    return json.dumps(values) + "\n"


def save_timelapse(path: Path, frames: list[pil.Image]) -> None:
    """Write an animated picture or a film; its last frame is shown for longer."""
    suffix, (first, *rest) = path.suffix.lower(), frames
    with write_whole(path) as file:
        if suffix == ".mp4":
            _write_film(file, frames + frames[-1:] * (LAST // FRAME))
            return
        shown = [FRAME] * len(rest) + [LAST]
        about: dict[str, Any] = {"append_images": rest, "duration": shown, "loop": 0}
        first.save(file, suffix[1:].upper(), save_all=True, **about)


def _write_film(file: IO[bytes], frames: list[pil.Image]) -> None:
    """Write an MP4 of H.264, which needs even sides: an odd last row is left out."""
    import av

    width, height = (side // 2 * 2 for side in frames[0].size)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000, FRAME))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            pixels = frame.crop((0, 0, width, height))
            container.mux(stream.encode(av.VideoFrame.from_image(pixels)))
        container.mux(stream.encode())


def save_plot(path: Path, table: np.ndarray, weights: LossWeights) -> None:
    """Write a plot of the loss, see `draw_losses`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    draw_losses(figure.subplots(), table, weights)
    with write_whole(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower())
