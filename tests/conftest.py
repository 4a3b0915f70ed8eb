"""Tests run stricter than users do: shapes are checked, ranks not promoted.

Most of their time is compiling. So programs are little optimised, also in processes
that tests start, and all processes share what one has compiled.
"""

import atexit
import dataclasses
import os
import shutil
import tempfile
from importlib.metadata import version

FLAGS = [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=1",
    "--xla_llvm_disable_expensive_passes=true",
]
if version("jax").startswith(("0.10.", "0.11.")):  # see `process.usual_options`
    FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join(FLAGS)
os.environ["JAX_PLATFORMS"] = "cpu"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="programs-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

from jaxtyping import install_import_hook

install_import_hook("jaxnst", "beartype.beartype")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings
from oracle import NAMES, SHAPES

from jaxnst.network.vgg import Backbone
from jaxnst.weights import registry

jax.config.update("jax_numpy_rank_promotion", "raise")
settings.register_profile("jaxnst", deadline=None)  # a busy machine is no mistake
settings.load_profile("jaxnst")


@pytest.fixture(scope="session", autouse=True)
def at_home(tmp_path_factory):
    """A cache and temporary files of our own, which pytest deletes, and no network."""
    temporary = str(tmp_path_factory.mktemp("temporary"))
    imagenet = registry.ASSETS["imagenet"]
    nowhere = dataclasses.replace(imagenet.remote, urls=("http://127.0.0.1:9/none.h5",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXNST_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("TMPDIR", temporary)
        patch.setattr(tempfile, "tempdir", temporary)
        patch.setitem(registry.ASSETS, "imagenet", imagenet._replace(remote=nowhere))
        yield


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Compiled programs of one file of tests at a time.

    On a CPU each of them takes memory maps, of which a process may have 65,530; a
    compiler that gets no more of them crashes.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def backbone():
    """A VGG-19 with random parameters, biases and input map, to the last layer."""
    rng = np.random.default_rng(0)
    params, means = {}, {}
    for name, shape in SHAPES.items():
        kernel = rng.normal(size=shape) * np.sqrt(2 / (9 * shape[2]))
        params[name] = {
            "kernel": jnp.asarray(kernel, jnp.float32),
            "bias": jnp.asarray(rng.normal(size=shape[3]) * 0.1, jnp.float32),
        }
        means[name.replace("conv", "relu")] = jnp.asarray(
            rng.uniform(0.5, 2, shape[3]), jnp.float32
        )
    scale = jnp.asarray([4.0, 4.5, 5.0])
    offset = jnp.asarray([-2.0, -2.1, -1.9])
    return Backbone(params, scale, offset, means)


@pytest.fixture(scope="session")
def full(backbone):
    """Its parameters, as NumPy arrays."""
    return {
        name: {key: np.asarray(array) for key, array in conv.items()}
        for name, conv in backbone.params.items()
    }


@pytest.fixture(scope="session")
def small(full):
    """The least that is read: three convolutions, 450 kB."""
    return {name: full[name] for name in NAMES[:3]}
