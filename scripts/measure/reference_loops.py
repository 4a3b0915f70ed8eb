"""Plain PyTorch loops of the published recipes, to check jaxnst against.

They share no code with the package. Every loop maps RGB in [0, 1] to the input of its
network, optimises in the space of its source, and returns the loss of each evaluation,
before the update. A module of `fidelity.py`; `torch_loop.py` shares its network.
"""

# pyright: reportMissingImports=false

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[[Tensor, Collection[str], str, float, str], dict[str, Tensor]]
Energy = Callable[[Tensor], Tensor]

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = "relu4_2"
CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB order
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)


def make_network(
    params: Mapping[str, Mapping[str, np.ndarray]],
    device: str = "cpu",
    layout: torch.memory_format = torch.contiguous_format,
) -> Network:
    """VGG-19 from {"conv1_1": {"kernel": HWIO, "bias": O}, …}, on network input."""
    convs = {
        name.replace("conv", "relu"): (
            torch.tensor(np.asarray(conv["kernel"]))
            .permute(3, 2, 0, 1)
            .to(device)
            .contiguous(memory_format=layout),
            torch.tensor(np.asarray(conv["bias"])).to(device),
        )
        for name, conv in params.items()
    }

    def network(
        image: Tensor,
        layers: Collection[str],
        pooling: str = "max",
        pool_scale: float = 1.0,
        padding: str = "zeros",
    ) -> dict[str, Tensor]:
        pool = {"max": F.max_pool2d, "average": F.avg_pool2d}[pooling]
        found, x, deepest = {}, image, max(layers)
        for layer, (kernel, bias) in convs.items():
            if layer > deepest:
                break
            if layer.endswith("_1") and layer != "relu1_1":
                x = pool(x, 2) * pool_scale
            zeros = 1
            if layer == "relu1_1" and padding == "replicate":
                x, zeros = F.pad(x, (1, 1, 1, 1), padding), 0
            x = F.relu(F.conv2d(x, kernel, bias, padding=zeros))
            if layer in layers:
                found[layer] = x
        return found

    return network


def torchvision_input(image: Tensor) -> Tensor:
    """RGB minus ImageNet's mean, over its deviation."""
    mean = image.new_tensor(TORCHVISION_MEAN).view(1, 3, 1, 1)
    std = image.new_tensor(TORCHVISION_STD).view(1, 3, 1, 1)
    return (image - mean) / std


def caffe_input(image: Tensor, scale: float = 255.0) -> Tensor:
    """RGB as bytes, minus the mean of the Caffe networks."""
    return image * scale - image.new_tensor(CAFFE_MEAN).view(1, 3, 1, 1)


def gram(features: Tensor) -> Tensor:
    """Products of channels, summed over positions."""
    flat = features[0].flatten(1)
    return flat @ flat.T


def channels_and_positions(features: Tensor) -> tuple[int, int]:
    """N and M of Gatys' paper."""
    return features.shape[1], features.shape[2] * features.shape[3]


def minimise_adam(
    energy: Energy,
    start: Tensor,
    steps: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    bounds: tuple[float, float] | None = None,
) -> list[float]:
    """PyTorch's Adam, clamped to bounds if there are any."""
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=lr, betas=betas)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = energy(image)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if bounds is not None:
            with torch.no_grad():
                image.clamp_(*bounds)
    return losses


def minimise_adam_tf1(
    energy: Energy, start: Tensor, steps: int, low: Tensor, high: Tensor
) -> list[float]:
    """TF1's Adam: eps joins the root of the biased second moment ("epsilon hat")."""
    lr, beta1, beta2, eps = 5.0, 0.99, 0.999, 0.1
    image = start.clone().requires_grad_()
    m, v = torch.zeros_like(start), torch.zeros_like(start)
    losses = []
    for t in range(1, steps + 1):
        loss = energy(image)
        (grad,) = torch.autograd.grad(loss, image)
        losses.append(loss.item())
        with torch.no_grad():
            m = beta1 * m + (1 - beta1) * grad
            v = beta2 * v + (1 - beta2) * grad**2
            lr_t = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
            image -= lr_t * m / (v.sqrt() + eps)
            image.copy_(torch.minimum(torch.maximum(image, low), high))
    return losses


def minimise_lbfgs(
    energy: Energy, start: Tensor, steps: int, max_iter: int = 20
) -> list[float]:
    """L-BFGS without line search or stopping rule: one evaluation per iteration."""
    image = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [image],
        lr=1,
        max_iter=max_iter,
        history_size=100,
        tolerance_grad=0,
        tolerance_change=0,
    )
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = energy(image)
        loss.backward()
        losses.append(loss.item())
        return loss

    while len(losses) < steps:
        optimizer.step(closure)
    return losses[:steps]  # the last call may run further


def kaggle(
    network: Network,
    content: Tensor,
    style: Tensor,
    start: Tensor,
    steps: int,
    style_weight: float = 1e9,
) -> list[float]:
    """soumya044's notebook; Udacity's is the same with style_weight 1e6."""
    weights = (1.0, 0.75, 0.2, 0.2, 0.2)
    with torch.no_grad():
        goal = network(torchvision_input(content), [CONTENT], "max", 1.0, "zeros")
        painted = network(torchvision_input(style), STYLE, "max", 1.0, "zeros")
        grams = [gram(painted[layer]) for layer in STYLE]

    def energy(image: Tensor) -> Tensor:
        found = network(image, [CONTENT, *STYLE], "max", 1.0, "zeros")
        content_loss = (found[CONTENT] - goal[CONTENT]).square().mean()
        style_loss = image.new_zeros(())
        for layer, weight, target in zip(STYLE, weights, grams, strict=True):
            term = weight * (gram(found[layer]) - target).square().mean()
            style_loss = style_loss + term / found[layer].numel()
        return content_loss + style_weight * style_loss

    return minimise_adam(energy, torchvision_input(start), steps, lr=0.003)


def boston(
    network: Network, content: Tensor, style: Tensor, start: Tensor, steps: int
) -> list[float]:
    """weibb123's README: the paper's E_l, style weight 1e3; the rest as in kaggle."""
    with torch.no_grad():
        goal = network(torchvision_input(content), [CONTENT], "max", 1.0, "zeros")
        painted = network(torchvision_input(style), STYLE, "max", 1.0, "zeros")
        grams = [gram(painted[layer]) for layer in STYLE]

    def energy(image: Tensor) -> Tensor:
        found = network(image, [CONTENT, *STYLE], "max", 1.0, "zeros")
        content_loss = (found[CONTENT] - goal[CONTENT]).square().mean()
        style_loss = image.new_zeros(())
        for layer, target in zip(STYLE, grams, strict=True):
            n, m = channels_and_positions(found[layer])
            error = (gram(found[layer]) - target).square().sum()
            style_loss = style_loss + error / (4 * n**2 * m**2) / 5
        return content_loss + 1e3 * style_loss

    return minimise_adam(energy, torchvision_input(start), steps, lr=0.003)


def gatys2016(
    network: Network,
    content: Tensor,
    style: Tensor,
    start: Tensor,
    steps: int,
    alpha: float = 1e-3,
    beta: float = 1.0,
) -> list[float]:
    """The CVPR 2016 paper: average pooling, sums rather than means."""
    with torch.no_grad():
        goal = network(caffe_input(content), [CONTENT], "average", 1.0, "zeros")
        painted = network(caffe_input(style), STYLE, "average", 1.0, "zeros")
        grams = [gram(painted[layer]) for layer in STYLE]

    def energy(image: Tensor) -> Tensor:
        found = network(image, [CONTENT, *STYLE], "average", 1.0, "zeros")
        content_loss = (found[CONTENT] - goal[CONTENT]).square().sum() / 2
        style_loss = image.new_zeros(())
        for layer, target in zip(STYLE, grams, strict=True):
            n, m = channels_and_positions(found[layer])
            error = (gram(found[layer]) - target).square().sum()
            style_loss = style_loss + error / (4 * n**2 * m**2) / 5
        return alpha * content_loss + beta * style_loss

    return minimise_lbfgs(energy, caffe_input(start), steps, max_iter=1)


def gatys2016_code(
    network: Network, content: Tensor, style: Tensor, start: Tensor, steps: int
) -> list[float]:
    """leongatys/PytorchNeuralStyleTransfer, the first (low resolution) pass."""
    weights = [1e3 / n**2 for n in (64, 128, 256, 512, 512)]
    with torch.no_grad():
        goal = network(caffe_input(content), [CONTENT], "max", 1.0, "zeros")
        painted = network(caffe_input(style), STYLE, "max", 1.0, "zeros")
        grams = [
            gram(painted[layer]) / channels_and_positions(painted[layer])[1]
            for layer in STYLE
        ]

    def energy(image: Tensor) -> Tensor:
        found = network(image, [CONTENT, *STYLE], "max", 1.0, "zeros")
        loss = (found[CONTENT] - goal[CONTENT]).square().mean()
        for layer, weight, target in zip(STYLE, weights, grams, strict=True):
            _, m = channels_and_positions(found[layer])
            loss = loss + weight * (gram(found[layer]) / m - target).square().mean()
        return loss

    return minimise_lbfgs(energy, caffe_input(start), steps)


def tf_blog(
    network: Network, content: Tensor, style: Tensor, start: Tensor, steps: int
) -> list[float]:
    """tensorflow/models research/nst_blogpost."""
    deep = "relu5_2"
    with torch.no_grad():
        goal = network(caffe_input(content), [deep], "max", 1.0, "zeros")
        painted = network(caffe_input(style), STYLE, "max", 1.0, "zeros")
        grams = [
            gram(painted[layer]) / channels_and_positions(painted[layer])[1]
            for layer in STYLE
        ]

    def energy(image: Tensor) -> Tensor:
        found = network(image, [deep, *STYLE], "max", 1.0, "zeros")
        content_loss = (found[deep] - goal[deep]).square().mean()
        style_loss = image.new_zeros(())
        for layer, target in zip(STYLE, grams, strict=True):
            _, m = channels_and_positions(found[layer])
            style_loss = style_loss + (gram(found[layer]) / m - target).square().mean()
        return 1e3 * content_loss + 1e-2 * style_loss / 5

    low = caffe_input(torch.zeros_like(start))
    high = caffe_input(torch.ones_like(start))
    return minimise_adam_tf1(energy, caffe_input(start), steps, low, high)


def with_unit_gradient(features: Tensor, strength: float) -> Tensor:
    """Return features whose gradient becomes strength * g / (|g|_1 + 1e-8).

    g is the gradient of the unweighted loss, as in neural_style.lua; the incoming
    gradient is strength * g.
    """
    branch = features.clone()
    branch.register_hook(lambda grad: grad / (grad.abs().sum() / strength + 1e-8))
    return branch


def johnson(
    network: Network,
    content: Tensor,
    style: Tensor,
    start: Tensor,
    steps: int,
    normalize_gradients: bool = False,
) -> list[float]:
    """jcjohnson/neural-style, the Lua defaults."""
    content_weight, style_weight, tv_weight = 5.0, 1e2, 1e-3
    to_input = partial(caffe_input, scale=256.0)  # 256, not 255, in its preprocess()
    with torch.no_grad():
        goal = network(to_input(content), [CONTENT], "max", 1.0, "zeros")
        painted = network(to_input(style), STYLE, "max", 1.0, "zeros")
        grams = [gram(painted[layer]) / painted[layer].numel() for layer in STYLE]

    def branch(features: Tensor, strength: float) -> Tensor:
        return (
            with_unit_gradient(features, strength) if normalize_gradients else features
        )

    def energy(image: Tensor) -> Tensor:
        found = network(image, [CONTENT, *STYLE], "max", 1.0, "zeros")
        features = branch(found[CONTENT], content_weight)
        loss = content_weight * (features - goal[CONTENT]).square().mean()
        for layer, target in zip(STYLE, grams, strict=True):
            features = branch(found[layer], style_weight)
            error = (gram(features) / features.numel() - target).square().mean()
            loss = loss + style_weight * error
        # The source adds the gradient of this term, but leaves it out of its loss.
        corner = image[..., :-1, :-1]
        dx, dy = corner - image[..., :-1, 1:], corner - image[..., 1:, :-1]
        return loss + tv_weight * 0.5 * (dx.square().sum() + dy.square().sum())

    return minimise_lbfgs(energy, to_input(start), steps)


COVARIANCE_EPS = 1e-4


class TraceOfRoot(torch.autograd.Function):
    """tr((R S R)^(1/2)), whose derivative in S is R (R S R)^(-1/2) R / 2."""

    @staticmethod
    def forward(ctx, cov: Tensor, root: Tensor) -> Tensor:
        """Sum the roots of the eigenvalues."""
        product = root @ cov @ root
        values, vectors = torch.linalg.eigh((product + product.T) / 2)
        # Both covariances are at least eps I, so anything lower is rounding.
        roots = values.clamp(min=COVARIANCE_EPS**2).sqrt()
        ctx.save_for_backward(root @ (vectors / roots) @ vectors.T @ root / 2)
        return roots.sum()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        """Multiply by the derivative."""
        (derivative,) = ctx.saved_tensors
        return grad * derivative, None


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and regularised covariance of the channels."""
    flat = features[0].flatten(1)
    mean = flat.mean(1)
    cov = flat @ flat.T / flat.shape[1] - torch.outer(mean, mean)
    eye = torch.eye(len(mean), dtype=cov.dtype, device=cov.device)
    return mean, cov + COVARIANCE_EPS * eye


def nine_point_tv(image: Tensor) -> Tensor:
    """Total variation over eight neighbours; diagonals have one row and column more."""
    x = F.pad(image, (1, 1, 1, 1), "replicate")
    middle = x[..., 1:-1, 1:-1]
    right = (x[..., 1:-1, 2:] - middle).square().mean() / 3
    down = (x[..., 2:, 1:-1] - middle).square().mean() / 3
    falling = (x[..., 1:, 1:] - x[..., :-1, :-1]).square().mean() / 12
    rising = (x[..., 1:, :-1] - x[..., :-1, 1:]).square().mean() / 12
    return 2 * (right + down + falling + rising)


def crowson(
    network: Network, content: Tensor, style: Tensor, start: Tensor, steps: int
) -> list[float]:
    """crowsonkb/style-transfer-pytorch at one scale, with exact matrix roots."""
    weights = [weight / 341 for weight in (256, 64, 16, 4, 1)]
    with torch.no_grad():
        goal = network(torchvision_input(content), [CONTENT], "max", 1.0, "replicate")
        painted = network(torchvision_input(style), STYLE, "max", 1.0, "replicate")
        targets = []
        for layer in STYLE:
            mean, cov = mean_and_covariance(painted[layer].double())
            values, vectors = torch.linalg.eigh(cov)
            roots = values.clamp(min=COVARIANCE_EPS).sqrt()
            targets.append((mean, cov.trace(), (vectors * roots) @ vectors.T))

    def energy(image: Tensor) -> Tensor:
        layers = [CONTENT, *STYLE]
        found = network(torchvision_input(image), layers, "max", 1.0, "replicate")
        loss = 0.015 * (found[CONTENT] - goal[CONTENT]).square().mean()
        loss = loss + 2 * nine_point_tv(image)
        for layer, weight, target in zip(STYLE, weights, targets, strict=True):
            target_mean, target_trace, target_root = target
            mean, cov = mean_and_covariance(found[layer].double())
            cross = TraceOfRoot.apply(cov, target_root)
            spread = (target_trace + cov.trace() - 2 * cross) / len(mean)
            loss = loss + weight * ((mean - target_mean).square().mean() + spread)
        return loss

    return minimise_adam(energy, start, steps, 0.02, (0.9, 0.99), (0.0, 1.0))


def correlation(features: Tensor, goal: Tensor) -> Tensor:
    """2 (1 - r), averaged over the channels."""
    x, y = features[0].flatten(1), goal[0].flatten(1)
    x, y = ((z - z.mean(1, keepdim=True)) for z in (x, y))
    x, y = (z / (z.square().mean(1, keepdim=True) + 1e-5).sqrt() for z in (x, y))
    return (x - y).square().mean()


def nnst(
    network: Network, content: Tensor, style: Tensor, start: Tensor, steps: int
) -> list[float]:
    """The final pass of NNST at one scale; relu4_2 holds the content."""
    layers = STYLE[:4]
    with torch.no_grad():
        goal = network(torchvision_input(content), [CONTENT], "max", 1.0, "zeros")
        painted = network(torchvision_input(style), layers, "max", 1.0, "zeros")
        targets = []
        for layer in layers:
            rows = painted[layer][0].flatten(1).T
            targets.append((rows.mean(0), F.normalize(rows - rows.mean(0))))

    def energy(image: Tensor) -> Tensor:
        found = network(
            torchvision_input(image), [CONTENT, *layers], "max", 1.0, "zeros"
        )
        loss = 0.3 * correlation(found[CONTENT], goal[CONTENT])
        for layer, (mean, bank) in zip(layers, targets, strict=True):
            rows = F.normalize(found[layer][0].flatten(1).T - mean)
            loss = loss + (1 - (rows @ bank.T).amax(1)).mean() / len(layers)
        return loss

    return minimise_adam(energy, start, steps, 0.01, (0.9, 0.99), (0.0, 1.0))


LOOPS: dict[str, Callable[..., list[float]]] = {
    "kaggle": kaggle,
    "udacity": partial(kaggle, style_weight=1e6),
    "boston": boston,
    "gatys2016": gatys2016,
    "gatys2016-code": gatys2016_code,
    "tf-blog": tf_blog,
    "johnson": johnson,
    "crowson": crowson,
    "nnst": nnst,
}
