"""The content picture: a harbour at dusk, seen across still water.

Layers stand in the water, each at its own height, and are mirrored there.
"""

import numpy as np
from drawing import (
    HEIGHT,
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
    step,
)
from PIL import Image

HORIZON = 285
SUN = (392.0, 246.0)
DUSK = rgb("#c98a78")
TOWN_FOOT, PIER_FOOT = 286.0, 398.0


def draw_house(
    walls: Pen,
    lamps: Pen,
    rng: Random,
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


def draw_town(rng: Random) -> tuple[Pen, Pen]:
    """Draw the town on its hill and, on a second layer, the lights in its windows."""
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


def draw_pier(rng: Random) -> tuple[Pen, Pen]:
    """Draw the stone pier with its lighthouse and, on a second layer, the lamp."""
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


def harbour_sky(rng: Random, x: Array, y: Array) -> Array:
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


def water_slopes(rng: Random, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the shifts of the mirrored picture by ripples, sideways and upwards."""
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


def light_around(pen: Pen, spread: float) -> Array:
    """Return the soft light around everything drawn with a pen."""
    light, cover = pen.layer()
    return np.stack([blur(light[..., b] * cover, spread) for b in range(3)], -1)


def harbour(rng: Random) -> Image.Image:
    """Draw the picture."""
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
        # Ripples also mirror what is just above the foot, so each layer starts there.
        source = np.minimum(2 * base - y, base - 1)
        seen = sample(cover, x, source) * (y > base - 12)
        mirror = mix(mirror, sample(colour, x, source), seen)
        if base == TOWN_FOOT:
            mirror += sample(shine, x, source) * (y > base)[..., None]
    side, up = water_slopes(rng, x, y)
    calm, middle, rough = (
        sample(mirror, x + side * k, y + up * k) for k in (0.7, 1.0, 1.3)
    )
    water = (calm + middle + rough) / 3
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
