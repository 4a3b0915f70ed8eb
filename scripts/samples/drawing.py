"""Drawing functions that the sample pictures share.

Coordinates are in pixels of the final picture. Everything is drawn at twice its size
and reduced at the end, which smooths edges.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw

Array = np.ndarray
Random = np.random.Generator
Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 480
SCALE = 2
FULL = (WIDTH * SCALE, HEIGHT * SCALE)


def rgb(code: str) -> Array:
    """Turn a hex colour into three floats between 0 and 1."""
    return np.array(ImageColor.getrgb(code), np.float32) / 255


def grid() -> tuple[Array, Array]:
    """Return the x and y coordinate of every drawn pixel."""
    rows, cols = np.mgrid[0 : FULL[1], 0 : FULL[0]].astype(np.float32)
    return (cols + 0.5) / SCALE, (rows + 0.5) / SCALE


def noise(rng: Random, cell: float, octaves: int = 4, stretch: float = 1.0) -> Array:
    """Return fractal noise of unit deviation; cell is the size of its largest waves."""
    total = np.zeros(FULL[::-1], np.float32)
    for octave in range(octaves):
        size = cell / 2**octave
        shape = (int(HEIGHT / size) + 3, int(WIDTH / (size * stretch)) + 3)
        knots = Image.fromarray(rng.standard_normal(shape).astype(np.float32))
        total += np.asarray(knots.resize(FULL, Image.Resampling.BICUBIC)) / 2**octave
    return (total - total.mean()) / total.std()


def blur(field: Array, sigma: float) -> Array:
    """Blur a 2-D field with a Gaussian of the given deviation."""
    pad = int(3 * sigma * SCALE) + 1
    wide = np.pad(field, pad, mode="edge")
    fy = np.fft.fftfreq(wide.shape[0])[:, None]
    fx = np.fft.rfftfreq(wide.shape[1])[None]
    gain = np.exp(-2 * (np.pi * sigma * SCALE) ** 2 * (fx**2 + fy**2))
    soft = np.fft.irfft2(np.fft.rfft2(wide) * gain, wide.shape)
    return soft[pad:-pad, pad:-pad].astype(np.float32)


def step(low: float, high: float, value: Array) -> Array:
    """Rise smoothly from 0 to 1 as value goes from low to high."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(first: Array, second: Array, amount: Array | float) -> Array:
    """Blend two colours or pictures; amount 1 gives the second."""
    amount = np.asarray(amount, np.float32)
    if amount.ndim == 2:
        amount = amount[..., None]
    return first + (second - first) * amount


def ramp(value: Array, colours: Sequence[str], stops: Sequence[float]) -> Array:
    """Look value up in a colour gradient."""
    table = np.array([rgb(code) for code in colours])
    bands = [np.interp(value, stops, table[:, band]) for band in range(3)]
    return np.stack(bands, -1).astype(np.float32)


def curve(heights: Sequence[float], x: Array) -> Array:
    """Run a smooth line through evenly spaced heights and read it at every x."""
    fine = np.arange(-40, WIDTH + 40, dtype=np.float32)
    line = np.interp(fine, np.linspace(0, WIDTH, len(heights)), heights)
    window = np.hanning(61)
    soft = np.convolve(np.pad(line, 30, mode="edge"), window / window.sum(), "valid")
    return np.interp(x, fine, soft).astype(np.float32)


def pixels(colour: Array) -> tuple[int, ...]:
    """Turn a colour of floats into bytes, as Pillow draws with."""
    return tuple(int(band * 255) for band in np.clip(colour, 0, 1))


def to_image(picture: Array) -> Image.Image:
    """Turn floats between 0 and 1 into an 8-bit picture; others are clipped."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))


def finish(picture: Array, grain: float, rng: Random) -> Image.Image:
    """Reduce a drawn picture to its final size and add film grain."""
    full = to_image(picture)
    small = np.asarray(full.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    grainy = small + rng.normal(0, grain * 255, (HEIGHT, WIDTH, 1))
    return Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8))


class Pen:
    """Draws flat shapes on a transparent layer."""

    def __init__(self) -> None:
        """Start with an empty layer."""
        self.image = Image.new("RGBA", FULL, (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def poly(self, points: Points, colour: Array) -> None:
        """Fill a polygon."""
        self.draw.polygon(
            [(x * SCALE, y * SCALE) for x, y in points], pixels(colour) + (255,)
        )

    def box(self, x: float, y: float, w: float, h: float, colour: Array) -> None:
        """Fill an upright rectangle."""
        self.poly([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], colour)

    def line(self, points: Points, colour: Array, width: float) -> None:
        """Draw a line."""
        self.draw.line(
            [(x * SCALE, y * SCALE) for x, y in points],
            pixels(colour) + (255,),
            max(1, round(width * SCALE)),
            joint="curve",
        )

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Array) -> None:
        """Fill an ellipse."""
        box = [(x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE]
        self.draw.ellipse(box, pixels(colour) + (255,))

    def layer(self) -> tuple[Array, Array]:
        """Return the colour and the coverage drawn so far."""
        data = np.asarray(self.image, np.float32) / 255
        return data[..., :3], data[..., 3]


def sample(field: Array, x: Array, y: Array) -> Array:
    """Read a field at the nearest drawn pixel of every x and y."""
    cols = np.clip((x * SCALE).astype(int), 0, FULL[0] - 1)
    rows = np.clip((y * SCALE).astype(int), 0, FULL[1] - 1)
    return field[rows, cols]


def scatter(rng: Random, odds: Array, count: int) -> tuple[Array, Array]:
    """Draw random positions with probability proportional to odds."""
    total = np.cumsum(odds.ravel(), dtype=np.float64)
    spots = np.searchsorted(total, rng.random(count) * total[-1])
    rows, cols = np.divmod(spots, FULL[0])
    return cols / SCALE, rows / SCALE
