"""Optical flow: measured between two frames, or read from files."""

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnst.checks import check_installed
from jaxnst.pictures.color import LUMA
from jaxnst.pictures.geometry import resize
from jaxnst.types import Image
from jaxnst.video.temporal import DARK, Flow

STILL_SIDE, STILL_PART = 7, 0.02
"""A square of this side, in pixels, is still if its mean difference is below this
fraction of its standard deviation. A move by a tenth of a pixel differs more."""

SMALLEST = 12
"""Edge in pixels below which OpenCV measures no flow; smaller frames are padded."""

Flows = Callable[[int, int, Image, Image], Flow | None]
"""`flows(i, j, image, other)` gives the flow from frame i to frame j, or None if the
flow is not known. The frames, `image` and `other`, have the same shape."""


def measure_flow(image: Image, other: Image) -> Flow:
    """Measure the optical flow from a frame to another one.

    It uses dense inverse search at the full size of the frames; the result does not
    depend on the number of threads. Texture at the same place in both frames counts as
    still, even if its surroundings move. If phase correlation finds that the camera
    moved by more than a tenth of the long edge, the search also starts at that move.

    Args:
        image: RGB in [0, 1], h w 3.
        other: Of the same shape.

    Returns:
        The flow from `image` to `other`, h w 2 in pixels, see `temporal`.

    Raises:
        ValueError: If OpenCV is not installed, or the shapes differ.

    Example:
        >>> import jaxnst
        >>> frame = np.asarray(jaxnst.sample("harbour", 96))
        >>> flow = measure_flow(frame, np.roll(frame, 2, axis=1))
        >>> np.median(flow, axis=(0, 1)).round().tolist()
        [2.0, 0.0]

    Reference:
        Kroeger et al. (2016), "Fast Optical Flow using Dense Inverse Search".
    """
    check_installed("cv2", "measuring the flow", "video")
    import cv2

    if image.shape != other.shape:
        raise ValueError(
            f"expected frames of one shape, got {image.shape} and {other.shape}; "
            "resize them first"
        )
    height, width, _ = image.shape
    pads = [(0, max(0, SMALLEST - side)) for side in (height, width)]
    image, other = (np.pad(x, [*pads, (0, 0)], mode="edge") for x in (image, other))
    grey, found = (_grey(x).astype(np.float32) for x in (image, other))
    window = cv2.createHanningWindow(grey.shape[::-1], cv2.CV_32F)
    move, _ = cv2.phaseCorrelate(grey, found, window)
    far = max(np.abs(move)) > 0.1 * max(height, width)
    moves = [(0, 0), (round(move[0]), round(move[1]))][: 1 + far]
    flow, _ = min((_search(image, other, x) for x in moves), key=lambda x: x[1])
    return flow[:height, :width]


def _search(image: Image, other: Image, move: tuple[int, int]) -> tuple[Flow, float]:
    """The flow, searched around a move; the mean difference of pixels that is left."""
    import cv2

    (x, y), (height, width, _) = move, image.shape
    back = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    border = cv2.BORDER_REPLICATE
    other = cv2.warpAffine(other, back, (width, height), borderMode=border)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    # A fade is not a motion.
    light = float(np.median((image + DARK) / (np.clip(other, 0, 1) + DARK)))
    grey, found = _grey(image * max(1, 1 / light)), _grey(other * max(1, light))
    flow = search.calc(grey, found, None)  # pyright: ignore
    around = lambda x: cv2.blur(x.astype(np.float32), (STILL_SIDE, STILL_SIDE))
    texture = np.maximum(around(grey.astype(float) ** 2) - around(grey) ** 2, 1)
    flow[around(cv2.absdiff(grey, found)) < STILL_PART * np.sqrt(texture)] = 0
    rows, columns = np.indices(grey.shape, np.float32)
    places = columns + flow[..., 0], rows + flow[..., 1]
    seen = cv2.remap(found, *places, cv2.INTER_LINEAR, borderMode=border)
    return flow + np.array(move, np.float32), float(np.mean(cv2.absdiff(grey, seen)))


def _grey(image: np.ndarray) -> np.ndarray:
    """Luma of RGB in [0, 1], in levels of 0 to 255."""
    luma = np.clip(image, 0, 1) @ LUMA.astype(image.dtype)
    return (luma * 255 + 0.5).astype(np.uint8)


def load_flow(path: Path) -> Flow:
    """Read a flow from a Middlebury .flo file, or from an .npz file.

    Args:
        path: A .flo file, or an .npz file with an array h w 2: the one named `flow`, or
            the first.

    Returns:
        The flow, h w 2 in pixels, x first.

    Raises:
        ValueError: If there is no such file, or no flow in it.

    Reference:
        Baker et al. (2011), "A Database and Evaluation Methodology for Optical Flow".
    """
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path) as file:
                found: Any = file["flow" if "flow" in file.files else file.files[0]]
        else:
            data = path.read_bytes()
            width, height = np.frombuffer(data, "<i4", count=2, offset=4)
            found = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)
        flow = np.asarray(found, np.float32)
        if flow.ndim != 3 or flow.shape[2] != 2 or not np.isfinite(flow).all():
            raise ValueError(f"numbers of shape {flow.shape}, or not all finite")
    except Exception as error:  # zipfile, NumPy and the system each raise their own
        raise ValueError(
            f"{path} holds no flow ({error}); write h x w x 2 finite numbers"
        ) from error
    return flow


class FlowFiles:
    """Reads flows from a folder: `2-1.flo` leads from the second frame to the first.

    Names hold the numbers of the frames in the source, from 1, perhaps with leading
    zeros. Each frame needs the flow to the frame before it, such as `2-1`. Two kinds
    are optional. Flows back, `1-2`, show hidden parts. Flows over several frames, such
    as `3-1` and `1-3`, find parts that were visible earlier.

    Args:
        folder: Folder of .flo or .npz files, with flows of any size.
        numbers: Numbers of the frames in the source, from 0, in the order of painting.

    Raises:
        ValueError: If there is no folder, or a needed flow is missing.
    """

    def __init__(self, folder: Path, numbers: Sequence[int]):
        if not folder.is_dir():
            raise ValueError(
                f"no folder of flows at {folder}; check the path, or leave out --flow"
            )
        files = (x for x in folder.iterdir() if x.suffix.lower() in (".flo", ".npz"))
        named = ((re.fullmatch(r"(\d+)-(\d+)", x.stem), x) for x in files)
        self.paths = {(int(m[1]), int(m[2])): x for m, x in named if m}
        self.numbers = [number + 1 for number in numbers]
        for before, after in itertools.pairwise(self.numbers):
            if (after, before) not in self.paths:
                raise ValueError(
                    f"{folder} has no flow from frame {after} to {before}; add "
                    f"{after}-{before}.flo"
                )

    def __call__(self, i: int, j: int, image: Image, other: Image) -> Flow | None:
        """Return the flow from frame i to j at the size of `image`; None if missing."""
        path = self.paths.get((self.numbers[i], self.numbers[j]))
        if path is None:
            return None
        flow, (height, width) = load_flow(path), image.shape[:2]
        scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
        return resize(flow, (height, width), method="linear") * scale
