"""What the command does between chunks of steps: progress, previews, checkpoints."""

import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from tqdm import tqdm

from jaxnst.command.request import StylizeRequest
from jaxnst.painting.checkpoint import Checkpoint, save_checkpoint
from jaxnst.painting.lanes import Lane, lane_work
from jaxnst.painting.plan import total_work, work_done
from jaxnst.painting.stages import Progress
from jaxnst.pictures.files import save_image
from jaxnst.transfer import current_image


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line at once, unless `quiet` is set or the reader has gone."""
    if not quiet:
        try:
            print(text, flush=True)
        except BrokenPipeError:
            ignore_output()


def ignore_output() -> None:
    """Discard all further output.

    The reader, such as `head`, has closed the pipe. Painting goes on, and Python's last
    flush raises no error.
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
    """Turns the first interruption into a flag that is checked between chunks."""

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
        """Note an interruption; the second one stops without saving the state."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        print("jaxnst: stopping after this step", file=sys.stderr)


class Reporter(Interruptible):
    """What happens between launches: progress, previews, checkpoints, interruption.

    Args:
        request: What is painted.
        inputs: What the run was started with, for the checkpoint.
        resume: Checkpoint that the run continues from.
    """

    def __init__(
        self, request: StylizeRequest, inputs: dict[str, Any], resume: Checkpoint | None
    ):
        self.request, self.inputs = request, inputs
        self.bar_shown = not request.quiet and sys.stderr.isatty()
        self.lines_shown = not request.quiet and not self.bar_shown
        self.total, self.done = total_work(request.stages), 0
        if resume is not None:
            self.done = work_done(request.stages, resume.scale, resume.taken)
        self.started = self.written = self.launched = time.monotonic()
        self.printed = -math.inf
        self.times: dict[int, list[float]] = {}

    def __enter__(self) -> "Reporter":
        """Show the bar and listen for interruption."""
        self.bar = make_bar(self.total, self.done, shown=self.bar_shown)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Put everything back."""
        self.bar.close()
        super().__exit__()

    def __call__(self, progress: Progress) -> None:
        """Report, save, or stop, between two launches."""
        self.time(progress)
        self.report(progress)
        if self.request.save_every is not None:
            self.save_preview(progress, self.request.save_every)
        if progress.taken == progress.stage.steps:
            return  # the scale is finished; an interruption waits for the next one
        often = self.request.checkpoint is not None
        if (often and time.monotonic() - self.written > 30) or self.interrupted:
            self.save_state(progress)
        if self.interrupted:
            self.bar.close()
            path = self.request.checkpoint_path
            print(f"state kept in {path}; rerun with --resume", file=sys.stderr)
            raise KeyboardInterrupt

    def time(self, progress: Progress) -> None:
        """Note how long a step took; the first launch of a stage compiles as well."""
        now, steps = time.monotonic(), len(progress.info.loss)
        if progress.taken > steps:
            pixels = math.prod(progress.stage.shape)
            self.times.setdefault(pixels, []).append((now - self.launched) / steps)
        self.launched = now

    @property
    def step_seconds(self) -> dict[int, float]:
        """Median seconds of a step, by the number of pixels of the picture."""
        return {pixels: median(found) for pixels, found in self.times.items()}

    def report(self, progress: Progress) -> None:
        """Move the bar, or print a line: first, every 10 s, and at a scale's end."""
        last, stage = progress.info.terms, progress.stage
        text = " ".join(
            f"{name} "
            f"{getattr(self.request.recipe, f'{name}_weight') * float(term[-1]):.3g}"
            for name, term in last._asdict().items()
        )
        now = work_done(progress.stages, progress.scale, progress.taken)
        place = f"{max(stage.shape)} px {progress.taken}/{stage.steps}"
        self.bar.set_description_str(place, refresh=False)
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(now - self.bar.n)
        elapsed = time.monotonic() - self.started
        at_end = progress.taken == stage.steps
        if self.lines_shown and (at_end or elapsed - self.printed > 10):
            self.printed = elapsed
            left = elapsed * (self.total - now) / max(1, now - self.done)
            place = place.replace(" px ", " px step ")
            say(f"{place} {text} about {left:.0f} s left")

    def save_preview(self, progress: Progress, every: int) -> None:
        """Write the picture so far after every `every` steps."""
        before = progress.taken - len(progress.info.loss)
        if progress.taken // every > before // every:
            side, out = max(progress.stage.shape), self.request.out
            name = f"{out.stem}-{side:05d}px-{progress.taken:04d}{out.suffix}"
            image = current_image(progress.state, self.request.recipe)
            save_image(out.with_name(name), image)

    def save_state(self, progress: Progress) -> None:
        """Write the checkpoint."""
        self.written = time.monotonic()
        save_checkpoint(
            self.request.checkpoint_path,
            Checkpoint(
                progress.scale,
                progress.taken,
                progress.state,
                [stage.tile for stage in progress.stages],
                self.inputs,
            ),
        )


class GridReporter(Interruptible):
    """What happens between the launches of a grid: progress over lanes, interruption.

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
        self.printed = -math.inf

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

    def __call__(self, lanes: list[Lane], progress: Progress) -> None:
        """Report, or stop, between two launches of a batch."""
        each = work_done(progress.stages, progress.scale, progress.taken)
        finished = each == total_work(progress.stages)
        now = self.done + each * len(lanes)
        if finished:
            self.done = now
            self.painted += len(lanes)
        stage = progress.stage
        text = (
            f"{self.painted}/{self.lanes} painted, {len(lanes)} at "
            f"{max(stage.shape)} px {progress.taken}/{stage.steps}"
        )
        self.bar.set_description_str(text, refresh=False)
        self.bar.update(now - self.bar.n)
        elapsed = time.monotonic() - self.started
        if self.lines_shown and (now == self.total or elapsed - self.printed > 10):
            # The first launch's time is that of compiling.
            left = elapsed * (self.total - now) / max(1, now)
            text += f", about {left:.0f} s left" if self.printed > 0 else ""
            self.printed = elapsed
            say(text)
        if self.interrupted and not finished:
            self.bar.close()
            print(
                f"{self.painted} of {self.lanes} pictures are painted; "
                "rerun the command to paint the rest",
                file=sys.stderr,
            )
            raise KeyboardInterrupt
