"""A style in block print: a red sun, a mountain and breaking waves."""

import numpy as np
from drawing import SCALE, Array, Points, Random, finish, grid, mix, noise, rgb, step
from PIL import Image


def engrave(rough: Array, phase: Array, tone: Array) -> Array:
    """Ink lines along a phase; tone is the share of the paper they cover."""
    wave = np.abs((phase % 1) - 0.5) * 2
    return step(-0.07, 0.07, tone + 0.05 * rough - wave)


def cut_sky(rough: Array, sway: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Cut the sky and its clouds; return the black block and the red one."""
    tone = np.clip(0.9 - y / 150, 0, 0.9) + 0.14 * step(190, 300, y)
    ink = engrave(rough, y / 6.2 + 0.25 * sway + 0.3 * np.sin(x / 90), tone)
    sun = np.hypot(x - 462, y - 122)
    ink *= step(74, 76, sun)
    red = step(66, 65, sun + 0.25 * rough)
    puffs = [(96, 92, 84, 10), (172, 112, 66, 8), (562, 170, 92, 10), (478, 186, 66, 8)]
    for cx, cy, w, h in puffs:
        lobes = np.abs(np.sin((x - cx) / w * 5)) ** 0.5
        band = np.hypot((x - cx) / w, (y - cy) / (h * (0.8 + 0.7 * lobes)))
        # Dividing by the slope gives outlines of the same width everywhere.
        away = (band - 1) / (SCALE * np.hypot(*np.gradient(band)) + 1e-6)
        outline = step(1.3, 0.7, np.abs(away))
        fold = step(0.8, 0.3, np.abs(away + 4)) * step(cy - 1, cy + 3, y)
        ink = np.maximum(ink * step(0, 1, away - 2), np.maximum(outline, fold))
        red *= step(-0.5, 0.5, away)
    return ink, red


def cut_mountain(
    ink: Array, red: Array, rough: Array, sway: Array, x: Array, y: Array
) -> tuple[Array, Array]:
    """Cut a snowy peak with lines that run down its sides, and the far sea."""
    ridge_x = x - 244
    fall = np.abs(ridge_x) / (1 + 0.1 * np.sign(ridge_x))
    ridge = 112 + 205 * (1 - np.exp(-fall / 150)) + 0.8 * rough + 2 * sway
    ridge = np.maximum(ridge, 112 + 3 * np.sin(x / 5))
    inside = y > ridge
    fan = ridge_x / np.maximum(30 + (y - 60) * 1.15, 5)
    light = np.clip(0.3 + 0.42 * step(-0.25, 0.5, fan + 0.12 * sway), 0, 0.8)
    rock = engrave(rough, fan * 33 + 0.5 * sway + y / 400, light)
    snow = 178 + 20 * np.abs(((fan * 6.5) % 2) - 1) * 2 + 5 * sway
    shade = 0.34 * step(0.05, 0.4, fan + 0.05 * sway)
    cap = engrave(rough, fan * 33 + 0.5 * sway, shade)
    rock = np.where(y < snow, cap, rock)
    ink = np.where(inside, rock, ink)
    ink = np.maximum(ink, step(2.2, 1.2, np.abs(y - ridge)))
    red *= ~inside
    far_sea = 268 + 1.5 * np.sin(x / 14)
    swell = y / 5.2 + 0.9 * np.sin(x / 34 + y / 19) + 0.4 * sway
    dark = np.clip(0.35 + (y - 268) / 160, 0, 0.8)
    ink = np.where(y > far_sea, engrave(rough, swell, dark), ink)
    return ink, red * (y <= far_sea)


def draw_foam(
    rng: Random, ink: Array, curls: Points, size: float, x: Array, y: Array
) -> Array:
    """Cut little rings of spray around the tips of breaking waves."""
    for cx, cy in curls:
        for _ in range(int(size * 0.55)):
            px = cx + rng.normal(0.1, 0.5) * size
            py = cy - size * (rng.uniform(0.1, 0.75) - 0.2)
            radius = rng.uniform(0.9, 2.6) * (0.6 + size / 90)
            gap = np.hypot(x - px, y - py)
            ink = ink * step(radius - 0.4, radius + 0.4, gap)
            ink = np.maximum(ink, step(0.9, 0.4, np.abs(gap - radius)))
    return ink


def cut_wave(
    rough: Array,
    sway: Array,
    shape: tuple[float, ...],
    curls: Points,
    x: Array,
    y: Array,
) -> tuple[Array, Array]:
    """Cut one row of waves; return its ink and the area that it covers."""
    base, height, period, shift, size = shape
    wx, wy = x, y
    for cx, cy in curls:
        away = np.hypot(wx - cx, wy - cy)
        twist = -3.6 * np.exp(-((away / size) ** 2))
        dx, dy = wx - cx, wy - cy
        wx = cx + dx * np.cos(twist) - dy * np.sin(twist)
        wy = cy + dx * np.sin(twist) + dy * np.cos(twist)
    crest = base - height * np.cos(2 * np.pi * (wx - shift) / period)
    depth = wy - crest
    inside = depth > 0
    lines = depth / (5.6 + size / 40) + 0.2 * sway
    tone = 0.62 + 0.28 * np.sin(2 * np.pi * (wx - shift) / period + 1.2)
    body = engrave(rough, lines, tone)
    rim = 7 + size / 12
    body = np.where(depth < rim, step(2.4, 1.4, np.abs(depth - rim)), body)
    body = np.maximum(body, step(2.6, 1.6, depth))
    return body, inside


def woodcut(rng: Random) -> Image.Image:
    """Draw the picture."""
    x, y = grid()
    rough, sway = noise(rng, 7, 3), noise(rng, 90, 3)
    ink, red = cut_sky(rough, sway, x, y)
    ink, red = cut_mountain(ink, red, rough, sway, x, y)
    rows = [
        ((318, 26, 150, 30, 26), [(96, 300), (250, 302), (402, 300), (556, 302)]),
        ((378, 46, 236, 120, 48), [(182, 330), (424, 332), (660, 330)]),
        ((440, 62, 330, 40, 74), [(82, 372), (410, 374)]),
    ]
    for shape, curls in rows:
        body, inside = cut_wave(rough, sway, shape, curls, x, y)
        ink = np.where(inside, body, ink)
        if shape[-1] > 30:
            ink = draw_foam(rng, ink, curls, shape[-1], x, y)
    for px, py, s in ((330, 74, 12), (362, 92, 9), (306, 104, 8), (386, 66, 7)):
        for side in (-1, 1):
            u = (x - px) * side / s
            wing = py - s * 0.55 * np.sin(np.clip(u, 0, 1) * 2.6)
            gap = np.abs(y - wing) - 1.6 * (1 - u)
            ink = np.maximum(ink, step(0.5, -0.2, gap) * (u > 0) * (u < 1))
    fibres = 1 + 0.01 * noise(rng, 5, 2) + 0.02 * noise(rng, 150, 2)
    paper = rgb("#f1e6cd") * fibres[..., None]
    grain = noise(rng, 9, 4, 14)
    block = np.clip(0.95 + 0.05 * grain - 0.1 * step(1.4, 2.2, noise(rng, 5, 2)), 0, 1)
    frame = np.maximum(np.abs(x - 320) - 304, np.abs(y - 240) - 224) + 0.6 * rough
    inner = step(0.5, -0.5, frame)
    tint = step(210, -40, y + 8 * sway) * 0.35 * inner
    picture = mix(paper, paper * rgb("#a9bcc4"), tint)
    picture = mix(picture, paper * rgb("#9db4bd"), step(262, 300, y) * 0.3 * inner)
    # The red block never sits quite where the black one does.
    red = np.roll(red, (2, 3), (0, 1))
    picture = mix(picture, rgb("#c8382a"), red * 0.93 * block * inner)
    ink = np.maximum(ink * inner, step(2.4, 1.4, np.abs(frame)))
    picture = mix(picture, rgb("#18203f") * (1 + 0.06 * grain)[..., None], ink * block)
    return finish(picture, 0.0, rng)
