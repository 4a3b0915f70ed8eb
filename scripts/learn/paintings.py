"""Generated paintings: scenes of dead leaves, and techniques that paint them.

A scene often has a horizon. A technique paints the whole scene: strokes, dots,
hatching, flat colours with outlines, washes. Paintings are drawn at twice their size
and halved, which smooths edges. A module of `learn_weights.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from dead_leaves import (
    Random,
    draw_leaf,
    draw_paths,
    log_uniform,
    make_field,
    noise,
    palette,
    tint,
    to_image,
    walk,
    wave,
)
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter


class Painting(NamedTuple):
    """A scene and a painting of it, uint8 RGB, (size, size, 3) each."""

    scene: np.ndarray
    painted: np.ndarray


def to_array(image: Image.Image) -> np.ndarray:
    """Turn an 8-bit image into an array in [0, 1]."""
    return np.asarray(image, np.float32) / 255


# Scenes.


def fill(rng: Random, side: int, colours: np.ndarray) -> Image.Image:
    """Make one surface: flat, gradient, noise, stripes or hatching."""
    kind = rng.choice(["flat", "flat", "smooth", "noise", "grain", "wave", "hatch"])
    return to_image(tint(rng, make_field(rng, side, kind), colours))


def shaded(rng: Random, leaf: Image.Image) -> Image.Image:
    """Light a surface from one side."""
    side = leaf.size[0]
    y, x = np.mgrid[:side, :side].astype(np.float32) / side - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    slope = 1 + rng.uniform(0, 1.6) * (np.cos(angle) * x + np.sin(angle) * y)
    return to_image(to_array(leaf) * np.exp(rng.normal(0, 0.3)) * slope[:, :, None])


def make_scene(rng: Random, side: int, colours: np.ndarray) -> Image.Image:
    """Paste leaves of all sizes on a ground that may have a horizon."""
    fills = [fill(rng, side, colours) for _ in range(rng.integers(3, 7))]
    fills += [shaded(rng, fills[i]) for i in range(3)]
    canvas = fills[0].copy()
    if rng.uniform() < 0.5:
        horizon = int(side * rng.uniform(0.25, 0.75))
        canvas.paste(fills[1].crop((0, horizon, side, side)), (0, horizon))
    smallest = log_uniform(rng, 6, 48)
    for _ in range(int(log_uniform(rng, 40, 400))):
        mask = draw_leaf(rng, side, smallest)
        canvas.paste(fills[rng.integers(len(fills))], (0, 0), mask)
    if rng.uniform() < 0.25:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(1, 6)))
    return canvas


# Techniques. Each draws its own settings, then paints the whole scene with them.


def steepness(grey: np.ndarray) -> np.ndarray:
    """Length of the gradient of a scalar field, per pixel."""
    dy, dx = np.gradient(grey)
    return np.hypot(dy, dx)


def orientation(rng: Random, image: Image.Image) -> np.ndarray:
    """Angle along the edges of an image, mixed with random swirls, in radians."""
    grey = gaussian_filter(to_array(image).mean(-1), 2)
    dy, dx = np.gradient(grey)
    spread = log_uniform(rng, 4, 24)
    along = gaussian_filter((dx + 1j * dy) ** 2, spread)
    swirl = np.exp(2j * np.pi * rng.uniform(1, 3) * noise(rng, len(grey), 3))
    own = np.abs(along).mean() * rng.choice([0.03, 0.3, 3]) * swirl
    return np.angle(along + own) / 2 + np.pi / 2


def draw_strokes(
    rng: Random, image: Image.Image, width: float, length: float, jitter: float
) -> Image.Image:
    """Paint an image over with strokes along its edges, in its own colours."""
    side, flow = image.size[0], orientation(rng, image)
    count = int(min(6000, 1.5 * side * side / (width * max(length, width))))
    paths = walk(rng, flow, count, length, turn_back=False)
    return draw_paths(rng, image, paths, width, jitter)


def strokes(rng: Random, scene: Image.Image, colours: np.ndarray) -> Image.Image:
    """Paint with one brush, or with a coarse one and then a fine one."""
    width, length = log_uniform(rng, 3, 18), log_uniform(rng, 2, 14)
    jitter = rng.uniform(4, 30)
    if rng.uniform() < 0.5:
        scene = draw_strokes(rng, scene, 2.5 * width, 2.5 * width * length, jitter)
    return draw_strokes(rng, scene, width, width * length, jitter)


def dots(rng: Random, scene: Image.Image, colours: np.ndarray) -> Image.Image:
    """Paint with short dabs of strongly varied colours."""
    width, jitter = log_uniform(rng, 4, 14), rng.uniform(15, 60)
    soft = scene.filter(ImageFilter.GaussianBlur(width))
    return draw_strokes(rng, soft, width, width, jitter)


def hatching(rng: Random, scene: Image.Image, colours: np.ndarray) -> Image.Image:
    """Draw lines whose width grows with the darkness of the scene."""
    array = to_array(scene)
    light = gaussian_filter(array.mean(-1), 3)
    light = (light - light.min()) / max(np.ptp(light), 1e-3)
    ink, paper = colours[np.argsort(colours.sum(1))[[0, -1]]]
    directions = rng.integers(1, 4)
    lines = np.min([wave(rng, len(light)) for _ in range(directions)], axis=0)
    drawn = np.clip(0.5 + (light - 0.9 * (1 - lines)) * rng.uniform(2, 10), 0, 1)
    base = rng.uniform(0, 0.8) * (array - array.mean((0, 1))) + paper
    return to_image(drawn[:, :, None] * base + (1 - drawn[:, :, None]) * ink)


def flat(rng: Random, scene: Image.Image, colours: np.ndarray) -> Image.Image:
    """Reduce the scene to a few flat colours, with or without outlines."""
    soft = scene.filter(ImageFilter.GaussianBlur(rng.uniform(1, 5)))
    few = soft.quantize(int(rng.integers(4, 12))).convert("RGB")
    if rng.uniform() < 0.5:
        return few
    grey = gaussian_filter(to_array(few).mean(-1), rng.uniform(1, 3))
    edges = steepness(grey) > rng.uniform(0.01, 0.04)
    ink = colours[rng.integers(len(colours))] * rng.uniform(0, 1)
    return to_image(np.where(edges[:, :, None], ink, to_array(few)))


def wash(rng: Random, scene: Image.Image, colours: np.ndarray) -> Image.Image:
    """Paint in washes: soft areas, darker rims, uneven pigment."""
    few = scene.quantize(int(rng.integers(6, 24))).convert("RGB")
    soft = rng.uniform(1, 4)
    array = gaussian_filter(to_array(few), (soft, soft, 0))
    rims = gaussian_filter(steepness(array.mean(-1)), 1) * rng.uniform(2, 12)
    pigment = noise(rng, len(rims), rng.uniform(1, 2)) * rng.uniform(0.1, 0.6)
    return to_image(array * (1.15 - pigment - rims)[:, :, None])


def plain(rng: Random, scene: Image.Image, colours: np.ndarray) -> Image.Image:
    """Leave the scene as it is."""
    return scene


TECHNIQUES: tuple[Callable, ...] = (
    *(strokes, strokes, strokes, strokes, strokes, strokes),
    *(dots, hatching, flat, flat, wash, wash, plain),
)


def on_canvas(rng: Random, image: Image.Image) -> Image.Image:
    """Add grain, as of film, paper or canvas."""
    field = noise(rng, image.size[0], rng.uniform(0, 0.8), rng.uniform(1, 2))
    field = (field - 0.5) * log_uniform(rng, 0.05, 0.6)
    return to_image(to_array(image) * (1 + field[:, :, None]))


def make_painting(seed: list[int], size: int) -> Painting:
    """Generate a scene and paint it; equal seeds give equal paintings."""
    rng = np.random.default_rng(seed)
    colours = palette(rng, (0.3, 0.65), (0.12, 0.3), hues=True)
    scene = make_scene(rng, 2 * size, colours)
    painted = rng.choice(np.array(TECHNIQUES))(rng, scene, colours)
    if rng.uniform() < 0.3:
        painted = on_canvas(rng, painted)
    halve = lambda x: np.asarray(x.resize((size, size), Image.Resampling.BOX))
    return Painting(halve(scene), halve(painted))
