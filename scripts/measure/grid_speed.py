"""Time a grid beside the same pictures painted one by one, both warm, taking turns."""

import argparse
import os
import platform
import time
from statistics import median

import jax

import jaxnst
from jaxnst.painting.lanes import lane_mesh, make_lanes, plan_batches
from jaxnst.pictures.samples import SAMPLES


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--recipe", default="painterly")
    parser.add_argument("--steps", type=int, default=10, help="at every scale")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    backbone = jaxnst.load_backbone("embedded")
    recipe = jaxnst.get_recipe(args.recipe)
    recipe = recipe.replace(first_steps=args.steps, steps=args.steps)
    key, vary = jax.random.key(0), {"style_weight": [0.3, 1.0, 3.0, 10.0]}
    device = jax.devices()[0]
    print(f"{device.device_kind}, {os.cpu_count()} cores, jax {jax.__version__}, ")
    print(f"{platform.machine()}; {args.recipe}, {args.steps} steps at every scale")
    print("4 styles x 4 style weights; medians of", args.repeats)
    print(f"{'px':>5} {'batch':>6} {'one by one':>12} {'grid':>9} {'ratio':>6}")
    for size in args.sizes:
        content = jaxnst.sample("harbour", size=size)
        styles = [jaxnst.sample(name, size=size) for name in SAMPLES[1:5]]

        def one_by_one(content=content, styles=styles) -> None:
            for style in styles:
                for weight in vary["style_weight"]:
                    changed = recipe.replace(style_weight=weight)
                    jaxnst.stylize(backbone, content, [style], changed, key=key)

        def grid(content=content, styles=styles) -> None:
            jaxnst.stylize_grid(backbone, [content], styles, recipe, key=key, vary=vary)

        lanes = make_lanes(
            1, 4, recipe, lambda i, r, s=content.shape: s[:2], key=key, vary=vary
        )
        width = plan_batches(lanes, lane_mesh())[0][1]
        jaxnst.stylize(backbone, content, styles[:1], recipe, key=key)
        grid()
        times: dict = {one_by_one: [], grid: []}
        for _ in range(args.repeats):
            for function, found in times.items():
                began = time.perf_counter()
                function()
                found.append(time.perf_counter() - began)
        single, together = (median(found) for found in times.values())
        print(
            f"{size:>5} {width:>6} {single:>10.1f} s {together:>7.1f} s "
            f"{single / together:>6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
