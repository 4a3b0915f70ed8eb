"""`jaxnst cache`: the compiled programs that are kept, told and cleared."""

import argparse

import jax

from jaxnst.command.flags import Parser
from jaxnst.command.program_cache import (
    MOST_PROGRAMS,
    delete_programs,
    kept_programs,
    programs_folder,
)
from jaxnst.messages import gigabytes


def add_cache_flags(p: Parser) -> None:
    """Add the flags of `cache`."""
    clear = "delete the programs; the next picture of each size is compiled anew"
    p.add_argument("--clear", action="store_true", help=clear)


def cache_command(args: argparse.Namespace) -> int:
    """Tell where compiled programs are kept and what they take, or delete them."""
    folder, ours = programs_folder()
    found = kept_programs(folder)
    programs = [path for path in found if path.name.endswith("-cache")]
    size = gigabytes(sum(x.stat().st_size for x in found if x.exists()))
    if args.clear:
        left = delete_programs(found)
        stay = f"; {left} files stay, in use or another user's" if left else ""
        gone = sum(not path.exists() for path in programs)
        print(f"deleted {gone} of {len(programs)} programs in {folder}{stay}")
        return 0
    print(f"folder    {folder}{'' if ours else ' (JAX_COMPILATION_CACHE_DIR)'}")
    most = f", of at most {gigabytes(MOST_PROGRAMS)}" if ours else ""
    print(f"programs  {len(programs)}\nsize      {size}{most}")
    if not jax.config.values["jax_enable_compilation_cache"]:
        print("no more are kept: JAX_ENABLE_COMPILATION_CACHE turns them off")
    return 0
