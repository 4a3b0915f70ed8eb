"""Painted frames: kept in memory, or in a folder that survives the process."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxnst.disk import write_whole
from jaxnst.pictures.source import as_levels
from jaxnst.types import Image


class Frame(NamedTuple):
    """A painted frame."""

    image: Image  # as it was painted, before the colours of the result are made
    first: int  # index of the first frame of its shot
    weight: float  # of the disagreement with other frames, in the whole shot
    shown: UInt8[np.ndarray, "_h _w 3"]  # the content that its paint was made for
    content: Image | None = None  # of the source, where a second pass needs it


BYTES = {1: 15, 2: 30}
"""Bytes that a folder stores per pixel and frame, by the number of passes."""


class FolderStore:
    """Keeps frames in a folder, each written whole or not at all.

    Images of the first pass are stored exactly, because later frames start from them:
    a rounding error would grow until strokes differ. Other images have 16 bits.

    Args:
        folder: An existing folder.

    Example:
        >>> import tempfile
        >>> store = FolderStore(Path(tempfile.mkdtemp()))
        >>> grey = np.full((2, 2, 3), 0.1, np.float32)
        >>> store[1, 7] = Frame(grey, 0, 2.5, np.uint8(255 * grey))
        >>> (1, 7) in store, (1, 8) in store, store[1, 7].weight
        (True, False, 2.5)
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, key: tuple[int, int]) -> Path:
        """Path of a frame's file."""
        return self.folder / f"pass{key[0]}-{key[1] + 1:06d}.npz"

    def __contains__(self, key: tuple[int, int]) -> bool:
        return self.path(key).is_file()

    def __getitem__(self, key: tuple[int, int]) -> Frame:
        path = self.path(key)
        try:
            # NumPy would leave a damaged file open.
            with path.open("rb") as raw, np.load(raw) as file:
                image, first, weight, shown, content = Frame(**file)
            content = None if content is None else _as_floats(content)
            return Frame(_as_floats(image), int(first), float(weight), shown, content)
        except Exception as error:  # zipfile, NumPy and the system each raise their own
            raise ValueError(
                f"{path} is damaged; delete it to paint from there on"
            ) from error

    def __setitem__(self, key: tuple[int, int], frame: Frame) -> None:
        image = frame.image if key[0] == 1 else as_levels(frame.image, 16)
        content = None if frame.content is None else as_levels(frame.content, 16)
        kept = frame._replace(image=image, content=content)._asdict()
        with write_whole(self.path(key)) as file:
            np.savez(file, **{name: x for name, x in kept.items() if x is not None})


Store = dict[tuple[int, int], Frame] | FolderStore
"""Painted frames by pass, from 1, and index, from 0."""


def _as_floats(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 65535 if image.dtype == np.uint16 else image
