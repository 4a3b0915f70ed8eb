"""Measure how useful the features of network weights are for style transfer.

    python scripts/measure/evaluate_weights.py FOLDER [--weights NAME_OR_FILE …]

FOLDER holds paintings in `style/`, photographs in `content/` and, optionally, pictures
that another tool painted in `peer_results/`, named after photograph and painting with
`_` in between (a part of the painting's name is enough). Every picture is cut into
squares of 128 px. Prints a table for each measure, with a row for each of the weights
and for two baselines, random filters and colours:

style retrieval   Rank all other squares by style loss to a square of a painting: mean
                  average precision of those from the same painting.
content           Blur, recolour, shift or paint a square of a photograph and look for
retrieval         the square with the most correlated features: share of squares that
                  find themselves.
identification    Look for the painting whose squares have the least style loss to a
                  painted square, over all layers: share of squares that find their own.
health            Share of filters that hardly ever fire, and number of dimensions that
                  the features of a layer use (exponential entropy of the spectrum of
                  the covariance).
loss left         Share of the loss left after `--steps` steps, mean over all pairs of
                  middle squares of a photograph and a painting.

Two paintings and a photograph of 256 px, with `--steps 2`, take a minute of CPU time.
"""

import argparse
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxnst
from jaxnst import losses
from jaxnst.disk import check_target
from jaxnst.network.calibrate import calibrate
from jaxnst.network.vgg import Backbone, kernel_shapes
from jaxnst.pictures.color import match_palette
from jaxnst.pictures.files import image_shape
from jaxnst.pictures.geometry import fit_shape, resize
from jaxnst.process import single_threaded_lapack
from jaxnst.recipes import GATYS_STYLE_LAYERS
from jaxnst.types import Features, Image

CONTENT_LAYER = "relu4_2"
LAYERS = (*GATYS_STYLE_LAYERS, CONTENT_LAYER)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SIDE = 128  # of a square
Squares = dict[str, np.ndarray]
"""Squares of each picture, n 128 128 3, by the picture's name."""

Tables = dict[str, dict[str, float]]
"""Results by measure, then by layer, descriptor or kind of change."""


def load_squares(folder: Path, size: int) -> Squares:
    """Cut all pictures of a folder into squares, from their centres."""
    found = {}
    for file in pictures(folder):
        squares = cut(load(file, fit_shape(image_shape(file), size)))
        if len(squares):
            found[file.stem] = squares
    return found


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, sorted by name."""
    return sorted(x for x in folder.glob("*") if x.suffix.lower() in SUFFIXES)


def load(file: Path, shape: tuple[int, int]) -> Image:
    """Read a picture and resize it."""
    return resize(jaxnst.load_image(file), shape)


def cut(image: Image) -> np.ndarray:
    """Cut the centre of an image into adjacent squares, n 128 128 3."""
    rows, columns = (side // SIDE for side in image.shape[:2])
    top, left = ((n % SIDE) // 2 for n in image.shape[:2])
    image = image[top : top + rows * SIDE, left : left + columns * SIDE]
    squares = image.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
    return np.asarray(squares).reshape(-1, SIDE, SIDE, 3)


def random_backbone(like: Backbone, squares: np.ndarray) -> Backbone:
    """Random filters by He's rule, with their mean activations over the squares."""
    shapes = list(kernel_shapes().items())[: len(like.params)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    init = jax.nn.initializers.he_normal(in_axis=(0, 1, 2), out_axis=3)
    params = {
        name: {"kernel": init(key, shape), "bias": jnp.zeros(shape[3])}
        for key, (name, shape) in zip(keys, shapes, strict=True)
    }
    means = {name.replace("conv", "relu"): jnp.ones(()) for name in params}
    backbone = Backbone(params, like.scale, like.offset, means)
    mean = jax.jit(
        lambda x: jax.tree.map(
            lambda f: f.mean((0, 1)), jaxnst.features(backbone, x, layers=tuple(means))
        )
    )
    total = [mean(square) for square in squares[:: max(1, len(squares) // 32)]]
    averaged = jax.tree.map(lambda *xs: sum(xs) / len(xs), *total)
    return Backbone(params, like.scale, like.offset, averaged)


class Look(NamedTuple):
    """A named function from a square to its features by layer."""

    name: str
    see: Callable[[Image], Features]


def network(name: str, backbone: Backbone, pooling: Any) -> Look:
    """The features of a network at the layers of style and content losses."""
    backbone = calibrate(backbone, "unit_mean")
    return Look(
        name, lambda x: jaxnst.features(backbone, x, layers=LAYERS, pooling=pooling)
    )


COLOURS = Look("colours", lambda x: {"rgb": x})


def gram_descriptor(features: Features) -> dict[str, jax.Array]:
    """Gram matrix of each style layer."""
    return {k: losses.gram_matrix(f) for k, f in features.items() if k != CONTENT_LAYER}


def gaussian_descriptor(features: Features) -> dict[str, Any]:
    """Moments and factored covariance of each style layer."""
    found = {}
    for layer, feature in features.items():
        if layer != CONTENT_LAYER:
            moments = losses.moments(feature)
            rank = feature.shape[0] * feature.shape[1]
            found[layer] = (moments, losses.gaussian(moments, rank=rank))
    return found


DESCRIPTORS = {"gram": gram_descriptor, "wasserstein2": gaussian_descriptor}


def describe(look: Look, squares: np.ndarray, kind: str) -> dict[str, Any]:
    """Descriptors of squares by layer, stacked."""
    function = jax.jit(lambda x: DESCRIPTORS[kind](look.see(x)))
    found = [jax.device_get(function(square)) for square in squares]
    return jax.tree.map(lambda *xs: np.stack(xs), *found)


def distances(ours: dict, theirs: dict, kind: str) -> dict[str, np.ndarray]:
    """Style losses between descriptors by layer; `joint` adds them, scaled alike."""
    found: dict[str, np.ndarray] = {}
    for layer in ours:
        if kind == "gram":
            a, b = (x[layer].reshape(len(x[layer]), -1) for x in (ours, theirs))
            squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
            found[layer] = np.maximum(squares, 0)
        else:
            row = jax.jit(
                lambda m, others: jax.lax.map(
                    lambda g: losses.wasserstein2_loss(m, g), others
                )
            )
            moments, gaussians = ours[layer][0], theirs[layer][1]
            found[layer] = np.stack(
                [
                    row(jax.tree.map(lambda x, i=i: x[i], moments), gaussians)
                    for i in range(len(moments.mean))
                ]
            )
    return found | {"joint": np.sum([d / d.mean() for d in found.values()], axis=0)}


def mean_average_precision(distance: np.ndarray, labels: np.ndarray) -> float:
    """Mean average precision of a retrieval of the squares of the same label."""
    precisions = []
    for i, row in enumerate(distance):
        order = np.argsort(np.delete(row, i))
        same = np.delete(labels, i)[order] == labels[i]
        found = np.cumsum(same) / np.arange(1, len(same) + 1)
        if same.any():
            precisions.append(found[same].mean())
    return float(np.mean(precisions))


def style_retrieval(look: Look, styles: Squares) -> Tables:
    """Mean average precision by descriptor and layer."""
    squares = np.concatenate(list(styles.values()))
    labels = np.repeat(np.arange(len(styles)), [len(x) for x in styles.values()])
    results = {}
    for kind in DESCRIPTORS:
        found = describe(look, squares, kind)
        table = distances(found, found, kind)
        results[f"style retrieval, {kind}"] = {
            layer: mean_average_precision(d, labels) for layer, d in table.items()
        }
    return results


def blurred(image: Image, style: Image) -> Image:
    """Remove fine detail."""
    return resize(resize(image, (SIDE // 4, SIDE // 4)), image.shape[:2])


def recoloured(image: Image, style: Image) -> Image:
    """Take the colours of a painting."""
    return match_palette(image, [style])


def shifted(image: Image, style: Image) -> Image:
    """Move by a few pixels and replicate the edges."""
    return jnp.pad(image, ((5, 0), (5, 0), (0, 0)), mode="edge")[:-5, :-5]


def content_retrieval(
    look: Look, contents: Squares, styles: Squares, painted: dict[str, Squares]
) -> dict[str, float]:
    """Share of changed squares that find their original, by kind of change."""
    layer = CONTENT_LAYER if look is not COLOURS else "rgb"
    see = jax.jit(lambda x: losses.standardize(look.see(x)[layer]).ravel())
    squares = np.concatenate(list(contents.values()))
    gallery = np.stack([see(x) for x in squares])
    paintings = np.concatenate(list(styles.values()))

    def accuracy(queries: list, wanted: np.ndarray) -> float:
        nearest = np.argmax(np.stack([see(x) for x in queries]) @ gallery.T, axis=1)
        return float(np.mean(nearest == wanted))

    own, results = np.arange(len(squares)), {}
    for change in (blurred, recoloured, shifted):
        queries = [
            change(x, paintings[i % len(paintings)]) for i, x in enumerate(squares)
        ]
        results[change.__name__] = accuracy(queries, own)
    if painted:
        starts = np.cumsum([0, *(len(x) for x in contents.values())])
        first = dict(zip(contents, starts, strict=False))
        queries, wanted = [], []
        for content, results_of in painted.items():
            for result in results_of.values():
                queries += list(result)
                wanted += list(first[content] + np.arange(len(result)))
        results["painted"] = accuracy(queries, np.array(wanted))
    return results


def identification(
    look: Look, styles: Squares, painted: dict[str, Squares]
) -> dict[str, float]:
    """Share of painted squares whose nearest painting, on average, is their own."""
    names = list(styles)
    queries = [
        (square, names.index(style))
        for found in painted.values()
        for style, squares in found.items()
        for square in squares
    ]
    squares = np.concatenate(list(styles.values()))
    sizes = np.cumsum([len(x) for x in styles.values()])[:-1]
    wanted, results = np.array([label for _, label in queries]), {}
    for kind in DESCRIPTORS:
        ours = describe(look, np.stack([square for square, _ in queries]), kind)
        joint = distances(ours, describe(look, squares, kind), kind)["joint"]
        means = np.stack([d.mean(1) for d in np.split(joint, sizes, axis=1)], axis=1)
        results[kind] = float(np.mean(np.argmin(means, axis=1) == wanted))
    return results


def health(look: Look, squares: np.ndarray) -> Tables:
    """Share of dead filters and dimensions used, by layer."""
    see = jax.jit(lambda x: jax.tree.map(losses.moments, look.see(x)))
    found = [see(square) for square in squares]
    dead, dimensions = {}, {}
    for layer in found[0]:
        mean = np.asarray(sum(x[layer].mean for x in found) / len(found))
        second = sum(x[layer].second for x in found) / len(found)
        values = np.linalg.eigvalsh(np.asarray(second) - np.outer(mean, mean))
        share = np.maximum(values, 1e-12) / np.maximum(values, 1e-12).sum()
        dead[layer] = float(np.mean(mean < 0.05))
        dimensions[layer] = float(np.exp(-(share * np.log(share)).sum()))
    return {"dead filters": dead, "dimensions used": dimensions}


def conditioning(
    backbone: Backbone, contents: Squares, styles: Squares, steps: int
) -> dict[str, float]:
    """Lowest loss of a run over its initial loss by recipe, mean over pairs."""
    results = {}
    for name in ("painterly", "gatys2016-code", "udacity"):
        recipe = jaxnst.get_recipe(name)
        calibrated = calibrate(backbone, recipe.program.activations)
        transfer = jaxnst.make_transfer(recipe.program)
        ratios = []
        for content, style in product(contents.values(), styles.values()):
            content, style = (jnp.asarray(x[len(x) // 2]) for x in (content, style))
            targets = jaxnst.make_targets(calibrated, content, [style], recipe)
            state = transfer.init(content)
            _, info = jaxnst.run(transfer, state, calibrated, targets, steps=steps)
            ratios.append(float(info.loss.min() / info.loss[0]))
        results[name] = float(np.mean(ratios))
    return results


def load_painted(folder: Path, styles: Squares, size: int) -> dict[str, Squares]:
    """Squares of painted pictures by the names of photograph and painting.

    The pictures are resized to the exact size of their photograph first.
    """
    plain = lambda name: name.lower().replace("-", "_")
    found: dict[str, Squares] = {}
    for content in pictures(folder / "content"):
        shape = fit_shape(image_shape(content), size)
        for file in pictures(folder / "peer_results"):
            rest = plain(file.stem).removeprefix(plain(content.stem) + "_")
            near = [x for x in styles if rest in plain(x)]
            if rest != plain(file.stem) and near:
                style = min(near, key=len)
                found.setdefault(content.stem, {})[style] = cut(load(file, shape))
    return found


def show(results: dict[str, Tables]) -> None:
    """Print a table for each measure."""
    measures = dict.fromkeys(m for tables in results.values() for m in tables)
    for measure in measures:
        rows = {name: t[measure] for name, t in results.items() if measure in t}
        columns = list(max(rows.values(), key=len))
        print(f"\n{measure:<24}" + "".join(f"{c:>15}" for c in columns))
        for name, row in rows.items():
            cells = (f"{row[c]:15.3f}" if c in row else " " * 15 for c in columns)
            print(f"{name:<24}" + "".join(cells))


@single_threaded_lapack
def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--weights", nargs="+", default=["embedded"], help="names or files"
    )
    parser.add_argument("--size", type=int, default=512, help="long edge, in pixels")
    parser.add_argument("--pooling", default="average", choices=["average", "max"])
    parser.add_argument("--steps", type=int, default=0, help="to measure `loss left`")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    if args.json:
        check_target(args.json)
    styles = load_squares(args.folder / "style", args.size)
    contents = load_squares(args.folder / "content", args.size)
    if len(styles) < 2 or not contents:
        parser.error(
            f"expected two or more pictures in {args.folder / 'style'} and one or more "
            f"in {args.folder / 'content'}, got {len(styles)} and {len(contents)}"
        )
    painted = load_painted(args.folder, styles, args.size)
    everything = np.concatenate([*styles.values(), *contents.values()])
    backbones = {name: jaxnst.load_backbone(name) for name in args.weights}
    looks = [network(name, x, args.pooling) for name, x in backbones.items()]
    if not args.no_baselines:
        filters = random_backbone(next(iter(backbones.values())), everything)
        looks += [network("random", filters, args.pooling), COLOURS]
    results: dict[str, Tables] = {}
    for look in looks:
        tables = style_retrieval(look, styles)
        found = content_retrieval(look, contents, styles, painted)
        tables["content retrieval"] = found
        if painted:
            tables["identification"] = identification(look, styles, painted)
        if look is not COLOURS:
            tables |= health(look, everything)
        if args.steps and look.name in backbones:
            tables["loss left"] = conditioning(
                backbones[look.name], contents, styles, args.steps
            )
        results[look.name] = tables
    show(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
