"""`jaxnst stylize --watch FOLDER`: paint each photograph that is put into a folder."""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from jaxnst.command import flags
from jaxnst.command.reporter import complain, say
from jaxnst.disk import check_folder
from jaxnst.messages import with_hint
from jaxnst.pictures.files import image_shape, is_picture
from jaxnst.request.painting import Painting
from jaxnst.request.run import Run
from jaxnst.request.terminal import flag_of

LOOK = 1.0
"""Seconds between two looks at the folder. A file that changes in between is still
being written."""

OF_ONE_PICTURE = ("trace", "plot", "timelapse", "checkpoint", "live", "dry_run")
"""Flags whose outputs are of one picture."""


def paint_folder(
    args: argparse.Namespace, paint: Callable[[Painting, Run], int]
) -> NoReturn:
    """Paint by a function until it is interrupted.

    What is in the output folder already is not painted again, so it goes on where it
    was stopped.
    """
    folder, styles = args.watch, [args.content, *args.style]
    for name in OF_ONE_PICTURE:
        if getattr(args, name):
            raise ValueError(f"--watch paints many pictures; leave {flag_of(name)} out")
    if not folder.is_dir():
        raise ValueError(f"expected a folder at {folder}; make it, or check the path")
    out = args.out or Path("painted")
    if out.is_file():
        raise ValueError(f"{out} is a file; choose a folder by --out")
    check_folder(out.parent)
    if out.resolve() == folder.resolve():
        raise ValueError(f"{out} has the photographs; choose another folder by --out")
    for style in flags.painting_from(args, args.content, styles).all_styles:
        image_shape(style.path)  # what is wrong with all pictures is refused now
    out.mkdir(exist_ok=True)
    say(f"{folder} is watched; results go to {out}; Ctrl-C ends it", quiet=args.quiet)
    before: dict[Path, tuple[int, int]] = {}
    tried: dict[Path, tuple[int, int]] = {}
    while True:
        now = find_files(folder)
        for path, stamp in now.items():
            result = out / f"{path.stem}.png"
            ready = before.get(path) == stamp != tried.get(path)
            if not ready or result.exists():
                continue
            tried[path] = stamp
            try:
                painting = flags.painting_from(args, path, styles)
                run = flags.run_from(args, result)
                run = replace(run, resume=run.checkpoint_path.exists())
                paint(painting, run)
            except (OSError, ValueError) as error:
                complain(f"error: {path} is left out: {with_hint(str(error))}")
        before = now
        time.sleep(LOOK)


def find_files(folder: Path) -> dict[Path, tuple[int, int]]:
    """The pictures in a folder, with their sizes and times."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name[0] != "." and path.is_file() and is_picture(path):
            about = path.stat()
            found[path] = about.st_size, about.st_mtime_ns
    return found
