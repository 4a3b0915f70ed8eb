"""The `jaxnst` command: parse, one call, save.

Exit codes: 0 done, 2 bad input or usage, 3 numerical failure, 130 interrupted.
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
    """List the recipes, or show some of them whole."""
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
"""Name and help of each command, and what adds its flags and says what it calls."""


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
    """Parse arguments; styles may stand after flags, too."""
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
    """Let all texts and names of files be printed, whatever the output takes."""
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
        "memory ran out: use a smaller {flags}; on a GPU, nvidia-smi shows who holds "
        "its memory"
    ),
    "DNN library|CuDNN|CUDNN|DNN support": (
        "cuDNN did not start: another one is found first (unset LD_LIBRARY_PATH), or "
        "the GPU is full (nvidia-smi shows by whom; XLA_PYTHON_CLIENT_PREALLOCATE="
        "false takes less at first)"
    ),
    "CUBLAS|cuBLAS|cublas|BLAS support|CUSOLVER|cuSolver|gpusolver|CUFFT|CUSPARSE": (
        "a library of CUDA did not start: the GPU is full (nvidia-smi shows by whom), "
        "or another CUDA is found first (unset LD_LIBRARY_PATH)"
    ),
    "PTX|ptxas|libdevice|DRIVER|driver version|NO_BINARY_FOR_GPU": (
        "the driver does not suit this CUDA: update the NVIDIA driver, or reinstall "
        "with pip install 'jaxnst[cuda]'"
    ),
    "CUDA_ERROR|cudaError": (
        "the GPU failed: check it with nvidia-smi, or paint without it by "
        "JAX_PLATFORMS=cpu"
    ),
}
"""What to do about errors of devices, by words of their messages; the first one holds.
"""


def cure(message: str, flags: str) -> str:
    """What to do about a device's error message; empty if that is not known.

    `flags` make a run take less memory.

    Example:
        >>> cure("DNN library initialization failed.", "--size")[:19]
        'cuDNN did not start'
    """
    found = (text for words, text in CURES.items() if re.search(words, message))
    return next(found, "").format(flags=flags)


def guarded(call: Callable[[], int], *, huge: bool = False, smaller: str = "") -> int:
    """Do what a command does, say in one line what goes wrong; return the exit code.

    `huge`: read pictures of any number of pixels; `smaller`: flags that make the
    command take less memory.
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
