"""How a painting is made: its output, what is kept on the way, and who watches."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from jaxnst.painting.memory import usable_memory


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one painting is made.

    Attributes:
        out: Path of the result.
        bits: Bits per channel of a PNG or TIFF.
        memory: Bytes that the process may take. Default: what is free.
        save_every: Steps between previews.
        checkpoint: Path of the checkpoint, if not beside the result.
        trace: Where a line about each chunk of steps is kept.
        plot: Where the terms of the loss are plotted.
        timelapse: Where the pictures on the way are kept.
        live: Whether a page shows the run.
        live_folder: Where the studio reads how far the run is.
        resume: Whether to go on from the checkpoint.
        quiet: Whether only errors are printed.
    """

    out: Path
    bits: Literal[8, 16] = 8
    memory: Annotated[int, Meta(gt=0)] | None = None
    save_every: Annotated[int, Meta(gt=0)] | None = None
    checkpoint: Path | None = None
    trace: Path | None = None
    plot: Path | None = None
    timelapse: Path | None = None
    live: bool = False
    live_folder: Path | None = None
    resume: bool = False
    quiet: bool = False

    @property
    def records(self) -> list[Path]:
        """Paths of the trace, the plot and the timelapse, if they are kept."""
        return [x for x in (self.trace, self.plot, self.timelapse) if x is not None]

    @property
    def outputs(self) -> list[Path]:
        """Paths of all that is asked for, the result first."""
        kept = [] if self.checkpoint is None else [self.checkpoint]
        return [self.out, *kept, *self.records]

    @property
    def usable_memory(self) -> int:
        """Bytes that the process may take."""
        return usable_memory() if self.memory is None else self.memory

    @property
    def checkpoint_path(self) -> Path:
        """Path of the checkpoint, which an interrupted run keeps in any case."""
        beside = self.out.with_name(self.out.name + ".checkpoint.npz")
        return self.checkpoint or beside
