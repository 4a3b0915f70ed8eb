"""A style in thick paint: a whirling night sky over a village, wheat and a tree."""

import numpy as np
from drawing import (
    FULL,
    SCALE,
    Array,
    Pen,
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


class Canvas:
    """Wet paint: a colour picture and the height of the paint on it."""

    def __init__(self, ground: Array) -> None:
        """Start from a thin underpainting, which shows between strokes."""
        self.paint = to_image(ground)
        self.relief = Image.new("L", FULL, 60)
        self.colour_draw = ImageDraw.Draw(self.paint)
        self.relief_draw = ImageDraw.Draw(self.relief)

    def strokes(
        self,
        rng: Random,
        colour: Array,
        angle: Array,
        count: int,
        size: tuple[float, float],
        jitter: float = 0.05,
        where: Array | None = None,
    ) -> None:
        """Paint strokes of a width and length that follow the angle field."""
        width, length = size
        steps, hairs = 9, max(4, round(width * 0.9))
        odds = np.ones(FULL[::-1]) if where is None else np.clip(where, 0, None)
        x, y = scatter(rng, odds, count)
        hue = sample(colour, x, y) + rng.normal(0, jitter, (count, 1))
        hue = hue + rng.normal(0, jitter * 0.6, (count, 3))
        reach = length * rng.uniform(0.6, 1.3, count) / steps
        # Walk back half a stroke first, so that it is centred on its colour.
        for _ in range(steps // 2):
            turn = sample(angle, x, y)
            x, y = x - np.cos(turn) * reach, y - np.sin(turn) * reach
        path = np.empty((count, steps, 2))
        side = np.empty_like(path)
        for index in range(steps):
            turn = sample(angle, x, y)
            path[:, index] = np.stack([x, y], 1)
            side[:, index] = np.stack([-np.sin(turn), np.cos(turn)], 1)
            x, y = x + np.cos(turn) * reach, y + np.sin(turn) * reach
        taper = np.sin(np.linspace(0.25, 2.9, steps)) ** 0.5
        offsets = np.linspace(-0.5, 0.5, hairs)
        thick = max(2, round(1.5 * width * SCALE / hairs))
        for item in range(count):
            tones = hue[item] + rng.normal(0, 0.024, (hairs, 1))
            inks = (np.clip(tones, 0, 1) * 255).astype(int)
            # Brushes push paint to both sides, which leaves a ridge there.
            heights = 120 + 60 * np.abs(offsets) * 2 + rng.normal(0, 26, hairs)
            heights = np.clip(heights, 0, 255).astype(int)
            ends = rng.integers(0, 2, (hairs, 2))
            swing = side[item] * (taper * width * rng.uniform(0.75, 1.2))[:, None]
            for hair in range(hairs):
                first, last = ends[hair, 0], steps - ends[hair, 1]
                line = (path[item] + swing * offsets[hair])[first:last] * SCALE
                flat = line.ravel().tolist()
                self.colour_draw.line(flat, tuple(inks[hair].tolist()), thick)
                self.relief_draw.line(flat, int(heights[hair]), thick)

    def dry(self, depth: float) -> Array:
        """Light the paint from the upper left and return the picture."""
        picture = np.asarray(self.paint, np.float32) / 255
        relief = blur(np.asarray(self.relief, np.float32) / 255, 0.55)
        down, right = np.gradient(relief)
        slope = np.clip((down + right) * depth, -0.5, 0.5)[..., None]
        return picture * (1 + slope) + np.clip(slope - 0.12, 0, 1) * 0.35


def night_sky(rng: Random, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """Plan the sky: colour, stroke direction, finely painted places, star centres."""
    flow = y * 0.9 + 9 * noise(rng, 170, 2) + 14 * np.sin(x / 95 + y / 60)
    spin = np.zeros_like(x)
    whirls = [(250, 150, 92, 150.0), (372, 196, 62, -105.0), (70, 235, 60, -70.0)]
    whirls += [(560, 250, 66, 80.0)]
    for cx, cy, size, power in whirls:
        far = np.hypot(x - cx, (y - cy) * 1.15)
        pull = np.exp(-((far / size) ** 2))
        flow += power * pull
        spin += pull * np.sign(power) * np.arctan2(y - cy, x - cx)
    moon = (118.0, 92.0)
    stars = [(*moon, 34), (232, 46, 10), (338, 66, 14), (36, 190, 10), (196, 232, 9)]
    stars += [(300, 272, 7), (420, 34, 8), (88, 262, 8), (408, 288, 10)]
    halo = np.zeros_like(x)
    ring = np.zeros_like(x)
    core = np.zeros_like(x)
    for cx, cy, size in stars:
        far = np.hypot(x - cx, y - cy)
        pull = np.exp(-((far / (size * 2.1)) ** 2))
        flow = flow * (1 - pull) + far * 2.0 * pull
        halo = np.maximum(halo, np.exp(-((far / (size * 1.7)) ** 2)))
        ring = np.maximum(ring, pull * np.cos(far / size * 3.2))
        core = np.maximum(core, step(1.0, 0.7, far / size))
    down, right = np.gradient(blur(flow, 2))
    angle = np.arctan2(-right, down)
    # Circles around a point leave a hole there, so straight dabs fill the middle.
    angle = np.where(core > 0.9, 0.6 + 0.4 * noise(rng, 30, 1), angle)
    bands = 0.5 + 0.5 * np.sin(flow / 7.5 + spin + 0.7 * noise(rng, 40, 3))
    night = ["#101b4e", "#1c3a86", "#2f63b0", "#5f9ac4", "#b4d3c6"]
    gleam = bands * (0.7 + 0.3 * step(-1.2, 1, noise(rng, 130, 2)))
    scene = ramp(gleam, night, [0, 0.3, 0.55, 0.8, 1])
    scene = mix(scene, rgb("#0d1440"), step(120, -20, y) * 0.45)
    scene = mix(scene, rgb("#d8dca0"), step(250, 330, y) * 0.4 * bands)
    gold = ["#7fb0a8", "#d9cf6a", "#f6c63c", "#fff1a8"]
    warm = ramp(halo, gold, [0.1, 0.35, 0.65, 1])
    scene = mix(scene, warm, step(0.1, 0.55, halo + 0.16 * ring))
    disc = step(35, 33, np.hypot(x - moon[0], y - moon[1]))
    disc *= step(27, 29, np.hypot(x - moon[0] - 13, y - moon[1] + 7))
    scene = mix(scene, rgb("#ff8f12"), disc)
    detail = blur(disc, 2) + step(0.4, 0.9, halo)
    return scene, angle, detail, core


def wheat_hills(
    rng: Random, scene: Array, angle: Array, x: Array, y: Array
) -> tuple[Array, Array]:
    """Add the hills and the wheat in front to a colour and direction plan."""
    hills = [
        ([300, 317, 309, 302, 325, 303, 280], "#234a8a", "#6f9fb4"),
        ([330, 338, 337, 325, 341, 343, 330], "#173a5e", "#4f8f86"),
        ([374, 365, 370, 383, 374, 369, 380], "#6a5a2a", "#e8b93c"),
        ([430, 414, 404, 416, 421, 410, 398], "#4a3d26", "#d99a2b"),
    ]
    for index, (heights, dark, light) in enumerate(hills):
        ridge = curve(heights, x[:1])
        below = step(-1, 1, y - ridge)
        lines = 0.5 + 0.5 * np.sin((y - ridge) / 3.4 + x / 50 + 1.3 * noise(rng, 40, 3))
        lit = lines * (0.3 + 0.7 * step(80, 0, y - ridge))
        scene = mix(scene, mix(rgb(dark), rgb(light), lit), below)
        scene = mix(scene, rgb(dark) * 0.7, step(3, 1, np.abs(y - ridge)))
        lean = np.arctan(np.gradient(ridge, axis=1) * SCALE)
        sweep = lean + 0.4 * np.sin(x / 38 + index * 2) * step(0, 30, y - ridge)
        if index > 1:
            stalks = 1.25 + 0.35 * np.sin(x / 45 + y / 30 + index)
            sweep = np.where(noise(rng, 34, 3, 2) > 0.1, stalks, sweep)
        angle = np.where(below > 0.5, sweep, angle)
    return scene, angle


def draw_village(rng: Random) -> Pen:
    """Draw a few houses and a church with lights on."""
    village = Pen()
    for base, low, high, count in ((346, 12, 17, 11), (362, 17, 25, 9)):
        for cx in np.linspace(170, 470, count) + rng.normal(0, 5, count):
            w = rng.uniform(low, high)
            foot, ink = base + rng.uniform(-4, 8), rgb("#0c1230")
            roof = [(cx - 2, foot - w * 0.7), (cx + w / 2, foot - w * 1.35)]
            roof += [(cx + w + 2, foot - w * 0.7)]
            wall = ["#5f83a8", "#86a2b4", "#41578c", "#a39a80"][rng.integers(4)]
            village.box(cx - 1, foot - w * 0.7, w + 2, w * 0.7 + 1, ink)
            village.box(cx, foot - w * 0.7, w, w * 0.7, rgb(wall))
            tile = ["#a8492c", "#2a3c74", "#c2602f", "#38528a"][rng.integers(4)]
            village.poly(roof, rgb(tile))
            village.line([*roof, roof[0]], ink, 1)
            lamp = rgb("#ffd24a")
            village.box(cx + w * 0.3, foot - w * 0.5, w * 0.36, w * 0.38, lamp)
    village.box(351, 300, 18, 62, rgb("#0c1230"))
    village.box(353, 302, 14, 60, rgb("#7f9cb8"))
    village.poly([(348, 304), (360, 236), (372, 304)], rgb("#1c2a5e"))
    village.box(357, 312, 6, 10, rgb("#ffd24a"))
    return village


def lone_tree(
    rng: Random, scene: Array, angle: Array, x: Array, y: Array
) -> tuple[Array, Array, Array]:
    """Add the dark tree in front; return also where it needs fine strokes."""
    trees = np.zeros_like(x)
    stem = Pen()
    xs = (520, 548, 540, 524, 540, 558, 572, 588, 580, 588, 634)
    ys = (500, 400, 300, 236, 232, 282, 214, 216, 300, 400, 500)
    stem.poly(list(zip(xs, ys, strict=True)), rgb("#ffffff"))
    for ends in (
        [(546, 320), (500, 262), (470, 246)],
        [(576, 320), (612, 268), (640, 250)],
    ):
        stem.line(ends, rgb("#ffffff"), 12)
    bark = blur(stem.layer()[1], 0.8)
    grooves = 0.5 + 0.5 * np.sin(x / 3.2 + 1.5 * np.sin(y / 33) + noise(rng, 30, 2))
    wood = ramp(grooves, ["#0d0f1c", "#2a2230", "#6a4a38"], [0, 0.5, 1])
    scene = mix(scene, wood, bark)
    angle = np.where(bark > 0.3, 1.5 + 0.3 * np.sin(y / 40), angle)
    crowns = [(560, 120, 62), (492, 174, 48), (620, 172, 56), (456, 234, 34)]
    crowns += [(548, 196, 50), (612, 78, 44), (508, 92, 36), (632, 240, 34)]
    for index, (cx, cy, size) in enumerate(crowns):
        away = np.hypot(x - cx, (y - cy) * 1.12)
        turn = np.arctan2(y - cy, x - cx)
        lobes = size * (1 + 0.09 * np.sin(5 * turn + index)) + 3 * noise(rng, 12, 2)
        inside = step(1.5, -1.5, away - lobes)
        lick = 0.5 + 0.5 * np.sin(away / 3.6 - 2 * turn + index)
        lick = lick * (0.72 - 0.4 * (x - cx + y - cy) / size / 1.4)
        leaf = ["#070d18", "#12302e", "#2c5a34", "#8f9a3a"]
        scene = mix(scene, ramp(lick, leaf, [0, 0.35, 0.7, 1.2]), inside)
        angle = np.where(inside > 0.4, turn + 1.2, angle)
        fine = inside * (0.3 + step(size, 0, away))
        trees = np.maximum(trees * (1 - inside), fine)
    return scene, angle, np.maximum(trees, bark)


def swirls(rng: Random) -> Image.Image:
    """Draw the picture."""
    x, y = grid()
    scene, angle, detail, core = night_sky(rng, x, y)
    scene, angle = wheat_hills(rng, scene, angle, x, y)
    paint, cover = draw_village(rng).layer()
    scene = mix(scene, paint, cover)
    angle = np.where(cover > 0, 1.5, angle)
    scene, angle, trees = lone_tree(rng, scene, angle, x, y)
    canvas = Canvas(scene * 0.85)
    edges = blur(np.abs(scene.mean(-1) - blur(scene.mean(-1), 3)), 2)
    canvas.strokes(rng, scene, angle, 1500, (13, 46), 0.05)
    canvas.strokes(rng, scene, angle, 5200, (7.5, 32), 0.045)
    canvas.strokes(rng, scene, angle, 4800, (5, 22), 0.045, edges + 0.01)
    town = blur(cover, 1)
    fine = detail * (y < 300) + town * 2 + trees * 0.5 + edges * 3
    canvas.strokes(rng, scene, angle, 3000, (3.6, 12), 0.035, fine)
    canvas.strokes(rng, scene, angle, 2600, (2.4, 6), 0.02, town + detail * 0.1)
    dabs = core * (1 - trees)
    canvas.strokes(rng, scene, angle, 260, (5, 9), 0.03, dabs)
    canvas.strokes(rng, scene, angle, 4500, (1.7, 4), 0.01, cover)
    return finish(canvas.dry(1.5), 0.0, rng)
