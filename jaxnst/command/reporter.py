"""Reports of the command between chunks of steps: progress, previews, checkpoints."""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from jaxnst.command import records
from jaxnst.live import SO_FAR, LiveWriter
from jaxnst.painting.checkpoint import Checkpoint, save_checkpoint
from jaxnst.painting.lanes import Lane, lane_work
from jaxnst.painting.plan import Stages, total_work, work_done
from jaxnst.painting.stages import Progress
from jaxnst.painting.timing import TimeLeft
from jaxnst.pictures.files import save_image
from jaxnst.recipes import Recipe
from jaxnst.request.painting import Run
from jaxnst.types import Image


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line at once, unless `quiet` is set or the reader has gone."""
    if not quiet:
        try:
            print(text, flush=True)
        except OSError:  # also a file on a full disk
            ignore_output()


def complain(text: str) -> None:
    """Print a line to standard error, unless its reader has gone."""
    with contextlib.suppress(OSError):
        print(f"jaxnst: {text}", file=sys.stderr, flush=True)


def ignore_output() -> None:
    """Discard all further output.

    The reader, such as `head`, has closed the pipe, or the disk is full. Painting
    continues, and Python's last flush raises no error.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


SIGNALS = [x for x in signal.Signals if x.name in ("SIGINT", "SIGTERM", "SIGHUP")]
"""Signals that interrupt a run; a closed terminal sends SIGHUP."""

OFTEN = 30
"""Fewest seconds between two checkpoints. Writing them takes at most a twentieth of the
time."""

BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}"

OFTEN_SAID = 10
"""Fewest seconds between two lines, if there is no terminal for a bar."""


class Reporter:
    """Shows the progress of work, such as pixels times steps, as a bar or as lines.

    Ctrl-C and similar signals set `interrupted`, which is checked between launches; a
    second signal ends the run at once. `live` shows the work on a page.
    """

    def __init__(
        self, total: int, done: int, live: LiveWriter | None = None, *, quiet: bool
    ):
        self.total, self.left, self.interrupted = total, TimeLeft(), False
        self.live = live or LiveWriter(None)
        bar_shown = not quiet and sys.stderr.isatty()
        self.lines_shown = not quiet and not bar_shown
        self.said, self.waited = -math.inf, time.monotonic()
        look: dict[str, Any] = {"desc": "compiling", "bar_format": BAR}
        self.bar = tqdm(total=total, initial=done, disable=not bar_shown, **look)

    def __enter__(self):
        """Listen for signals."""
        # Python sets handlers in the main thread only.
        ours = threading.current_thread() is threading.main_thread()
        # An ignored signal, such as SIGHUP under nohup, stays ignored.
        ignored = lambda sig: signal.getsignal(sig) is signal.SIG_IGN
        heard = [sig for sig in SIGNALS if ours and not ignored(sig)]
        self.handlers = {sig: signal.signal(sig, self.interrupt) for sig in heard}
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close the bar, and restore the signal handlers."""
        if kind is None:
            self.bar.update(self.total - self.bar.n)
        self.bar.close()
        for sig, handler in self.handlers.items():
            signal.signal(sig, handler)

    def interrupt(self, number: int, frame: object) -> None:
        """Note an interruption; the second one stops without saving the state."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        complain("stopping after this step")

    def stop(self, message: str) -> NoReturn:
        """Print a message about an interrupted run, and end the run."""
        self.bar.close()
        complain(message)
        raise KeyboardInterrupt

    def show(
        self, work: int, place: str, losses: str = "", *, at_end: bool = False
    ) -> None:
        """Move the bar to the finished work, or print a line if one is due."""
        seconds, now = self.left(work / self.total), time.monotonic()
        left = "" if seconds is None else f"about {seconds:.0f} s left"
        words = " ".join(filter(None, (losses, left)))
        self.bar.set_description_str(place, refresh=False)
        self.bar.set_postfix_str(words, refresh=False)
        self.bar.update(work - self.bar.n)
        if self.lines_shown and (at_end or now - self.said > OFTEN_SAID):
            self.said = now
            say(f"{place} {words}".strip())

    def wait(self, program: str, seconds: float) -> None:
        """Show, or say every few seconds, that a program is being compiled."""
        self.live.say(f"Compiling {program}, once for this size")
        words = f"compiling {program}, {seconds:.0f} s"
        self.bar.set_description_str(words)
        now = time.monotonic()
        if self.lines_shown and now - self.waited > OFTEN_SAID:
            self.waited = now
            say(f"{words} so far")


def place_of(progress: Progress) -> str:
    """Size and step of a run, as text."""
    stage = progress.stage
    done = f"step {progress.taken}/{stage.steps}" if stage.steps else "patches"
    return f"{max(stage.shape)} px {done}"


class PictureReporter(Reporter):
    """Handles progress, records, checkpoints and interruption between launches.

    `run` says what to keep, `identity` identifies the picture in its checkpoint, and
    `resume` is the checkpoint of a resumed run.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        stages: Stages,
        identity: dict[str, Any],
        resume: Checkpoint | None,
        live: LiveWriter,
    ):
        done, before = 0, {}
        if resume is not None:
            done = work_done(stages, recipe, resume.scale, resume.taken)
            before = resume.records
        super().__init__(total_work(stages, recipe), done, live, quiet=run.quiet)
        self.run, self.recipe, self.identity = run, recipe, identity
        self.records = records.Records(run, stages[-1].shape, before)
        self.written, self.pause = time.monotonic(), float(OFTEN)
        self.complaints: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        """Report, save, or stop, between two launches."""
        with self.tolerate_write_errors("record"):
            self.live.frame(progress, newest=self.interrupted)
            self.records.add(progress)
        self.report(progress)
        with self.tolerate_write_errors("preview"):
            self.save_preview(progress)
        if progress.at_end and not self.recipe.look.repaint:
            return  # the picture is painted
        if self.interrupted:
            with self.tolerate_write_errors("picture"):
                if self.run.live_folder is not None:
                    save_image(self.run.live_folder / SO_FAR, progress.image)
            try:
                self.save_state(progress)
            except (OSError, ValueError) as error:
                self.stop(f"the state is lost: {error}")
            self.stop(f"state kept in {self.run.checkpoint_path}; rerun with --resume")
        if time.monotonic() - self.written > self.pause:
            with self.tolerate_write_errors("state"):
                self.save_state(progress)

    def finish(self, image: Image | np.ndarray) -> None:
        """Show the result, and write the plot and the timelapse, even if one fails."""
        run, kept = self.run, self.records
        with self.tolerate_write_errors("frame"):
            self.live.show(image)
        with self.tolerate_write_errors("plot"):
            if run.plot is not None and kept.terms:
                records.save_plot(run.plot, kept.table, self.recipe.weights)
        with self.tolerate_write_errors("timelapse"):
            if run.timelapse is not None:
                kept.add_frame(image)
                records.save_timelapse(run.timelapse, kept.frames)

    @contextlib.contextmanager
    def tolerate_write_errors(self, kind: str) -> Iterator[None]:
        """Report once that something cannot be written, and continue to paint."""
        try:
            yield
        except Exception as error:  # of libraries that draw and encode, too
            if kind not in self.complaints:
                complain(f"the {kind} cannot be saved: {error}")
            self.complaints.add(kind)

    def report(self, progress: Progress) -> None:
        """Move the bar, or print a line, and update the live page."""
        recipe, stage = self.recipe, progress.stage
        shown = lambda term: float(np.maximum(term[-1], 0))  # rounding may go below 0
        text = " ".join(
            f"{name} {getattr(recipe.weights, f'{name}_weight') * shown(term):.3g}"
            for name, term in progress.info.terms._asdict().items()
            if len(term)
        )
        now = work_done(progress.stages, recipe, progress.stage_index, progress.taken)
        self.live.step(progress, recipe, now, self.total)
        at_end = progress.taken == stage.steps
        self.show(now, place_of(progress), text, at_end=at_end)

    def save_preview(self, progress: Progress) -> None:
        """Write the picture so far every `save_every` steps, if that is set."""
        every, before = self.run.save_every, progress.taken - len(progress.info.loss)
        if every is not None and progress.taken // every > before // every:
            side, out = max(progress.stage.shape), self.run.out
            name = f"{out.stem}-{side:05d}px-{progress.taken:04d}{out.suffix}"
            save_image(out.with_name(name), progress.image)

    def save_state(self, progress: Progress) -> None:
        """Write the checkpoint."""
        began = time.monotonic()
        stages, scale, taken, state, *_ = progress
        tiles, records = [stage.tile for stage in stages], self.records.state()
        checkpoint = Checkpoint(scale, taken, state, tiles, self.identity, records)
        try:
            save_checkpoint(self.run.checkpoint_path, checkpoint)
        finally:
            self.written = time.monotonic()
            self.pause = max(OFTEN, 20 * (self.written - began))


class GridReporter(Reporter):
    """Handles progress and interruption between the launches of a grid."""

    def __init__(self, lanes: Sequence[Lane], live: LiveWriter, *, quiet: bool):
        super().__init__(sum(map(lane_work, lanes)), 0, live, quiet=quiet)
        self.lanes = len(lanes)
        self.painted = self.done = 0  # lanes and work of finished batches

    def __call__(self, lanes: list[Lane], progress: Progress) -> None:
        """Report, or stop, between two launches of a batch."""
        recipe = lanes[0].recipe
        each = work_done(progress.stages, recipe, progress.stage_index, progress.taken)
        now = self.done + each * len(lanes)
        self.live.step(progress, recipe, now, self.total, pictures=len(lanes))
        if progress.at_end:
            self.done += sum(map(lane_work, lanes))
            self.painted += len(lanes)
            now = self.done
        here = f"{len(lanes)} at {place_of(progress)}"
        text = f"{self.painted}/{self.lanes} painted, {here}"
        self.show(now, text, at_end=self.painted == self.lanes)
        # A batch that has just been painted is not written yet; recoloured ones are.
        written = not (progress.at_end and recipe.paints)
        if self.interrupted and written and self.painted < self.lanes:
            self.stop(
                f"{self.painted} of {self.lanes} pictures are painted; "
                "rerun the command to paint the rest"
            )
