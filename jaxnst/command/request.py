"""One picture that is asked for, as everything below the flags sees it."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from jaxnst.painting.plan import Stages
from jaxnst.recipes import Recipe

STARTS = get_args(next(f.type for f in fields(Recipe) if f.name == "init"))
"""What a run may start from, beside a file."""


@dataclass(frozen=True, kw_only=True)
class StylizeRequest:
    """One picture that is asked for, checked.

    Attributes:
        recipe: The recipe, with every change.
        shape: Height and width of the result.
        stages: The stages of the run, once they are planned.
        size: Long edge of the result, if one was asked for.
        weights: Name or path of the network's weights.
        init: What `--init` said: a start image, or the name of one.
        memory: Bytes that the process may take.
        save_every: Steps between previews.
        checkpoint: Path of the checkpoint, if not beside the result.
        trace: Where a line about each chunk of steps is kept.
        plot: Where the terms of the loss are plotted.
        timelapse: Where the pictures on the way are kept.
    """

    content: Path
    styles: tuple[Path, ...]
    out: Path
    recipe: Recipe
    shape: tuple[int, int]
    stages: Stages = ()
    size: int | None = None
    weights: str
    seed: int = 0
    blend: tuple[float, ...] | None = None
    init: str | None = None
    memory: int = 0
    bits: Literal[8, 16] = 8
    save_every: int | None = None
    checkpoint: Path | None = None
    trace: Path | None = None
    plot: Path | None = None
    timelapse: Path | None = None
    resume: bool = False
    quiet: bool = False

    @property
    def pictures(self) -> list[Path]:
        """Paths of all pictures that are read."""
        pictures = [self.content, *self.styles, self.init_path]
        return [path for path in pictures if path is not None]

    @property
    def init_path(self) -> Path | None:
        """Path of the start image, if it is a file."""
        return None if self.init in (None, *STARTS) else Path(self.init)

    @property
    def checkpoint_path(self) -> Path:
        """Path of the checkpoint, which an interrupted run keeps in any case."""
        return self.checkpoint or checkpoint_beside(self.out)


def checkpoint_beside(out: Path) -> Path:
    """Path of the checkpoint of a run with that result."""
    return out.with_name(out.name + ".checkpoint.npz")
