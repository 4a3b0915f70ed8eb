"""Converted weights: our features compared with those of Keras and of PyTorch.

    pip install '.[test,torch]' && python scripts/measure/parity.py

The framework writes random parameters in each of its formats, `jaxnst weights convert`
converts the file, and both networks see the same small picture. The table shows the
worst difference at any of the sixteen layers. A framework that is not installed is left
out. The tests compare the formats of other frameworks with float64 NumPy, in
`tests/readers/test_formats.py`.
"""

import argparse
import importlib.util
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ["KERAS_BACKEND"] = "jax"

import jax.numpy as jnp
import numpy as np

import jaxnst
from jaxnst.network.vgg import Family, kernel_shapes, layer_name
from jaxnst.weights.convert import TORCHVISION_DEVIATION, TORCHVISION_MEAN, convert

Params = dict[str, dict[str, np.ndarray]]
Features = dict[str, np.ndarray]

BGR_MEAN = np.array([103.939, 116.779, 123.68], np.float32)
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
"""Where torchvision's `features` has the convolutions of VGG-19."""


class Row(NamedTuple):
    """A file in one of the formats.

    Attributes:
        name: The format.
        framework: The framework and its version.
        path: File that holds the parameters.
        forward: From an image, RGB in [0, 1], h w 3, to the framework's features.
        family: Told to the converter where the file does not tell it.
    """

    name: str
    framework: str
    path: Path
    forward: Callable[[np.ndarray], Features]
    family: Family | None = None


def random_params() -> Params:
    """Parameters that keep the activations at about the same size."""
    rng = np.random.default_rng(0)
    return {
        name: {
            key: np.asarray(rng.normal(scale=scale, size=size), np.float32)
            for key, scale, size in (
                ("kernel", (2 / (9 * shape[2])) ** 0.5, shape),
                ("bias", 0.1, shape[3]),
            )
        }
        for name, shape in kernel_shapes().items()
    }


def caffe_input(image: np.ndarray) -> np.ndarray:
    """BGR bytes minus their mean."""
    return 255 * image[..., ::-1] - BGR_MEAN


def torchvision_input(image: np.ndarray) -> np.ndarray:
    """RGB minus ImageNet's mean, over its deviation."""
    return (image - TORCHVISION_MEAN) / TORCHVISION_DEVIATION


def of_keras(params: Params, folder: Path) -> Iterator[Row]:
    """Keras 3 on JAX."""
    import keras

    model = keras.applications.VGG19(weights=None, include_top=False)  # pyright: ignore
    for name, conv in params.items():
        layer = model.get_layer(name.replace("conv", "block").replace("_", "_conv"))
        layer.set_weights([conv["kernel"], conv["bias"]])
    layers = [layer for layer in model.layers if "conv" in layer.name]
    whole = keras.Model(model.inputs, [layer.output for layer in layers])

    def forward(image: np.ndarray) -> Features:
        x = keras.applications.vgg19.preprocess_input(255 * image[None])
        names = map(layer_name, params)
        found = whole.predict(x, verbose=0)  # pyright: ignore
        return {name: y[0] for name, y in zip(names, found, strict=True)}

    files: tuple[tuple[str, str, Family | None], ...] = (
        ("Keras 3 .weights.h5", "a.weights.h5", "caffe"),
        ("Keras 3 .h5", "b.h5", None),
        ("Keras 3 .keras", "c.keras", None),
    )
    for name, file, family in files:
        save = model.save_weights if family else model.save
        save(folder / file)
        yield Row(name, f"Keras {keras.__version__}", folder / file, forward, family)


def of_torch(params: Params, folder: Path) -> Iterator[Row]:
    """PyTorch, in the two containers that it still writes."""
    import torch
    import torch.nn.functional as F

    state = {}
    for i, conv in zip(PLACES, params.values(), strict=True):
        kernel = np.ascontiguousarray(conv["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{i}.weight"] = torch.from_numpy(kernel)
        state[f"features.{i}.bias"] = torch.from_numpy(conv["bias"])

    def forward_of(path: Path, to_input: Callable) -> Callable[[np.ndarray], Features]:
        def forward(image: np.ndarray) -> Features:
            found, weights = {}, torch.load(path, weights_only=True)
            x = torch.tensor(np.float32(to_input(image))).permute(2, 0, 1)[None]
            for i, name in zip(PLACES, params, strict=True):
                if name.endswith("_1") and name != "conv1_1":
                    x = F.max_pool2d(x, 2)
                kernel, bias = (
                    weights[f"features.{i}.{k}"] for k in ("weight", "bias")
                )
                x = F.relu(F.conv2d(x, kernel, bias, padding=1))
                found[layer_name(name)] = x[0].permute(1, 2, 0).numpy()
            return found

        return forward

    version = f"PyTorch {torch.__version__}"
    for name, file, options, classifier, to_input in (
        ("torchvision .pth zip", "zip", {}, (0, 3, 6), torchvision_input),
        ("torchvision .pth stream", "stream", {"_use_new_zipfile_serialization": False},
         (0, 3, 6), torchvision_input),
        ("jcjohnson .pth zip", "caffe", {}, (1, 4, 6), caffe_input),
    ):  # fmt: skip
        path = folder / f"{file}.pth"
        rest = {f"classifier.{i}.bias": torch.zeros(4) for i in classifier}
        torch.save(state | rest, path, **options)
        yield Row(name, version, path, forward_of(path, to_input))


def worst_error(row: Row, image: np.ndarray) -> float:
    """Largest difference at any layer, over the layer's largest activation."""
    converted = row.path.with_name(row.path.name + ".converted.h5")
    convert(row.path, converted, family=row.family)
    backbone = jaxnst.load_backbone(converted)
    theirs = row.forward(image)
    ours = jaxnst.features(backbone, jnp.asarray(image), layers=tuple(theirs))
    row.path.unlink()
    converted.unlink()
    return max(
        float(np.abs(ours[layer] - theirs[layer]).max() / np.abs(theirs[layer]).max())
        for layer in theirs
    )


def main() -> None:
    """Print the table, or with --json the numbers alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print numbers as JSON")
    as_json = parser.parse_args().json
    params = random_params()
    image = np.asarray(jaxnst.sample("mosaic", 48))
    sources = [of_keras] * (importlib.util.find_spec("keras") is not None)
    sources += [of_torch] * (importlib.util.find_spec("torch") is not None)
    errors = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources:
            for row in source(params, Path(folder)):
                errors[row.name] = worst_error(row, image)
                if not as_json:
                    line = f"{row.name:<32} {row.framework:<16} {errors[row.name]:.1e}"
                    print(line, flush=True)
    if as_json:
        print(json.dumps(errors))


if __name__ == "__main__":
    main()
