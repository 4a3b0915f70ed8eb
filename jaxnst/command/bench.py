"""`jaxnst bench`: how fast this machine paints, beside the same loops in PyTorch.

Both sides run in one process, in turns, on the same pictures and weights; times are
medians over the turns. Start-up and memory need a fresh process each.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import psutil

from jaxnst import disk
from jaxnst.command.flags import default_recipe, fastest_dtype, positive
from jaxnst.command.manifest import compile_timer, describe_device
from jaxnst.network.calibrate import calibrate
from jaxnst.network.vgg import LAYERS, channels, kernel_shapes, stride
from jaxnst.objective import make_targets, objective
from jaxnst.painting.multiscale import prepare_backbone, scale_styles, stylize
from jaxnst.pictures import files, samples
from jaxnst.pictures.color import match_palette
from jaxnst.recipes import Recipe, get_recipe
from jaxnst.transfer import make_transfer, picture, run
from jaxnst.types import Image
from jaxnst.weights import registry

PARTS = {
    "steps": "one step, Gram and Wasserstein-2, at each size",
    "picture": "the default picture: time to PyTorch's final loss",
    "start": "from a new process to its first step, and to two at every scale",
    "memory": "peak memory",
}
"""What can be measured."""


def add_bench_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `jaxnst bench`."""
    p.add_argument(
        "--parts", choices=PARTS, nargs="+", default=list(PARTS), help="default: all"
    )
    p.add_argument(
        "--sizes", type=positive, nargs="+", default=[256, 512, 1024], help="of a step"
    )
    p.add_argument("--size", type=positive, default=512, help="of the picture")
    p.add_argument("--repeats", type=positive, default=5, help="turns of each side")
    p.add_argument("--content", type=Path, help="default: a sample picture")
    p.add_argument("--style", type=Path, help="default: a sample picture")
    p.add_argument("--weights", default="embedded", help="as in jaxnst stylize")
    p.add_argument("-o", "--out", type=Path, help="a .json file for all numbers")
    p.add_argument("--trace", type=Path, help="a folder for a profile of some steps")


def bench_command(args: argparse.Namespace) -> int:
    """Measure, print a table, and write the numbers."""
    # PyTorch and the measured processes need room on the same GPU; JAX looks at this
    # when it first uses it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    pair = Pair(args)
    pictures = {pair.content_path.resolve(), pair.style_path.resolve()}
    if args.out is not None:
        disk.check_target(args.out)
        if args.out.suffix != ".json" or args.out.resolve() in pictures:
            raise ValueError(f"expected --out FILE.json, got {args.out}")
    if args.trace is not None:
        disk.check_folder(args.trace.parent)
    for path in pictures:
        files.image_shape(path)
    found: dict[str, Any] = {"machine": describe_machine(), "weights": pair.weights}
    for name, value in found["machine"].items():
        print(f"{name:<22} {value}", flush=True)
    if not _torch_settings():
        print(
            f"no PyTorch that can use the {jax.default_backend()}, to compare with: "
            "pip install 'jaxnst[bench]'"
        )
    if args.trace is not None:
        trace_steps(pair, args.sizes[0], args.trace)
        print(f"wrote a profile to {args.trace}; open it with xprof or Perfetto")
    parts: dict[str, Callable[[], Any]] = {
        "steps": lambda: [
            time_steps(pair, size, recipe, args.repeats)
            for size in args.sizes
            for recipe in (GRAM, ADAM)
        ],
        "picture": lambda: time_picture(pair, args.size),
        "start": lambda: time_start(args),
        "memory": lambda: measure_memory(args),
    }
    for part in args.parts:
        print(f"\n{part}: {PARTS[part]}", flush=True)
        found[part] = parts[part]()
        if args.out is not None:
            with disk.write_whole(args.out) as file:
                file.write(json.dumps(found, indent=2).encode())
    if args.out is not None:
        print(f"\nwrote {args.out}")
    return 0


GRAM = get_recipe("gatys2016").replace(
    name="gram",
    content_loss="mean",
    gram_reduction="mean",
    optimizer="adam",
    learning_rate=5.0,
    init="content",
)
"""The classic loop: Gram matrices of five layers, Adam."""

ADAM = get_recipe("painterly").replace(
    name="wasserstein2",
    optimizer="adam",
    learning_rate=0.02,
    ema_decay=0.95,
    detail=0.0,
    first_steps=150,
    steps=75,
)
"""What PyTorch paints beside our default: the same losses at the same scales, by Adam
with an average of the iterates, as in style-transfer-pytorch, in about twice as many
steps."""


class Pair:
    """The pictures and the network of a benchmark."""

    def __init__(self, args: argparse.Namespace):
        self.content_path = args.content or samples.sample_path("harbour")
        self.style_path = args.style or samples.sample_path("swirls")
        self.weights = registry.choose(args.weights)[0]
        self.backbone = registry.load_backbone(registry.locate(self.weights))

    def pictures(self, size: int, recipe: Recipe) -> tuple[Image, Image]:
        """Content, in the palette that the recipe asks for, and style."""
        content = files.load_image(self.content_path, size=size, enlarge=True)
        style = files.load_image(self.style_path, size=size)
        if recipe.palette == "style":
            content = match_palette(content, [style])
        return content, style


@cache
def _torch_loop() -> Any:
    """PyTorch's side, which takes seconds to import; None without PyTorch."""
    if find_spec("torch") is None:
        return None
    from jaxnst.command import torch_loop

    return torch_loop


def _torch_settings() -> list[Any]:
    """PyTorch's settings, the plain one first; none if it cannot use our device."""
    torch_loop = _torch_loop()
    return torch_loop.all_settings(jax.default_backend()) if torch_loop else []


def describe_machine() -> dict[str, Any]:
    """What the numbers are of."""
    machine: dict[str, Any] = {
        "device": describe_device(),
        "processor": _processor(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxnst": version("jaxnst"),
    }
    if torch_loop := _torch_loop():
        machine["torch"] = torch_loop.describe()
    machine["matmul GFLOP/s"] = round(matmul_rate("float32") / 1e9)
    if jax.default_backend() != "cpu":
        machine["bfloat16 GFLOP/s"] = round(matmul_rate("bfloat16") / 1e9)
    return machine


def _processor() -> str:
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def matmul_rate(dtype: str) -> float:
    """Floating-point operations each second of a large product of matrices."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((side, side), dtype)
    product = jax.jit(partial(jnp.matmul, precision="highest"))
    seconds = _turns({"": lambda: product(x, x).block_until_ready()}, 5)
    return 2 * side**3 / seconds[""]


def step_work(shape: tuple[int, ...], recipe: Recipe) -> float:
    """Operations of one step by the plain formulas, convolutions and statistics.

    Twice the multiplications of the features, and as many for their gradient. Ways to
    do with fewer, such as Winograd's, do not lower it.
    """
    pixels, total = math.prod(shape[:2]), 0.0
    for layer, kernel in zip(LAYERS, kernel_shapes().values(), strict=True):
        if layer <= max(recipe.layers):
            total += pixels / stride(layer) ** 2 * math.prod(kernel)
    for layer, _ in recipe.style_layers:
        total += pixels / stride(layer) ** 2 * channels(layer) ** 2
    return 4 * total


def _turns(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each side; they take turns, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, work in sides.items():
            began = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: median(found) for name, found in times.items()}


def _stepper(pair: Pair, size: int, recipe: Recipe, steps: int) -> Callable[[], None]:
    """Our loop, `steps` of it at each call."""
    content, style = pair.pictures(size, recipe)
    measuring, stepping = prepare_backbone(pair.backbone, recipe)
    targets = make_targets(measuring, content, [style], recipe)
    transfer = make_transfer(recipe)
    state = transfer.init(content)

    def work() -> None:
        nonlocal state
        state, _ = run(transfer, state, stepping, targets, steps=steps, interval=60.0)

    return work


def _torch_stepper(
    pair: Pair, size: int, recipe: Recipe, steps: int, settings: Any
) -> Callable[[], None]:
    """PyTorch's loop, `steps` of it at each call."""
    content, style = pair.pictures(size, recipe)
    backbone = calibrate(pair.backbone, recipe.activations)
    loop = _torch_loop().make_loop(backbone, content, [style], recipe, settings)

    def work() -> None:
        for _ in range(steps):
            loss = loop.step()
        loss.item()  # waits for the device

    return work


def time_steps(pair: Pair, size: int, recipe: Recipe, repeats: int) -> dict[str, Any]:
    """Seconds of one step of ours, and of PyTorch's in each of its settings."""
    # Several, as `run` launches them; fewer where each takes seconds.
    steps = min(8, max(2, 2**20 // size**2)) if jax.default_backend() == "cpu" else 50
    sides = {
        f"jaxnst {dtype}": _stepper(pair, size, recipe.replace(dtype=dtype), steps)
        for dtype in sorted({"float32", fastest_dtype()}, reverse=True)
    }
    for settings in _torch_settings():
        work = _torch_stepper(pair, size, recipe, steps, settings)
        try:
            work()
        except Exception as error:  # no compiler for torch.compile, say
            print(f"  PyTorch {settings} failed: {str(error).splitlines()[:1]}")
        else:
            sides[f"PyTorch {settings}"] = work
    seconds = {name: x / steps for name, x in _turns(sides, repeats).items()}
    shape = pair.pictures(size, recipe)[0].shape
    work = step_work(shape, recipe)
    title = f"{recipe.name}, {shape[1]} x {shape[0]} px"
    print(f"{title:<40} a step       by our count   faster")
    for name, x in seconds.items():
        ratio = seconds["jaxnst float32"] / x
        print(f"  {name:<36} {x:8.3f} s {work / x / 1e9:8.0f} GFLOP/s {ratio:8.2f}")
    return {"recipe": recipe.name, "size": shape[1::-1], "seconds": seconds}


def trace_steps(pair: Pair, size: int, folder: Path) -> None:
    """Write a profile of a few warm steps of the default recipe."""
    work = _stepper(pair, size, default_recipe("painterly"), 3)
    work()
    with jax.profiler.trace(folder):
        work()


def time_picture(pair: Pair, size: int) -> dict[str, Any]:
    """Paint the default picture on both sides; compare loss and time.

    Both pictures' losses are ours, at the finest scale. Time to a loss counts all that
    the command does from the pictures in memory on; what it has compiled before comes
    from its cache.
    """
    recipe = default_recipe("painterly")
    content, style = pair.pictures(size, recipe)
    plain = recipe.replace(palette="content")  # it has that palette already
    measuring = calibrate(pair.backbone, plain.activations)
    height, width, _ = content.shape
    (target_style,) = scale_styles([style], (height, width), plain)
    targets = make_targets(measuring, content, [target_style], plain)
    compiled = jax.jit(objective, static_argnames="recipe")
    loss_of = lambda x: float(compiled(x, measuring, targets, recipe=plain.program)[0])
    curve: list[tuple[float, float]] = []
    began, spent = time.perf_counter(), 0.0

    def watch(progress: Any) -> None:
        nonlocal spent
        if progress.state.image.shape == content.shape:
            now = time.perf_counter()
            loss = loss_of(picture(progress.state, plain))
            curve.append((now - began - spent, loss))
            spent += time.perf_counter() - now

    with compile_timer() as compiling:
        result = stylize(
            pair.backbone,
            content,
            [style],
            plain,
            key=jax.random.key(0),
            on_chunk=watch,
            throw=False,
        )
    found: dict[str, Any] = {
        "size": content.shape[1::-1],
        "seconds": time.perf_counter() - began - spent,
        "loss": loss_of(result.image),
        "compiling": math.fsum(compiling),
        "curve": curve,
    }
    print(f"  jaxnst {found['seconds']:8.1f} s, loss {found['loss']:.4f}", end="")
    print(f", {found['compiling']:.1f} s of it compiling", flush=True)
    if not _torch_settings():
        return found
    torch_loop, settings = _torch_loop(), _torch_settings()[0]
    began = time.perf_counter()
    adam = ADAM.replace(palette="content")
    painting = torch_loop.paint(measuring, content, [style], adam, settings)
    *_, loop = deque(painting, maxlen=1)[0]
    painted = jnp.array(torch_loop.to_image(loop.average()))
    seconds = time.perf_counter() - began
    loss = loss_of(painted)
    reached = next((t for t, x in curve if x <= loss), None)
    found["PyTorch"] = {"seconds": seconds, "loss": loss, "we reach it after": reached}
    print(f"  PyTorch {seconds:7.1f} s, loss {loss:.4f}", end="")
    print(f"; we reach that after {reached:.1f} s" if reached else "; not reached")
    return found


def in_new_process(function: Callable, *args: Any) -> dict[str, float]:
    """Call a function in a process of its own, with the time at which that began."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *args, time.time()).result()
        except BrokenExecutor:
            raise ValueError(
                "a process that was measured was killed, most likely because memory "
                "ran out; use a smaller --size"
            ) from None


def time_start(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a new process, with nothing compiled before, and once more."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            found[name] = in_new_process(_short_run, args, folder)
            first, done = found[name]["first step"], found[name]["all scales"]
            print(f"  {name}: first step after {first:.1f} s, ", end="")
            print(f"two steps at every scale after {done:.1f} s", flush=True)
    return found


def measure_memory(args: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of processes that take two steps at every scale."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"jaxnst": in_new_process(_short_run, args, folder)["peak"]}
    if _torch_settings():
        found["PyTorch"] = in_new_process(_short_torch_run, args)["peak"]
    for name, peak in found.items():
        print(f"  {name:<8} {peak / 1e9:.2f} GB")
    return found


def _short_run(args: argparse.Namespace, folder: str, began: float) -> dict[str, float]:
    registry.keep_programs(folder)
    recipe = default_recipe("painterly").replace(first_steps=2, steps=2)
    pair = Pair(args)
    content, style = pair.pictures(args.size, recipe)
    times: list[float] = []
    stylize(
        pair.backbone,
        content,
        [style],
        recipe,
        key=jax.random.key(0),
        on_chunk=lambda _: times.append(time.time() - began),
    )
    return {"first step": times[0], "all scales": times[-1], "peak": peak_memory()}


def _short_torch_run(args: argparse.Namespace, began: float) -> dict[str, float]:
    recipe = ADAM.replace(first_steps=2, steps=2)
    pair = Pair(args)
    content, style = pair.pictures(args.size, recipe)
    backbone = calibrate(pair.backbone, recipe.activations)
    torch_loop, settings = _torch_loop(), _torch_settings()[0]
    deque(torch_loop.paint(backbone, content, [style], recipe, settings), maxlen=0)
    return {"peak": torch_loop.peak_memory() or peak_memory()}


def peak_memory() -> float:
    """Most bytes that the device held; of a CPU, that this process did.

    Where Linux does not tell, those that it holds.
    """
    stats = jax.devices()[0].memory_stats() or {}  # none of a CPU
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [float(line.split()[1]) * 1024 for line in lines if "VmHWM" in line]
    return peaks[0] if peaks else psutil.Process().memory_info().rss
