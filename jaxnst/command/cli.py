"""The `jaxnst` command: parses its arguments and calls one of its subcommands.

Exit codes: 0 done, 2 bad input or usage, 3 the run diverged, 130 interrupted.
"""

import argparse
import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax

from jaxnst.command import (
    again,
    demo,
    flags,
    grid,
    mask,
    program_cache,
    studio,
    stylize,
    video,
    weights,
)
from jaxnst.command.reporter import complain, ignore_output
from jaxnst.interrupts import raise_again
from jaxnst.messages import with_hint
from jaxnst.pictures.files import any_number_of_pixels
from jaxnst.process import standard_dtypes
from jaxnst.recipes import RECIPES, get_recipe


def add_recipes_flags(p: flags.Parser) -> None:
    """Add the flags of `recipes`."""
    p.add_argument("name", nargs="*", help="recipes to show (default: list all)")
    p.set_defaults(call=recipes_command)


def recipes_command(args: argparse.Namespace) -> int:
    """List the recipes, or print all fields of the named ones."""
    if args.name:
        print("\n\n".join(str(get_recipe(name)) for name in args.name))
    else:
        for recipe in RECIPES.values():
            print(f"{recipe.name:<14} {recipe.summary}")
    return 0


COMMANDS = (
    ("stylize", "paint a photo in another style", stylize.add_flags),
    ("plan", "the same as stylize --dry-run", stylize.add_plan_flags),
    ("again", "repaint a picture from its saved settings", again.add_flags),
    ("grid", "paint contents × styles × settings", grid.add_flags),
    ("video", "paint a video", video.add_flags),
    ("studio", "choose, paint and compare in the browser", studio.add_flags),
    ("mask", "make a mask of a photo's subject, or of its sky", mask.add_flags),
    ("demo", "paint the sample photograph in two sample styles", demo.add_flags),
    ("recipes", "list the methods, or show their settings", add_recipes_flags),
    ("cache", "show or delete the compiled programs", program_cache.add_flags),
    ("weights", "list, fetch, convert or check network weights", weights.add_flags),
)
"""Name, help, and function that adds the flags, of each command."""


def make_parser() -> flags.Parser:
    """Build the parser of the whole command."""
    about = "Paint a photograph in the style of a painting."
    begin = "Begin with: jaxnst demo, or jaxnst stylize photo.jpg painting.jpg"
    parser = flags.Parser(prog="jaxnst", description=about, epilog=begin)
    own = f"jaxnst {version('jaxnst')}"
    parser.add_argument("--version", action="version", version=own)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text, add_flags in COMMANDS:
        p = commands.add_parser(name, help=text)
        p.set_defaults(parser=p, named_styles=False)
        add_flags(p)
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse arguments; styles may also follow flags."""
    args, more = make_parser().parse_known_args(argv)
    if more and not (args.named_styles and all(x[:1] != "-" for x in more)):
        args.parser.error(f"unrecognized arguments: {' '.join(more)}")
    if args.named_styles:
        try:
            found = [*args.style, *map(flags.all_files, more)]
        except argparse.ArgumentTypeError as error:
            args.parser.error(str(error))
        args.style = [file for files in found for file in files]
    return args


def print_anything() -> None:
    """Escape characters that the output cannot encode, so that printing never fails."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the process
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115, for good
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    print_anything()
    args = parse(argv)
    huge = getattr(args, "allow_huge", False)
    smaller = "--memory or --size" if hasattr(args, "memory") else "--size"
    return guarded(partial(args.call, args), huge=huge, smaller=smaller)


CURES = {
    "RESOURCE_EXHAUSTED|out of memory|OUT_OF_MEMORY": (
        "memory ran out: use a smaller {flags}; on a GPU, nvidia-smi shows which "
        "process holds the memory"
    ),
    "DNN library|CuDNN|CUDNN|DNN support": (
        "cuDNN did not start: another version is found first (unset LD_LIBRARY_PATH), "
        "or the GPU's memory is full (nvidia-smi shows which process holds it; "
        "XLA_PYTHON_CLIENT_PREALLOCATE=false reserves less)"
    ),
    "CUBLAS|cuBLAS|cublas|BLAS support|CUSOLVER|cuSolver|gpusolver|CUFFT|CUSPARSE": (
        "a library of CUDA did not start: the GPU's memory is full (see nvidia-smi), "
        "or another version of CUDA is found first (unset LD_LIBRARY_PATH)"
    ),
    "PTX|ptxas|libdevice|DRIVER|driver version|NO_BINARY_FOR_GPU": (
        "the driver does not suit this CUDA: update the NVIDIA driver, or reinstall "
        "with pip install 'jaxnst[cuda]'"
    ),
    "CUDA_ERROR|cudaError": (
        "the GPU failed: check it with nvidia-smi, or set JAX_PLATFORMS=cpu to paint "
        "without it"
    ),
}
"""Remedy of each kind of device error, by a pattern of its message; the first match is
used."""


def cure(message: str, flags: str) -> str:
    """The remedy for a device's error message; empty if none is known.

    `flags` names the flags that reduce the memory of a run.

    Example:
        >>> cure("DNN library initialization failed.", "--size")[:19]
        'cuDNN did not start'
    """
    found = (text for words, text in CURES.items() if re.search(words, message))
    return next(found, "").format(flags=flags)


def guarded(call: Callable[[], int], *, huge: bool = False, smaller: str = "") -> int:
    """Call a command, report its errors in one line, and return the exit code.

    `huge` allows pictures of any number of pixels; `smaller` names the flags that
    reduce the memory of the command.
    """
    try:
        raise_again()
        folder, ours = program_cache.programs_folder()
        most = program_cache.MOST_PROGRAMS if ours else None
        if why := program_cache.keep_programs(folder, most):
            variable = "JAXNST_HOME" if ours else "JAX_COMPILATION_CACHE_DIR"
            complain(f"{why}; set {variable} to another folder")
        warnings.showwarning = program_cache.Listener(folder, complain, ours=ours)
        lifted = any_number_of_pixels() if huge else contextlib.nullcontext()
        with lifted, standard_dtypes():
            return call()
    except jax.errors.JaxRuntimeError as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return _fail("; ".join(filter(None, (first, cure(str(error), smaller)))))
    except RuntimeError as error:
        if "Symlink loop" not in str(error):  # of pathlib, before Python 3.13
            raise
        return _fail(f"a link leads to itself ({error})")
    except BrokenPipeError:
        ignore_output()
        return 0
    except ValueError as error:
        return _fail(str(error))
    except OSError as error:
        problem = f"{error.filename} cannot be read or written ({error.strerror})"
        hint = "check the path and its permissions"
        return _fail(f"{problem}; {hint}" if error.filename else str(error))
    except KeyboardInterrupt:
        complain("interrupted")
        return 130


def _fail(message: str) -> int:
    complain(f"error: {with_hint(message)}")
    return 2
