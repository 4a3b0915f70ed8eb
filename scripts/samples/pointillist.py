"""A style in dots of pure colour: a sunlit river bank."""

from collections.abc import Sequence

import numpy as np
from drawing import (
    SCALE,
    Array,
    Pen,
    Points,
    Random,
    blur,
    curve,
    finish,
    grid,
    mix,
    noise,
    ramp,
    rgb,
    sample,
    scatter,
    step,
    to_image,
)
from PIL import Image, ImageDraw


def sail_boats() -> Pen:
    """Draw three sailing boats with their reflections."""
    pen = Pen()
    for px, py, s in ((322, 290, 96), (420, 256, 50), (246, 244, 30)):
        main = [(0, -s), (0, -5), (s * 0.5, -5)]
        front = [(-2, -s * 0.9), (-2, -5), (-s * 0.3, -5)]
        hull = [(-s * 0.36, -4), (-s * 0.25, 2), (s * 0.34, 2), (s * 0.5, -4)]
        image = [(-s * 0.2, 3), (s * 0.3, 3), (3, s * 0.7)]
        codes = ("#fff3d8", "#f4b98a", "#5a3f8c", "#f6ead0")
        for shape, code in zip((main, front, hull, image), codes, strict=True):
            pen.poly([(px + a, py + b) for a, b in shape], rgb(code))
    return pen


def walkers() -> Pen:
    """Draw two women with parasols."""
    pen = Pen()
    for px, py, s, dress, parasol in (
        (412, 446, 1.35, "#4a2f86", "#e2502c"),
        (484, 430, 1.15, "#fbf0e0", "#f0a030"),
    ):
        skirt = [(-17, 0), (-6, -34), (-7, -54), (6, -54), (6, -34), (15, 0)]
        pen.poly([(px + a * s, py + b * s) for a, b in skirt], rgb(dress))
        pen.disc(px, py - 61 * s, 5.5 * s, 6.5 * s, rgb("#e8a880"))
        pen.disc(px, py - 66 * s, 8 * s, 4 * s, rgb("#4a2f5c"))
        stick = [(px + 7 * s, py - 40 * s), (px + 13 * s, py - 88 * s)]
        pen.line(stick, rgb("#4a2f5c"), 2)
        for side, light in ((-1, 1.0), (1, 0.75)):
            turn = np.linspace(np.pi / 2, np.pi / 2 * (1 - side), 8)
            rim = zip(27 * np.cos(turn), -22 * np.sin(turn), strict=True)
            dome = [(px + (13 + a) * s, py + (b - 74) * s) for a, b in [*rim, (0, 0)]]
            pen.poly(dome, rgb(parasol) * light)
    return pen


def leafy_tree(
    rng: Random, scene: Array, trunk: Points, crowns: Sequence[tuple[float, ...]]
) -> Array:
    """Add a tree whose crowns are lit from the upper right."""
    x, y = grid()
    stem = Pen()
    stem.poly(trunk, rgb("#543458"))
    colour, cover = stem.layer()
    lit = mix(colour, rgb("#c47a54"), step(0.2, 1.6, noise(rng, 8, 3, 0.4)) * 0.6)
    scene = mix(scene, lit, cover)
    leaf = ["#2a3f74", "#2c6660", "#5a9048", "#b0b850", "#eedc7c"]
    for cx, cy, w, h in crowns:
        away = np.hypot((x - cx) / w, (y - cy) / h) + 0.1 * noise(rng, 30, 4)
        sunny = (x - cx) / w * 0.5 - (y - cy) / h * 0.8 + 0.5 * noise(rng, 22, 3)
        tone = ramp(sunny, leaf, [-0.8, -0.2, 0.35, 0.9, 1.5])
        scene = mix(scene, tone, step(1.02, 0.94, away))
    return scene


def sunlit_scene(rng: Random, x: Array, y: Array) -> Array:
    """Plan a sunlit river bank as flat colours for the dots to follow."""
    sky = ramp(y, ["#6fa4dc", "#a4c8e4", "#f3e3c0", "#fbd9a0"], [0, 100, 190, 230])
    puff = step(0.5, 1.4, noise(rng, 70, 4, 2.2)) * step(190, 60, y)
    scene = mix(sky, rgb("#fdf1e2"), puff * 0.8)
    ridge = curve([196, 182, 187, 204, 193, 177, 160], x[:1])
    scene = mix(scene, rgb("#8f9fcf"), step(-1, 1, y - ridge))
    shore = curve([218, 215, 213, 219, 223, 215, 206], x[:1])
    woods = shore - 8 - 9 * np.abs(noise(rng, 24, 3)[:1])
    copse = mix(rgb("#5f9a72"), rgb("#b9c465"), step(2, -8, y - woods - 12))
    scene = mix(scene, copse, step(-1, 1, y - woods))
    river = ramp(y, ["#f2dcb4", "#a9cfe2", "#5d98cf", "#4a7fc0"], [226, 258, 300, 360])
    scene = mix(scene, river, step(-1, 1, y - 232))
    ripple = noise(rng, 9, 3, 8)
    scene = mix(scene, rgb("#e8f0dc"), step(0.7, 1.6, ripple) * step(228, 245, y) * 0.7)
    colour, cover = sail_boats().layer()
    scene = mix(scene, colour, cover)
    bank = curve([318, 323, 343, 364, 356, 333, 300], x[:1])
    bank = bank + 2 * noise(rng, 20, 3)[:1]
    grass = ["#e6d468", "#b4c25a", "#84ac54", "#5f9150"]
    lawn = ramp(y - bank, grass, [0, 25, 80, 150])
    lawn = mix(lawn, rgb("#ecd070"), step(0.2, 1.4, noise(rng, 60, 3, 2.4)) * 0.6)
    scene = mix(scene, lawn, step(-1, 1, y - bank))
    t = np.clip((y - 350) / 130, 0, 1)
    trail = np.abs(x - 470 + 150 * t - 20 * np.sin(t * 5)) - (8 + 46 * t)
    path = step(3, -3, trail) * step(352, 358, y)
    scene = mix(scene, rgb("#f3cfa0"), path)
    left = np.hypot((x - 130) / 210, (y - 438) / 34)
    right = np.hypot((x - 600) / 120, (y - 398) / 22)
    shade = np.minimum(left, right) + 0.16 * noise(rng, 26, 3)
    dusk = mix(rgb("#3f6a8a"), rgb("#5a4f9c"), step(-1, 1, noise(rng, 20, 3)))
    scene = mix(scene, dusk, step(1.06, 0.9, shade) * 0.85)
    trunk = [(78, 442), (100, 390), (104, 300), (84, 190), (124, 190), (126, 300)]
    trunk += [(130, 390), (154, 442)]
    crowns = [(104, 110, 128, 100), (30, 180, 86, 66), (186, 172, 74, 60)]
    scene = leafy_tree(rng, scene, trunk, crowns)
    trunk = [(590, 402), (596, 280), (608, 280), (618, 402)]
    crowns = [(602, 190, 66, 84), (640, 240, 60, 60), (566, 236, 42, 44)]
    scene = leafy_tree(rng, scene, trunk, crowns)
    colour, cover = walkers().layer()
    scene = mix(scene, colour, cover)
    blooms = step(1.5, 1.7, noise(rng, 11, 2)) * step(20, 60, y - bank)
    blooms = blooms * (1 - path) * (1 - cover) * (noise(rng, 60, 2) > -0.2)
    return mix(scene, rgb("#e8505a"), blooms)


def pointillist(rng: Random) -> Image.Image:
    """Draw the picture."""
    x, y = grid()
    scene = sunlit_scene(rng, x, y)
    grey = scene.mean(-1, keepdims=True)
    scene = np.clip(grey + (scene - grey) * 1.12, 0, 1)
    # Shifts of equal brightness cancel out, so that the eye mixes them to the plan.
    shifts = rng.normal(0, 1, (7, 3))
    shifts -= shifts.mean(0)
    shifts -= (shifts @ [0.3, 0.59, 0.11])[:, None]
    shifts *= 0.09 / shifts.std()
    ground = mix(scene, rgb("#e6d3ae"), 0.3)
    picture = to_image(ground)
    draw = ImageDraw.Draw(picture)
    plain = np.ones_like(x)
    busy = np.abs(scene - np.roll(scene, 2, (0, 1))).sum(-1)
    busy = np.clip(blur(busy, 1.5), 0, None) ** 1.3
    for count, radius, swing, where in (
        (12000, 4.6, 0.5, plain),
        (16000, 3.5, 0.9, plain),
        (11000, 2.8, 1.1, plain),
        (12000, 1.9, 0.6, busy),
    ):
        px, py = scatter(rng, where, count)
        hue = sample(scene, px, py) + shifts[rng.integers(0, 7, count)] * swing
        hue = np.clip(hue + rng.normal(0, 0.012, (count, 3)), 0, 1) * 255
        size = radius * rng.uniform(0.8, 1.15, (count, 1)) * SCALE
        box = np.stack([px, py], 1) * SCALE
        box = np.concatenate([box - size, box + size], 1)
        for spot, ink in zip(box.tolist(), hue.astype(int).tolist(), strict=True):
            draw.ellipse(spot, tuple(ink))
    return finish(np.asarray(picture, np.float32) / 255, 0.0, rng)
