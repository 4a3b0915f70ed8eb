"""Paint the sample photograph in every sample style: the picture in the README.

    python scripts/gallery.py [--out FILE] [--size N]

Prints the seconds of each style; all five take several minutes on two CPU cores.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps

import jaxnst
from jaxnst.pictures.samples import SAMPLES, sample_path

OUT = Path(__file__).with_name("gallery.jpg")


def to_picture(image: ArrayLike) -> Image.Image:
    """Round an image in [0, 1] to 8 bits."""
    return Image.fromarray(np.uint8(np.asarray(image) * 255 + 0.5))


def cell(painted: ArrayLike, name: str) -> Image.Image:
    """Put a small copy of the style into the corner of a painted picture."""
    picture = to_picture(painted)
    with Image.open(sample_path(name)) as style:
        corner = ImageOps.contain(style, (picture.width // 4, picture.height // 4))
    corner = ImageOps.expand(corner, 2, "white")
    picture.paste(corner, (0, picture.height - corner.height))
    return ImageOps.expand(picture, 2, "white")


def main() -> None:
    """Paint the styles and write the gallery."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--size", type=int, default=320, help="long edge, in pixels")
    args = parser.parse_args()
    backbone = jaxnst.load_backbone("embedded")
    recipe = jaxnst.get_recipe("painterly")
    content = jaxnst.sample("harbour", size=args.size)
    cells = [ImageOps.expand(to_picture(content), 2, "white")]
    for name in SAMPLES[1:]:
        result = jaxnst.stylize(
            backbone, content, [jaxnst.sample(name)], recipe, key=jax.random.key(0)
        )
        cells.append(cell(result.image, name))
        print(f"{name}: {sum(result.seconds):.0f} s", flush=True)
    width, height = cells[0].size
    sheet = Image.new("RGB", (3 * width, 2 * height))
    for i, picture in enumerate(cells):
        sheet.paste(picture, (i % 3 * width, i // 3 * height))
    sheet.save(args.out, quality=88)


if __name__ == "__main__":
    main()
