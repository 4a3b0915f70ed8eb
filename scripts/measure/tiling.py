"""Time a gradient in tiles against the same gradient at once, and look for seams.

    python scripts/measure/tiling.py [--size N] [--tiles N …] [--recipe NAME]

A seam would show as gradients that differ more at the borders of tiles than elsewhere.
For each tile size, prints median seconds of both (they alternate), their ratio, and the
relative difference of the gradients at borders and elsewhere. On two CPU cores,
`--size 384 --tiles 272 --repeats 1` takes a minute, the defaults many minutes.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from shared import alternate, describe, machine

import jaxnst
from jaxnst.compiled import Runner
from jaxnst.objective import objective
from jaxnst.painting.scene import make_scene
from jaxnst.painting.stage import Measuring, prepare_backbone
from jaxnst.pictures.canvas import exact
from jaxnst.pictures.geometry import resize
from jaxnst.process import single_threaded_lapack
from jaxnst.tiles import Tiled, Tiles, plan_tiles
from jaxnst.transfer import Objective


@single_threaded_lapack
def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048, help="long edge, in pixels")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1536, 1024, 512])
    parser.add_argument("--recipe", default="painterly")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    recipe = jaxnst.get_recipe(args.recipe)
    shape = (3 * args.size // 4, args.size)
    content = resize(jaxnst.sample("harbour"), shape)
    plain, backbone = prepare_backbone(jaxnst.load_backbone("embedded"), recipe.program)
    scene = make_scene(content, [jaxnst.sample("swirls")], recipe)
    targets = Measuring(Runner(), plain, exact(shape), recipe).targets(scene)
    noise = jax.random.normal(jax.random.key(0), content.shape)
    image = jnp.clip(content + 0.1 * noise, 0, 1)

    def gradient(objective: Objective):
        loss = lambda x, network, targets: objective(
            x, network, targets, recipe.program
        )[0]
        compiled = jax.jit(jax.grad(loss))
        return lambda: compiled(image, backbone, targets).block_until_ready()

    print(f"{machine()}; {args.recipe}, {shape[1]} x {shape[0]} px; medians")
    whole = gradient(objective)
    expected = np.asarray(whole())
    print(f"{'tiles':>20} {'at once':>9} {'in tiles':>9} {'ratio':>6}  ", end="")
    print("at borders  elsewhere")
    for size in args.tiles:
        tiles = plan_tiles(shape, recipe.program.layers, size)
        parts = gradient(Tiled(size))
        found = np.asarray(parts())
        once, tiled = alternate(args.repeats, whole, parts)
        near = borders(tiles, shape)
        seams, rest = (
            np.linalg.norm((found - expected)[x]) / np.linalg.norm(expected[x])
            for x in (near, ~near)
        )
        print(f"{describe(tiles):>20} {once:>7.1f} s {tiled:>7.1f} s", end="")
        print(f" {tiled / once:>6.2f}  {seams:>10.1e} {rest:>10.1e}", flush=True)


def borders(tiles: Tiles, shape: tuple[int, int]) -> np.ndarray:
    """Mask of the pixels within 8 px of the end of what a tile owns or sees."""
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
