"""Files that the formats' own libraries wrote."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import check_same
from writers import write_stream, write_tar, write_zip

from jaxnst.weights.format import check_params
from jaxnst.weights.readers import pytorch, read
from jaxnst.weights.readers.files import map_file

DATA = Path(__file__).parents[1] / "data"


KERAS = """
import keras
zeros = lambda self, shape, dtype=None: np.zeros(shape, dtype)
keras.initializers.GlorotUniform.__call__ = zeros  # saves ten seconds
model = keras.applications.VGG19(weights=None, include_top=False)
for name in names:
    layer = model.get_layer(name.replace("conv", "block").replace("_", "_conv"))
    layer.set_weights([params[name + ".kernel"], params[name + ".bias"]])
model.save_weights("weights.weights.h5")
model.save("model.h5")
model.save("model.keras")
"""
TORCH = """
import torch
state = torch.nn.Module().state_dict()
for i, name in zip([0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34], names):
    kernel = torch.from_numpy(params[name + ".kernel"])
    state[f"features.{i}.weight"] = kernel.permute(3, 2, 0, 1)  # strides as they come
    state[f"features.{i}.bias"] = torch.from_numpy(params[name + ".bias"])
torch.save(state, "zip.pth")
torch.save({"state_dict": state, "epoch": 9}, "four.pth", pickle_protocol=4)
torch.save(state, "stream.pth", _use_new_zipfile_serialization=False)
for path in Path("ours").iterdir():  # what our own writers write must be right
    for key, value in torch.load(path, weights_only=False, map_location="cpu").items():
        name = {"features.0": "conv1_1", "features.2": "conv1_2"}.get(key[:10], key[:7])
        if name in names and key.endswith("bias"):
            assert value.equal(torch.from_numpy(params[name + ".bias"])), (path, key)
        elif name in names:
            kernel = torch.from_numpy(params[name + ".kernel"])
            assert value.equal(kernel.permute(3, 2, 0, 1)), (path, key)
"""


@pytest.fixture(scope="session")
def workshop(full, small, tmp_path_factory):
    """A folder with the whole network, and a function to run scripts in it."""
    folder = tmp_path_factory.mktemp("workshop")
    np.savez(folder / "params.npz", **{
        f"{name}.{key}": array
        for name, conv in full.items()
        for key, array in conv.items()
    })  # fmt: skip
    (folder / "ours").mkdir()
    for write in (write_zip, write_stream, write_tar):
        write(folder / "ours" / f"{write.__name__}.pth", small)

    def run(package, why, script):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package}, {why}")
        head = """
import warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("ignore")
params = np.load("params.npz")
names = [key[:7] for key in params if key.endswith(".bias")]
"""
        environment = os.environ | {"KERAS_BACKEND": "jax"}
        command = [sys.executable, "-c", head + script]
        subprocess.run(command, cwd=folder, env=environment, check=True)
        return folder

    yield run
    shutil.rmtree(folder)  # a gigabyte


@pytest.mark.parametrize(
    ("package", "why", "script", "files"),
    [
        pytest.param(
            "keras",
            "which jaxnst itself never needs",
            KERAS,
            {"weights.weights.h5": None, "model.h5": "caffe", "model.keras": "caffe"},
            id="keras",
        ),
        pytest.param(
            "torch",
            "a package of gigabytes that jaxnst itself never needs",
            TORCH,
            {"zip.pth": None, "four.pth": None, "stream.pth": None},
            id="torch",
        ),
    ],
)
def test_what_the_original_libraries_write(package, why, script, files, workshop, full):
    folder = workshop(package, why, script)
    for file, family in files.items():
        reading = read(folder / file)
        check_same(reading.params, full)
        check_params(reading.params, file)
        assert reading.layout == {"torch": "pytorch"}.get(package, package)
        assert reading.family == family


# The files in tests/data were written by PyTorch 2.13 with:
#
#     count = lambda *shape: torch.arange(1.0, 1 + math.prod(shape)).reshape(shape)
#     floats = count(40)
#     state = torch.nn.Module().state_dict() | {  # an OrderedDict
#         "features.0.weight": floats[:36].view(4, 1, 3, 3),
#         "features.0.bias": floats[36:],  # begins inside its storage
#         "features.2.weight": count(3, 3, 2, 2).permute(3, 2, 1, 0).half(),
#         "features.2.bias": torch.nn.Parameter(count(2).bfloat16()),
#         "features.5.weight": count(2, 2, 1, 1).double(),
#         "features.5.bias": torch.tensor(7),
#     }
#     state._metadata = {"": {"version": 1}}
#     both = {"state_dict": state, "epoch": 1}
#     torch.save(both, "zip.pth")
#     torch.save(both, "stream.pth", _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("file", ["zip.pth", "stream.pth"])
def test_types_views_and_strides_of_torch(file):
    def count(*shape):
        return np.arange(1.0, 1 + np.prod(shape)).reshape(shape)

    tree = pytorch.read_pytorch(map_file(DATA / file))
    wanted = {
        "features.0.weight": count(40)[:36].reshape(4, 1, 3, 3),
        "features.0.bias": count(40)[36:],
        "features.2.weight": count(3, 3, 2, 2).transpose(3, 2, 1, 0),
        "features.2.bias": count(2),
        "features.5.weight": count(2, 2, 1, 1),
        "features.5.bias": np.array(7),
    }
    assert list(tree) == list(wanted)
    for key, array in wanted.items():
        np.testing.assert_array_equal(np.float64(tree[key]), array)
    types = ["float32", "float32", "float16", "bfloat16", "float64", "int64"]
    assert [str(array.dtype) for array in tree.values()] == types
