"""Painted frames: kept in memory, or in a folder that survives the process."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from jaxnst.disk import write_whole

ImageArray = Float[np.ndarray, "_h _w 3"]
"""As `types.Image`, in NumPy."""


class Frame(NamedTuple):
    """A painted frame.

    Attributes:
        image: As it was painted, float32, before the colours of the result are made.
        first: Index of the first frame of its shot.
        weight: Factor on the disagreement with other frames, of the whole shot.
        content: The frame of the source, where a second pass needs it.
        shown: The content that its paint was made for, in levels of 0 to 255.
    """

    image: ImageArray
    first: int
    weight: float
    content: ImageArray | None = None
    shown: UInt8[np.ndarray, "_h _w 3"] | None = None


@runtime_checkable
class Store(Protocol):
    """Keeps the painted frames of each pass, from 1, by their index, from 0."""

    def has(self, number: int, index: int) -> bool:
        """Whether a frame of a pass is there."""
        ...

    def load(self, number: int, index: int) -> Frame:
        """Return a frame of a pass that is there."""
        ...

    def save(self, number: int, index: int, frame: Frame) -> None:
        """Keep a frame of a pass."""
        ...


class MemoryStore:
    """Keeps frames in memory: the newest ones of a pass, or all.

    Args:
        newest: How many. Default: all.
    """

    def __init__(self, newest: int | None = None):
        self.newest, self.frames = newest, {}

    def has(self, number: int, index: int) -> bool:
        """Whether a frame is there."""
        return (number, index) in self.frames

    def load(self, number: int, index: int) -> Frame:
        """Return a frame."""
        return self.frames[number, index]

    def save(self, number: int, index: int, frame: Frame) -> None:
        """Keep a frame."""
        self.frames[number, index] = frame
        if self.newest is not None:
            self.frames.pop((number, index - self.newest), None)


BYTES = {1: 15, 2: 30}
"""Bytes that a folder keeps for each pixel and frame of a run, by its passes."""

LEVELS = 65535
"""Of numbers in 16 bits."""


class FolderStore:
    """Keeps frames in a folder, each written whole or not at all.

    Images of the first pass are kept as they are, since later frames continue them, and
    a rounding would grow to other strokes. All else is kept in 16 bits.

    Args:
        folder: It must exist.

    Example:
        >>> import tempfile
        >>> store = FolderStore(Path(tempfile.mkdtemp()))
        >>> store.save(1, 7, Frame(np.full((2, 2, 3), 0.1, np.float32), 0, 2.5))
        >>> store.has(1, 7), store.has(1, 8), store.load(1, 7).weight
        (True, False, 2.5)
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, number: int, index: int) -> Path:
        """Where a frame lies."""
        return self.folder / f"pass{number}-{index + 1:06d}.npz"

    def has(self, number: int, index: int) -> bool:
        """Whether a frame is there."""
        return self.path(number, index).is_file()

    def load(self, number: int, index: int) -> Frame:
        """Return a frame; a ValueError if its file is damaged."""
        path = self.path(number, index)
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                content = _as_floats(file["content"]) if "content" in file else None
                first, weight = int(file["first"]), float(file["weight"])
                image, shown = _as_floats(file["image"]), file.get("shown")
                return Frame(image, first, weight, content, shown)
        except Exception as error:  # zipfile, NumPy and the system each raise their own
            raise ValueError(
                f"expected a painted frame at {path}, got a damaged file; delete it to "
                "paint from there on"
            ) from error

    def save(self, number: int, index: int, frame: Frame) -> None:
        """Keep a frame."""
        arrays: dict[str, Any] = {"first": frame.first, "weight": frame.weight}
        arrays["image"] = frame.image if number == 1 else _in_16_bits(frame.image)
        if frame.content is not None:
            arrays["content"] = _in_16_bits(frame.content)
        if frame.shown is not None:
            arrays["shown"] = frame.shown
        with write_whole(self.path(number, index)) as file:
            np.savez(file, **arrays)


def _in_16_bits(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * LEVELS).astype(np.uint16)


def _as_floats(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / LEVELS if image.dtype == np.uint16 else image
