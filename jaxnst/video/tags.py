"""Colour tags of videos, and conversion of HDR and wide gamuts to SDR."""

from typing import Any, NamedTuple

import numpy as np

from jaxnst.types import Image

UNKNOWN, BT709, BT601, BT2020 = 2, 1, 6, 9
"""Codes of ISO/IEC 23091-2 for matrices of colours, and for primaries."""

MATRICES = {1: 1, 4: 4, 5: 5, 6: 6, 7: 7, 9: 9, 10: 9}
"""Codes of matrices that FFmpeg knows, and the codes that it uses for them."""

PQ, HLG = 16, 18
"""Codes of the transfer functions of HDR: SMPTE ST 2084, and ARIB STD-B67."""

NITS = 203
"""Luminance of reference white (white paper) in HDR, in cd/m², see ITU-R BT.2408."""

PEAK = 1000.0
"""Luminance of the brightest white in HDR that states none, in cd/m²."""

HIGH = 576
"""Untagged pictures of at most so many lines have the colours of standard definition
(BT.601); larger ones have those of high definition (BT.709)."""

GAMMA = 2.4
"""Gamma of SDR displays, see ITU-R BT.1886."""

P3 = (
    (1.224940, -0.224940, 0),
    (-0.042057, 1.042057, 0),
    (-0.019638, -0.078636, 1.098274),
)
WIDE = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
WIDE_GAMUTS = {BT2020: WIDE, 11: P3, 12: P3}
"""Wide gamuts, by their codes: matrices from their linear RGB to that of BT.709."""


class ColorTags(NamedTuple):
    """Colour tags of a video, in the codes of ISO/IEC 23091-2."""

    matrix: int = BT709  # from luma and chroma to RGB
    range: int = 1  # luma from 16 to 235 of 255; 2: from 0 to 255
    primaries: int = UNKNOWN  # chromaticities of RGB
    transfer: int = UNKNOWN  # from numbers to light

    @property
    def is_hdr(self) -> bool:
        """Whether the video is HDR, which may be brighter than reference white."""
        return self.transfer in (PQ, HLG)

    @property
    def shown(self) -> "ColorTags":
        """The tags after `to_sdr`."""
        if not self.is_hdr and self.primaries not in WIDE_GAMUTS:
            return self
        return ColorTags(BT709, 1, BT709, BT709)

    @property
    def name(self) -> str:
        """The usual name of this kind of video."""
        kind = {PQ: "HDR (PQ)", HLG: "HDR (HLG)"}.get(self.transfer, "SDR")
        return f"{kind} in a wide gamut" if self.primaries in WIDE_GAMUTS else kind


def tags_of(frame: Any) -> ColorTags:
    """Colour tags of a frame of PyAV; missing ones are guessed."""
    is_hdr, primaries = frame.color_trc in (PQ, HLG), frame.color_primaries
    usual = BT2020 if is_hdr else BT709 if frame.height > HIGH else BT601
    matrix = MATRICES.get(frame.colorspace, usual)
    if primaries == UNKNOWN and (is_hdr or matrix == BT2020):
        primaries = BT2020
    full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
    return ColorTags(matrix, 1 + full, primaries, frame.color_trc)


def to_sdr(pixels: Image, tags: ColorTags, peak: float = PEAK) -> Image:
    """Convert HDR up to `peak`, or a wide gamut, to SDR in the gamut of BT.709.

    Up to middle greys, HDR keeps its luminance relative to reference white. Brighter
    light is compressed by the curve of BT.2390 (5.4.1), by one factor for all three
    colours, so that hues stay. Colours outside the gamut are clipped.
    """
    if tags.shown == tags:
        return pixels
    light = _light(np.asarray(pixels, np.float32), tags)
    if tags.primaries in WIDE_GAMUTS:
        light = light @ np.array(WIDE_GAMUTS[tags.primaries], np.float32).T
    if tags.is_hdr:
        brightest = np.maximum(light.max(-1, keepdims=True), 1e-6)
        light = light * (_compress(brightest, peak) / brightest)
    return np.clip(light, 0, 1) ** (1 / GAMMA)


def _light(pixels: np.ndarray, tags: ColorTags) -> np.ndarray:
    """Linear light, 1 for reference white."""
    if tags.transfer == PQ:
        return _from_pq(pixels) / NITS
    if tags.transfer != HLG:
        return pixels**GAMMA
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(pixels <= 0.5, pixels**2 / 3, (np.exp((pixels - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return 1000 / NITS * luminance[..., None] ** 0.2 * scene


M1, M2 = 2610 / 16384, 2523 / 32
C1, C2, C3 = 3424 / 4096, 2413 / 128, 2392 / 128
"""Constants of SMPTE ST 2084."""


def _from_pq(numbers: np.ndarray) -> np.ndarray:
    """Convert numbers in PQ to light in cd/m²."""
    power = numbers ** (1 / M2)
    return 10_000 * (np.maximum(power - C1, 0) / (C2 - C3 * power)) ** (1 / M1)


def _to_pq(light: np.ndarray) -> np.ndarray:
    """Convert light in cd/m² to numbers in PQ."""
    power = (light / 10_000) ** M1
    return ((C1 + C2 * power) / (1 + C3 * power)) ** M2


def _compress(light: np.ndarray, peak: float) -> np.ndarray:
    """Compress light up to `peak` cd/m² to [0, 1], see BT.2390; 1 is `NITS`."""
    white, top = _to_pq(np.array([NITS, max(peak, 2 * NITS)], np.float32))
    most = white / top
    knee = 1.5 * most - 0.5
    given = np.minimum(_to_pq(light * NITS) / top, 1)
    t = np.maximum((given - knee) / (1 - knee), 0)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee
    curve += (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return _from_pq(np.where(given < knee, given, curve) * top) / NITS
