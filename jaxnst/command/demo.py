"""`jaxnst demo` paints the sample pictures, which ship with the package."""

import argparse
from dataclasses import replace
from pathlib import Path

from jaxnst.command import flags
from jaxnst.command.reporter import say
from jaxnst.command.stylize import paint
from jaxnst.disk import write_whole
from jaxnst.pictures.samples import SAMPLES, sample_path
from jaxnst.request.manifest import manifest_path
from jaxnst.request.painting import Painting, StyleFile


def add_flags(p: flags.Parser) -> None:
    """Add the flags of `demo`."""
    p.set_defaults(call=demo_command)
    add, folder = p.add_argument, "folder (default: demo)"
    add("-o", "--out", type=flags.folder, default=Path("demo"), help=folder)
    names, of = SAMPLES[1:], "sample styles (default: the first two)"
    add("--style", choices=names, nargs="+", default=names[:2], help=of)
    flags.add_run_flags(p, size=384, quality="normal")
    flags.add_machine_flags(p)
    add("--resume", action="store_true", help="continue an interrupted run")


def demo_command(args: argparse.Namespace) -> int:
    """Paint the sample content in the sample styles; return the exit code."""
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("harbour", *args.style):  # for the user's own commands
        given = sample_path(name)
        if not (copy := args.out / given.name).exists():
            with write_whole(copy) as file:
                file.write(given.read_bytes())
    for style in args.style:
        painting = Painting(
            content=sample_path("harbour"),
            styles=(StyleFile(path=sample_path(style)),),
            recipe=flags.recipe_from(args),
            size=args.size,
            seed=args.seed,
            weights=args.weights,
        )
        run = flags.run_from(args, args.out / f"harbour-{style}.png")
        if args.resume and run.out.exists() and manifest_path(run.out).exists():
            say(f"{run.out} exists already", quiet=args.quiet)
            continue
        resume = run.resume and run.checkpoint_path.exists()
        if code := paint(painting, replace(run, resume=resume)):
            return code
    return 0
