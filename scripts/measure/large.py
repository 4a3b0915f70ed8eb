"""Paint pictures of growing size and compare planned with peak memory.

    python scripts/measure/large.py [--sizes N …] [--memory 8GB | --tile N]

Every picture takes two steps at every scale, in a process of its own; `--set scales=1`
leaves out the coarse scales. Prints tiles, planned and peak memory and the time of a
step. 4096 px takes most of the time: 150 s a step on two CPU cores.
"""

import argparse
import os
import time

import jax
from shared import describe, in_new_process, machine, peak_memory

import jaxnst
from jaxnst.command.flags import assignment, byte_count
from jaxnst.painting.memory import choose_tile, process_bytes, usable_memory
from jaxnst.pictures.geometry import resize
from jaxnst.tiles import plan_tiles


def main() -> None:
    """Print a table."""
    # The measured processes need memory on the same GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[512, 1024, 2048, 4096],
        help="long edges, in pixels",
    )
    parser.add_argument("--recipe", default="painterly")
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], metavar="FIELD=VALUE"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--memory", type=byte_count, default=usable_memory())
    group.add_argument(
        "--tile", type=int, help="with as much memory as such tiles take"
    )
    args = parser.parse_args()
    recipe = jaxnst.get_recipe(args.recipe)
    recipe = recipe.replace(**dict(args.set)).replace(first_steps=2, steps=2)
    print(f"{machine()}; {args.recipe} {dict(args.set)}")
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
            how = describe(plan_tiles(shape, recipe.layers, tile))
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
        options=jaxnst.Options(
            stages=jaxnst.plan_run(shape, recipe, memory),
            chunk=1,
            on_chunk=lambda _: times.append(time.perf_counter()),
        ),
    )
    return {"peak": peak_memory(), "step": times[-1] - times[-2]}


if __name__ == "__main__":
    main()
