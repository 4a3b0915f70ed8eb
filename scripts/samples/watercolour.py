"""A style in washes: a misty lake below mountains, with poppies on the bank."""

import numpy as np
from drawing import (
    Array,
    Pen,
    Random,
    blur,
    curve,
    finish,
    grid,
    mix,
    noise,
    rgb,
    sample,
    step,
)
from PIL import Image


def wash(
    paper: Array,
    rng: Random,
    field: Array,
    code: str,
    strength: Array | float = 1.0,
    edge: float = 0.6,
    soft: float = 0.9,
) -> Array:
    """Lay a transparent wash where field is positive; pigment gathers at its rim."""
    cover = step(-soft, soft, field)
    rim = np.clip(cover - blur(cover, 2.6), 0, 1) * cover
    pools = 0.8 + 0.2 * noise(rng, 70, 4)
    grains = 1 + 0.16 * noise(rng, 2.2, 2) * cover
    load = cover * np.clip(pools, 0.3, 1.5) * grains * strength + edge * rim * strength
    return paper * np.exp(load[..., None] * np.log(np.clip(rgb(code), 0.02, 1)))


def paint_mountains(
    paper: Array, rng: Random, sheet: Array, x: Array, y: Array
) -> Array:
    """Lay the washes of the sky and of three ranges that fade into mist."""
    wobble = noise(rng, 26, 5)
    clouds = noise(rng, 110, 5, 2)
    blue = np.clip(step(230, 10, y) * (0.75 - 0.5 * step(0.1, 1.2, clouds)), 0, 1)
    paper = wash(paper, rng, sheet, "#8fb8d8", blue * 1.3, 0.5)
    warm = np.exp(-(((y - 200) / 60) ** 2)) * (0.8 + 0.25 * noise(rng, 140, 3))
    paper = wash(paper, rng, sheet, "#f6c9a4", warm * 0.9, 0.2)
    for heights, code, power, rough in [
        ([170, 120, 186, 104, 178, 118, 170], "#a3aed0", 0.75, 7),
        ([190, 200, 158, 214, 176, 160, 205], "#8296bf", 0.85, 6),
        ([206, 184, 232, 226, 224, 190, 180], "#6f94a0", 0.9, 5),
    ]:
        ridge = curve(heights, x[:1]) + rough * noise(rng, 44, 5)[:1]
        fade = np.clip(1.15 - (y - ridge) / 95, 0.12, 1)
        fade *= 1 - 0.3 * step(0, 1.4, noise(rng, 34, 4)) * step(6, 30, y - ridge)
        body = np.minimum(np.minimum(y - ridge, sheet), 262 - y + wobble)
        paper = wash(paper, rng, body, code, fade * power)
    return paper


def pine_field(rng: Random, x: Array, y: Array) -> Array:
    """Return a field that is negative inside a row of pines."""
    trees = np.full_like(x, 400.0)
    for _ in range(95):
        cx = rng.choice([rng.normal(90, 70), rng.normal(560, 60), rng.uniform(0, 640)])
        h = rng.uniform(14, 34) * (1 + 0.7 * np.exp(-(((cx - 90) / 80) ** 2)))
        top = 262 - h
        t = np.clip((y - top) / h, 0, 1)
        boughs = 0.75 + 0.25 * np.abs(((y - top) / 4.5 % 1) * 2 - 1)
        tree = np.abs(x - cx) - h * 0.24 * t * boughs + np.where(y < top, 5, 0)
        trees = np.minimum(trees, tree)
    return trees


def paint_lake(paper: Array, rng: Random, sheet: Array, x: Array, y: Array) -> Array:
    """Lay the pines, the lake that mirrors them and the meadow in front."""
    wobble = noise(rng, 26, 5)
    trees = pine_field(rng, x, y)
    bank = np.minimum(-trees - 0.4 * wobble, np.minimum(263 - y + 0.6 * wobble, sheet))
    paper = wash(paper, rng, bank, "#4f7a6e", 1.0 + 0.35 * wobble * 0.5, 0.9, 0.6)
    lake = np.minimum(np.minimum(y - 264 + 0.5 * wobble, 372 - y + 3 * wobble), sheet)
    shine = 1 - 0.75 * np.exp(-(((x - 330) / 90) ** 2)) * step(370, 280, y)
    streak = 0.8 + 0.35 * noise(rng, 7, 3, 12)
    paper = wash(paper, rng, lake, "#86b0c8", np.clip(shine * streak, 0.05, 1.3) * 0.8)
    mirror = sample(trees, x + 1.5 * noise(rng, 6, 2, 6), 526 - y)
    image = np.minimum(-mirror - 0.5, np.minimum(y - 265, lake))
    paper = wash(paper, rng, image, "#6c9690", 1.1 * step(325, 262, y), 0.3, 2.0)
    near = curve([338, 348, 363, 382, 371, 357, 340], x[:1])
    shore = np.minimum(y - near + 3 * wobble, sheet)
    paper = wash(paper, rng, shore, "#c9cf86", 0.9, 0.6)
    blotch = np.minimum(shore - 8, noise(rng, 46, 4) * 14 + 3)
    paper = wash(paper, rng, blotch, "#a3b868", 0.75, 0.9)
    low = np.minimum(shore - 34, noise(rng, 38, 4) * 14 + (y - 400) / 8)
    paper = wash(paper, rng, low, "#6f9a62", 0.7, 0.9)
    return paper


def paint_blooms(paper: Array, rng: Random, x: Array, y: Array) -> Array:
    """Let drops of clean water push the pigment outwards into pale blooms."""
    for _ in range(9):
        cx, cy, size = rng.uniform(40, 600), rng.uniform(50, 440), rng.uniform(12, 30)
        away = np.hypot(x - cx, y - cy) / size + 0.22 * noise(rng, 14, 4)
        lift = 0.22 * step(1, 0.5, away)
        paper = mix(paper, rgb("#fbf8f0"), lift)
        paper *= 1 - 0.07 * np.exp(-(((away - 1.02) / 0.07) ** 2))[..., None]
    return paper


def paint_poppies(paper: Array, rng: Random, sheet: Array, x: Array, y: Array) -> Array:
    """Lay grass and poppies, petal by petal."""
    blades = Pen()
    for _ in range(170):
        px, py = rng.uniform(26, 614), rng.uniform(400, 468)
        lean, h = rng.normal(0, 9), rng.uniform(16, 52)
        points = [(px + lean * t * t, py - h * t) for t in np.linspace(0, 1, 7)]
        blades.line(points, rgb("#000000"), rng.uniform(0.6, 1.7))
    grass = np.minimum(blades.layer()[1] * 2 - 1, sheet)
    paper = wash(paper, rng, blur(grass, 0.4), "#5d8a5a", 0.8, 0.5, 0.7)
    flowers = []
    for _ in range(300):
        depth = rng.uniform(0, 1) ** 0.8
        spot = (rng.uniform(44, 596), 374 + 62 * depth, 5 + 14 * depth)
        # Keep the blossoms apart, so that each one can be read.
        if all(np.hypot(spot[0] - a, spot[1] - b) > spot[2] + c for a, b, c in flowers):
            flowers.append(spot)
        if len(flowers) == 30:
            break
    crimp = noise(rng, 9, 3) + 0.4 * noise(rng, 26, 4)
    petals = [(0.0, -0.42, 0.95), (-0.48, 0.0, 0.75), (0.5, 0.0, 0.75), (0.0, 0.3, 0.8)]
    codes = ["#f7b09a", "#f08f78", "#ee8570", "#e4604f"]
    bloom = np.full_like(x, -50.0)
    for px, py, size in flowers:
        away = np.hypot(x - px, (y - py + 0.1 * size) * 1.2)
        bloom = np.maximum(bloom, size * 0.95 - away)
    paper = mix(paper, rgb("#fdf6ea"), 0.8 * step(-1, 1, bloom + 1.2 * crimp))
    for (ox, oy, span), code in zip(petals, codes, strict=True):
        field = np.full_like(x, -50.0)
        for px, py, size in flowers:
            away = np.hypot(x - px - ox * size, (y - py - oy * size) * 1.35)
            field = np.maximum(field, size * span * 0.8 - away)
        field = np.minimum(field + 1.3 * crimp, sheet)
        paper = wash(paper, rng, field, code, 0.8, 1.1)
    hearts = np.full_like(x, -50.0)
    for px, py, size in flowers:
        hearts = np.maximum(hearts, size * 0.2 - np.hypot(x - px, (y - py) * 1.4))
    paper = wash(paper, rng, hearts + 0.7 * crimp, "#3f3550", 1.0, 0.4, 1.5)
    return paper


def watercolour(rng: Random) -> Image.Image:
    """Draw the picture."""
    x, y = grid()
    sheet = np.minimum(300 - np.abs(x - 320), 220 - np.abs(y - 240))
    sheet = sheet + 2.2 * noise(rng, 26, 5)
    paper = np.ones((*x.shape, 3), np.float32) * rgb("#fbf8f0")
    paper = paint_mountains(paper, rng, sheet, x, y)
    paper = paint_lake(paper, rng, sheet, x, y)
    paper = paint_blooms(paper, rng, x, y)
    paper = paint_poppies(paper, rng, sheet, x, y)
    drops = np.full_like(x, -50.0)
    for _ in range(46):
        px, py = rng.uniform(30, 610), rng.uniform(330, 465)
        radius = rng.exponential(0.8) + 0.5
        drops = np.maximum(drops, radius - np.hypot(x - px, y - py))
    paper = wash(paper, rng, drops, "#d98a6a", 0.6, 0.8, 0.6)
    tooth = noise(rng, 2.6, 2)
    down, right = np.gradient(blur(tooth, 0.5))
    paper = paper * (1 + 0.035 * (down + right))[..., None]
    return finish(paper, 0.003, rng)
