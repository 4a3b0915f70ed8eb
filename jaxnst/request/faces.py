"""Faces of a photograph, which `painterly` preserves more strongly than the rest.

`painterly` lays patches of the style. Few styles show faces, so eyes and mouths would
be lost. scikit-image finds faces by the cascade of Liao et al. (2007), "Learning
multi-scale block local binary patterns for face recognition".
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from jaxnst.pictures.files import thumbnail
from jaxnst.request.painting import Box, Painting
from jaxnst.types import Mask

SEARCHED = 640
"""Long edge of the thumbnail that is searched, in pixels; a face has at least 24."""

STEP = 1.25
"""Factor on the step between two searched places. With 1.25, 84 % of the faces of
`skimage.data.lfw_subset` are found. With 1.1, 88 % are found, a third slower."""

FACE = 4.0
"""Content strength of a face; 1 is usual. Chosen by eye from 1, 4 and 10 on
`skimage.data.astronaut` at 512 px. With 4, eyes and mouth are clear; 10 blurs them."""

INNER, OUTER = 0.5, 0.8
"""Radii of two ellipses of a face, as fractions of its box. Inside the inner one, the
strength is `FACE`; outside the outer one, it is 1."""


def with_faces(painting: Painting) -> Painting:
    """A painting with its faces.

    If `faces` is None, faces are searched for if the recipe has `repaint`.
    """
    if painting.faces is not None:
        return painting
    repaints = painting.recipe.look.repaint
    return replace(painting, faces=find_faces(painting.content) if repaints else ())


def find_faces(path: Path) -> tuple[Box, ...]:
    """The faces of a picture that look at the camera; () without the extra `faces`.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> find_faces(sample_path("harbour"))
        ()
    """
    found = path.stat()
    return _find_faces(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4096)  # a grid asks for each of its contents, often
def _find_faces(path: Path, changed: int, size: int) -> tuple[Box, ...]:
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError:
        return ()
    cascade = Cascade(lbp_frontal_face_cascade_filename())
    pixels = np.asarray(thumbnail(path, SEARCHED))
    high, wide, _ = pixels.shape

    def search(pixels: np.ndarray) -> list[Box]:
        found = cascade.detect_multi_scale(
            img=np.ascontiguousarray(pixels),
            scale_factor=1.2,
            step_ratio=STEP,
            min_size=(24, 24),
            max_size=(high, wide),
        )
        return [
            (x["r"] / high, x["c"] / wide, x["height"] / high, x["width"] / wide)
            for x in found
        ]

    found = search(pixels)
    if not found:
        return ()
    mirrored = [(y, 1 - x - w, h, w) for y, x, h, w in search(pixels[:, ::-1])]
    boxes: list[Box] = []
    for box in found:
        seen_twice = any(_overlap(box, other) for other in mirrored)
        if seen_twice and not any(_overlap(box, other) for other in boxes):
            boxes.append(box)
    return tuple(boxes)


def _overlap(one: Box, other: Box) -> bool:
    """Whether the middle of the smaller box is inside the larger one."""
    (y, x, h, w), (top, left, height, width) = sorted((one, other), key=lambda b: b[2])
    middle = y + h / 2 - top, x + w / 2 - left
    return 0 <= middle[0] <= height and 0 <= middle[1] <= width


def face_strength(boxes: tuple[Box, ...], shape: tuple[int, ...]) -> Mask:
    """Content strength at each pixel of a shape: 1, and up to `FACE` inside boxes.

    Example:
        >>> strength = face_strength(((0.25, 0.25, 0.5, 0.5),), (8, 8))
        >>> float(strength[4, 4, 0]), float(strength[0, 0, 0])
        (4.0, 1.0)
    """
    height, width = shape[:2]
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    columns = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    inside = np.zeros((height, width), np.float32)
    for y, x, h, w in boxes:
        far = np.hypot((rows - y - h / 2) / h, (columns - x - w / 2) / w)
        inside = np.maximum(inside, np.clip((OUTER - far) / (OUTER - INNER), 0, 1))
    return (1 + (FACE - 1) * inside)[..., None]
