"""Paint the sample photograph in every sample style, as one picture for the README."""

import argparse
from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageOps

import jaxnst
from jaxnst.pictures.samples import SAMPLES, sample_path

HERE = Path(__file__).parent


def cell(painted: np.ndarray, name: str) -> Image.Image:
    """Put a small copy of the style into the corner of the painted picture."""
    picture = Image.fromarray(np.uint8(painted * 255 + 0.5))
    with Image.open(sample_path(name)) as style:
        corner = ImageOps.contain(style, (picture.width // 4, picture.height // 4))
    corner = ImageOps.expand(corner, 2, "white")
    picture.paste(corner, (0, picture.height - corner.height))
    return ImageOps.expand(picture, 2, "white")


def main() -> None:
    """Paint, and write the gallery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "gallery.jpg")
    parser.add_argument("--size", type=int, default=320)
    args = parser.parse_args()
    backbone = jaxnst.load_backbone("embedded")
    recipe = jaxnst.get_recipe("painterly")
    content = jaxnst.sample("harbour", size=args.size)
    photograph = Image.fromarray(np.uint8(np.asarray(content) * 255 + 0.5))
    cells = [ImageOps.expand(photograph, 2, "white")]
    for name in SAMPLES[1:]:
        result = jaxnst.stylize(
            backbone, content, [jaxnst.sample(name)], recipe, key=jax.random.key(0)
        )
        cells.append(cell(np.asarray(result.image), name))
        print(f"{name}: {sum(result.seconds):.0f} s", flush=True)
    width, height = cells[0].size
    sheet = Image.new("RGB", (3 * width, 2 * height))
    for i, picture in enumerate(cells):
        sheet.paste(picture, (i % 3 * width, i // 3 * height))
    sheet.save(args.out, quality=88)


if __name__ == "__main__":
    main()
