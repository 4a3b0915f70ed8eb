"""A style in leaded glass: sun, hills, a river and a tree."""

import numpy as np
from drawing import (
    HEIGHT,
    SCALE,
    WIDTH,
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
    to_image,
)
from PIL import Image, ImageFilter


def window_plan(x: Array, y: Array) -> Array:
    """Number the parts of the window: sun, sky, hills, river and tree."""
    region = np.zeros(x.shape, np.int32)
    far = np.hypot(x - 205, y - 165)
    turn = np.arctan2(y - 165, x - 205)
    rays = (turn / (2 * np.pi) + 0.5) * 26 + 0.35 * np.sin(far / 60)
    rays = rays.astype(int) % 26
    region[:] = 100 + rays + 30 * (far > 150) + 60 * (far > 265 + 18 * np.cos(turn * 9))
    region[far < 96] = 60 + rays[far < 96] // 2 % 13
    region[far < 58] = 50
    lands = [
        ([262, 232, 264, 262, 242, 257, 214], 1),
        ([300, 315, 308, 279, 296, 304, 280], 2),
        ([352, 335, 345, 358, 339, 337, 350], 3),
        ([402, 411, 411, 390, 396, 398, 384], 4),
    ]
    for heights, name in lands:
        region[y > curve(heights, x[:1])] = name
    drop = np.clip((y - 292) / 190, 0, 1)
    middle = 330 + 74 * np.sin(drop * 5.2) * (0.35 + drop) - 60 * drop
    half = 12 + 70 * drop**1.3
    river = (np.abs(x - middle) < half) & (y > 297)
    region[river] = 5
    region[river & (x - middle > half * 0.25)] = 6
    pen = Pen()
    pen.poly(
        [(486, 452), (512, 330), (506, 236), (528, 232), (538, 336), (572, 452)],
        rgb("#010101"),
    )
    for ends in (
        [(518, 300), (470, 230), (452, 190)],
        [(522, 270), (560, 206), (590, 180)],
        [(517, 250), (514, 170)],
    ):
        pen.line(ends, rgb("#010101"), 13)
    trunk = pen.layer()[1] > 0
    crowns = [(452, 166, 56), (520, 116, 66), (588, 160, 54)]
    crowns += [(486, 214, 34), (566, 222, 32)]
    for index, (cx, cy, size) in enumerate(crowns):
        away = np.hypot(x - cx, y - cy)
        wobble = size * (1 + 0.06 * np.sin(np.arctan2(y - cy, x - cx) * 7 + index))
        region[away < wobble] = 7
        region[away < wobble * 0.62] = 8
    region[trunk & ~((region == 8) & (y < 200))] = 9
    return region


def window_panes(rng: Random, region: Array) -> Array:
    """Cut parts into panes, numbered 100 × the part's number + the pane's own."""
    # Every part has its own seeds, so that no pane crosses a border.
    sizes = {1: 34, 2: 36, 3: 38, 4: 44, 5: 34, 6: 34, 7: 27, 8: 25, 9: 34, 50: 200}
    cells = np.zeros_like(region)
    for name in np.unique(region):
        rows, cols = np.nonzero(region == name)
        count = max(1, round(rows.size / SCALE**2 / sizes.get(int(name), 62) ** 2))
        picks = rng.integers(0, rows.size, count * 8)
        seeds = spread(np.stack([cols[picks], rows[picks]], 1) * 1.0, count)
        flat = 1.7 if name in (1, 2, 3, 4, 5, 6) else 1.0
        gap = [((cols - sx) / flat) ** 2 + (rows - sy) ** 2 for sx, sy in seeds]
        cells[rows, cols] = name * 100 + np.argmin(np.array(gap, np.float32), 0)
    return cells


def pane_colours(rng: Random, cells: Array) -> Array:
    """Give every pane a colour of its part."""
    palettes = {
        1: ["#5b3f9e", "#7550b4", "#47368c", "#9160b8"],
        2: ["#1f6f8f", "#2b8fa0", "#1d5a86", "#3aa39a"],
        3: ["#2f8f4e", "#57a83c", "#1f7550", "#8fbe3a"],
        4: ["#b5452e", "#d9742c", "#a62f3c", "#e09a30"],
        5: ["#1648a8", "#2468c4", "#123a8c"],
        6: ["#39a0d8", "#62c0e0", "#2b84cc"],
        7: ["#14663a", "#1f8043", "#0f5540", "#3b9440"],
        8: ["#9cc23a", "#6fb03c", "#c9d248", "#48a048"],
        9: ["#7a3a26", "#8f4a2a", "#6a3030"],
    }
    names, places = np.unique(cells, return_inverse=True)
    colours = np.empty((names.size, 3), np.float32)
    for index, cell in enumerate(names):
        name = int(cell) // 100
        if name == 50:
            pick = rgb("#ffe27a")
        elif 60 <= name < 100:
            pick = rgb(["#f7a823", "#ffc93c"][name % 2])
        elif name >= 160:
            pick = rgb(["#1d3f9c", "#2a58b8", "#24308a"][rng.integers(3)])
        elif name >= 130:
            pick = rgb(["#3f8fd0", "#5fb0dc", "#3474c4", "#8a7fcf"][rng.integers(4)])
        elif name >= 100:
            pick = rgb(["#f06a3c", "#f48fa0", "#f2b04a", "#d8506a"][rng.integers(4)])
        else:
            pick = rgb(palettes[name][rng.integers(len(palettes[name]))])
        colours[index] = pick * rng.uniform(0.82, 1.12)
    return colours[places.reshape(cells.shape)]


def spread(points: Array, count: int) -> Array:
    """Pick points that keep far from one another."""
    chosen = [points[0]]
    gap = np.full(len(points), np.inf)
    for _ in range(count - 1):
        gap = np.minimum(gap, np.hypot(*(points - chosen[-1]).T))
        chosen.append(points[int(np.argmax(gap))])
    return np.array(chosen)


def edges_of(labels: Array) -> Array:
    """Mark the pixels whose label differs from a neighbour's."""
    marks = np.zeros(labels.shape, np.float32)
    marks[:, 1:] = labels[:, 1:] != labels[:, :-1]
    marks[1:] = np.maximum(marks[1:], labels[1:] != labels[:-1])
    return marks


def widen(marks: Array, size: int) -> Array:
    """Widen marks to about `size` drawn pixels."""
    return (
        np.asarray(to_image(marks).filter(ImageFilter.MaxFilter(size)), np.float32)
        / 255
    )


def mosaic(rng: Random) -> Image.Image:
    """Draw the picture."""
    x, y = grid()
    region = window_plan(x, y)
    cells = window_panes(rng, region)
    glass = pane_colours(rng, cells)
    far = np.hypot(x - 205, y - 165)
    joints = edges_of(cells)
    came = widen(joints, 5)
    frame = edges_of(np.where(region >= 100, 100, region))
    border = (x < 9) | (x > WIDTH - 9) | (y < 9) | (y > HEIGHT - 9)
    came = np.maximum(np.maximum(came, widen(frame, 9)), border)
    # Light comes through the middle of a pane more freely than along the lead.
    shadow = blur(came, 5)
    streaks = 0.06 * noise(rng, 18, 4, 0.5) + 0.05 * noise(rng, 120, 2)
    glass = glass * (1.16 - 0.75 * shadow + streaks)[..., None]
    sunlight = 0.2 * np.exp(-far / 150) * (1 - came)
    glass += sunlight[..., None] * rgb("#ffdf90")
    lead = blur(came, 1.3)
    down, right = np.gradient(lead)
    metal = rgb("#1b1a20") * (1 + 0.1 * noise(rng, 5, 2))[..., None]
    metal = metal + np.clip((down + right) * 1.6, 0, 0.22)[..., None]
    return finish(mix(glass, metal, blur(came, 0.35)), 0.004, rng)
