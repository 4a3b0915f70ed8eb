"""`jaxnst mask`: a mask of a part of a photograph, without drawing it."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxnst.command.flags import Parser, numbers, one_file
from jaxnst.command.reporter import complain, say
from jaxnst.disk import check_target, free_path
from jaxnst.pictures.files import load_cutout, load_image, save_image
from jaxnst.pictures.select import (
    PARTS,
    NothingFound,
    Selection,
    select_box,
    select_scribble,
)
from jaxnst.request.painting import Painting
from jaxnst.types import Image


def add_flags(p: Parser) -> None:
    """Add the flags of `mask`."""
    p.set_defaults(call=mask_command)
    add = p.add_argument
    out = "default: PHOTO-subject.png, or -sky, -box or -part, in the current folder"
    add("content", type=one_file, metavar="PHOTO", help="the photograph")
    add("-o", "--out", type=Path, metavar="FILE", help=out)
    add("--quiet", action="store_true", help="print errors only")
    add = p.add_argument_group("what to select").add_mutually_exclusive_group()
    add.add_argument("--sky", action="store_true", help="the sky, not the subject")
    box = "the part inside a box, in pixels"
    add.add_argument("--box", type=numbers, metavar="X,Y,W,H", help=box)
    marks = "a picture with white strokes on the part and black ones on the rest"
    add.add_argument("--scribble", type=one_file, metavar="PICTURE", help=marks)


def mask_command(args: argparse.Namespace) -> int:
    """Write a mask; return the exit code."""
    kinds = {"sky": args.sky, "box": args.box, "part": args.scribble}
    name = next((x for x, asked in kinds.items() if asked), "subject")
    out = args.out or free_path(usual_mask(args.content, name))
    check_target(out)
    inputs = [x.resolve() for x in (args.content, args.scribble) if x is not None]
    if out.resolve() in inputs:
        raise ValueError(f"the output {out} is an input, too; choose another name")
    image = load_image(args.content)
    if args.box is not None:
        if len(args.box) != 4:
            raise ValueError(f"--box has {len(args.box)} numbers; give four: X,Y,W,H")
        found = select_box(image, args.box)
    elif args.scribble is not None:
        scribble = load_cutout(args.scribble)
        light = np.asarray(scribble.image).mean(axis=-1, keepdims=True)
        seen = 1.0 if scribble.alpha is None else np.asarray(scribble.alpha)
        marks = [np.float32(x * seen) for x in (light > 0.8, light < 0.2)]
        found = select_scribble(image, *marks)
    else:
        found = find_part(name, image)
    write_mask(out, found, name)
    say(f"wrote {out}: {found.mask.mean():.0%} of {args.content}", quiet=args.quiet)
    return 0


def find_part(name: str, image: Image) -> Selection:
    """Select a part of `PARTS`; if it is not found, the error says how to mark it."""
    try:
        return PARTS[name](image)
    except NothingFound as error:
        how = "or mark it with jaxnst mask --scribble or --box"
        raise ValueError(f"{error}, {how}") from error


def usual_mask(content: Path, name: str) -> Path:
    """`CONTENT-NAME.png` in the current folder."""
    return Path(f"{content.stem}-{name}.png")


def write_mask(path: Path, found: Selection, name: str) -> None:
    """Write a mask as a picture, and warn if it may show another part."""
    save_image(path, found.mask.repeat(3, axis=2))
    if not found.sure:
        complain(
            f"check {path}: it may not show the {name}; if so, mark the {name} with "
            "jaxnst mask --scribble or --box"
        )


def with_parts(
    paintings: Sequence[Painting], *, quiet: bool, folder: Path = Path()
) -> list[Painting]:
    """Paintings with mask files in place of names of `PARTS`.

    Missing masks are made in `folder`. An existing mask is used unchanged, since
    somebody may have corrected it.
    """
    known: dict[Path, Path] = {}  # the photograph of each mask

    def mask_of(path: Path, content: Path) -> Path:
        if str(path) not in PARTS or path.exists():
            return path
        mask = usual_mask(content, str(path))
        mask = mask if mask.exists() else folder / mask
        if known.setdefault(mask, content) != content:
            raise ValueError(f"{known[mask]} and {content} share a name; rename one")
        return mask

    found = []
    for x in paintings:
        regions = [replace(y, mask=mask_of(y.mask, x.content)) for y in x.regions]
        held = x.content_mask and mask_of(x.content_mask, x.content)
        found.append(replace(x, regions=tuple(regions), content_mask=held))
    for mask, content in known.items():
        name = mask.stem.rpartition("-")[2]
        if mask.exists():
            say(f"{mask} is used as the mask of the {name}", quiet=quiet)
            continue
        try:
            part = find_part(name, load_image(content))
        except ValueError as error:
            raise ValueError(f"{content}: {error}") from None
        write_mask(mask, part, name)
        say(f"wrote {mask}, the mask of the {name}", quiet=quiet)
    return found
