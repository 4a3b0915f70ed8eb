"""Read damaged pictures and weights, and try senseless arguments.

    python scripts/measure/fuzz.py --count 10000

Files are whole ones with bytes changed, cut, repeated or put in. Everything is to end
in a result or in a ValueError of one line, within ten seconds. Prints counts, and what
ended otherwise.
"""

import argparse
import contextlib
import io
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image as pil

from jaxnst.command import cli
from jaxnst.pictures.files import image_shape, load_image
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


def try_all(kind: str, count: int, seed: int = 0) -> Counter:
    """How often each outcome comes up."""
    rng, found = random.Random(seed), Counter()
    pictures = list(whole_pictures())
    network = Path(__file__).parents[2] / "tests" / "data" / "zip.pth"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(count):
            if kind == "arguments":
                argv = arguments(rng)
                found[outcome(lambda argv=argv: parse(argv))] += 1
                continue
            suffix, data = rng.choice(pictures)
            if kind == "weights":
                suffix, data = ".pth", network.read_bytes()
            path = folder / f"a{suffix}"
            path.write_bytes(damaged(data, rng))
            if kind == "weights":
                result = outcome(lambda path=path: read(path))
            else:
                result = outcome(lambda path=path: see(path))
            found[result] += 1
    return found


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("pictures", "weights", "arguments")
    parser.add_argument("--count", type=int, default=10_000, help="of each kind")
    parser.add_argument("--kind", choices=kinds, nargs="+", default=kinds)
    args = parser.parse_args()
    for kind in args.kind:
        for result, count in try_all(kind, args.count).most_common():
            print(f"{kind:<10} {count:6} {result}", flush=True)


if __name__ == "__main__":
    main()
