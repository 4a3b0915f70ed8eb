"""Every weight format: our features beside those of the framework it comes from.

    pip install '.[test,torch]' && python scripts/parity.py

Random parameters are written with the format's own library, where that can be installed
(otherwise by the writers of the tests), converted by `jaxnst weights convert`, and the
features of a small picture compared at all sixteen layers with the framework's own
forward pass on the same file, or, where there is none, with one in float64 NumPy.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ["KERAS_BACKEND"] = "jax"
sys.path.append(str(Path(__file__).parents[1] / "tests"))

import jax.numpy as jnp
import numpy as np
import oracle
import test_readers as writers

import jaxnst
from jaxnst.weights.convert import TORCHVISION_DEVIATION, TORCHVISION_MEAN, convert

Params = dict[str, dict[str, np.ndarray]]
Features = dict[str, np.ndarray]

BGR_MEAN = np.array([103.939, 116.779, 123.68], np.float32)


class Row(NamedTuple):
    """A format.

    Attributes:
        name: Format and writer.
        framework: What computes the features to compare with.
        path: File that holds the parameters.
        forward: From an image, RGB in [0, 1], to the framework's features.
        family: To be told to the converter, where the file does not.
    """

    name: str
    framework: str
    path: Path
    forward: Callable[[np.ndarray], Features]
    family: str | None = None


def random_params() -> Params:
    """Parameters that keep the activations at about the same size."""
    rng = np.random.default_rng(0)
    return {
        name: {
            "kernel": np.float32(rng.normal(size=shape) * np.sqrt(2 / (9 * shape[2]))),
            "bias": np.float32(rng.normal(size=shape[3]) * 0.1),
        }
        for name, shape in oracle.SHAPES.items()
    }


def caffe_input(image: np.ndarray) -> np.ndarray:
    """BGR bytes minus their mean."""
    return 255 * image[..., ::-1] - BGR_MEAN


def matconvnet_input(image: np.ndarray) -> np.ndarray:
    """RGB bytes minus their mean."""
    return 255 * image - BGR_MEAN[::-1]


def torchvision_input(image: np.ndarray) -> np.ndarray:
    """RGB minus ImageNet's mean, over its deviation."""
    return (image - TORCHVISION_MEAN) / TORCHVISION_DEVIATION


def in_numpy(params: Params, to_input: Callable) -> Callable[[np.ndarray], Features]:
    """A forward pass in float64."""
    whole = jaxnst.Backbone(params, np.ones(3), np.zeros(3), {})  # pyright: ignore
    return lambda image: oracle.features(whole, to_input(np.float64(image)))


def of_the_tests(params: Params, folder: Path) -> Iterator[Row]:
    """Formats whose frameworks cannot be installed, or are only libraries of arrays."""
    caffe, torchvision = (in_numpy(params, f) for f in (caffe_input, torchvision_input))
    matconvnet = in_numpy(params, matconvnet_input)
    for name, write, forward in (
        ("Keras legacy (h5py)", writers.write_keras_oldest, caffe),
        ("flaxmodels (h5py)", writers.write_flaxmodels, torchvision),
        ("timm safetensors (safetensors)", writers.write_safetensors, torchvision),
        ("MatConvNet (scipy)", writers.write_mat, matconvnet),
        ("MatConvNet beta16 (scipy)", writers.write_mat_old, matconvnet),
        ("Caffe V1 layers (own writer)", writers.write_caffe_old, caffe),
        ("Caffe layers (own writer)", writers.write_caffe_new, caffe),
        ("PyTorch tar (own writer)", writers.write_tar, caffe),
    ):
        path = folder / write.__name__
        write(path, params)
        yield Row(name, "NumPy float64", path, forward)


def of_keras(params: Params, folder: Path) -> Iterator[Row]:
    """Keras 3 on JAX."""
    import keras

    model = keras.applications.VGG19(weights=None, include_top=False)
    for name, conv in params.items():
        layer = model.get_layer(name.replace("conv", "block").replace("_", "_conv"))
        layer.set_weights([conv["kernel"], conv["bias"]])
    layers = [layer for layer in model.layers if "conv" in layer.name]
    whole = keras.Model(model.inputs, [layer.output for layer in layers])

    def forward(image: np.ndarray) -> Features:
        x = keras.applications.vgg19.preprocess_input(255 * image[None])
        names = (name.replace("conv", "relu") for name in params)
        found = whole.predict(x, verbose=0)
        return {name: y[0] for name, y in zip(names, found, strict=True)}

    for name, file, family in (
        ("Keras 3 .weights.h5", "a.weights.h5", "caffe"),
        ("Keras 3 .h5", "b.h5", None),
        ("Keras 3 .keras", "c.keras", None),
    ):
        save = model.save_weights if family else model.save
        save(folder / file)
        yield Row(name, f"Keras {keras.__version__}", folder / file, forward, family)


def of_torch(params: Params, folder: Path) -> Iterator[Row]:
    """PyTorch, in the containers that it still writes."""
    import torch
    import torch.nn.functional as F

    state = {}
    for i, conv in zip(writers.FEATURES[0], params.values(), strict=True):
        kernel = np.ascontiguousarray(conv["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{i}.weight"] = torch.from_numpy(kernel)
        state[f"features.{i}.bias"] = torch.from_numpy(conv["bias"])

    def forward_of(path: Path, to_input: Callable) -> Callable[[np.ndarray], Features]:
        def forward(image: np.ndarray) -> Features:
            found, weights = {}, torch.load(path, weights_only=True)
            x = torch.tensor(np.float32(to_input(image))).permute(2, 0, 1)[None]
            for i, name in zip(writers.FEATURES[0], params, strict=True):
                if name.endswith("_1") and name != "conv1_1":
                    x = F.max_pool2d(x, 2)
                kernel, bias = (
                    weights[f"features.{i}.{k}"] for k in ("weight", "bias")
                )
                x = F.relu(F.conv2d(x, kernel, bias, padding=1))
                found[name.replace("conv", "relu")] = x[0].permute(1, 2, 0).numpy()
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
    """Print the table; with --json, only the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print numbers as JSON")
    as_json = parser.parse_args().json
    params = random_params()
    image = np.asarray(jaxnst.sample("mosaic", 48))
    sources = [of_the_tests]
    sources += [of_keras] * (importlib.util.find_spec("keras") is not None)
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
