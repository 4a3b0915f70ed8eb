"""Paint growing pictures, and print what memory was planned and what was taken.

Each takes two steps at every scale, in a process of its own; `--set scales=1` leaves
the coarse ones out.
"""

import argparse
import os
import platform
import time

import jax

import jaxnst
from jaxnst.command.bench import in_new_process, peak_memory
from jaxnst.command.flags import assignment, byte_count
from jaxnst.painting.memory import choose_tile, process_bytes, usable_memory
from jaxnst.pictures.geometry import resize
from jaxnst.tiles import plan_tiles


def main() -> None:
    """Print a table."""
    # The processes that are measured need room on the same GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[512, 1024, 2048, 4096],
        help="long edge",
    )
    parser.add_argument("--recipe", default="painterly")
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], metavar="FIELD=VALUE"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--memory", type=byte_count, default=usable_memory())
    group.add_argument("--tile", type=int, help="in the memory of tiles of that size")
    args = parser.parse_args()
    recipe = jaxnst.get_recipe(args.recipe)
    recipe = recipe.replace(**dict(args.set)).replace(first_steps=2, steps=2)
    print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax ", end="")
    print(f"{jax.__version__}, {platform.machine()}; {args.recipe} {dict(args.set)}")
    print(
        f"{'px':>13} {'megapixels':>10} {'tiles':>18} {'planned':>8} {'taken':>8} step"
    )
    for size in args.sizes:
        shape = (3 * size // 4, size)
        memory = args.memory
        if args.tile is not None:
            memory = process_bytes(shape, recipe, args.tile)
        tile = choose_tile(shape, recipe, memory)
        how = "at once"
        if tile is not None:
            tiles = plan_tiles(shape, recipe.layers, tile)
            how = f"{len(tiles.starts)} of {tiles.shape[1]} x {tiles.shape[0]}"
        planned = process_bytes(shape, recipe, tile)
        found = in_new_process(paint, shape, recipe, memory)
        print(
            f"{f'{shape[1]} x {shape[0]}':>13} {shape[0] * shape[1] / 1e6:>10.1f} "
            f"{how:>18} {planned / 1e9:>5.2f} GB {found['peak'] / 1e9:>5.2f} GB "
            f"{found['step']:.1f} s",
            flush=True,
        )


def paint(
    shape: tuple[int, int], recipe: jaxnst.Recipe, memory: int, _began: float
) -> dict[str, float]:
    """Peak memory, and seconds of the last step."""
    times = []
    jaxnst.stylize(
        jaxnst.load_backbone("embedded"),
        resize(jaxnst.sample("harbour"), shape),
        [jaxnst.sample("swirls")],
        recipe,
        key=jax.random.key(0),
        memory=memory,
        chunk=1,
        on_chunk=lambda _: times.append(time.perf_counter()),
    )
    return {"peak": peak_memory(), "step": times[-1] - times[-2]}


if __name__ == "__main__":
    main()
