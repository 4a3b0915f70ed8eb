"""Generated pictures of dead leaves: overlapping shapes of all sizes.

The shapes are filled with flat colours, gradients, noise, stripes and strokes (after
Lee, Mumford and Huang, 2001). Pictures are drawn at twice their size and halved, which
smooths edges. A module of `learn_weights.py`.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Random = np.random.Generator
Range = tuple[float, float]


def log_uniform(rng: Random, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def noise(rng: Random, side: int, slope: float, stretch: float = 1.0) -> np.ndarray:
    """Draw 1/f^slope noise in [0, 1], stretched by `stretch`² along a random angle."""
    angle = rng.uniform(0, np.pi)
    v, u = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    along = np.cos(angle) * u + np.sin(angle) * v
    across = np.cos(angle) * v - np.sin(angle) * u
    radius = np.sqrt((along * stretch) ** 2 + (across / stretch) ** 2)
    radius = np.maximum(radius, 1 / side)
    phase = rng.uniform(0, 2 * np.pi, radius.shape)
    spectrum = radius**-slope * np.exp(1j * phase)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (side, side)).astype(np.float32)
    return np.clip(0.5 + 0.22 * field / field.std(), 0, 1)


def palette(rng: Random, level: Range, contrast: Range, hues: bool) -> np.ndarray:
    """Draw eight colours that differ mostly in luminance, as in photographs.

    Args:
        rng: Random numbers.
        level: Range of the mean luminance.
        contrast: Range of the deviation of the luminance.
        hues: Gather the colours around one to three hues.
    """
    luminance = rng.normal(rng.uniform(*level), rng.uniform(*contrast), (8, 1))
    warm_cool = np.array([1.0, 0.0, -1.0]) / np.sqrt(2)
    green_magenta = np.array([-1.0, 2.0, -1.0]) / np.sqrt(6)
    strength = rng.gamma(2.0, 0.06)
    cast = rng.normal(0, 0.06, 2)
    centres = np.zeros((8, 2))
    if hues:
        found = rng.normal(0, 0.15, (rng.integers(1, 4), 2)) * rng.choice([0, 1, 1, 2])
        centres = found[rng.integers(len(found), size=8)]
    warm = centres[:, :1] + cast[0] + strength * rng.normal(0, 1, (8, 1))
    green = centres[:, 1:] + cast[1] + 0.5 * strength * rng.normal(0, 1, (8, 1))
    return np.clip(luminance + warm * warm_cool + green * green_magenta, 0, 1)


def wave(rng: Random, side: int) -> np.ndarray:
    """Draw bent parallel stripes, soft or hard, in [0, 1]."""
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(5), np.log(60)))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = rng.uniform(0, 60) * noise(rng, side, 2.5)
    phase = (np.cos(angle) * x + np.sin(angle) * y + bend) / period
    sharpness = np.exp(rng.uniform(0, 2.5))
    return 0.5 + 0.5 * np.tanh(sharpness * np.sin(2 * np.pi * phase))


def tint(rng: Random, field: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Map a scalar field to a gradient of two or three colours of the palette."""
    stops = colours[rng.choice(len(colours), rng.integers(2, 4), replace=False)]
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(field, at, stops[:, c]) for c in range(3)], axis=-1)


def to_image(array: np.ndarray) -> Image.Image:
    """Turn an array in [0, 1] into an 8-bit image."""
    return Image.fromarray((np.clip(array, 0, 1) * 255).round().astype(np.uint8))


def walk(
    rng: Random, flow: np.ndarray, count: int, length: float, turn_back: bool = True
) -> np.ndarray:
    """Walk from random points along a field of angles, in five steps.

    Args:
        rng: Random numbers.
        flow: Angle at every pixel, in radians.
        count: Number of paths.
        length: Of a path, in pixels.
        turn_back: Follow the angle even if it reverses. Otherwise an angle and its
            opposite are the same orientation, and a path keeps its direction.

    Returns:
        Points of the paths, (count, 6, 2).
    """
    side = len(flow)
    points, before = [rng.uniform(0, side, (count, 2))], np.zeros((count, 2))
    for _ in range(5):
        x, y = np.clip(points[-1], 0, side - 1).astype(int).T
        step = np.stack([np.cos(flow[y, x]), np.sin(flow[y, x])], axis=1)
        if not turn_back:
            step *= np.where((step * before).sum(1, keepdims=True) < 0, -1, 1)
        points.append(points[-1] + step * length / 5)
        before = step
    return np.stack(points, axis=1)


def draw_paths(
    rng: Random, image: Image.Image, paths: np.ndarray, width: float, jitter: float
) -> Image.Image:
    """Draw strokes along paths, (count, points, 2), in about the image's colours."""
    side, source, count = image.size[0], np.asarray(image), len(paths)
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    x, y = np.clip(paths[:, 2], 0, side - 1).astype(int).T
    shade = rng.normal(0, jitter, (count, 1)) + rng.normal(0, jitter / 3, (count, 3))
    colours = np.clip(source[y, x] + shade, 0, 255).astype(int)
    widths = np.maximum(1, width * rng.uniform(0.6, 1.4, count)).astype(int)
    for path, colour, thick in zip(paths, colours, widths, strict=True):
        draw.line([tuple(p) for p in path], tuple(colour), int(thick), joint="curve")
    return canvas


def draw_strokes(
    rng: Random, image: Image.Image, flow: np.ndarray, width: float
) -> Image.Image:
    """Repaint an image in strokes that follow a field of angles."""
    side = image.size[0]
    length, jitter = rng.uniform(4, 14) * width, rng.uniform(4, 24)
    count = int(min(5000, 1.5 * side * side / (width * length)))
    return draw_paths(rng, image, walk(rng, flow, count, length), width, jitter)


def make_field(rng: Random, side: int, kind: str) -> np.ndarray:
    """Draw the scalar field of a kind of surface, in [0, 1]."""
    if kind == "flat":
        return 0.5 + 0.04 * (noise(rng, side, 0.5) - 0.5)
    if kind == "smooth":
        return noise(rng, side, 3)
    if kind == "noise":
        return noise(rng, side, rng.uniform(1.2, 2), rng.uniform(1, 2.5))
    if kind == "grain":
        return noise(rng, side, rng.uniform(0.6, 1.2), rng.uniform(1, 5))
    if kind == "wave":
        return wave(rng, side)
    if kind == "hatch":
        return wave(rng, side) * wave(rng, side)
    return noise(rng, side, 2)  # strokes are painted over it


def fill(rng: Random, side: int, colours: np.ndarray) -> Image.Image:
    """Make one surface: flat, gradient, noise, stripes, hatching or strokes."""
    kind = rng.choice(["flat", "smooth", "noise", "grain", "wave", "hatch", "strokes"])
    image = to_image(tint(rng, make_field(rng, side, kind), colours))
    if kind == "strokes":
        flow = 2 * np.pi * noise(rng, side, 3)
        image = draw_strokes(rng, image, flow, np.exp(rng.uniform(1.0, 2.6)))
    return image


def draw_leaf(rng: Random, side: int, smallest: float) -> Image.Image:
    """Draw the mask of a leaf: an ellipse, polygon or wavy stroke, anywhere.

    Radii have the density r^-3, the law that makes dead leaves scale invariant, from
    `smallest` to two fifths of the side.
    """
    mask, share = Image.new("L", (side, side)), rng.uniform()
    draw, largest = ImageDraw.Draw(mask), side * 0.4
    radius = (smallest**-2 * (1 - share) + largest**-2 * share) ** -0.5
    centre, angle = rng.uniform(0, side, 2), rng.uniform(0, 2 * np.pi)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32
    )
    kind = rng.choice(["ellipse", "box", "polygon", "stroke"])
    if kind == "stroke":
        t = np.linspace(-2, 2, 24)
        swing = rng.uniform(0, 0.6) * np.sin(rng.uniform(0.5, 3) * t + angle)
        path = np.stack([t, swing], axis=1) * radius @ turn + centre
        width = max(2, int(radius * rng.uniform(0.1, 0.4)))
        draw.line([tuple(p) for p in path], 255, width, joint="curve")
        return mask
    if kind == "box":
        t = np.pi / 4 + np.arange(4) * np.pi / 2
    elif kind == "polygon":
        t = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
    else:
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    outline = np.stack([np.cos(t), rng.uniform(0.2, 1) * np.sin(t)], axis=1)
    draw.polygon([tuple(p) for p in outline * radius @ turn + centre], 255)
    return mask


def make_picture(rng: Random, size: int) -> np.ndarray:
    """Generate a picture, float32 RGB in [0, 1], (size, size, 3)."""
    side, colours = 2 * size, palette(rng, (0.3, 0.6), (0.15, 0.3), hues=False)
    fills = [fill(rng, side, colours) for _ in range(rng.integers(3, 7))]
    canvas = fills[0].copy()
    smallest = log_uniform(rng, 6, 24)
    for _ in range(rng.integers(20, 400)):
        mask = draw_leaf(rng, side, smallest)
        leaf = fills[rng.integers(len(fills))]
        if rng.uniform() < 0.5:
            light = np.exp(rng.normal(0, 0.3))
            leaf = leaf.point([min(255, int(light * i)) for i in range(256)] * 3)
        canvas.paste(leaf, (0, 0), mask)
    if rng.uniform() < 0.4:
        flow = 2 * np.pi * noise(rng, side, 3)
        canvas = draw_strokes(rng, canvas, flow, np.exp(rng.uniform(0.7, 2.8)))
    if rng.uniform() < 0.25:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(1, 8)))
    canvas = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(canvas, np.float32) / 255
