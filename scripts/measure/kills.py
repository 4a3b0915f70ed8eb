"""Kill runs at random moments, resume them, and compare the pictures byte by byte.

    python scripts/measure/kills.py --runs 100

Each run is painted once undisturbed. Then it is killed with SIGKILL at random moments,
also while its state is written, and resumed until it is done. States are kept as often
as possible. A grid is killed and started again. Prints a table: runs, kills, pictures
that differ, files left behind.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jaxnst.pictures.samples import sample_path

HARBOUR, SWIRLS, MOSAIC = map(str, map(sample_path, ("harbour", "swirls", "mosaic")))
SHORT = ["--weights", "embedded", "--quiet", "--seed", "3"]
ONE = ["stylize", HARBOUR, SWIRLS, "-o", "a.png", "--save-every", "2", *SHORT]
SMALL = [*ONE, "--size", "64"]
FLAGS = {
    "painterly": "--set min_size=40 --set first_steps=30",
    "delicate": "--recipe delicate --set min_size=40 --steps 40",
    "crowson": "--recipe crowson --set min_size=40 --steps 40",
    "johnson": "--recipe johnson --steps 40",
    "gatys2016": "--recipe gatys2016 --set history=9 --steps 60",
    "gatys2016-code": "--recipe gatys2016-code --steps 60",
    "tf-blog": "--recipe tf-blog --steps 40",
    "kaggle": "--recipe kaggle --steps 40",
    "udacity": "--recipe udacity --steps 40",
    "nnst": "--recipe nnst --set min_size=40 --steps 20",
    "heitz2021": "--recipe heitz2021 --set min_size=40 --steps 20",
}
CASES = {case: [*SMALL, *flags.split()] for case, flags in FLAGS.items()} | {
    "tiles": [
        *(*ONE, "--recipe", "tf-blog", "--size", "320", "--steps", "8"),
        *("--set", "style_layers=relu1_1,relu2_1", "--set", "content_layers=relu2_1"),
    ],
    "grid": [
        *("grid", "--content", HARBOUR, MOSAIC, "--style", SWIRLS, "-o", "."),
        *(*SHORT, "--recipe", "kaggle", "--size", "64", "--steps", "40"),
        *("--batch", "1", "--vary", "style_weight=1e6,1e7"),
    ],
}
"""Arguments by the name of a case: all recipes, so both kinds of optimiser, starts from
noise, averages; tiles, for which the memory is kept small; a grid."""

OFTEN = """
import sys
from jaxnst.command import reporter
from jaxnst.command.cli import main
from jaxnst.painting import memory
reporter.OFTEN = 0
if sys.argv.pop(1) == "tiles":
    smallest = lambda recipe: memory.smallest_tile(recipe.program.layers)
    memory._choices = lambda shape, recipe: [smallest(recipe) + 40]
sys.exit(main(sys.argv[1:]))
"""


def paint(folder: Path, case: str, wait: float | None = None) -> int | None:
    """Paint in a folder; the exit code, or None if killed after so many seconds."""
    command = [sys.executable, "-c", OFTEN, case, *CASES[case]]
    if (folder / "a.png.checkpoint.npz").exists():
        command.append("--resume")
    process = subprocess.Popen(command, cwd=folder)
    try:
        return process.wait(wait)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def pictures(folder: Path) -> dict[str, bytes]:
    """The pictures in a folder by name, without previews."""
    found = (path for path in folder.glob("*.png") if "px-" not in path.name)
    return {path.name: path.read_bytes() for path in found}


def try_case(case: str, runs: int, rng: random.Random) -> tuple[int, int, int]:
    """Kills, runs that differ, and files left behind, of some runs."""
    kills = differ = left = 0
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        for _ in range(2):  # the first one compiles
            shutil.rmtree(whole, ignore_errors=True)
            whole.mkdir()
            began = time.monotonic()
            assert paint(whole, case) == 0
            usual = time.monotonic() - began
        for run in range(runs):
            folder = Path(name) / str(run)
            folder.mkdir()
            while (code := paint(folder, case, rng.uniform(0.3, 1) * usual)) is None:
                kills += 1
            assert code == 0
            names = {path.name for path in whole.iterdir()}
            left += len({path.name for path in folder.iterdir()} - names)
            differ += pictures(folder) != pictures(whole)
            shutil.rmtree(folder)
    return kills, differ, left


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, help="in all cases together")
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, each = random.Random(args.seed), -(-args.runs // len(args.case))
    print(f"{'case':<14} runs kills differ left")
    for name in args.case:
        kills, differ, left = try_case(name, each, rng)
        print(f"{name:<14} {each:4} {kills:5} {differ:6} {left:4}", flush=True)


if __name__ == "__main__":
    main()
