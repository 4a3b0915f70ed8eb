"""Time a step in tiles beside the same step at once, taking turns, and look for seams.

A seam would be where the gradients of the two differ more at the borders of the tiles
than elsewhere: both differences are printed, as parts of the gradient's own size.
"""

import argparse
import os
import platform
import time
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

import jaxnst
from jaxnst.objective import objective
from jaxnst.painting.multiscale import measure_targets, prepare_backbone
from jaxnst.pictures.geometry import resize
from jaxnst.process import single_threaded_lapack
from jaxnst.tiles import Tiled, Tiles, plan_tiles
from jaxnst.transfer import Objective


@single_threaded_lapack
def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="long edge")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1536, 1024, 512])
    parser.add_argument("--recipe", default="painterly")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    recipe = jaxnst.get_recipe(args.recipe)
    shape = (3 * args.size // 4, args.size)
    content = resize(jaxnst.sample("harbour"), shape)
    plain, backbone = prepare_backbone(jaxnst.load_backbone("embedded"), recipe)
    targets = measure_targets(plain, content, [jaxnst.sample("swirls")], recipe)
    noise = jax.random.normal(jax.random.key(0), content.shape)
    image = jnp.clip(content + 0.1 * noise, 0, 1)

    def gradient(objective: Objective):
        loss = lambda x, *rest: objective(x, *rest, recipe.program)[0]
        return jax.jit(jax.grad(loss))

    device = jax.devices()[0].device_kind
    print(f"{device}, {os.cpu_count()} cores, jax {jax.__version__}, ", end="")
    print(f"{platform.machine()}; {args.recipe}, {shape[1]} x {shape[0]} px; medians")
    whole = gradient(objective)
    expected = np.asarray(whole(image, backbone, targets))
    print(f"{'tiles':>20} {'at once':>9} {'in tiles':>9} {'ratio':>6}  ", end="")
    print("at borders  elsewhere")
    for size in args.tiles:
        tiles = plan_tiles(shape, recipe.layers, size)
        parts = gradient(Tiled(size))
        found = np.asarray(parts(image, backbone, targets))
        times: dict = {whole: [], parts: []}
        for _ in range(args.repeats):
            for function, taken in times.items():
                began = time.perf_counter()
                function(image, backbone, targets).block_until_ready()
                taken.append(time.perf_counter() - began)
        once, tiled = (median(taken) for taken in times.values())
        near = borders(tiles, shape)
        seams, rest = (
            np.linalg.norm((found - expected)[x]) / np.linalg.norm(expected[x])
            for x in (near, ~near)
        )
        how = f"{len(tiles.starts)} of {tiles.shape[1]} x {tiles.shape[0]}"
        print(f"{how:>20} {once:>7.1f} s {tiled:>7.1f} s {tiled / once:>6.2f}", end="")
        print(f"  {seams:>10.1e} {rest:>10.1e}", flush=True)


def borders(tiles: Tiles, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels are within 8 px of where what a tile owns, or sees, ends."""
    near = np.zeros(shape, bool)
    for start, owned in zip(tiles.starts, tiles.owned, strict=True):
        for axis, length in enumerate(shape):
            ends = {*owned[axis], start[axis], start[axis] + tiles.shape[axis]}
            for end in ends - {0, length}:
                band = [slice(None), slice(None)]
                band[axis] = slice(max(0, end - 8), end + 8)
                near[tuple(band)] = True
    return near


if __name__ == "__main__":
    main()
