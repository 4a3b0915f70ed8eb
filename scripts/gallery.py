"""Paint the pictures in the README.

One shows the sample photograph in every sample style, the other one in one style with
several content weights and sizes of strokes.

    python scripts/gallery.py [--out FOLDER] [--size N]

Prints the seconds of each picture; together they take minutes on two CPU cores.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps

import jaxnst
from jaxnst.pictures.samples import SAMPLES, sample_path

OUT = Path(__file__).parent

STRIP = "swirls"
"""The style of the second picture, which is painted at three quarters of the size."""

SETTINGS = {
    "content_weight": (0.05, 0.3, 1.0, 5.0),
    "style_scale": (0.5, 0.75, 1.0, 1.5),
}
"""Its rows: a field of the recipe, and its values."""


def to_picture(image: ArrayLike) -> Image.Image:
    """Round an image in [0, 1] to 8 bits."""
    return Image.fromarray(np.uint8(np.asarray(image) * 255 + 0.5))


WIDTH = 320
"""Of a picture on a sheet, in pixels."""


def bordered(painted: ArrayLike) -> Image.Image:
    """A painted picture as large as it is shown, with a white border."""
    picture = to_picture(painted)
    shown = ImageOps.contain(picture, (WIDTH, picture.height))
    return ImageOps.expand(shown, 2, "white")


def cell(painted: ArrayLike, name: str) -> Image.Image:
    """The same, with a small copy of the style in its corner."""
    picture = bordered(painted)
    with Image.open(sample_path(name)) as style:
        corner = ImageOps.contain(style, (picture.width // 4, picture.height // 4))
    corner = ImageOps.expand(corner, 2, "white")
    picture.paste(corner, (2, picture.height - corner.height - 2))
    return picture


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Lay out cells of one size."""
    width, height = rows[0][0].size
    found = Image.new("RGB", (len(rows[0]) * width, len(rows) * height))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            found.paste(picture, (x * width, y * height))
    return found


def main() -> None:
    """Paint both pictures and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the pictures")
    parser.add_argument("--size", type=int, default=512, help="long edge, in pixels")
    args = parser.parse_args()
    backbone = jaxnst.load_backbone("embedded")
    content, smaller = (
        jaxnst.sample("harbour", size=size) for size in (args.size, args.size * 3 // 4)
    )

    def paint(content: jax.Array, name: str, **changes: float) -> ArrayLike:
        recipe = jaxnst.get_recipe("painterly").replace(**changes)
        styles, key = [jaxnst.sample(name)], jax.random.key(0)
        result = jaxnst.stylize(backbone, content, styles, recipe, key=key)
        print(f"{name} {changes}: {sum(result.seconds):.0f} s", flush=True)
        return result.image

    first = bordered(content)
    cells = [first, *(cell(paint(content, name), name) for name in SAMPLES[1:])]
    sheet([cells[:3], cells[3:]]).save(args.out / "gallery.jpg", quality=88)
    rows = [
        [bordered(paint(smaller, STRIP, **{field: value})) for value in values]
        for field, values in SETTINGS.items()
    ]
    sheet(rows).save(args.out / "settings.jpg", quality=85)


if __name__ == "__main__":
    main()
