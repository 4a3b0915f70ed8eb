"""Time a first picture, with nothing compiled before, and count its programs.

    python scripts/measure/first_picture.py --size 256 --turns 3 --against OTHER

Each turn paints in a new process with an empty cache. OTHER is another checkout, which
takes turns with this one.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

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
from jaxnst.pictures.samples import sample_path
flags = ["--quiet", "--weights", "embedded", "--size", sys.argv[1], "-o", sys.argv[2]]
pictures = [str(sample_path(name)) for name in ("harbour", "swirls")]
assert main(["stylize", *pictures, *flags]) == 0
slow = sum(x >= 0.02 for x in programs)
print("took", time.perf_counter() - began, slow, len(programs))
"""


def paint(checkout: Path, size: int) -> tuple[float, int, int]:
    """Seconds, programs of 20 ms and more, and all programs of a first picture."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"PYTHONPATH": str(checkout), "JAXNST_HOME": folder}
        result = subprocess.run(
            [sys.executable, "-c", PAINT, str(size), f"{folder}/painted.png"],
            env=os.environ | place,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
    found = re.search(r"took (\S+) (\d+) (\d+)", result.stdout)
    assert found is not None, result.stdout
    return float(found[1]), int(found[2]), int(found[3])


def main() -> None:
    """Print the median of each checkout, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="long edge, in pixels")
    parser.add_argument("--turns", type=int, default=3, help="pictures of each side")
    parser.add_argument("--against", type=Path, help="another checkout")
    args = parser.parse_args()
    sides = [ROOT, *filter(None, [args.against])]
    times: dict[Path, list[float]] = {side: [] for side in sides}
    for _ in range(args.turns):
        for side in sides:
            seconds, slow, count = paint(side.resolve(), args.size)
            times[side].append(seconds)
            print(f"{side.name:<16} {seconds:6.1f} s, {count} programs, ", end="")
            print(f"{slow} of them took 20 ms and more", flush=True)
    middle = [median(times[side]) for side in sides]
    print("medians", ", ".join(f"{x:.1f} s" for x in middle), end="")
    print(f"; ratio {middle[0] / middle[1]:.2f}" if len(middle) > 1 else "")


if __name__ == "__main__":
    main()
