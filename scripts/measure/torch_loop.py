"""The classic loops in plain PyTorch, for `scripts/benchmark.py` to measure against.

What a user would write: autograd through `conv2d`, Adam of torch.optim, and for
Wasserstein-2 the square root of a matrix by Newton-Schulz rounds with the gradient of
its Lyapunov equation, as the widespread implementation does.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from reference_loops import (
    correlation,
    gram,
    make_network,
    mean_and_covariance,
    nine_point_tv,
)
from torch import Tensor

from jaxnst.network.vgg import Backbone, network_layer, shrinkage
from jaxnst.painting.plan import plan_run
from jaxnst.painting.scales import style_shape
from jaxnst.painting.scene import scale_content
from jaxnst.pictures.geometry import resize
from jaxnst.recipes import Recipe
from jaxnst.types import Image


class Settings(NamedTuple):
    """How PyTorch computes; `dtype` is that of the convolutions only."""

    device: str = "cpu"
    channels_last: bool = False
    dtype: str = "float32"
    compiled: bool = False

    @property
    def layout(self) -> torch.memory_format:
        """The layout of images and kernels in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        return f"{self.dtype}, {layout}" + ", compiled" * self.compiled


def all_settings(backend: str) -> list[Settings]:
    """Settings worth trying on JAX's device, the plain one first; none if it cannot."""
    if backend == "cpu":
        last = Settings(channels_last=True)
        return [Settings(), last, last._replace(dtype="bfloat16")]
    if not torch.cuda.is_available():
        return []
    torch.backends.cudnn.benchmark = True
    return [
        Settings("cuda", channels_last, dtype, compiled)
        for dtype, channels_last in (("float32", False), ("bfloat16", True))
        for compiled in (False, True)
    ]


def describe() -> str:
    """Version of PyTorch, and its threads on a CPU."""
    threads = f", {torch.get_num_threads()} threads"
    return torch.__version__ + ("" if torch.cuda.is_available() else threads)


def peak_memory() -> int:
    """Peak memory on a GPU in bytes, or 0 if none was used."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


class Loop:
    """An image, 1 3 h w, that Adam moves, and the average of the iterates."""

    def __init__(self, loss: Callable[[Tensor], Tensor], start: Tensor, recipe: Recipe):
        self.loss, self.recipe, self.steps = loss, recipe, 0
        self.image, self.total = start.clone().requires_grad_(), torch.zeros_like(start)
        rate = recipe.weights.learning_rate / recipe.program.units[0]
        betas = recipe.program.beta1, recipe.program.beta2
        self.adam = torch.optim.Adam([self.image], rate, betas)

    def step(self) -> Tensor:
        """Take one step; return the loss before it, without waiting for it."""
        self.adam.zero_grad()
        loss = self.loss(self.image)
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            if self.recipe.program.clip:
                self.image.clamp_(0, 1)
            self.total.lerp_(self.image, 1 - self.recipe.program.ema_decay)
        self.steps += 1
        return loss.detach()

    def average(self) -> Tensor:
        """The average so far, clipped."""
        left = self.recipe.program.ema_decay**self.steps
        return (self.total / (1 - left)).clamp(0, 1)


def make_loop(
    backbone: Backbone,
    content: Image,
    style: Image,
    recipe: Recipe,
    settings: Settings,
    start: Tensor | None = None,
) -> Loop:
    """The loop of a recipe of Adam with Gram matrices or Gaussians, from the content.

    The network is calibrated for the recipe; pictures have the sizes they are seen at.
    """
    network = _see(backbone, recipe, settings)
    by_gram = recipe.program.style_loss == "gram"
    measure, style_loss = (_gram, _gram_loss) if by_gram else (_gaussian, _wasserstein2)
    correlates = recipe.program.content_loss == "correlation"
    content_loss = correlation if correlates else F.mse_loss
    begin = to_tensor(content, settings)
    with torch.no_grad():
        contents, styles = network(begin), network(to_tensor(style, settings))
        layers = recipe.program.style_layers
        targets = {name: measure(styles[name]) for name, _ in layers}

    def objective(image: Tensor) -> Tensor:
        found = network(image)
        loss = recipe.weights.tv_weight * nine_point_tv(image)
        for name, weight in recipe.program.content_layers:
            term = content_loss(found[name], contents[name])
            loss = loss + recipe.weights.content_weight * weight * term
        for name, weight in recipe.program.style_layers:
            term = style_loss(found[name], targets[name])
            loss = loss + recipe.weights.style_weight * weight * term
        return loss

    loss = torch.compile(objective) if settings.compiled else objective
    return Loop(loss, begin if start is None else start, recipe)


def paint(
    backbone: Backbone, content: Image, style: Image, recipe: Recipe, settings: Settings
) -> np.ndarray:
    """Paint coarse to fine, as `multiscale.stylize` does."""
    loop = start = None
    for shape, steps, _ in plan_run(content.shape, recipe):
        enlarge = partial(F.interpolate, size=shape)
        if loop is not None:
            start = enlarge(loop.average(), mode="bicubic").clamp(0, 1)
        small = scale_content(content, shape)
        seen = resize(style, style_shape(style.shape[:2], shape, recipe))
        finer = make_loop(backbone, small, seen, recipe, settings, start=start)
        if loop is not None:
            (adam,) = loop.adam.state.values()
            finer.adam.state[finer.image] = {
                "step": adam["step"],
                "exp_avg": enlarge(adam["exp_avg"], mode="bilinear"),
                "exp_avg_sq": enlarge(adam["exp_avg_sq"], mode="bilinear"),
            }
        loop = finer
        for _ in range(steps):
            loop.step()
    assert loop is not None
    return to_image(loop.average())


def to_tensor(image: Image | np.ndarray, settings: Settings) -> Tensor:
    """An image, h w 3, as a tensor, 1 3 h w."""
    tensor = torch.tensor(np.asarray(image)).permute(2, 0, 1)[None]
    return tensor.to(settings.device).contiguous(memory_format=settings.layout)


def to_image(tensor: Tensor) -> np.ndarray:
    """An image tensor, 1 3 h w, as an array, h w 3."""
    return tensor[0].permute(1, 2, 0).contiguous().cpu().numpy()


def _see(
    backbone: Backbone, recipe: Recipe, settings: Settings
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Features of an image; of smaller images for the layers of a pyramid."""
    network = make_network(backbone.params, settings.device, settings.layout)
    column = lambda x: torch.tensor(np.asarray(x)).view(1, 3, 1, 1).to(settings.device)
    scale = column(np.asarray(backbone.scale) * recipe.program.input_gain)
    offset = column(backbone.offset)
    kinds = recipe.program.pooling, recipe.program.pool_scale, recipe.program.padding
    half = settings.dtype == "bfloat16"
    levels: dict[int, dict[str, str]] = {}
    for layer in recipe.program.layers:
        levels.setdefault(shrinkage(layer), {})[network_layer(layer)] = layer

    def features(image: Tensor) -> dict[str, Tensor]:
        found, factor = {}, 1
        while factor <= max(levels):
            if here := levels.get(factor):
                with torch.autocast(settings.device, torch.bfloat16, enabled=half):
                    seen = network(image * scale + offset, here, *kinds)
                found |= {here[name]: x.float() for name, x in seen.items()}
            image, factor = _shrink(image), 2 * factor
        return found

    return features


def _shrink(image: Tensor) -> Tensor:
    height, width = (side // 2 * 2 for side in image.shape[2:])
    size = height // 2, width // 2
    even = image[:, :, :height, :width]
    return F.interpolate(even, size, mode="bilinear", antialias=True)


def _gram(feature: Tensor) -> Tensor:
    return gram(feature) / feature[0, 0].numel()


def _gram_loss(feature: Tensor, target: Any) -> Tensor:
    return F.mse_loss(_gram(feature), target)


def _gaussian(feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, covariance = mean_and_covariance(feature)
    return mean, covariance, _SquareRoot.apply(covariance)


def _wasserstein2(feature: Tensor, target: Any) -> Tensor:
    mean, covariance, root = target
    own_mean, own = mean_and_covariance(feature)
    cross = _SquareRoot.apply(root @ own @ root)
    transport = (covariance + own - 2 * cross).diagonal().sum()
    return ((own_mean - mean).square().sum() + transport) / len(mean)


class _SquareRoot(torch.autograd.Function):
    """Root of a positive definite matrix, by 12 Newton-Schulz rounds each way."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        norm = matrix.norm()
        eye = torch.eye(len(matrix), device=matrix.device)
        y, z = matrix / norm, eye
        for _ in range(12):
            t = (3 * eye - z @ y) / 2
            y, z = y @ t, t @ z
        root = y * norm.sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Solve `root X + X root = grad`."""
        (root,) = ctx.saved_tensors
        norm = root.norm()
        eye = torch.eye(len(root), device=root.device)
        a, q = root / norm, grads[0] / norm
        for _ in range(12):
            b = 3 * eye - a @ a
            q = (q @ b - a.T @ (a.T @ q - q @ a)) / 2
            a = a @ b / 2
        return q / 2
