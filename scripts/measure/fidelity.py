"""Compare the losses of the recipes with those of plain PyTorch loops.

    pip install '.[torch]' && python scripts/measure/fidelity.py [--recipe NAME …]

Both sides use the same weights (the embedded ones, at the activation scale of the
recipe), the same pictures and the same start image. L-BFGS amplifies rounding, so paths
diverge after a few dozen steps; there, only the loss that they reach should agree.

Prints both losses and their relative difference after some steps, or all losses with
`--json`. The defaults take several minutes on two CPU cores.
"""

# pyright: reportMissingImports=false

import argparse
import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from reference_loops import CAFFE_MEAN, LOOPS, make_network

import jaxnst
from jaxnst.network.calibrate import calibrate
from jaxnst.network.vgg import Backbone
from jaxnst.painting.scales import style_shape
from jaxnst.painting.scene import initial_image
from jaxnst.pictures.geometry import resize
from jaxnst.weights.convert import TORCHVISION_DEVIATION, TORCHVISION_MEAN

TORCHVISION_RECIPES = ("kaggle", "udacity", "boston", "crowson", "nnst")


def with_input_map(backbone: Backbone, name: str) -> Backbone:
    """Give weights the input map of a recipe's source; activations stay the same."""
    if name in TORCHVISION_RECIPES:
        scale, offset = 1 / TORCHVISION_DEVIATION, -TORCHVISION_MEAN
        offset = offset / TORCHVISION_DEVIATION
    else:
        scale, offset = np.full(3, 255.0), -np.array(CAFFE_MEAN)
    scale = jnp.asarray(scale, jnp.float32)
    first = backbone.params["conv1_1"]
    kernel = first["kernel"] * (backbone.scale / scale)[None, None, :, None]
    params = backbone.params | {"conv1_1": first | {"kernel": kernel}}
    return dataclasses.replace(
        backbone, params=params, scale=scale, offset=jnp.asarray(offset, jnp.float32)
    )


def tensor(image: jax.Array) -> torch.Tensor:
    """Convert an image to a tensor, 1 3 h w."""
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)[None].contiguous()


def compare(name: str, size: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses of every step, of the PyTorch loop and of jaxnst."""
    recipe = jaxnst.get_recipe(name)
    backbone = with_input_map(jaxnst.load_backbone("embedded"), name)
    backbone = calibrate(backbone, recipe.program.activations)
    content, style = jaxnst.sample("harbour", size), jaxnst.sample("swirls", size)
    height, width = content.shape[:2]
    shape = style_shape(style.shape[:2], (height, width), recipe)
    style = jnp.clip(resize(style, shape), 0, 1)
    start = initial_image(jax.random.key(0), content, [style], recipe)
    params = jax.tree.map(np.asarray, backbone.params)
    weights = {}
    if name == "gatys2016":
        own = recipe.weights
        weights = {"alpha": own.content_weight, "beta": own.style_weight}
    theirs = LOOPS[name](
        make_network(params),
        tensor(content),
        tensor(style),
        tensor(start),
        steps,
        **weights,
    )
    transfer = jaxnst.make_transfer(recipe.program)
    targets = jaxnst.make_targets(backbone, content, [style], recipe)
    state = transfer.init(start)
    _, info = jaxnst.run(transfer, state, backbone, targets, steps=steps)
    return np.array(theirs), np.asarray(info.loss)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", choices=LOOPS, nargs="+", default=list(LOOPS))
    parser.add_argument("--size", type=int, default=96, help="long edge, in pixels")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print all losses as JSON")
    args = parser.parse_args()
    steps = args.steps
    if args.json:
        pairs = {name: compare(name, args.size, steps) for name in args.recipe}
        print(json.dumps({name: [x.tolist() for x in p] for name, p in pairs.items()}))
        return
    marks = sorted({min(n, steps) for n in (1, 2, 10, 50, steps)})
    print(f"{args.size} px; after n steps: PyTorch, jaxnst, relative difference")
    for name in args.recipe:
        began = time.perf_counter()
        theirs, ours = compare(name, args.size, steps)
        cells = (
            f"{n}: {theirs[n - 1]:.6g} {ours[n - 1]:.6g} "
            f"{abs(ours[n - 1] / theirs[n - 1] - 1):.0e}"
            for n in marks
        )
        seconds = time.perf_counter() - began
        print(f"{name:<14} {' | '.join(cells)} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
