"""A request: a `Painting` says what to paint, and a `Run` says how to run it.

The command makes a `Painting` from flags, the studio from the choices on its page, and
`again` from a manifest. The JSON of a `Painting` is the core of each manifest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
from msgspec import Meta

from jaxnst.foreign import Text
from jaxnst.painting.memory import usable_memory
from jaxnst.painting.scales import content_size
from jaxnst.pictures.files import image_shape
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import Recipe

LARGEST_SIZE = 10**7
"""Largest long edge of a result, in pixels."""

Place = Annotated[float, Meta(ge=0, le=1)]
Length = Annotated[float, Meta(gt=0, le=1)]
Box = tuple[Place, Place, Length, Length]
"""Top, left, height and width, as fractions of a picture's height and width."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class StyleFile:
    """A picture that gives a style.

    Attributes:
        weight: Weight of the style, relative to the other styles.
        stroke_scale: Size of its strokes, as a factor on the recipe's, > 0.
        mask: Mask, white where the picture is used. Default: all of it.
    """

    path: Path
    weight: Annotated[float, Meta(gt=-1e300, lt=1e300)] = 1.0
    stroke_scale: Annotated[float, Meta(gt=0, lt=1e300)] = 1.0
    mask: Path | None = None


def blend_of(styles: Sequence[StyleFile]) -> tuple[float, ...] | None:
    """The weight of each style; None if each has 1."""
    weights = tuple(style.weight for style in styles)
    return None if set(weights) <= {1.0} else weights


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class RegionFile:
    """A part of the content, white in the mask, and its styles."""

    mask: Path
    styles: tuple[StyleFile, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Painting:
    """The request for one picture.

    Attributes:
        content: The photograph, or the file or folder of a video.
        styles: Styles of all parts that no region covers.
        regions: Parts with their own styles.
        keep_rest: Whether the parts that no region covers stay unchanged.
        labels: Region maps of the content and of each style, instead of `regions`.
            Areas of the same colour belong together.
        content_mask: Mask, white where the content is preserved more strongly.
        faces: Boxes of the content to preserve as faces. Default: those that
            `faces.with_faces` finds.
        palette: A picture that gives the colours.
        start: The start image. Default: by the recipe's `init`.
        recipe: The recipe, with all changes applied.
        size: Long edge of the result in pixels. Default: by the recipe's rule.
        seed: Seed of the start image's noise.
        weights: Name or path of the network's weights. Default: the recipe's.
    """

    content: Path
    styles: tuple[StyleFile, ...] = ()
    regions: tuple[RegionFile, ...] = ()
    keep_rest: bool = False
    labels: tuple[Path, ...] = ()
    content_mask: Path | None = None
    faces: Annotated[tuple[Box, ...], Meta(max_length=1000)] | None = None
    palette: Path | None = None
    start: Path | None = None
    recipe: Recipe
    size: Annotated[int, Meta(ge=1, le=LARGEST_SIZE)] | None = None
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    weights: Text | None = None

    @property
    def paths(self) -> list[Path]:
        """All pictures that are read, in order."""
        return [x for x in jax.tree.leaves(self) if isinstance(x, Path)]

    @property
    def all_styles(self) -> list[StyleFile]:
        """All styles, including those of regions."""
        own = [style for region in self.regions for style in region.styles]
        return [*self.styles, *own]

    @property
    def blend(self) -> tuple[float, ...] | None:
        """The weight of each style, see `blend_of`."""
        return blend_of(self.styles)

    @property
    def network(self) -> str:
        """Name or path of the network's weights; by default, the recipe's."""
        return self.weights or self.recipe.network

    @property
    def masked(self) -> bool:
        """Whether masks, maps, faces or a palette are used, apart from alpha."""
        masks = self.content_mask, self.palette, *(x.mask for x in self.all_styles)
        return bool(self.regions or self.labels or self.faces or any(masks))

    def map(self, function: Callable[[Path], Path]) -> "Painting":
        """A copy in which `function` replaces the path of each picture."""
        of_paths = lambda x: function(x) if isinstance(x, Path) else x
        return jax.tree.map(of_paths, self)

    def shape(self, native: tuple[int, int] | None = None) -> tuple[int, int]:
        """Height and width of the result; `native` is the shape of the content."""
        native = native or image_shape(self.content)
        return fit_shape(native, self.size or content_size(native, self.recipe))


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one painting is made.

    Attributes:
        out: Path of the result.
        bits: Bits per channel of a PNG or TIFF.
        memory: Bytes that the process may use. Default: nine tenths of what is free.
        save_every: Steps between previews.
        checkpoint: Path of the checkpoint. Default: beside the result.
        trace: Path of the trace, with a line for each chunk of steps.
        plot: Path of the plot of the loss terms.
        timelapse: Path of the animation of the pictures so far.
        live: Whether a page shows the run.
        live_folder: Folder from which the studio reads the progress.
        resume: Whether to continue from the checkpoint.
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
        """Paths of all requested files, the result first."""
        kept = [] if self.checkpoint is None else [self.checkpoint]
        return [self.out, *kept, *self.records]

    @property
    def usable_memory(self) -> int:
        """Bytes that the process may use."""
        return usable_memory() if self.memory is None else self.memory

    @property
    def checkpoint_path(self) -> Path:
        """Path of the checkpoint, which every interrupted run writes."""
        beside = self.out.with_name(self.out.name + ".checkpoint.npz")
        return self.checkpoint or beside
