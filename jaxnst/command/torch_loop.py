"""The classic loops in plain PyTorch, for `jaxnst bench` to measure against.

What a user would write: autograd through `conv2d`, Adam of torch.optim, and for
Wasserstein-2 the square root of a matrix by Newton-Schulz rounds with the gradient of
its Lyapunov equation, as the widespread implementation does.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jaxnst.network.vgg import LAYERS, Backbone, conv_name, network_layer, shrinkage
from jaxnst.painting.multiscale import scale_content, scale_styles
from jaxnst.painting.plan import plan_run
from jaxnst.recipes import Recipe
from jaxnst.types import Image


class Settings(NamedTuple):
    """How PyTorch computes.

    Attributes:
        device: `cpu` or `cuda`.
        channels_last: Whether the channels of a feature lie together in memory.
        dtype: Type of the convolutions; all else is float32.
        compiled: Whether the loss goes through `torch.compile`.
    """

    device: str = "cpu"
    channels_last: bool = False
    dtype: str = "float32"
    compiled: bool = False

    def __str__(self) -> str:
        """Return what differs from a plain tensor program."""
        layout = "channels last" if self.channels_last else "channels first"
        return f"{self.dtype}, {layout}" + ", compiled" * self.compiled


def all_settings(backend: str) -> list[Settings]:
    """Settings worth trying on the kind of device that JAX uses, the plain one first.

    None, if PyTorch cannot use that device.
    """
    if backend != "cpu" and not torch.cuda.is_available():
        return []
    if backend == "cpu":
        return [
            Settings(),
            Settings(channels_last=True),
            Settings(channels_last=True, dtype="bfloat16"),
        ]
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


class Loop(NamedTuple):
    """An image that is optimised.

    Attributes:
        step: Takes one step and returns the loss before it, without waiting for it.
        average: The average of the iterates so far, clipped, 1 3 h w.
        optimizer: Adam, with its moments.
    """

    step: Callable[[], Tensor]
    average: Callable[[], Tensor]
    optimizer: torch.optim.Adam


def make_loop(
    backbone: Backbone,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    settings: Settings,
    *,
    start: Tensor | None = None,
    moments: dict[str, Any] | None = None,
) -> Loop:
    """Prepare the loop of a recipe that compares Gram matrices or Gaussians.

    Args:
        backbone: The network, calibrated for the recipe.
        content: RGB in [0, 1], h w 3, of the size that is optimised.
        styles: RGB images of the sizes that they are measured at, equally weighted.
        recipe: One that uses Adam.
        settings: How to compute.
        start: Start image, 1 3 h w. Default: the content.
        moments: Adam's state from a coarser scale, resized.

    Returns:
        The loop.
    """
    network = _Network(backbone, recipe, settings)
    gram = recipe.style_loss == "gram"
    measure, compare = (_gram, _gram_loss) if gram else (_moments, _wasserstein2)
    with torch.no_grad():
        contents = network(to_tensor(content, settings))
        all_styles = [network(to_tensor(style, settings)) for style in styles]
        target: dict[str, Any] = {
            name: torch.stack([measure(found[name]) for found in all_styles]).mean(0)
            for name, _ in recipe.style_layers
        }
        if not gram:
            target = {name: _gaussian(m) for name, m in target.items()}
    correlates = recipe.content_loss == "correlation"
    content_loss = _correlation if correlates else F.mse_loss

    def objective(image: Tensor) -> Tensor:
        found = network(image)
        loss = recipe.tv_weight * _nine_point(image)
        for name, weight in recipe.content_layers:
            term = content_loss(found[name], contents[name])
            loss = loss + recipe.content_weight * weight * term
        for name, weight in recipe.style_layers:
            term = compare(measure(found[name]), target[name])
            loss = loss + recipe.style_weight * weight * term
        return loss

    if settings.compiled:
        objective = torch.compile(objective)
    begin = to_tensor(content, settings) if start is None else start
    image = begin.clone().requires_grad_()
    optimizer = torch.optim.Adam(
        [image], recipe.learning_rate / recipe.units[0], (recipe.beta1, recipe.beta2)
    )
    if moments is not None:
        optimizer.state[image] = moments
    average, steps = torch.zeros_like(begin), 0

    def step() -> Tensor:
        nonlocal steps
        optimizer.zero_grad()
        loss = objective(image)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            if recipe.clip:
                image.clamp_(0, 1)
            average.lerp_(image, 1 - recipe.ema_decay)
        steps += 1
        return loss.detach()

    return Loop(
        step,
        lambda: (average / (1 - recipe.ema_decay**steps)).clamp(0, 1),
        optimizer,
    )


def paint(
    backbone: Backbone,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    settings: Settings,
) -> Iterator[tuple[int, int, Loop]]:
    """Paint coarse to fine, as `multiscale.stylize` does; stop at each step.

    Yields:
        Index of the scale, steps taken there, and the loop.
    """
    stages = plan_run(content.shape, recipe)
    start, moments = None, None
    for scale, (shape, steps, _) in enumerate(stages):
        loop = make_loop(
            backbone,
            scale_content(content, shape),
            scale_styles(styles, shape, recipe),
            recipe,
            settings,
            start=start,
            moments=moments,
        )
        for taken in range(1, steps + 1):
            loop.step()
            yield scale, taken, loop
        if scale + 1 < len(stages):
            enlarge = partial(F.interpolate, size=stages[scale + 1].shape)
            start = enlarge(loop.average(), mode="bicubic").clamp(0, 1)
            (adam,) = loop.optimizer.state.values()
            moments = {
                "step": adam["step"],
                "exp_avg": enlarge(adam["exp_avg"], mode="bilinear"),
                "exp_avg_sq": enlarge(adam["exp_avg_sq"], mode="bilinear"),
            }


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
    def __init__(self, backbone: Backbone, recipe: Recipe, settings: Settings):
        self.recipe, self.settings = recipe, settings
        bases = map(network_layer, recipe.layers)
        self.names = LAYERS[: max(map(LAYERS.index, bases)) + 1]
        self.kernels, self.biases = {}, {}
        for name in self.names:
            conv = backbone.params[conv_name(name)]
            kernel = torch.tensor(np.asarray(conv["kernel"])).permute(3, 2, 0, 1)
            self.kernels[name] = _place(kernel, settings)
            self.biases[name] = torch.tensor(np.asarray(conv["bias"]))
            self.biases[name] = self.biases[name].to(settings.device)
        self.scale = self._column(np.asarray(backbone.scale) * recipe.input_gain)
        self.offset = self._column(np.asarray(backbone.offset))

    def _column(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values).view(1, 3, 1, 1).to(self.settings.device)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        found, factor = {}, 1
        while factor <= max(map(shrinkage, self.recipe.layers)):
            here = [x for x in self.recipe.layers if shrinkage(x) == factor]
            if here:
                seen = self._features(image, list(map(network_layer, here)))
                found |= dict(zip(here, seen, strict=True))
            image, factor = _shrink(image), 2 * factor
        return found

    def _features(self, image: Tensor, layers: list[str]) -> list[Tensor]:
        recipe, found = self.recipe, {}
        pool = {"max": F.max_pool2d, "average": F.avg_pool2d}[recipe.pooling]
        x = image * self.scale + self.offset
        half = self.settings.dtype == "bfloat16"
        with torch.autocast(self.settings.device, torch.bfloat16, enabled=half):
            for name in self.names[: max(map(self.names.index, layers)) + 1]:
                if name.endswith("_1") and name != "relu1_1":
                    x = pool(x, 2) * recipe.pool_scale
                padding = 1
                if name == "relu1_1" and recipe.padding == "replicate":
                    x, padding = F.pad(x, (1, 1, 1, 1), mode="replicate"), 0
                x = F.conv2d(x, self.kernels[name], self.biases[name], padding=padding)
                x = F.relu(x)
                if name in layers:
                    found[name] = x.float()
        return [found[name] for name in layers]


def _shrink(image: Tensor) -> Tensor:
    """Half the size, each side filtered by (1 3 3 1) / 8."""
    height, width = (side // 2 * 2 for side in image.shape[2:])
    padded = F.pad(image[:, :, :height, :width], (1, 1, 1, 1), mode="replicate")
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=image.device) / 8
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    return F.conv2d(padded, kernel, stride=2, groups=3)


def _flat(feature: Tensor) -> Tensor:
    return feature[0].flatten(1)


def _gram(feature: Tensor) -> Tensor:
    flat = _flat(feature)
    return flat @ flat.T / flat.shape[1]


def _gram_loss(gram: Tensor, target: Any) -> Tensor:
    return F.mse_loss(gram, target)


def _moments(feature: Tensor) -> Tensor:
    """Mean in the first row, raw second moment in the others."""
    return torch.cat([_flat(feature).mean(1)[None], _gram(feature)])


def _covariance(m: Tensor) -> Tensor:
    mean, second = m[0], m[1:]
    covariance = second - torch.outer(mean, mean)
    return covariance + 1e-4 * torch.eye(len(mean), device=m.device)


def _gaussian(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    covariance = _covariance(m)
    return m[0], covariance, _SquareRoot.apply(covariance)


def _wasserstein2(m: Tensor, target: Any) -> Tensor:
    mean, covariance, root = target
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
