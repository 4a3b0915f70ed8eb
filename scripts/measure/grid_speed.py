"""Time a grid against the same 16 pictures painted one by one.

    python scripts/measure/grid_speed.py [--sizes N …] [--recipe NAME] [--steps N]

Both sides are compiled first, then alternate. Prints median seconds and their ratio for
each size. On two CPU cores, `--sizes 32 --steps 1 --repeats 1` takes half a minute, the
defaults many minutes.
"""

import argparse

import jax
from shared import alternate, machine

import jaxnst
from jaxnst.painting.lanes import lane_mesh, make_lanes, plan_batches
from jaxnst.pictures.samples import SAMPLES


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--recipe", default="painterly")
    parser.add_argument("--steps", type=int, default=10, help="steps at every scale")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    backbone = jaxnst.load_backbone("embedded")
    recipe = jaxnst.get_recipe(args.recipe)
    recipe = recipe.replace(first_steps=args.steps, steps=args.steps)
    key, vary = jax.random.key(0), {"style_weight": [0.3, 1.0, 3.0, 10.0]}
    print(f"{machine()}; {args.recipe}, {args.steps} steps at every scale")
    print("4 styles x 4 style weights; medians of", args.repeats)
    print(f"{'px':>5} {'batch':>6} {'one by one':>12} {'grid':>9} {'ratio':>6}")
    for size in args.sizes:
        content = jaxnst.sample("harbour", size=size)
        height, width, _ = content.shape
        styles = [jaxnst.sample(name, size=size) for name in SAMPLES[1:5]]

        def one_by_one(content=content, styles=styles) -> None:
            for style in styles:
                for weight in vary["style_weight"]:
                    changed = recipe.replace(style_weight=weight)
                    given = backbone, content, [style], changed
                    jax.block_until_ready(jaxnst.stylize(*given, key=key).image)

        def grid(content=content, styles=styles) -> None:
            options = jaxnst.GridOptions(vary=vary)
            jaxnst.stylize_grid(
                backbone, [content], styles, recipe, key=key, options=options
            )

        lanes = make_lanes([(height, width)], 4, recipe, key=key, vary=vary)
        batch = plan_batches(lanes, lane_mesh())[0][1]
        jaxnst.stylize(backbone, content, styles[:1], recipe, key=key)
        grid()
        single, together = alternate(args.repeats, one_by_one, grid)
        print(
            f"{size:>5} {batch:>6} {single:>10.1f} s {together:>7.1f} s "
            f"{single / together:>6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
