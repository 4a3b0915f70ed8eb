"""One picture that is asked for, as everything below the flags sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax

from jaxnst.painting.plan import Stages
from jaxnst.recipes import FIELDS, Recipe

STARTS = get_args(FIELDS["init"])
"""What a run may start from, beside a file."""


class MaskFiles(NamedTuple):
    """Where and how a picture is painted, in files.

    Attributes:
        regions: Masks, and the styles of each.
        keep_rest: Whether what the regions leave stays as it is.
        style_masks: Styles, and which part of them is the style.
        style_scales: Styles, and the size of their strokes.
        labels: The parts of the content by colour, and those of each style.
        hold: How strongly the content holds.
        palette: A picture whose colours are wanted.
    """

    regions: tuple[tuple[Path, tuple[Path, ...]], ...] = ()
    keep_rest: bool = False
    style_masks: tuple[tuple[Path, Path], ...] = ()
    style_scales: tuple[tuple[Path, float], ...] = ()
    labels: tuple[Path, ...] = ()
    hold: Path | None = None
    palette: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All files, in order."""
        return [x for x in jax.tree.leaves(self) if isinstance(x, Path)]

    def map(self, function: Callable[[Path], Any]) -> "MaskFiles":
        """The same, with a function of every path."""
        of_paths = lambda x: function(x) if isinstance(x, Path) else x
        return jax.tree.map(of_paths, self)


@dataclass(frozen=True, kw_only=True)
class StylizeRequest:
    """One picture that is asked for, checked.

    Attributes:
        recipe: The recipe, with every change.
        shape: Height and width of the result.
        masks: Where and how it is painted.
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
        live: Whether a page shows the run.
        live_folder: Where what the page shows is written, if not in one of its own.
    """

    content: Path
    styles: tuple[Path, ...]
    out: Path
    recipe: Recipe
    shape: tuple[int, int]
    masks: MaskFiles = MaskFiles()
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
    live: bool = False
    live_folder: Path | None = None
    resume: bool = False
    quiet: bool = False

    @property
    def pictures(self) -> list[Path]:
        """Paths of all pictures that are read."""
        pictures = [self.content, *self.styles, self.init_path, *self.masks.paths]
        return [path for path in pictures if path is not None]

    @property
    def records(self) -> list[Path]:
        """Paths of the trace, the plot and the timelapse, if they are kept."""
        return [x for x in (self.trace, self.plot, self.timelapse) if x is not None]

    @property
    def all_styles(self) -> list[Path]:
        """Paths of the styles, those of regions too."""
        return [*self.styles, *(x for _, own in self.masks.regions for x in own)]

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
