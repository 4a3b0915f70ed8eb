"""Masks of parts of a photograph, found automatically or from rough marks.

The part is guessed, or marked roughly. GrabCut then separates it from the rest by their
colours, at a small size. A guided filter fits the mask to the photograph's edges.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from jaxnst.checks import check_installed
from jaxnst.pictures.geometry import fit_shape, resize
from jaxnst.types import Image, Mask

SEARCHED = 480
"""Long edge of the picture that GrabCut works on, in pixels."""

ROUNDS = 5
"""Iterations of GrabCut: each learns the colours of both parts, and separates them."""

FINE, SMOOTH = 0.01, 1e-4
"""Guided filter: its radius as a fraction of the long edge, and the variance of colours
below which a neighbourhood has no edge."""

INSIDE, OUTSIDE = 0.02, 0.04
"""How far inside and outside of the painted area its true edge is sought, as fractions
of the long edge."""

SMALLEST, LARGEST = 0.005, 0.95
"""Smallest and largest share of a picture that a part may have."""

SPECK = 0.002
"""Share of a picture below which an isolated area is a speck, or a hole."""

UNSURE = 0.5
"""Smallest intersection over union of the guessed and the found part that counts as
sure."""

BACKGROUND, PART, REST, LIKELY = 0, 1, 2, 3
"""GrabCut's marks: surely the rest, surely the part, probably the rest, probably the
part. The marks of the part are odd."""

SLOW, CALM, ACROSS = 1.5, 4.0, 30.0
"""Limits in units of CIELAB. Differences of neighbouring colours up to `SLOW` are no
edges. At the top of a sky, they are below `CALM`. On the way from there to any part of
the sky, the sum of edges is below `ACROSS`."""

Plane = Float[np.ndarray, "_h _w"]
Part = Bool[np.ndarray, "_h _w"]
Marks = UInt8[np.ndarray, "_h _w"]


class NothingFound(ValueError):
    """A picture has no such part, or none that stands out."""

    def __init__(self, what: str):
        super().__init__(f"no {what} was found; draw a mask")


class Selection(NamedTuple):
    """A part of a picture.

    Attributes:
        mask: How much each pixel belongs to the part, h w 1 in [0, 1]. Its edges are
            soft where the edges of the picture are.
        sure: Whether the part that was found agrees with the guess.
    """

    mask: Mask
    sure: bool


def select_subject(image: Image) -> Selection:
    """Find the subject of a photograph, in front of its background.

    The subject differs in colour from the picture's border, and an edge lies between
    them.

    Args:
        image: RGB in [0, 1], h w 3.

    Raises:
        NothingFound: If nothing stands out.
        ValueError: If OpenCV or scikit-image is not installed.

    Reference:
        Wei et al. (2012), "Geodesic saliency using background priors"; Rother et al.
        (2004), "GrabCut"; He et al. (2010), "Guided image filtering".
    """
    small = _shrink(image)
    from skimage.filters import threshold_otsu

    h, w = small.shape[:2]
    border = np.zeros((h, w), bool)
    border[0], border[:, [0, -1]] = True, True
    border[-1, : w // 5], border[-1, -(w // 5) :] = True, True  # people stand between
    lab = _lab(small)
    away = _travel(_edges(lab), border)
    away /= away.max() + 1e-9
    other = _distance_to(lab, lab[border])
    if other.max() < CALM:  # it has one colour
        raise NothingFound("subject")
    other /= other.max()
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    middle = np.exp(-(x**2 + y**2))
    salient = np.sqrt(away * other) * middle
    level = threshold_otsu(salient)
    marks = np.where(salient > level, LIKELY, REST).astype(np.uint8)
    marks[salient > (level + salient.max()) / 2] = PART
    marks[border & (salient < level)] = BACKGROUND
    found = _separate(small, marks, "subject")
    return Selection(_refine(image, small, found), _agree(marks, found))


def select_sky(image: Image) -> Selection:
    """Find the sky: all that no strong edge separates from the picture's upper edge.

    Args and raises as `select_subject`.
    """
    small = _shrink(image)
    h, w = small.shape[:2]
    lab = _lab(small)
    edges = _edges(lab)
    top = np.zeros((h, w), bool)
    top[: max(1, h // 50)] = True
    start = top & (edges < CALM)
    if start.sum() < 0.3 * top.sum():
        raise NothingFound("sky")
    marks = np.full((h, w), REST, np.uint8)
    marks[-h // 5 :] = BACKGROUND
    # Colours may change slowly all over a sky.
    away = _travel(np.maximum(edges - SLOW, 0), start)
    marks[(away < ACROSS) & (marks == REST)] = LIKELY
    marks[start] = PART
    found = _separate(small, marks, "sky")
    light, _, yellow = lab[found].mean(axis=0)
    blue_grey_or_bright = yellow < 5 or light > lab[~found][:, 0].mean()
    if np.quantile(edges[found], 0.8) >= SLOW or not blue_grey_or_bright:
        raise NothingFound("sky")
    return Selection(_refine(image, small, found), _agree(marks, found))


PARTS = {"subject": select_subject, "sky": select_sky}
"""Parts that are found without marks, by name."""


def select_box(image: Image, box: Sequence[float]) -> Selection:
    """Find the part inside a box: left edge, top edge, width and height, in pixels."""
    left, top, wide, high = box
    height, width = image.shape[:2]
    inside = min(left, top) >= 0 and left + wide <= width and top + high <= height
    if not (inside and min(wide, high) >= 1):
        raise ValueError(
            f"expected a box inside the picture, got {wide:g} x {high:g} px at "
            f"{left:g}, {top:g}; the picture has {width} x {height} px"
        )
    small = _shrink(image)
    h, w = small.shape[:2]
    marks = np.full((h, w), BACKGROUND, np.uint8)
    rows = slice(int(top / height * h), max(1, round((top + high) / height * h)))
    columns = slice(int(left / width * w), max(1, round((left + wide) / width * w)))
    marks[rows, columns] = LIKELY
    found = _separate(small, marks, "part in the box")
    return Selection(_refine(image, small, found), sure=True)


def select_scribble(image: Image, part: Mask, rest: Mask) -> Selection:
    """Find the part that one scribble marks and another scribble excludes.

    Args:
        image: RGB in [0, 1], h w 3.
        part: Scribble on the part, h w 1, of any size; values above ½ count.
        rest: Scribble on the rest, of the same form.

    Raises:
        ValueError: If nothing is marked as the part.
    """
    small = _shrink(image)
    h, w = small.shape[:2]
    inside, outside = (
        resize(x, (h, w), method="linear")[..., 0] > 0.5 for x in (part, rest)
    )
    if not inside.any():
        raise ValueError("no white stroke marks the part; paint one on it")
    edges = _edges(_lab(small))
    near = _travel(edges, inside)
    likely = near < (_travel(edges, outside) if outside.any() else np.median(near))
    marks = np.where(likely, LIKELY, REST).astype(np.uint8)
    marks[inside], marks[outside] = PART, BACKGROUND
    found = _separate(small, marks, "part that is marked")
    return Selection(_refine(image, small, found), sure=True)


def select_painted(image: Image, painted: Mask) -> Selection:
    """Find the exact edges of a part that was painted over roughly.

    They are sought from `INSIDE` within the painted area to `OUTSIDE` around it.

    Args:
        image: RGB in [0, 1], h w 3.
        painted: Painted area, h w 1, of any size.

    Raises:
        ValueError: If nothing was painted, or no part is found there.
    """
    from scipy.ndimage import distance_transform_edt

    inked = painted[..., 0] > 0.5
    if not inked.any():
        raise ValueError("nothing is painted over; paint over the part roughly")
    edge = max(inked.shape)
    depth = np.asarray(distance_transform_edt(inked))
    away = np.asarray(distance_transform_edt(~inked))
    # The middle of a thin stroke is sure.
    sure = depth > min(INSIDE * edge, 0.5 * depth.max())
    marks = [x[..., None].astype(np.float32) for x in (sure, away > OUTSIDE * edge)]
    return select_scribble(image, *marks)


def _shrink(image: Image) -> Image:
    """The small picture that GrabCut works on."""
    for package in ("cv2", "skimage"):
        check_installed(package, "finding a part of a photograph", "masks")
    shape = image.shape[0], image.shape[1]
    shape = fit_shape(shape, min(SEARCHED, max(shape)))
    return np.clip(resize(image, shape, method="linear"), 0, 1)


def _agree(marks: Marks, found: Part) -> bool:
    """Whether the part that was found agrees with the guess in the marks."""
    start = marks % 2 == 1
    return bool(np.sum(start & found) / np.sum(start | found) >= UNSURE)


def _separate(small: Image, marks: Marks, what: str) -> Part:
    """Separate a part from the rest by their colours, without specks."""
    import cv2
    from skimage.morphology import area_closing, area_opening

    found = marks % 2 == 1
    if found.any() and not found.all():
        pixels = np.asarray(small[..., ::-1] * 255 + 0.5, np.uint8)
        marks, box = marks.copy(), (0, 0, 0, 0)  # the box is unused
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)
        cv2.grabCut(pixels, marks, box, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
        speck = math.ceil(SPECK * marks.size)
        found = area_closing(area_opening(marks % 2, speck), speck) == 1
    if not SMALLEST <= found.mean() <= LARGEST:
        raise NothingFound(what)
    return found


def _lab(small: Image) -> Float[np.ndarray, "_h _w 3"]:
    """Colours in CIELAB, without fine texture."""
    import cv2

    lab = cv2.cvtColor(np.ascontiguousarray(small, np.float32), cv2.COLOR_RGB2Lab)
    return cv2.bilateralFilter(lab, d=9, sigmaColor=12, sigmaSpace=5)


def _edges(lab: Float[np.ndarray, "_h _w 3"]) -> Plane:
    """Difference of neighbouring colours at each pixel."""
    slopes = [np.gradient(lab, axis=axis) for axis in (0, 1)]
    return np.sqrt(sum(np.sum(x**2, axis=-1) for x in slopes))


def _travel(edges: Plane, start: Part) -> Plane:
    """Sum of edges on the cheapest path from a start to each pixel."""
    from skimage.graph import MCP_Geometric

    costs, _ = MCP_Geometric(edges + 0.05).find_costs(np.argwhere(start))
    return costs


def _distance_to(
    lab: Float[np.ndarray, "_h _w 3"], known: Float[np.ndarray, "_n 3"]
) -> Plane:
    """Distance of each colour to the nearest common colour among known ones."""
    import cv2

    cv2.setRNGSeed(0)
    ends = cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.1
    _, labels, centres = cv2.kmeans(
        known, min(6, len(known)), known[:, :0], ends, 1, cv2.KMEANS_PP_CENTERS
    )
    used = np.bincount(labels.ravel(), minlength=len(centres)) > 0.02 * len(known)
    apart = lab[:, :, None] - centres[used]
    return np.sqrt(np.sum(apart**2, axis=-1)).min(axis=-1)


def _refine(image: Image, small: Image, found: Part) -> Mask:
    """Fit the edges of a mask to those of the picture, by the guided filter."""
    import cv2

    # Its coefficients come from the small size, which is as good and much faster.
    radius = max(1, round(FINE * max(small.shape)))
    mean = lambda x: cv2.blur(x, (2 * radius + 1, 2 * radius + 1))
    guide = np.ascontiguousarray(small, np.float32)
    mask = found.astype(np.float32)
    centre, value = mean(guide), mean(mask)
    products = guide[..., :, None] * guide[..., None, :]
    covariance = mean(products.reshape(*mask.shape, 9)).reshape(*mask.shape, 3, 3)
    covariance = covariance - centre[..., :, None] * centre[..., None, :]
    with_mask = mean(guide * mask[..., None]) - centre * value[..., None]
    slope = np.linalg.solve(
        covariance + SMOOTH * np.eye(3, dtype=np.float32), with_mask[..., None]
    )[..., 0]
    offset = value - np.sum(slope * centre, axis=-1)
    both = mean(np.dstack([slope, offset]).astype(np.float32))
    height, width = image.shape[:2]
    both = cv2.resize(both, (width, height), interpolation=cv2.INTER_LINEAR)
    image = np.asarray(image, np.float32)
    fine = np.einsum("hwc,hwc->hw", both[..., :3], image) + both[..., 3]
    # A little steeper, or the filter would leave a faint haze far from the edges.
    return np.clip(1.25 * (fine - 0.5) + 0.5, 0, 1)[..., None].astype(np.float32)
