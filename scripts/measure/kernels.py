"""Count the kernels of a step on an H100, which need not be there.

    pip install '.[cuda]'
    python scripts/measure/kernels.py

XLA compiles for a description of the device. Nothing is run, and nothing is tuned, so
numbers on a real device may differ by a few.
"""

import argparse
import os

os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # there is no driver

import jax
from jax.experimental.topologies import get_topology_desc
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxnst
from jaxnst.command.kernels import step_kernels
from jaxnst.command.timings import GRAM
from jaxnst.painting.stage import prepare_backbone

H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84929347584
  l2_cache_size: 52428800
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  threads_per_warp: 32
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
runtime_version { major: 13 }
dnn_version_info { major: 9 minor: 20 }
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
"""

ASKED = {"gram": 110, "crowson": 260, "painterly": 300}
"""Most kernels of a step, by recipe."""


def main() -> None:
    """Print a line for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="long edge, in pixels")
    size = parser.parse_args().size
    device = get_topology_desc("", "cuda", target_config=H100, topology="1x1x1")
    sharding = NamedSharding(Mesh(device.devices, ["x"]), PartitionSpec())
    for name, most in ASKED.items():
        recipe = GRAM if name == "gram" else jaxnst.get_recipe(name)
        recipe = recipe.replace(dtype="bfloat16")
        backbone = jaxnst.load_backbone("embedded")
        _, stepping = prepare_backbone(backbone, recipe.program)
        shape = size * 3 // 4, size
        found = step_kernels(stepping, shape, recipe, sharding)
        print(f"{name:<10} {size} px  {found:>4} kernels a step, at most {most} wanted")


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
