"""Draw the sample pictures: one content picture and a set of painted styles."""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

Array = np.ndarray
Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 480
# Everything is drawn at twice the size and reduced at the end, which smooths edges.
SCALE = 2
FULL = (WIDTH * SCALE, HEIGHT * SCALE)
SEED = 20
DEFAULT_OUT = Path(__file__).resolve().parents[1] / "jaxnst" / "samples"


# Shared tools. Coordinates are always in final pixels, whatever SCALE is.


def rgb(code: str) -> Array:
    """Turn a hex colour into three floats between 0 and 1."""
    return np.array(ImageColor.getrgb(code), np.float32) / 255


def grid() -> tuple[Array, Array]:
    """Return the x and y coordinate of every drawn pixel."""
    rows, cols = np.mgrid[0 : FULL[1], 0 : FULL[0]].astype(np.float32)
    return (cols + 0.5) / SCALE, (rows + 0.5) / SCALE


def noise(
    rng: np.random.Generator, cell: float, octaves: int = 4, stretch: float = 1.0
) -> Array:
    """Return smooth fractal noise of unit deviation; cell is its largest size."""
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
    """Rise smoothly from 0 to 1 while value goes from low to high."""
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
    """Turn a float colour into what Pillow draws with."""
    return tuple(int(band * 255) for band in np.clip(colour, 0, 1))


def finish(picture: Array, grain: float, rng: np.random.Generator) -> Image.Image:
    """Reduce a drawn picture to its final size, with a little film grain."""
    full = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
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


# The harbour: layers that each stand in the water at their own height.

HORIZON = 285
SUN = (392.0, 246.0)
DUSK = rgb("#c98a78")
TOWN_FOOT, PIER_FOOT = 286.0, 398.0


def draw_house(
    walls: Pen,
    lamps: Pen,
    rng: np.random.Generator,
    at: tuple[float, float],
    size: tuple[float, float],
    haze: float,
) -> None:
    """Draw one house with its roof, chimney and windows."""
    (x, base), (w, h) = at, size
    tones = ["#a5785f", "#b79a83", "#8d7f80", "#a89088", "#7b6a70", "#b3846c"]
    wall = mix(rgb(tones[rng.integers(6)]) * rng.uniform(0.5, 0.78), DUSK, haze)
    roof = mix(rgb("#6b3a35") * rng.uniform(0.55, 1.0), DUSK, haze)
    top = base - h
    walls.box(x, top, w, h + 1, wall)
    walls.box(x + w * 0.93, top, w * 0.07, h + 1, wall * [1.5, 1.25, 1.05])
    rise = w * rng.uniform(0.35, 0.55)
    if rng.random() < 0.5:
        walls.poly([(x, top), (x + w / 2, top - rise), (x + w, top)], wall)
        ridge = [(x - 2, top + 2), (x + w / 2, top - rise), (x + w + 2, top + 2)]
        walls.line(ridge, roof, 2)
        walls.line(ridge[1:], roof * [1.9, 1.5, 1.2], 1.2)
    else:
        slope = [(x - 2, top + 1), (x + 3, top - rise), (x + w - 3, top - rise)]
        walls.poly([*slope, (x + w + 2, top + 1)], roof)
        for row in np.arange(2, rise, 2.5):
            walls.line([(x, top - row), (x + w, top - row)], roof * 0.9, 0.5)
        walls.line([(x - 2, top + 1), (x + w + 2, top + 1)], roof * 0.6, 1)
    pipe = x + w * rng.uniform(0.15, 0.7)
    walls.box(pipe, top - rise - 3, 3, rise * 0.7 + 3, wall * 0.8)
    walls.box(pipe + 2, top - rise - 3, 1, rise * 0.5 + 3, wall * [1.5, 1.2, 1])
    cols = max(2, int(w / 9))
    for row in range(max(1, int(h / 13))):
        for col in range(cols):
            left = x + w * (col + 0.5) / cols - 1.8
            high = top + 4 + row * 12
            walls.box(left - 0.7, high - 0.7, 5, 6.9, wall * 1.2)
            lit = rng.random() < 0.42
            warm = rgb("#ffc866") * rng.uniform(0.8, 1.0)
            glass = warm if lit else mix(rgb("#343a52"), DUSK, haze)
            walls.box(left, high, 3.6, 5.5, glass)
            walls.line([(left + 1.8, high), (left + 1.8, high + 5.5)], glass * 0.6, 0.5)
            if lit:
                lamps.box(left, high, 3.6, 5.5, warm)


def draw_town(rng: np.random.Generator) -> tuple[Pen, Pen]:
    """Draw the town on its hill, and apart from it the lights in its windows."""
    walls, lamps = Pen(), Pen()
    xs = np.linspace(-5, 362, 90)
    slope = 285 - 92 * np.clip((340 - xs) / 300, 0, 1) ** 1.3
    slope += rng.normal(0, 1.2, xs.size)
    walls.poly([*zip(xs, slope, strict=True), (362, 286), (-5, 286)], rgb("#40333f"))
    for depth, (lift, low, high, haze) in enumerate(
        [(72, 16, 23, 0.42), (44, 18, 27, 0.26), (19, 22, 31, 0.13), (0, 26, 38, 0.0)]
    ):
        x = -12.0
        while x < 338 - lift * 1.3:
            w, h = rng.uniform(low, high), rng.uniform(low, high) * 1.1
            if depth == 2 and 128 < x < 175:
                draw_church(walls, lamps, 150)
                x = 186.0
                continue
            fall = np.clip((340 - x) / 300, 0.05, 1)
            draw_house(walls, lamps, rng, (x, 283 - lift * fall), (w, h), haze)
            if rng.random() < 0.5:
                for _ in range(7):
                    dx, dy = rng.normal(0, 4), rng.normal(0, 3)
                    leaf = mix(rgb("#333a35"), DUSK, haze) * rng.uniform(0.7, 1.1)
                    spot = (x + w + dx, 279 - lift * fall + dy)
                    walls.disc(*spot, rng.uniform(2, 5), rng.uniform(2, 5), leaf)
            x += w * rng.uniform(0.92, 1.2)
    walls.box(-5, 280, 369, 6, rgb("#54464a"))
    walls.box(-5, 279.5, 369, 1.2, rgb("#a67f70"))
    for x in range(16, 360, 48):
        walls.line([(x, 280), (x, 266)], rgb("#2a2530"), 1)
        for pen in (walls, lamps):
            pen.disc(x, 265, 1.9, 1.9, rgb("#ffe6a8"))
    return walls, lamps


def draw_church(walls: Pen, lamps: Pen, x: float) -> None:
    """Draw the church that stands above the roofs."""
    stone, slate = rgb("#6e5a5e"), rgb("#3b3442")
    walls.box(x - 13, 128, 26, 140, stone)
    walls.box(x + 8, 128, 5, 140, stone * [1.6, 1.3, 1.05])
    walls.poly([(x - 16, 130), (x, 62), (x + 16, 130)], slate)
    walls.poly([(x + 3, 130), (x, 62), (x + 16, 130)], slate * [2.2, 1.6, 1.3])
    walls.line([(x, 64), (x, 52)], slate, 1)
    walls.line([(x - 3, 56), (x + 3, 56)], slate, 1)
    for y in (138, 168):
        for dx in (-6, 3):
            walls.box(x + dx, y, 4, 12, rgb("#241f2b"))
            walls.disc(x + dx + 2, y, 2, 2.5, rgb("#241f2b"))
    walls.disc(x - 0.5, 159, 4, 4, rgb("#ffd98c"))
    lamps.disc(x - 0.5, 159, 4, 4, rgb("#ffd98c"))
    walls.box(x - 14, 127, 28, 2.5, stone * 1.25)


def draw_boat(
    pen: Pen, x: float, base: float, size: float, sails: bool, hull: Array
) -> None:
    """Draw a boat; size is the height of its mast."""
    long = size * 0.34
    deck = base - size * 0.09
    pen.line([(x, deck), (x, base - size)], rgb("#2c2126"), max(0.7, size / 75))
    for end in (-long, long * 1.15):
        pen.line([(x, base - size * 0.97), (x + end, deck)], rgb("#3a2d33"), 0.4)
    if sails:
        cloth = rgb("#e9c3a0")
        boom = base - size * 0.16
        bow = [(x + 1.5 + t * long * 1.05, boom - 3 * t * (1 - t)) for t in (0, 0.5, 1)]
        pen.poly([(x + 1, base - size * 0.88), *bow[::-1]], cloth * [1, 0.9, 0.86])
        back = [(x - long * 0.62, base - size * 0.5), (x - long * 0.95, boom)]
        pen.poly([(x - 1, base - size * 0.96), *back, (x - 1, boom)], cloth * 0.74)
        for t in (0.3, 0.52, 0.74):
            y = base - size * (0.96 - 0.8 * t)
            pen.line([(x - 1, y), (x - long * 0.95 * t, y + 1)], cloth * 0.62, 0.5)
    shape = [(x - long, deck + 1), (x - long * 0.8, base), (x + long * 0.85, base)]
    pen.poly([*shape, (x + long * 1.2, deck - 1.5), (x, deck + 1.5)], hull)
    rim = [(x - long, deck + 1), (x, deck + 1.5), (x + long * 1.2, deck - 1.5)]
    pen.line(rim, rgb("#d9a682"), max(0.6, size / 90))
    if size < 70 or sails:
        cabin = [(x - long * 0.5, deck + 1), (x - long * 0.45, deck - size * 0.06)]
        pen.poly(
            [*cabin, (x + long * 0.2, deck - size * 0.06), (x + long * 0.3, deck + 1)],
            rgb("#8b6a60"),
        )


def draw_pier(rng: np.random.Generator) -> tuple[Pen, Pen]:
    """Draw the stone pier with its lighthouse, and apart from it the lamp."""
    pen, lamps = Pen(), Pen()
    pen.poly([(452, 350), (474, 338), (645, 334), (645, 352)], rgb("#8f7468"))
    pen.box(452, 350, 193, 50, rgb("#3f363d"))
    for row in range(5):
        x, y = 452 - 9.0 * (row % 2), 351 + row * 9.6
        while x < 640:
            w = rng.uniform(14, 25)
            tone = rgb("#6a5a5b") * rng.uniform(0.72, 1.12) * (1 - 0.11 * row)
            left = max(x, 452)
            pen.box(left + 0.5, y, x + w - left - 1, 8.6, tone)
            pen.box(left + 0.5, y, x + w - left - 1, 1, tone * 1.3)
            x += w
    pen.box(450, 347.5, 195, 4, rgb("#a98a79"))
    for x in range(462, 645, 26):
        pen.line([(x, 347), (x, 351)], rgb("#6b5754"), 0.6)
    for x in (470, 512, 618):
        pen.box(x - 3, 336, 6, 12, rgb("#26212a"))
        pen.disc(x, 336, 4.4, 2.2, rgb("#3b3238"))
    for t in np.linspace(0, 1, 20)[:-1]:
        u = 4 * t * (1 - t)
        pen.disc(573 + (t - 0.5) * 48, 344 - u * 1.5, 1.2, 3, rgb("#8f7468"))
    for row, y0 in enumerate(range(190, 338, 21)):
        y1 = min(y0 + 21, 343)
        for col, light in enumerate(np.linspace(1.3, 0.55, 14)):
            near, far = [13 + (y - 190) * 0.052 for y in (y0, y1)]
            a, b = 1 - col / 7, 1 - (col + 1) / 7
            tone = rgb("#b8473c") if row % 2 else rgb("#d8c4b4")
            shape = [(573 - a * near, y0), (573 - b * near, y0)]
            shape += [(573 - b * far, y1), (573 - a * far, y1)]
            pen.poly(shape, tone * light * [0.85, 0.74, 0.74])
    for y in (222, 268, 312):
        pen.box(570, y, 5, 8, rgb("#2c2530"))
    pen.box(556, 187, 34, 4, rgb("#2c2530"))
    for x in range(556, 592, 5):
        pen.line([(x, 188), (x, 179)], rgb("#2c2530"), 0.7)
    pen.line([(556, 179), (590, 179)], rgb("#2c2530"), 0.8)
    for target in (pen, lamps):
        target.box(565, 168, 16, 19, rgb("#ffe9ae"))
    for x in (565, 570, 576, 581):
        pen.line([(x, 168), (x, 188)], rgb("#3a2f36"), 0.8)
    pen.poly([(561, 169), (573, 155), (585, 169)], rgb("#7d322f"))
    pen.line([(573, 156), (573, 148)], rgb("#2c2530"), 1)
    return pen, lamps


def draw_skiff() -> Pen:
    """Draw a rowing boat close to the viewer."""
    pen = Pen()
    pen.poly(
        [(92, 404), (106, 426), (214, 426), (242, 398), (160, 409)], rgb("#33405a")
    )
    pen.poly([(92, 404), (160, 409), (242, 398), (170, 400)], rgb("#231b20"))
    for y in (412, 418):
        pen.line([(97, y - 1), (160, y + 2), (234, y - 4)], rgb("#4c5a75"), 0.8)
    pen.line([(92, 404), (160, 409.5), (242, 398)], rgb("#d9a682"), 2)
    pen.line([(92, 404), (170, 400), (242, 398)], rgb("#8a6a5e"), 1.2)
    for x in (128, 178):
        pen.line([(x, 402), (x + 4, 407.5)], rgb("#a67f65"), 3.5)
    pen.line([(118, 404), (208, 393)], rgb("#caa080"), 1.3)
    return pen


def draw_posts() -> Pen:
    """Draw mooring posts at the lower left."""
    pen = Pen()
    for x, top in ((34, 372), (58, 384)):
        for col, light in enumerate(np.linspace(0.55, 1.5, 10)):
            pen.box(x + col * 1.3, top, 1.5, 448 - top, rgb("#4a3a3c") * light)
        pen.disc(x + 6.5, top, 6.5, 2.4, rgb("#a07c6b"))
        pen.box(x, top + 12, 13.2, 3, rgb("#b79778"))
    return pen


def harbour_sky(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Draw the evening sky with the sun, clouds and the far hills."""
    stops = [0, 70, 140, 200, 245, 285]
    codes = ["#2c3f6e", "#506090", "#98809c", "#d99583", "#f4b673", "#fbd08a"]
    sky = ramp(y + 6 * noise(rng, 160, 2, 2), codes, stops)
    far = np.hypot((x - SUN[0]) * 0.75, (y - SUN[1]) * 1.2)
    sky += np.exp(-far / 70)[..., None] * rgb("#ffb060") * 0.5
    cloud = noise(rng, 62, 6, 3.4) + 0.5 * noise(rng, 150, 2, 2.5)
    cloud = step(0.15, 1.9, cloud + 0.35 - np.abs(y - 130) / 190)
    # Clouds glow where the light from below still reaches them.
    under = np.clip(cloud - np.roll(cloud, -10 * SCALE, 0), -1, 1)
    shade = ramp(y, ["#4a4a72", "#6f5f86", "#a96f7c", "#d98a6a"], [0, 110, 200, 270])
    glow = ramp(y, ["#b98aa0", "#f0a088", "#ffb878", "#ffd48a"], [0, 110, 200, 270])
    sky = mix(sky, mix(shade, glow, step(-0.1, 0.45, under)), cloud * 0.82)
    sky = mix(sky, rgb("#fff3cf"), step(19, 16.5, np.hypot(x - SUN[0], y - SUN[1])))
    for heights, code, rough in [
        ([215, 222, 234, 260, 243, 223, 205], "#c08482", 3),
        ([236, 248, 259, 267, 273, 255, 238], "#8d6474", 2.5),
        ([262, 270, 278, 284, 282, 273, 258], "#5b4459", 2),
    ]:
        ridge = curve(heights, x[:1]) + rough * noise(rng, 30, 5)[:1]
        body = mix(rgb(code), rgb("#f0a678"), step(-10, 60, y - ridge) * 0.35)
        body = mix(body, rgb("#ffbf78"), 0.3 * np.exp(-far / 60))
        sky = mix(sky, body, step(-0.4, 0.4, y - ridge))
    return sky


def water_slopes(rng: np.random.Generator, x: Array, y: Array) -> tuple[Array, Array]:
    """Return how far ripples shift the mirrored picture, sideways and upwards."""
    depth = 60 / np.maximum(y - (HORIZON - 14), 4)
    across = (x - 320) * depth / 60
    side, up = np.zeros_like(x), np.zeros_like(x)
    for _ in range(44):
        length = np.exp(rng.uniform(np.log(0.14), np.log(3)))
        turn = rng.normal(0, 0.55)
        wave = 2 * np.pi / length
        phase = wave * (8 * depth * np.cos(turn) + across * np.sin(turn))
        # Waves finer than a pixel at that distance would only give moire.
        seen = np.exp(-((wave * depth * depth / 12) ** 2))
        swing = np.sin(phase + rng.uniform(0, 6.3)) * seen * length**0.45
        side += swing * np.sin(turn)
        up += swing
    near = np.clip((y - HORIZON) / 195, 0, 1)
    return side * (0.5 + 2 * near), up * (0.9 + 2.6 * near)


def sample(field: Array, x: Array, y: Array) -> Array:
    """Read a field at the nearest drawn pixel of every x and y."""
    cols = np.clip((x * SCALE).astype(int), 0, FULL[0] - 1)
    rows = np.clip((y * SCALE).astype(int), 0, FULL[1] - 1)
    return field[rows, cols]


def light_around(pen: Pen, spread: float) -> Array:
    """Return the soft light around everything drawn with a pen."""
    light, cover = pen.layer()
    return np.stack([blur(light[..., b] * cover, spread) for b in range(3)], -1)


def scatter(rng: np.random.Generator, odds: Array, count: int) -> tuple[Array, Array]:
    """Pick random places, more of them where odds are high."""
    total = np.cumsum(odds.ravel(), dtype=np.float64)
    spots = np.searchsorted(total, rng.random(count) * total[-1])
    rows, cols = np.divmod(spots, FULL[0])
    return cols / SCALE, rows / SCALE


def harbour(rng: np.random.Generator) -> Image.Image:
    """A harbour at dusk, seen across still water."""
    x, y = grid()
    sky = harbour_sky(rng, x, y)
    town, windows = draw_town(rng)
    pier, lamp = draw_pier(rng)
    layers = [(town, TOWN_FOOT)]
    boats = [(30, 294, 62, 0), (84, 297, 74, 0), (118, 293, 50, 0), (196, 296, 82, 0)]
    boats += [(236, 294, 58, 0), (296, 299, 88, 0), (330, 295, 56, 0)]
    boats += [(492, 297, 40, 1), (436, 292, 24, 1), (356, 326, 128, 1)]
    hulls = ["#2f3a55", "#7a3634", "#e0c6b0", "#32474a", "#5a3b34"]
    for index, (at, base, size, sails) in enumerate(boats):
        pen = Pen()
        draw_boat(pen, at, base, size, bool(sails), rgb(hulls[index % 5]) * 0.8)
        layers.append((pen, float(base)))
    layers += [(pier, PIER_FOOT), (draw_skiff(), 426.0), (draw_posts(), 448.0)]
    stone = 1 + 0.06 * noise(rng, 6, 3)
    drawn = [(*pen.layer(), base) for pen, base in layers]
    for colour, _, base in drawn:
        if base in (TOWN_FOOT, PIER_FOOT):
            colour *= stone[..., None]
    shine = 0.5 * light_around(windows, 2.5) + 0.6 * light_around(windows, 9)
    beacon = 2.2 * light_around(lamp, 16)
    mirror = sample(sky, x, 2 * HORIZON - y)
    for colour, cover, base in drawn:
        # Ripples look a little above the foot too, so the mirrored layer starts there.
        source = np.minimum(2 * base - y, base - 1)
        seen = sample(cover, x, source) * (y > base - 12)
        mirror = mix(mirror, sample(colour, x, source), seen)
        if base == TOWN_FOOT:
            mirror += sample(shine, x, source) * (y > base)[..., None]
    side, up = water_slopes(rng, x, y)
    water = sum(sample(mirror, x + side * k, y + up * k) for k in (0.7, 1.0, 1.3)) / 3
    near = step(HORIZON, HEIGHT, y)
    water = mix(water, rgb("#1d2b47"), 0.14 + 0.2 * near)
    water += (0.03 * up / (1 + 2 * near) * near)[..., None]
    picture = mix(sky, water, (y > HORIZON).astype(np.float32))
    for colour, cover, base in drawn:
        foot = np.clip(1 - np.abs(y - base) / 2, 0, 1) * sample(cover, x, y - 3)
        picture = mix(picture, rgb("#17161f"), foot * 0.6)
        wet = 1 - 0.35 * step(base - 14, base, y) * (base > 390)
        picture = mix(picture, colour * wet[..., None], cover)
        if base == TOWN_FOOT:
            picture = picture + shine
    picture = picture + beacon
    edge = np.hypot((x - 320) / 320, (y - 240) / 240)
    picture *= (1 - 0.16 * step(0.6, 1.4, edge))[..., None]
    return finish(picture, 0.008, rng)


# Painted styles.


class Canvas:
    """Wet paint: a colour picture and the height of the paint on it."""

    def __init__(self, ground: Array) -> None:
        """Start from a thin underpainting, which shows between strokes."""
        self.paint = Image.fromarray((np.clip(ground, 0, 1) * 255).astype(np.uint8))
        self.relief = Image.new("L", FULL, 60)
        self.colour_draw = ImageDraw.Draw(self.paint)
        self.relief_draw = ImageDraw.Draw(self.relief)

    def strokes(
        self,
        rng: np.random.Generator,
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


def night_sky(
    rng: np.random.Generator, x: Array, y: Array
) -> tuple[Array, Array, Array, Array]:
    """Plan the sky: its colour, stroke direction, fine places and star centres."""
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
    rng: np.random.Generator, scene: Array, angle: Array, x: Array, y: Array
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


def draw_village(rng: np.random.Generator) -> Pen:
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
    rng: np.random.Generator, scene: Array, angle: Array, x: Array, y: Array
) -> tuple[Array, Array, Array]:
    """Add the dark tree in front, and say where it needs fine strokes."""
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


def swirls(rng: np.random.Generator) -> Image.Image:
    """A whirling night sky over a village, wheat and a dark tree, in thick paint."""
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


def window_panes(rng: np.random.Generator, region: Array) -> Array:
    """Cut every part into panes; each gets 100 times the part's number plus its own."""
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


def pane_colours(rng: np.random.Generator, cells: Array) -> Array:
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


def mosaic(rng: np.random.Generator) -> Image.Image:
    """A leaded window: sun, hills, a river and a tree."""
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
    """Grow marks to about size drawn pixels."""
    picture = Image.fromarray((marks * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.MaxFilter(size)), np.float32) / 255


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
    rng: np.random.Generator, ink: Array, curls: Points, size: float, x: Array, y: Array
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
    """Cut one row of waves; return its ink and where it stands."""
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


def woodcut(rng: np.random.Generator) -> Image.Image:
    """A block print: red sun, a mountain and breaking waves."""
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


def wash(
    paper: Array,
    rng: np.random.Generator,
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
    paper: Array, rng: np.random.Generator, sheet: Array, x: Array, y: Array
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


def pine_field(rng: np.random.Generator, x: Array, y: Array) -> Array:
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


def paint_lake(
    paper: Array, rng: np.random.Generator, sheet: Array, x: Array, y: Array
) -> Array:
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


def paint_blooms(paper: Array, rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Let drops of clean water push the pigment outwards into pale blooms."""
    for _ in range(9):
        cx, cy, size = rng.uniform(40, 600), rng.uniform(50, 440), rng.uniform(12, 30)
        away = np.hypot(x - cx, y - cy) / size + 0.22 * noise(rng, 14, 4)
        lift = 0.22 * step(1, 0.5, away)
        paper = mix(paper, rgb("#fbf8f0"), lift)
        paper *= 1 - 0.07 * np.exp(-(((away - 1.02) / 0.07) ** 2))[..., None]
    return paper


def paint_poppies(
    paper: Array, rng: np.random.Generator, sheet: Array, x: Array, y: Array
) -> Array:
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


def watercolour(rng: np.random.Generator) -> Image.Image:
    """A misty lake below mountains, with poppies on the near bank."""
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
    rng: np.random.Generator,
    scene: Array,
    trunk: Points,
    crowns: Sequence[tuple[float, ...]],
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


def sunlit_scene(rng: np.random.Generator, x: Array, y: Array) -> Array:
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


def pointillist(rng: np.random.Generator) -> Image.Image:
    """A sunlit river bank built from dots of pure colour."""
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
    picture = Image.fromarray((np.clip(ground, 0, 1) * 255).astype(np.uint8))
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


PICTURES: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "harbour": harbour,
    "swirls": swirls,
    "mosaic": mosaic,
    "woodcut": woodcut,
    "watercolour": watercolour,
    "pointillist": pointillist,
}


def main() -> None:
    """Draw the pictures that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to fill")
    parser.add_argument("--only", nargs="*", choices=PICTURES, default=list(PICTURES))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for index, (name, draw) in enumerate(PICTURES.items()):
        if name not in options.only:
            continue
        start = time.perf_counter()
        picture = draw(np.random.default_rng([SEED, index]))
        path = options.out / f"{name}.jpg"
        picture.save(path, quality=90, subsampling=0, optimize=True, progressive=True)
        size = path.stat().st_size / 1024
        print(f"{path}  {size:.0f} KB  {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
