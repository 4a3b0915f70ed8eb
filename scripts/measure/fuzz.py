"""Read damaged files of all kinds, paint strange arrays, and try senseless arguments.

    python scripts/measure/fuzz.py --count 10000

Files are whole ones with bytes changed, cut, repeated or put in, or under the suffix of
another format. Everything is to end in a result or in a ValueError of one line, within
ten seconds. Prints counts, and what ended otherwise.
"""

import argparse
import contextlib
import io
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import jax
import numpy as np
import tifffile
from PIL import Image as pil

import jaxnst
from jaxnst.command import again, cli
from jaxnst.pictures.files import (
    UNREAD,
    image_shape,
    load_image,
    readable_suffixes,
    save_image,
)
from jaxnst.pictures.source import VIDEOS
from jaxnst.studio.history import History
from jaxnst.video.clip import open_clip
from jaxnst.weights.readers import read

LONGEST = 10.0
"""Seconds that anything may take."""


def whole_pictures() -> Iterator[tuple[str, bytes]]:
    """Small pictures of many formats: a suffix, and the bytes."""
    pixels: Any = np.uint8(np.random.default_rng(0).integers(0, 256, (24, 32, 4)))
    image = pil.fromarray(pixels)
    kinds = ("png", "gif", "bmp", "tiff", "webp", "jpeg", "ppm", "ico", "tga", "avif")
    for kind in kinds:
        with contextlib.suppress(OSError, KeyError, ValueError), io.BytesIO() as file:
            plain = kind in ("jpeg", "ppm", "bmp")
            (image.convert("RGB") if plain else image).save(file, kind)
            yield f".{kind}", file.getvalue()
    ways: list[dict] = [{}, {"planarconfig": "separate"}, {"compression": "zlib"}]
    write: Any = tifffile.imwrite
    for options in ways:
        deep = pixels[..., :3].astype(np.uint16) * 257
        if "planarconfig" in options:
            deep = deep.transpose(2, 0, 1)
        with io.BytesIO() as file:
            write(file, deep, photometric="rgb", **options)
            yield ".tif", file.getvalue()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file with one to four faults."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(found) + 1), rng.randint(1, 16)
        part = rng.randbytes(length)
        match rng.randrange(5):
            case 0:
                found[at : at + length] = part
            case 1:
                del found[at:]
            case 2:
                found[at:at] = part
            case 3:
                found += found[at : at + 64]
            case 4 if found:
                found[at % len(found)] ^= 1 << rng.randrange(8)
    return bytes(found)


def arguments(rng: random.Random) -> list[str]:
    """A command with flags and values that seldom make sense."""
    values = ["", "-1", "0", "nan", "1e999", "a.png", "../..", "=", "x=1"]
    values += ["\0", "é", "9" * 40]
    flags = ["--size", "--steps", "--set", "--blend", "--recipe", "--memory", "-o"]
    flags += ["--seed", "--quality", "--vary", "--content", "--style", "--resume"]
    command = rng.choice([name for name, *_ in cli.COMMANDS] + values)
    return [command] + rng.choices(values + flags, k=rng.randint(0, 7))


def outcome(call: Callable[[], object]) -> str:
    """What came of a call, in a word; more words where it should not have."""
    began = time.monotonic()
    try:
        call()
        found = "read"
    except ValueError as error:
        found = "refused" if str(error).count("\n") == 0 else f"lines: {error!r}"
    except SystemExit as error:
        found = "refused" if error.code in (0, 2) else f"exit {error.code}"
    except BaseException as error:
        found = f"failed: {error!r}"
    slow = time.monotonic() - began > LONGEST
    return f"slow: {found}" if slow else found


def see(path: Path) -> None:
    """Read a picture, and its size."""
    image_shape(path)
    load_image(path)


def parse(argv: list[str]) -> None:
    """Parse a command, and say nothing."""
    silent = io.StringIO()
    with contextlib.redirect_stderr(silent), contextlib.redirect_stdout(silent):
        cli.parse(argv)


def movie() -> bytes:
    """A small MP4 with an edit list."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), np.uint8)
    with io.BytesIO() as file:
        with av.open(file, "w", format="mp4") as out:
            stream: Any = out.add_stream("libx264", rate=8, options={"g": "3"})
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for frame in map(av.VideoFrame.from_ndarray, pixels):
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        return file.getvalue()


ATOMS = (b"elst", b"stts", b"ctts", b"stsz", b"stco", b"stsc", b"stss", b"mdhd")
"""Parts of an MP4 that say when a frame is shown, and where it lies."""


def cut_anew(data: bytes, rng: random.Random) -> bytes:
    """A movie with one to four numbers of its atoms changed."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = data.find(rng.choice(ATOMS)) + rng.randrange(4, 40)
        number = rng.choice([0, 1, 2, 1000, 2**31 - 1, 2**31, 2**32 - 1])
        found[at : at + 4] = number.to_bytes(4, "big")
    return bytes(found)


def watch(path: Path) -> None:
    """Read all frames of a movie."""
    for _ in open_clip(path).frames((32, 48)):
        pass


def strange(value: Any, rng: random.Random) -> Any:
    """What JSON holds, with parts of it replaced, dropped or put in."""
    if rng.random() < 0.05:
        others = [None, True, -1, 1e999, float("nan"), "", "../..", "\0", [], {}, [[]]]
        return rng.choice(others)
    if isinstance(value, dict):
        kept = {k: strange(v, rng) for k, v in value.items() if rng.random() > 0.03}
        return kept | ({"other": 1} if rng.random() < 0.05 else {})
    if isinstance(value, list):
        return [strange(x, rng) for x in value] * rng.choice([1, 1, 1, 2, 0])
    return value


MANIFEST = {
    "content": "a.jpg",
    "styles": [{"path": "b.jpg", "weight": 2.0, "scale": 1.5}],
    "regions": [{"mask": "c.png", "styles": [{"path": "d.jpg", "mask": "e.png"}]}],
    **{"pictures_sha256": ["0" * 64] * 5, "size": [48, 32], "seed": 0},
    **{"weights": "embedded", "weights_sha256": "0" * 64, "status": "done"},
    "recipe": jaxnst.get_recipe("painterly").values(),
    **{"seconds": {"all": 1.5}, "device": "cpu", "versions": {"jaxnst": "0.1.0"}},
}
"""What lies beside a result."""

RECORD = {**{"settings": {"content": "a.jpg", "styles": ["b.jpg"]}, "time": 1.5}}
"""What the studio keeps of a job."""


def list_results(folder: Path) -> None:
    """List results as the studio does, and read their manifests."""
    history = History(folder)
    history.refresh()
    json.dumps(history.since(0), allow_nan=False)
    again.find_manifest(folder / "x.png")


def array(rng: random.Random) -> Any:
    """A picture of any shape, type and range, in most cases a wrong one."""
    shapes = (24, 32), (3, 24, 32), (1, 24, 32, 3), (24, 32, 4), (24, 32, 1)
    shape = rng.choice([(24, 32, 3)] * 5 + [*shapes, (0, 32, 3), (2, 2, 3), (3,), ()])
    numbers = np.random.default_rng(rng.randrange(9)).random(shape)
    low, high = rng.choice([(0, 1)] * 3 + [(0, 255), (-1, 1), (0, 1.5)])
    values = np.asarray(low + (high - low) * numbers)
    if values.size and rng.random() < 0.2:
        values.flat[0] = rng.choice([np.nan, np.inf, -np.inf])
    types = ["f4"] * 5 + ["f2", "f8", "u1", "i4", "bool", "c8", "O"]
    with np.errstate(invalid="ignore"), contextlib.suppress(ValueError, OverflowError):
        values = values.astype(rng.choice(types))
    return values.tolist() if rng.random() < 0.1 else values


SHALLOW = jaxnst.get_recipe("delicate").replace(
    content_layers=(("relu1_1", 1.0),), style_layers=(("relu1_1", 1.0),),
    first_steps=1, steps=1, scales=1,
)  # fmt: skip
"""A recipe that is soon compiled."""


def paint(content: Any, style: Any) -> None:
    """Paint arrays; only those that are pictures are to be painted."""
    backbone, key = jaxnst.load_backbone("embedded"), jax.random.key(0)
    image = jaxnst.stylize(backbone, content, [style], SHALLOW, key=key).image
    for given in map(np.asarray, (content, style, image)):
        within = given.dtype.kind == "f" and ((given >= 0) & (given <= 1)).all()
        if not within or given.shape[2:] != (3,):
            kind = "" if within else ", not from 0 to 1"
            raise AssertionError(f"painted {given.dtype} {given.shape}{kind}")


Door = Callable[[random.Random], Callable[[], object]]
"""Makes something strange, and gives what is to be tried with it."""


def doors(folder: Path) -> dict[str, Door]:
    """What can be tried, with files in a folder."""
    pictures = list(whole_pictures())
    network = Path(__file__).parents[2] / "tests" / "data" / "zip.pth"
    suffixes = sorted(readable_suffixes() | UNREAD.keys() | {*VIDEOS, "", ".txt"})
    film = movie()
    save_image(folder / "x.png", np.full((4, 6, 3), 0.5))

    def write(name: str, data: bytes) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    def picture(rng: random.Random) -> Callable[[], object]:
        suffix, data = rng.choice(pictures)
        return partial(see, write(f"a{suffix}", damaged(data, rng)))

    def renamed(rng: random.Random) -> Callable[[], object]:
        suffix = rng.choice(suffixes)
        data = rng.choice([*(data for _, data in pictures), film])
        path = write(f"a{suffix}", rng.choice([data, damaged(data, rng)]))
        return partial(rng.choice([see, watch]), path)

    def weights(rng: random.Random) -> Callable[[], object]:
        return partial(read, write("a.pth", damaged(network.read_bytes(), rng)))

    def film_door(rng: random.Random) -> Callable[[], object]:
        change = rng.choice([cut_anew, cut_anew, damaged])
        return partial(watch, write("a.mp4", change(film, rng)))

    def manifest(rng: random.Random) -> Callable[[], object]:
        for name, value in (("x.png.json", MANIFEST), ("x.png.job.json", RECORD)):
            text = json.dumps(strange(value, rng)).encode()
            write(name, text if rng.random() < 0.9 else damaged(text, rng))
        return partial(list_results, folder)

    return {
        "pictures": picture,
        "suffixes": renamed,
        "weights": weights,
        "movies": film_door,
        "manifests": manifest,
        "arrays": lambda rng: partial(paint, array(rng), array(rng)),
        "arguments": lambda rng: partial(parse, arguments(rng)),
    }


KINDS = (
    *("pictures", "suffixes", "weights", "movies", "manifests", "arrays"),
    "arguments",
)


def try_all(kind: str, count: int, seed: int = 0) -> Counter:
    """How often each outcome comes up."""
    rng, found = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as name:
        door = doors(Path(name))[kind]
        for _ in range(count):
            found[outcome(door(rng))] += 1
    return found


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="of each kind")
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=KINDS)
    args = parser.parse_args()
    for kind in args.kind:
        for result, count in try_all(kind, args.count).most_common():
            print(f"{kind:<10} {count:6} {result}", flush=True)


if __name__ == "__main__":
    main()
