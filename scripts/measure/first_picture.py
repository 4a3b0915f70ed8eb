"""Time a first and a second picture, and count the programs that are compiled.

    python scripts/measure/first_picture.py --size 512 --turns 3 --against OTHER

Each turn begins with an empty cache. The second picture is of another photograph, of
another shape, in another style; each is painted by a process of its own. OTHER is
another checkout, which takes turns with this one.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from PIL import Image as pil

from jaxnst.pictures.samples import sample_path

ROOT = Path(__file__).parents[2]

PAINT = """
import time
began = time.perf_counter()
import jax
programs = []
def listen(event, seconds, **about):
    if event == "/jax/core/compile/backend_compile_duration":
        programs.append(seconds)
jax.monitoring.register_event_duration_secs_listener(listen)
import sys
from jaxnst.command.cli import main
flags = ["--quiet", "--weights", "embedded", "--size", sys.argv[1]]
assert main(["stylize", *sys.argv[2:4], *flags, "-o", "painted.png"]) == 0
slow = sum(x >= 0.02 for x in programs)
print("took", time.perf_counter() - began, slow, len(programs))
"""


Seen = tuple[float, int, int]
"""Seconds, programs of 20 ms and more, and all programs."""


def paint_two(checkout: Path, size: int) -> tuple[Seen, Seen]:
    """Paint two pictures with a checkout, each in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"PYTHONPATH": str(checkout), "JAXNST_HOME": folder}
        flatter, higher = Path(folder, "flatter.png"), Path(folder, "higher.png")
        photograph = pil.open(sample_path("harbour"))
        width, height = photograph.size
        photograph.crop((0, 0, width, round(width / 1.5))).save(flatter)
        painting = pil.open(sample_path("mosaic"))
        painting.crop((0, 0, round(0.7 * painting.height), painting.height)).save(
            higher
        )

        def paint(*pictures: Path) -> Seen:
            result = subprocess.run(
                [sys.executable, "-c", PAINT, str(size), *map(str, pictures)],
                env=os.environ | place,
                cwd=folder,
                check=True,
                capture_output=True,
                text=True,
            )
            found = re.search(r"took (\S+) (\d+) (\d+)", result.stdout)
            assert found is not None, result.stdout
            return float(found[1]), int(found[2]), int(found[3])

        first = paint(sample_path("harbour"), sample_path("swirls"))
        return first, paint(flatter, higher)


def main() -> None:
    """Print the median of each checkout, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="long edge, in pixels")
    parser.add_argument("--turns", type=int, default=3, help="pictures of each side")
    parser.add_argument("--against", type=Path, help="another checkout")
    args = parser.parse_args()
    sides = [ROOT, *filter(None, [args.against])]
    names = "first", "second"
    times: dict[tuple[str, Path], list[float]] = defaultdict(list)
    for _ in range(args.turns):
        for side in sides:
            for name, seen in zip(
                names, paint_two(side.resolve(), args.size), strict=True
            ):
                seconds, slow, count = seen
                times[name, side].append(seconds)
                print(f"{side.name:<16} {name:>6} {seconds:6.1f} s, ", end="")
                print(f"{count} programs, {slow} of them 20 ms and more", flush=True)
    for name in names:
        middle = [median(times[name, side]) for side in sides]
        print(name, "medians", ", ".join(f"{x:.1f} s" for x in middle), end="")
        print(f"; ratio {middle[0] / middle[1]:.2f}" if len(middle) > 1 else "")


if __name__ == "__main__":
    main()
