"""Paint two synthetic videos one by one and as videos, and measure flicker and style.

    python scripts/measure/video.py --size 256 --frames 24 --sheets FOLDER

`known` is a camera that pans, zooms and turns over a sample picture while an object
moves before it; it is painted with the true flow. `real` is the same with noise, a
changing exposure and a cut in the middle; its flow is measured. For each way of
painting, prints the warping error in levels of 255, by the true flow where it is
reliable, not across the cut; the style term of the recipe; and that of `delicate`,
which sees every pixel, as an independent measure. `--sheets` writes every tenth frame,
and below it four times the difference of the next frame, warped back to it.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from shared import machine

import jaxnst
from jaxnst.objective import make_targets
from jaxnst.painting.stage import prepare_backbone
from jaxnst.pictures.samples import sample_path
from jaxnst.request.defaults import QUALITY, with_steps
from jaxnst.video import VideoOptions, reliability, stylize_video, warp, warping_error

KEY = jax.random.key(0)


class Move(NamedTuple):
    """Where a layer is: source pixel = centre + scale · turn · (pixel - middle)."""

    centre: np.ndarray
    scale: float
    angle: float

    def source(self, at: np.ndarray, middle: np.ndarray) -> np.ndarray:
        """Where pixels `at`, ... 2, come from."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.centre + self.scale * (at - middle) @ np.array([[c, s], [-s, c]])

    def pixel(self, source: np.ndarray, middle: np.ndarray) -> np.ndarray:
        """The inverse of `source`."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return middle + (source - self.centre) / self.scale @ np.array(
            [[c, -s], [s, c]]
        )


class Video:
    """A synthetic video: frames, and the true flow between any two of them."""

    def __init__(self, size: int, count: int, *, real: bool):
        self.shape, self.count, self.real = (size * 3 // 4, size), count, real
        self.middle = np.array([size / 2, size * 3 / 8])
        self.unit = 640 * 0.6 / size
        self.cut = count // 2 if real else count
        grounds = [read("harbour", self.unit)]
        grounds += [read("watercolour", self.unit)] if real else []
        self.grounds, self.thing = grounds, read("mosaic", self.unit)
        y, x = np.mgrid[: self.shape[0], : self.shape[1]].astype(float)
        self.at = np.stack([x, y], axis=-1)

    def ground(self, t: int) -> Move:
        """The camera: it pans, zooms and turns."""
        px = self.shape[1] / 128
        centre = np.array(
            [280 + 2.3 * px * t * self.unit, 220 + 0.8 * px * t * self.unit]
        )
        return Move(centre, self.unit * (1 - 0.004 * t), 0.003 * t)

    def object(self, t: int) -> Move:
        """A disc that moves against the camera."""
        px = self.shape[1] / 128
        place = np.array([0.25 * self.shape[1] + 1.7 * px * t, 0.55 * self.shape[0]])
        return Move(
            np.array([200.0, 200.0]) + (self.middle - place) * self.unit, self.unit, 0
        )

    def is_object(self, t: int) -> np.ndarray:
        """Where the disc is seen."""
        far = self.object(t).source(self.at, self.middle) - 200
        return np.linalg.norm(far, axis=-1) < 0.14 * self.shape[1] * self.unit

    def frame(self, t: int) -> np.ndarray:
        """A frame, h w 3."""
        ground = self.grounds[int(t >= self.cut)]
        image = look(ground, self.ground(t).source(self.at, self.middle))
        thing = look(self.thing, self.object(t).source(self.at, self.middle))
        edge = ndimage.gaussian_filter(self.is_object(t).astype(float), 0.5)[..., None]
        image = image + edge * (thing - image)
        if self.real:
            noise = np.random.default_rng(t).normal(size=image.shape)
            image = image * (1 + 0.03 * np.sin(t)) + 4 / 255 * noise
        return np.clip(image, 0, 1).astype(np.float32)

    def flow(self, i: int, j: int, *_: np.ndarray) -> np.ndarray:
        """The true flow from frame i to frame j."""
        moved = [
            move(j).pixel(move(i).source(self.at, self.middle), self.middle) - self.at
            for move in (self.ground, self.object)
        ]
        return np.where(self.is_object(i)[..., None], *moved[::-1]).astype(np.float32)

    def error(self, frames: list) -> float:
        """Mean warping error, in levels of 255."""
        found = []
        for t in range(1, self.count):
            if t != self.cut:
                away, back = (
                    jnp.asarray(self.flow(*x)) for x in ((t, t - 1), (t - 1, t))
                )
                pair = jnp.asarray(frames[t]), jnp.asarray(frames[t - 1])
                found.append(warping_error(*pair, away, reliability(away, back)))
        return 255 * float(np.mean(found))


def read(name: str, unit: float) -> np.ndarray:
    """A sample picture, without what would alias."""
    image = np.asarray(jaxnst.load_image(sample_path(name)))
    return ndimage.gaussian_filter(image, (0.4 * unit, 0.4 * unit, 0))


def look(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """An image at places x, y; it is mirrored at its borders."""
    places = at[..., 1], at[..., 0]
    one = lambda c: ndimage.map_coordinates(
        image[..., c], places, order=1, mode="mirror"
    )
    return np.stack([one(c) for c in range(3)], axis=-1)


def style_term(backbone, frames: list, style, name: str) -> float:
    """Mean style term of a recipe over frames."""
    recipe = jaxnst.get_recipe(name)
    measuring, _ = prepare_backbone(backbone, recipe.program)
    targets = make_targets(measuring, jnp.asarray(frames[0]), [style], recipe)

    @jax.jit
    def measure(image, backbone, targets):
        return jaxnst.objective(image, backbone, targets, recipe.program)[1].style

    found = [measure(jnp.asarray(x), measuring, targets) for x in frames]
    return float(np.mean(found))


def save_sheet(path: Path, frames: list, video: Video) -> None:
    """Every tenth frame; below, four times the difference of the next one, warped."""
    chosen = [min(t, len(frames) - 2) for t in range(0, len(frames), 10)]

    def gap(t: int) -> np.ndarray:
        away, back = (jnp.asarray(video.flow(*x)) for x in ((t, t + 1), (t + 1, t)))
        seen = warp(jnp.asarray(frames[t + 1]), away) - frames[t]
        return np.asarray(0.5 + 4 * reliability(away, back) * seen)

    upper = np.concatenate([frames[t] for t in chosen], axis=1)
    lower = np.concatenate([gap(t) for t in chosen], axis=1)
    jaxnst.save_image(path, np.concatenate([upper, lower]))


def main() -> None:
    """Paint, and print a table."""
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--size", type=int, default=256)
    p.add_argument("--frames", type=int, default=24)
    p.add_argument("--recipe", default="painterly")
    p.add_argument("--style", default="swirls")
    p.add_argument("--quality", choices=QUALITY, default="draft")
    p.add_argument("--weights", default="embedded")
    p.add_argument("--weight", type=float, default=VideoOptions().weight)
    p.add_argument("--sheets", type=Path)
    args = p.parse_args()
    backbone = jaxnst.load_backbone(args.weights)
    recipe = with_steps(jaxnst.get_recipe(args.recipe), QUALITY[args.quality])
    path = sample_path(args.style)
    style = jaxnst.load_image(path, size=args.size)
    print(f"{machine()}; {args.frames} frames of {args.size} px, {vars(args)}")
    print("| Video | Painted | Warping error | Style | Style of delicate | Seconds |")
    print("|---|---|---|---|---|---|")
    for name in ("known", "real"):
        video = Video(args.size, args.frames, real=name == "real")
        frames = [video.frame(t) for t in range(args.frames)]
        usual = VideoOptions(weight=args.weight)
        options = {"flows": usual.flows if video.real else video.flow}

        def alone(frames: list = frames) -> list:
            given = backbone, [style], recipe
            one = lambda x: jaxnst.stylize(given[0], x, *given[1:], key=KEY).image
            return [np.asarray(one(jnp.asarray(x))) for x in frames]

        def joined(passes: int, frames: list = frames, options: dict = options) -> list:
            chosen = VideoOptions(weight=args.weight, passes=passes, **options)
            given = backbone, frames, [style], recipe
            return stylize_video(*given, key=KEY, options=chosen)

        first: list[float] = []
        for how, call in {
            "one by one": alone,
            "as a video": lambda: joined(1),
            "in two passes": lambda: joined(2),
        }.items():
            began = time.perf_counter()
            painted = call()
            seconds = time.perf_counter() - began
            style_of = lambda x, p=painted: style_term(backbone, p, style, x)
            row = [video.error(painted), style_of(args.recipe), style_of("delicate")]
            first = first or row
            cells = [
                f"{x:.4g} ({x / y:.2f} ×)" for x, y in zip(row, first, strict=True)
            ]
            print(
                f"| {name} | {how} | {' | '.join(cells)} | {seconds:.0f} |", flush=True
            )
            if args.sheets is not None:
                args.sheets.mkdir(exist_ok=True, parents=True)
                sheet = args.sheets / f"{name}-{how}.png".replace(" ", "-")
                save_sheet(sheet, painted, video)


if __name__ == "__main__":
    main()
