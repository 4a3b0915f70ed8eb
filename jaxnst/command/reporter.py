"""What the command does between chunks of steps: progress, previews, checkpoints."""

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxnst.painting.checkpoint import Checkpoint, save_checkpoint
from jaxnst.painting.grid import Progress as GridProgress
from jaxnst.painting.lanes import Lane, lane_work
from jaxnst.painting.multiscale import Progress
from jaxnst.painting.scales import scale_shapes, scale_steps
from jaxnst.pictures import files
from jaxnst.recipes import Recipe
from jaxnst.transfer import picture
from jaxnst.types import Image


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line at once, unless all shall be quiet or nobody reads on."""
    if not quiet:
        try:
            print(text, flush=True)
        except BrokenPipeError:
            ignore_output()


def ignore_output() -> None:
    """Print into nothing from here on.

    Whoever read the output, such as `head`, has seen enough; what is painted goes on,
    and Python's last flush does not complain.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_bar(total: int, done: int, *, shown: bool) -> tqdm:
    """A progress bar of pixels times steps, since finer scales take longer."""
    return tqdm(
        total=total,
        initial=done,
        disable=not shown,
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
        desc="compiling",
    )


class Interruptible:
    """Turns the first interruption into a note, which is looked at between chunks."""

    def __enter__(self):
        """Listen."""
        self.interrupted = False
        self.old = {
            sig: signal.signal(sig, self.interrupt)
            for sig in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        for sig, handler in self.old.items():
            signal.signal(sig, handler)

    def interrupt(self, number: int, frame: object) -> None:
        """Note an interruption; the second one gives the state up."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        print("jaxnst: stopping after this step", file=sys.stderr)


class Reporter(Interruptible):
    """What happens between chunks: progress, previews, checkpoints, interruption."""

    def __init__(
        self,
        recipe: Recipe,
        content: Image,
        args: argparse.Namespace,
        out: Path,
        kept: Path,
        inputs: dict[str, Any],
        resume: Checkpoint | None,
    ):
        self.recipe, self.out, self.kept, self.inputs = recipe, out, kept, inputs
        self.keep_often = args.checkpoint is not None
        self.save_every = args.save_every
        self.bar_shown = not args.quiet and sys.stderr.isatty()
        self.lines_shown = not args.quiet and not self.bar_shown
        shapes = scale_shapes(content.shape[:2], recipe)
        self.steps = scale_steps(recipe, len(shapes))
        # Time left is told from pixels, since a step takes longer at a finer scale.
        self.pixels = [math.prod(shape) for shape in shapes]
        self.done = self.work(resume.scale, resume.taken) if resume else 0
        self.started = self.written = time.monotonic()
        self.said = -math.inf

    def work(self, scale: int, taken: int) -> int:
        """Pixels painted before a step of a scale."""
        whole = sum(
            n * p for n, p in zip(self.steps[:scale], self.pixels[:scale], strict=True)
        )
        return whole + taken * self.pixels[scale]

    def __enter__(self) -> "Reporter":
        """Show the bar and listen for interruption."""
        total = self.work(len(self.pixels) - 1, self.steps[-1])
        self.bar = make_bar(total, self.done, shown=self.bar_shown)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Put everything back."""
        self.bar.close()
        super().__exit__()

    def __call__(self, progress: Progress) -> None:
        """Report, save, or stop, between two chunks."""
        self.report(progress)
        if self.save_every is not None:
            self.save_preview(progress, self.save_every)
        if progress.taken == progress.steps:
            return  # the next scale, or the picture, is about to begin: stop there
        due = self.keep_often and time.monotonic() - self.written > 30
        if due or self.interrupted:
            self.save_state(progress)
        if self.interrupted:
            self.bar.close()
            print(f"state kept in {self.kept}; repeat with --resume", file=sys.stderr)
            raise KeyboardInterrupt

    def report(self, progress: Progress) -> None:
        """Move the bar, or print a line: at first, every 10 s, at a scale's end."""
        last = progress.info.terms
        text = " ".join(
            f"{name} {getattr(self.recipe, f'{name}_weight') * float(term[-1]):.3g}"
            for name, term in last._asdict().items()
        )
        now = self.work(progress.scale, progress.taken)
        self.bar.set_description_str(
            f"{max(progress.shapes[progress.scale])} px "
            f"{progress.taken}/{progress.steps}",
            refresh=False,
        )
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(now - self.bar.n)
        elapsed = time.monotonic() - self.started
        at_end = progress.taken == progress.steps
        if self.lines_shown and (at_end or elapsed - self.said > 10):
            self.said = elapsed
            left = elapsed * (self.bar.total - now) / max(1, now - self.done)
            say(
                f"{max(progress.shapes[progress.scale])} px "
                f"step {progress.taken}/{progress.steps} {text} "
                f"about {left:.0f} s left"
            )

    def save_preview(self, progress: Progress, every: int) -> None:
        """Write the picture so far, whenever another `every` steps are full."""
        before = progress.taken - len(progress.info.loss)
        if progress.taken // every > before // every:
            side = max(progress.shapes[progress.scale])
            name = f"{self.out.stem}-{side:05d}px-{progress.taken:04d}{self.out.suffix}"
            files.save_image(
                self.out.with_name(name), picture(progress.state, self.recipe)
            )

    def save_state(self, progress: Progress) -> None:
        """Write the checkpoint."""
        self.written = time.monotonic()
        save_checkpoint(
            self.kept,
            Checkpoint(
                progress.scale,
                progress.taken,
                progress.state,
                progress.tiles,
                self.inputs,
            ),
        )


class GridReporter(Interruptible):
    """What happens between the chunks of a grid: progress over lanes, interruption.

    Args:
        lanes: What this process is going to paint.
        quiet: Whether to say nothing.
    """

    def __init__(self, lanes: Sequence[Lane], *, quiet: bool):
        self.lanes, self.quiet = len(lanes), quiet
        self.total = sum(map(lane_work, lanes))
        self.painted = 0
        self.done = 0  # work in finished batches
        self.started = time.monotonic()
        self.said = -math.inf

    def __enter__(self) -> "GridReporter":
        """Show the bar and listen for interruption."""
        shown = not self.quiet and sys.stderr.isatty()
        self.bar = make_bar(self.total, 0, shown=shown)
        self.lines_shown = not self.quiet and not shown
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Put everything back."""
        self.bar.close()
        super().__exit__()

    def __call__(self, progress: GridProgress) -> None:
        """Report, or stop, between two chunks."""
        steps = scale_steps(progress.lanes[0].recipe, len(progress.shapes))
        pixels = [math.prod(shape) for shape in progress.shapes]
        taken = [*steps[: progress.scale], progress.taken]
        each = sum(n * p for n, p in zip(taken, pixels, strict=False))
        now = self.done + each * len(progress.lanes)
        if each == lane_work(progress.lanes[0]):
            self.done = now
            self.painted += len(progress.lanes)
        text = (
            f"{self.painted}/{self.lanes} painted, {len(progress.lanes)} at "
            f"{max(progress.shapes[progress.scale])} px "
            f"{progress.taken}/{progress.steps}"
        )
        self.bar.set_description_str(text, refresh=False)
        self.bar.update(now - self.bar.n)
        elapsed = time.monotonic() - self.started
        if self.lines_shown and (now == self.total or elapsed - self.said > 10):
            # The first chunk's time is that of compiling.
            left = elapsed * (self.total - now) / max(1, now)
            text += f", about {left:.0f} s left" if self.said > 0 else ""
            self.said = elapsed
            say(text)
        if self.interrupted and each < lane_work(progress.lanes[0]):
            self.bar.close()
            print(
                f"{self.painted} of {self.lanes} pictures are painted; "
                "the same command paints the rest",
                file=sys.stderr,
            )
            raise KeyboardInterrupt
