"""Draw the sample pictures that ship with jaxnst: one content picture and five styles.

    python scripts/samples/make.py [--out FOLDER] [--only NAME …]

Every picture has a fixed seed, so a run repeats the shipped files byte for byte with
the same versions of NumPy and Pillow. Prints path, size and time of each picture; all
six take about 20 seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from harbour import harbour
from mosaic import mosaic
from pointillist import pointillist
from swirls import swirls
from watercolour import watercolour
from woodcut import woodcut

SEED = 20
OUT = Path(__file__).resolve().parents[2] / "jaxnst" / "pictures" / "samples"
PICTURES = {
    draw.__name__: draw
    for draw in (harbour, swirls, mosaic, woodcut, watercolour, pointillist)
}


def main() -> None:
    """Draw the pictures and write them as JPEG files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="output folder")
    parser.add_argument("--only", nargs="*", choices=PICTURES, default=list(PICTURES))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for index, (name, draw) in enumerate(PICTURES.items()):
        if name not in args.only:
            continue
        start = time.perf_counter()
        picture = draw(np.random.default_rng([SEED, index]))
        path = args.out / f"{name}.jpg"
        picture.save(path, quality=90, subsampling=0, optimize=True, progressive=True)
        size = path.stat().st_size / 1024
        print(f"{path}  {size:.0f} KB  {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
