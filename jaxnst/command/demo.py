"""`jaxnst demo`: the sample content in the sample styles."""

import argparse
from pathlib import Path

from jaxnst.command.flags import add_run_flags
from jaxnst.command.manifest import manifest_path
from jaxnst.command.reporter import say
from jaxnst.command.request import StylizeRequest, checkpoint_beside
from jaxnst.command.stylize import add_stylize_flags, paint, stylize_request
from jaxnst.disk import write_whole
from jaxnst.pictures.samples import SAMPLES, sample_path


def add_demo_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `demo`."""
    add, folder = p.add_argument, "folder (default: demo)"
    add("-o", "--out", type=Path, default=Path("demo"), help=folder)
    names, of = SAMPLES[1:], "samples to learn from (default: the first two)"
    add("--style", choices=names, nargs="+", default=names[:2], help=of)
    add_run_flags(p, size=384, quality="normal", weights="embedded")
    add("--resume", action="store_true", help="go on where it stopped")


def demo_command(args: argparse.Namespace) -> int:
    """Paint the sample content in the sample styles; return the exit code."""
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"expected a folder at {args.out}, got a file")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("harbour", *args.style):  # to go on with
        given = sample_path(name)
        if not (copy := args.out / given.name).exists():
            with write_whole(copy) as file:
                file.write(given.read_bytes())
    for style in args.style:
        request = demo_request(args, style)
        if args.resume and manifest_path(request.out).exists():
            say(f"{request.out} is there already", quiet=args.quiet)
        elif code := paint(request):
            return code
    return 0


def demo_request(args: argparse.Namespace, style: str) -> StylizeRequest:
    """What `jaxnst stylize` would be asked for one of the sample styles."""
    out = args.out / f"harbour-{style}.png"
    flags = vars(args) | {
        "content": sample_path("harbour"),
        "style": [sample_path(style)],
        "out": out,
        "resume": args.resume and checkpoint_beside(out).exists(),
    }
    add_stylize_flags(usual := argparse.ArgumentParser())
    unset = vars(usual.parse_args([str(flags["content"])]))
    return stylize_request(argparse.Namespace(**unset | flags))
