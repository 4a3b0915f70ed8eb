"""Measure what it costs a run to be watched.

    python scripts/measure/live.py [--size N] [--recipe NAME]

Paints the sample twice, so that the second time nothing is compiled, and prints the
frames that were shown, the seconds that they took, and their share of the run.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from shared import machine

from jaxnst.command.cli import parse
from jaxnst.command.flags import painting_from, run_from
from jaxnst.command.stylize import paint
from jaxnst.live import LiveWriter
from jaxnst.painting.stages import Progress
from jaxnst.pictures.samples import sample_path


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=384, help="long edge, in pixels")
    parser.add_argument("--recipe", default="painterly")
    args = parser.parse_args()
    print(machine())
    pictures = [str(sample_path(name)) for name in ("harbour", "swirls")]
    show, spent = LiveWriter.frame, []

    def timed(self: LiveWriter, progress: Progress, *, newest: bool) -> None:
        began, frames = time.perf_counter(), self.frames
        show(self, progress, newest=newest)
        spent.append((time.perf_counter() - began, self.frames - frames))

    LiveWriter.frame = timed
    for kind in ("first", "second"):
        spent.clear()
        with tempfile.TemporaryDirectory() as folder:
            flags = ["-o", str(Path(folder) / "out.png"), "--size", str(args.size)]
            flags += ["--recipe", args.recipe, "--weights", "embedded", "--quiet"]
            began = time.perf_counter()
            given = parse(["stylize", *pictures, *flags])
            run = replace(run_from(given, given.out), live_folder=Path(folder))
            paint(painting_from(given, given.content, given.style), run)
            whole = time.perf_counter() - began
        took, frames = (sum(column) for column in zip(*spent, strict=True))
        print(
            f"{kind} run: {whole:.1f} s, {frames} frames in {took:.2f} s, "
            f"{took / whole:.2%}"
        )


if __name__ == "__main__":
    main()
