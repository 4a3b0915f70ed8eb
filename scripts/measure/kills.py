"""Kill runs at random moments, resume them, and compare the pictures byte by byte.

    python scripts/measure/kills.py --runs 100

Each run is painted once undisturbed. Then it is killed with SIGKILL at random moments,
also while its state is written, and resumed until it is done. States are kept as often
as possible. Prints a table: runs, kills, pictures that differ, files left behind.
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

SHORT = ["--size", "64", "--weights", "embedded", "--quiet", "--seed", "3"]
CASES = {
    "painterly": ["--set", "min_size=40", "--set", "first_steps=30"],
    "delicate": ["--recipe", "delicate", "--set", "min_size=40", "--steps", "40"],
    "crowson": ["--recipe", "crowson", "--set", "min_size=40", "--steps", "40"],
    "tf-blog": ["--recipe", "tf-blog", "--steps", "40"],
    "gatys2016": ["--recipe", "gatys2016", "--set", "history=9", "--steps", "60"],
    "nnst": ["--recipe", "nnst", "--set", "min_size=40", "--steps", "20"],
}
"""Flags by the name of a case: both kinds of optimiser, starts from noise, averages."""

OFTEN = """
import sys
from jaxnst.command import reporter
from jaxnst.command.cli import main
reporter.OFTEN = 0
sys.exit(main(sys.argv[1:]))
"""


def paint(folder: Path, flags: list[str], wait: float | None = None) -> int | None:
    """Paint in a folder; the exit code, or None if killed after so many seconds."""
    pictures = [str(sample_path(name)) for name in ("harbour", "swirls")]
    command = [sys.executable, "-c", OFTEN, "stylize", *pictures, *SHORT, *flags]
    command += ["-o", "a.png", "--save-every", "2"]
    if (folder / "a.png.checkpoint.npz").exists():
        command.append("--resume")
    process = subprocess.Popen(command, cwd=folder)
    try:
        return process.wait(wait)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def try_case(flags: list[str], runs: int, rng: random.Random) -> tuple[int, int, int]:
    """Kills, pictures that differ, and files left behind, of some runs."""
    kills = differ = left = 0
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        for _ in range(2):  # the first one compiles
            began = time.monotonic()
            assert paint(whole, flags) == 0
            usual = time.monotonic() - began
        for run in range(runs):
            folder = Path(name) / str(run)
            folder.mkdir()
            while (code := paint(folder, flags, rng.uniform(0.3, 1) * usual)) is None:
                kills += 1
            assert code == 0
            names = {path.name for path in whole.iterdir()}
            left += len({path.name for path in folder.iterdir()} - names)
            same = (folder / "a.png").read_bytes() == (whole / "a.png").read_bytes()
            differ += not same
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
    print(f"{'case':<12} runs kills differ left")
    for name in args.case:
        kills, differ, left = try_case(CASES[name], each, rng)
        print(f"{name:<12} {each:4} {kills:5} {differ:6} {left:4}", flush=True)


if __name__ == "__main__":
    main()
