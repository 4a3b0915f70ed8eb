"""The classic loops in plain PyTorch, for `jaxnst bench` to measure against.

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
from torch import Tensor

from jaxnst.network.vgg import LAYERS, Backbone, conv_name, network_layer, shrinkage
from jaxnst.painting.inputs import scale_content, scale_styles
from jaxnst.painting.plan import plan_run
from jaxnst.recipes import Recipe
from jaxnst.types import Image


class Settings(NamedTuple):
    """How PyTorch computes; `dtype` is that of the convolutions only."""

    device: str = "cpu"
    channels_last: bool = False
    dtype: str = "float32"
    compiled: bool = False

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
    network = _Network(backbone, recipe, settings)
    gram = recipe.program.style_loss == "gram"
    measure, style_loss = (_gram, _gram_loss) if gram else (_gaussian, _wasserstein2)
    correlates = recipe.program.content_loss == "correlation"
    content_loss = _correlation if correlates else F.mse_loss
    begin = to_tensor(content, settings)
    with torch.no_grad():
        contents, styles = network(begin), network(to_tensor(style, settings))
        layers = recipe.program.style_layers
        targets = {name: measure(styles[name]) for name, _ in layers}

    def objective(image: Tensor) -> Tensor:
        found = network(image)
        loss = recipe.weights.tv_weight * _nine_point(image)
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
        (seen,) = scale_styles([style], shape, recipe)
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
    return _place(torch.tensor(np.asarray(image)).permute(2, 0, 1)[None], settings)


def to_image(tensor: Tensor) -> np.ndarray:
    """An image tensor, 1 3 h w, as an array, h w 3."""
    return tensor[0].permute(1, 2, 0).contiguous().cpu().numpy()


def _place(tensor: Tensor, settings: Settings) -> Tensor:
    last = settings.channels_last
    layout = torch.channels_last if last else torch.contiguous_format
    return tensor.contiguous(memory_format=layout).to(settings.device)


class _Network:
    """Features of an image; of smaller images for the layers of a pyramid."""

    def __init__(self, backbone: Backbone, recipe: Recipe, settings: Settings):
        self.recipe, self.settings = recipe, settings
        tensor = lambda x: torch.tensor(np.asarray(x))
        deepest = max(map(network_layer, recipe.program.layers))
        self.convs = {}
        for name in (x for x in LAYERS if x <= deepest):
            conv = backbone.params[conv_name(name)]
            kernel = _place(tensor(conv["kernel"]).permute(3, 2, 0, 1), settings)
            self.convs[name] = kernel, tensor(conv["bias"]).to(settings.device)
        column = lambda x: tensor(x).view(1, 3, 1, 1).to(settings.device)
        self.scale = column(np.asarray(backbone.scale) * recipe.program.input_gain)
        self.offset = column(backbone.offset)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        found, factor, layers = {}, 1, self.recipe.program.layers
        while factor <= max(map(shrinkage, layers)):
            here = {network_layer(x): x for x in layers if shrinkage(x) == factor}
            if here:
                found |= self._features(image, here)
            image, factor = _shrink(image), 2 * factor
        return found

    def _features(self, image: Tensor, wanted: dict[str, str]) -> dict[str, Tensor]:
        recipe, found = self.recipe, {}
        pool = {"max": F.max_pool2d, "average": F.avg_pool2d}[recipe.program.pooling]
        x = image * self.scale + self.offset
        half = self.settings.dtype == "bfloat16"
        with torch.autocast(self.settings.device, torch.bfloat16, enabled=half):
            for name, (kernel, bias) in self.convs.items():
                if name > max(wanted):
                    break
                if name.endswith("_1") and name != "relu1_1":
                    x = pool(x, 2) * recipe.program.pool_scale
                padding = 1
                if name == "relu1_1" and recipe.program.padding == "replicate":
                    x, padding = F.pad(x, (1, 1, 1, 1), mode="replicate"), 0
                x = F.relu(F.conv2d(x, kernel, bias, padding=padding))
                if name in wanted:
                    found[wanted[name]] = x.float()
        return found


def _shrink(image: Tensor) -> Tensor:
    """Half the size, each side filtered by (1 3 3 1) / 8."""
    height, width = (side // 2 * 2 for side in image.shape[2:])
    padded = F.pad(image[:, :, :height, :width], (1, 1, 1, 1), mode="replicate")
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=image.device) / 8
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    return F.conv2d(padded, kernel, stride=2, groups=3)


def _gram(feature: Tensor) -> Tensor:
    flat = feature[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


def _gram_loss(feature: Tensor, target: Any) -> Tensor:
    return F.mse_loss(_gram(feature), target)


def _moments(feature: Tensor) -> Tensor:
    """Mean in the first row, raw second moment in the others."""
    return torch.cat([feature[0].flatten(1).mean(1)[None], _gram(feature)])


def _covariance(m: Tensor) -> Tensor:
    mean, second = m[0], m[1:]
    covariance = second - torch.outer(mean, mean)
    return covariance + 1e-4 * torch.eye(len(mean), device=m.device)


def _gaussian(feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    m = _moments(feature)
    return m[0], _covariance(m), _SquareRoot.apply(_covariance(m))


def _wasserstein2(feature: Tensor, target: Any) -> Tensor:
    mean, covariance, root = target
    m = _moments(feature)
    own = _covariance(m)
    cross = _SquareRoot.apply(root @ own @ root)
    transport = (covariance + own - 2 * cross).diagonal().sum()
    return ((m[0] - mean).square().sum() + transport) / len(mean)


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


def _correlation(feature: Tensor, target: Tensor) -> Tensor:
    def standardize(x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True)
        return x * (x.square().mean((2, 3), keepdim=True) + 1e-5).rsqrt()

    return F.mse_loss(standardize(feature), standardize(target))


def _nine_point(image: Tensor) -> Tensor:
    x = F.pad(image, (1, 1, 1, 1), mode="replicate")
    right = x[..., 1:-1, 2:] - x[..., 1:-1, 1:-1]
    down = x[..., 2:, 1:-1] - x[..., 1:-1, 1:-1]
    falling = x[..., 1:, 1:] - x[..., :-1, :-1]
    rising = x[..., :-1, 1:] - x[..., 1:, :-1]
    mean = lambda d: d.square().mean()
    return 2 * ((mean(right) + mean(down)) / 3 + (mean(falling) + mean(rising)) / 12)
