"""Records of a run that people look at: a trace, a plot, a timelapse."""

import json
import time
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
from PIL import Image as pil

from jaxnst.command.request import StylizeRequest
from jaxnst.disk import write_whole
from jaxnst.painting.stages import Progress
from jaxnst.pictures.geometry import fit_shape
from jaxnst.studio.live import LiveWriter
from jaxnst.transfer import Info, current_image
from jaxnst.types import Image

TIMELAPSES = (".gif", ".webp", ".mp4")
"""Suffixes of a timelapse."""

PLOTS = (".png", ".svg", ".pdf")
"""Suffixes of a plot."""

LARGEST = 512
"""Long edge of a timelapse, at most, in pixels."""

FRAME, LAST = 120, 2400
"""Milliseconds that a picture of a timelapse is shown, and the last one."""


def check_records(request: StylizeRequest) -> None:
    """Raise a ValueError if a record cannot be kept."""
    for path, suffixes in ((request.timelapse, TIMELAPSES), (request.plot, PLOTS)):
        if path is not None and path.suffix.lower() not in suffixes:
            wanted = ", ".join(suffixes)
            raise ValueError(f"expected a file ending in {wanted}, got {str(path)!r}")
    film = request.timelapse is not None and request.timelapse.suffix.lower() == ".mp4"
    if request.plot is not None:
        _check_installed("matplotlib", "--plot", "plot")
    if film:
        _check_installed("av", "--timelapse FILE.mp4", "video")


def _check_installed(module: str, flag: str, extra: str) -> None:
    if find_spec(module) is None:
        raise ValueError(
            f"expected {module} for {flag}, got none; pip install 'jaxnst[{extra}]'"
        )


class Records:
    """What is kept of a run, chunk by chunk."""

    def __init__(self, request: StylizeRequest, live: LiveWriter | None = None):
        self.request, self.began = request, time.monotonic()
        self.live = live
        self.frames: list[pil.Image] = []
        height, width = request.shape
        self.shape = fit_shape(request.shape, min(LARGEST, max(width, height)))
        if request.trace is not None and not request.resume:
            with write_whole(request.trace):
                pass

    def __call__(self, progress: Progress) -> None:
        """Keep what a chunk of steps did."""
        if self.live is not None:
            self.live(progress)
        if self.request.trace is not None:
            with self.request.trace.open("a") as file:
                file.write(json.dumps(self.line(progress)) + "\n")
        if self.request.timelapse is not None:
            self.add_frame(current_image(progress.state, self.request.recipe))

    def line(self, progress: Progress) -> dict[str, Any]:
        """A line of the trace; terms are unweighted."""
        terms = progress.info.terms._asdict()
        return {
            "scale": progress.scale,
            "size": progress.stage.shape[::-1],
            "step": progress.taken,
            "loss": float(progress.info.loss[-1]),
            **{name: float(term[-1]) for name, term in terms.items()},
            "seconds": round(time.monotonic() - self.began, 2),
            "memory": psutil.Process().memory_info().rss,
        }

    def add_frame(self, image: Image | np.ndarray) -> None:
        """Keep a picture for the timelapse."""
        pixels = (np.clip(np.asarray(image), 0, 1) * 255 + 0.5).astype(np.uint8)
        size = self.shape[1], self.shape[0]
        self.frames.append(pil.fromarray(pixels).resize(size, pil.Resampling.BICUBIC))

    def finish(self, image: Image | np.ndarray, infos: list[Info]) -> None:
        """Show the picture, and write the plot and the timelapse of a run."""
        if self.live is not None:
            self.live.show(image)
        if self.request.plot is not None and infos:
            save_plot(self.request.plot, infos, self.request)
        if self.request.timelapse is not None:
            self.add_frame(image)
            save_timelapse(self.request.timelapse, self.frames)


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


def save_plot(path: Path, infos: list[Info], request: StylizeRequest) -> None:
    """Plot the weighted terms over the steps; dotted lines divide the scales."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(8, 4.5), layout="constrained")).subplots()
    ends = np.cumsum([len(info.loss) for info in infos])
    for name in infos[0].terms._fields:
        weight = getattr(request.recipe, f"{name}_weight")
        values = np.concatenate([np.asarray(getattr(x.terms, name)) for x in infos])
        axes.semilogy(np.arange(1, ends[-1] + 1), weight * values, label=name)
    for end in ends[:-1]:
        axes.axvline(end + 0.5, color="grey", linestyle=":")
    axes.set(xlabel="step", ylabel="weighted term of the loss")
    axes.legend()
    with write_whole(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower())
