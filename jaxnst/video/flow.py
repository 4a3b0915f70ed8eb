"""Optical flow: measured between two frames, or read from files."""

from importlib.util import find_spec
from typing import Protocol

import numpy as np
from jaxtyping import Float

FlowArray = Float[np.ndarray, "_h _w 2"]
"""As `temporal.Flow`, in NumPy."""

TAG = 202021.25
"""What a .flo file begins with, as a float32."""


class Flows(Protocol):
    """Gives the flow from frame i to frame j, or None where it is not known."""

    def __call__(
        self, i: int, j: int, image: np.ndarray, other: np.ndarray, /
    ) -> FlowArray | None:
        """Return the flow from frame i, `image`, to frame j, `other`, of its shape."""
        ...


def check_flow() -> None:
    """Raise a ValueError unless flow can be measured here."""
    if find_spec("cv2") is None:
        raise ValueError(
            "expected OpenCV to measure the flow between frames, got none; "
            "pip install 'jaxnst[video]', or give flow files"
        )


def measure_flow(
    image: Float[np.ndarray, "_h _w 3"], other: Float[np.ndarray, "_h _w 3"]
) -> FlowArray:
    """Measure where the pixels of a frame are in another one.

    Dense inverse search at the full size of the frames; the result does not depend on
    the number of threads.

    Args:
        image: RGB in [0, 1], h w 3.
        other: Of the same shape.

    Returns:
        The flow from `image` to `other`, h w 2 in pixels, see `temporal`.

    Raises:
        ValueError: If OpenCV is not installed.

    Example:
        >>> import jaxnst
        >>> frame = np.asarray(jaxnst.sample("harbour", 96))
        >>> flow = measure_flow(frame, np.roll(frame, 2, axis=1))
        >>> np.median(flow, axis=(0, 1)).round().tolist()
        [2.0, 0.0]

    Reference:
        Kroeger et al. (2016), "Fast Optical Flow using Dense Inverse Search".
    """
    check_flow()
    import cv2

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    return search.calc(_grey(image), _grey(other), None)  # pyright: ignore


def _grey(image: np.ndarray) -> np.ndarray:
    """Luma of RGB in [0, 1], in levels of 0 to 255."""
    luma = np.clip(image, 0, 1) @ np.array([0.299, 0.587, 0.114], image.dtype)
    return (luma * 255 + 0.5).astype(np.uint8)


def measured_flow(
    i: int, j: int, image: np.ndarray, other: np.ndarray
) -> FlowArray | None:
    """`measure_flow` as `Flows`."""
    return measure_flow(image, other)
