"""What `scripts/benchmark.py` measures in one process, where both sides alternate."""

import math
import time
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from kernels import step_kernels
from shared import GRAM, alternate

from jaxnst.command.describe import compile_timer
from jaxnst.network.calibrate import calibrate
from jaxnst.network.vgg import LAYERS, channels, kernel_shapes, shrinkage, stride
from jaxnst.objective import make_targets, objective
from jaxnst.painting.grid import GridOptions, stylize_grid
from jaxnst.painting.loop import ChunkSchedule, run
from jaxnst.painting.multiscale import Options, stylize
from jaxnst.painting.scales import style_shape
from jaxnst.painting.scene import make_scene, painted_content
from jaxnst.painting.stage import prepare_backbone
from jaxnst.pictures.files import load_image
from jaxnst.pictures.geometry import resize
from jaxnst.recipes import Recipe, get_recipe
from jaxnst.request.defaults import default_recipe, fastest_dtype
from jaxnst.transfer import make_transfer
from jaxnst.types import Image
from jaxnst.weights import registry


def by_adam(recipe: Recipe) -> Recipe:
    """The same losses at the same scales as PyTorch paints them.

    By Adam with an average of the iterates, as in style-transfer-pytorch, in twice as
    many steps as by L-BFGS.
    """
    before = recipe.schedule
    steps = {"first_steps": 2 * before.first_steps, "steps": 2 * (before.steps or 1)}
    recipe = recipe.replace(optimizer="adam", learning_rate=0.02, ema_decay=0.95)
    return recipe.replace(detail=0.0, repaint=False, **steps)


ADAM = by_adam(get_recipe("delicate")).replace(name="wasserstein2")
"""Wasserstein-2 at the layers of Gatys et al., by Adam."""


load_backbone = cache(registry.load_backbone)


class Inputs(NamedTuple):
    """What is measured: a picture of one size; steps and grids of several."""

    content: Path
    style: Path
    weights: str
    size: int
    sizes: list[int]
    grid_sizes: list[int]
    lanes: list[int]
    repeats: int

    def pictures(self, size: int, recipe: Recipe) -> tuple[Image, Image]:
        """Content, in the palette that the recipe asks for, and style."""
        content = load_image(self.content, size=size, enlarge=True)
        style = load_image(self.style, size=size)
        return painted_content(make_scene(content, [style], recipe), recipe), style


@cache
def torch_loop() -> Any:
    """PyTorch's side, which takes seconds to import; None without PyTorch."""
    return import_module("torch_loop") if find_spec("torch") else None


def torch_settings() -> list[Any]:
    """PyTorch's settings, the plain one first; none if it cannot use our device."""
    loops = torch_loop()
    return loops.all_settings(jax.default_backend()) if loops else []


@cache
def matmul_rate(dtype: str) -> float:
    """Floating-point operations each second of a large product of matrices."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((side, side), dtype)
    compiled = jax.jit(partial(jnp.matmul, precision="highest"))
    multiply = lambda: compiled(x, x).block_until_ready()
    multiply()
    (seconds,) = alternate(5, multiply)
    return 2 * side**3 / seconds


def step_work(shape: tuple[int, ...], recipe: Recipe) -> float:
    """Operations of one step by the plain formulas, not by faster ones as Winograd's.

    Twice the multiplications of the features, and as many for their gradient.
    """
    pixels, total = math.prod(shape[:2]), 0.0
    for factor in set(map(shrinkage, recipe.program.layers)):
        last = max(x for x in recipe.program.layers if shrinkage(x) == factor)
        for layer, kernel in zip(LAYERS, kernel_shapes().values(), strict=True):
            if layer <= last:
                total += pixels / (factor * stride(layer)) ** 2 * math.prod(kernel)
    for layer, _ in recipe.program.style_layers:
        total += pixels / stride(layer) ** 2 * channels(layer) ** 2
    return 4 * total


def _stepper(
    inputs: Inputs, size: int, recipe: Recipe, steps: int
) -> Callable[[], None]:
    """Our loop, `steps` of it at each call."""
    content, style = inputs.pictures(size, recipe)
    backbone = load_backbone(inputs.weights)
    measuring, stepping = prepare_backbone(backbone, recipe.program)
    targets = make_targets(measuring, content, [style], recipe)
    transfer = make_transfer(recipe.program)
    state, whole = transfer.init(content), ChunkSchedule(interval=60.0)

    def work() -> None:
        nonlocal state
        state, _ = run(transfer, state, stepping, targets, steps=steps, schedule=whole)

    return work


def _torch_stepper(
    inputs: Inputs, size: int, recipe: Recipe, steps: int, settings: Any
) -> Callable[[], None]:
    """PyTorch's loop, `steps` of it at each call."""
    content, style = inputs.pictures(size, recipe)
    backbone = calibrate(load_backbone(inputs.weights), recipe.program.activations)
    loop = torch_loop().make_loop(backbone, content, style, recipe, settings)

    def work() -> None:
        for _ in range(steps):
            loss = loop.step()
        loss.item()  # waits for the device

    return work


def time_steps(inputs: Inputs) -> list[dict[str, Any]]:
    """Seconds of one step of ours, and of PyTorch's in each of its settings."""
    return [_time(inputs, size, by) for size in inputs.sizes for by in (GRAM, ADAM)]


def _time(inputs: Inputs, size: int, recipe: Recipe) -> dict[str, Any]:
    # Several, as `run` launches them; fewer where each takes seconds.
    steps = min(8, max(2, 2**20 // size**2)) if jax.default_backend() == "cpu" else 50
    sides = {
        f"jaxnst {dtype}": _stepper(inputs, size, recipe.replace(dtype=dtype), steps)
        for dtype in sorted({"float32", fastest_dtype()}, reverse=True)
    }
    for settings in torch_settings():
        sides[f"PyTorch {settings}"] = _torch_stepper(
            inputs, size, recipe, steps, settings
        )
    for name, work in list(sides.items()):
        try:
            work()
        except Exception as error:  # no compiler for torch.compile, say
            print(f"  {name} failed: {str(error).splitlines()[:1]}")
            del sides[name]
    times = alternate(inputs.repeats, *sides.values())
    seconds = {name: x / steps for name, x in zip(sides, times, strict=True)}
    shape = inputs.pictures(size, recipe)[0].shape
    work = step_work(shape, recipe)
    title = f"{recipe.name}, {shape[1]} x {shape[0]} px"
    print(f"{title:<40} a step       by our count  of products  faster")
    for name, x in seconds.items():
        rate = work / x
        part = rate / matmul_rate("bfloat16" if "bfloat16" in name else "float32")
        print(f"  {name:<36} {x:8.4f} s {rate / 1e9:8.0f} GFLOP/s {part:8.0%}", end="")
        print(f" {seconds['jaxnst float32'] / x:10.2f}")
    _, stepping = prepare_backbone(
        load_backbone(inputs.weights), recipe.replace(dtype=fastest_dtype()).program
    )
    kernels = step_kernels(stepping, (shape[0], shape[1]), recipe)
    print(f"  {kernels} kernels a step")
    found = {"recipe": recipe.name, "size": shape[1::-1], "seconds": seconds}
    return found | {"kernels": kernels}


def time_grid(inputs: Inputs) -> list[dict[str, Any]]:
    """Pictures each second of a grid of several loss weights, and of single runs."""
    few = default_recipe("painterly").replace(first_steps=4, steps=4)
    backbone, key, found = load_backbone(inputs.weights), jax.random.key(0), []

    def alone(content: Image, style: Image, weights: list[float]) -> None:
        for weight in weights:
            recipe = few.replace(style_weight=weight)
            painted = stylize(backbone, content, [style], recipe, key=key)
            jax.block_until_ready(painted.image)

    def together(content: Image, style: Image, weights: list[float]) -> None:
        options = GridOptions(vary={"style_weight": weights})
        stylize_grid(backbone, [content], [style], few, key=key, options=options)

    for size, lanes in product(inputs.grid_sizes, inputs.lanes):
        given = *inputs.pictures(size, few), [1 + i / lanes for i in range(lanes)]
        sides = [partial(side, *given) for side in (together, alone)]
        for side in sides:
            side()
        grid, single = alternate(1 if lanes > 4 else inputs.repeats, *sides)
        print(f"  {size} px, {lanes:>3} lanes: {lanes / grid:.3f} pictures/s, ", end="")
        print(f"alone {lanes / single:.3f}, ratio {single / grid:.2f}", flush=True)
        found.append({"size": size, "lanes": lanes, "grid": grid, "alone": single})
    return found


def trace_steps(inputs: Inputs, folder: Path) -> None:
    """Write a profile of a few warm steps of the default recipe."""
    work = _stepper(inputs, inputs.sizes[0], default_recipe("painterly"), 3)
    work()
    with jax.profiler.trace(folder):
        work()


def time_picture(inputs: Inputs) -> dict[str, Any]:
    """Paint a picture by `delicate` on both sides; compare loss and time.

    Both losses are ours, at the finest scale, after the steps. Times begin with the
    pictures in memory; what was compiled before comes from the cache.
    """
    recipe = default_recipe("delicate")
    content, style = inputs.pictures(inputs.size, recipe)
    plain = recipe.replace(palette="content")  # it has that palette already
    backbone = load_backbone(inputs.weights)
    measuring = calibrate(backbone, plain.program.activations)
    shape = content.shape[0], content.shape[1]
    seen = resize(style, style_shape(style.shape[:2], shape, plain))
    targets = make_targets(measuring, content, [seen], plain)
    compiled = jax.jit(objective, static_argnames="program")
    loss_of = lambda x: float(compiled(x, measuring, targets, program=plain.program)[0])
    curve: list[tuple[float, float]] = []
    began, spent = time.perf_counter(), 0.0

    def watch(progress: Any) -> None:
        nonlocal spent
        if progress.stage.shape == content.shape[:2]:
            now = time.perf_counter()
            loss = loss_of(progress.image)
            curve.append((now - began - spent, loss))
            spent += time.perf_counter() - now

    with compile_timer() as compiling:
        options = Options(on_chunk=watch, throw=False)
        key = jax.random.key(0)
        stylize(backbone, content, [style], plain, key=key, options=options)
    found: dict[str, Any] = {
        "size": content.shape[1::-1],
        "seconds": time.perf_counter() - began - spent,
        "loss": curve[-1][1],
        "compiling": math.fsum(x for _, x in compiling),
        "curve": curve,
    }
    print(f"  jaxnst {found['seconds']:8.1f} s, loss {found['loss']:.4f}", end="")
    print(f", {found['compiling']:.1f} s of it compiling", flush=True)
    if not torch_settings():
        return found
    loops, settings = torch_loop(), torch_settings()[0]
    began = time.perf_counter()
    adam = by_adam(plain)
    painted = jnp.array(loops.paint(measuring, content, style, adam, settings))
    seconds = time.perf_counter() - began
    loss = loss_of(painted)
    reached = next((t for t, x in curve if x <= loss), None)
    found["PyTorch"] = {"seconds": seconds, "loss": loss, "we reach it after": reached}
    print(f"  PyTorch {seconds:7.1f} s, loss {loss:.4f}", end="")
    print(f"; we reach that after {reached:.1f} s" if reached else "; not reached")
    return found
