"""Independent float64 NumPy versions of everything numerical, written for clarity."""

import numpy as np

WIDTHS = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
NAMES = [
    f"conv{b}_{i}" for b, n in enumerate([2, 2, 4, 4, 4], 1) for i in range(1, n + 1)
]
SHAPES = {
    name: (3, 3, before, after)
    for name, before, after in zip(NAMES, [3, *WIDTHS[:-1]], WIDTHS, strict=True)
}


def convolve(x, kernel, mode="constant"):
    """3 x 3 convolution of h w c, padded by one."""
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
    return np.einsum("hwcij,ijco->hwo", windows, kernel, optimize=True)


def pool(x, kind):
    """2 x 2 pooling of h w c."""
    h, w = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    four = np.stack([x[i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)])
    if kind == "max":
        return four.max(0)
    return four.mean(0) if kind == "average" else np.sqrt((four**2).sum(0))


def features(backbone, image, pooling="max", pool_scale=1.0, padding="zeros"):
    """All sixteen features of an image."""
    x = np.float64(image) * np.float64(backbone.scale) + np.float64(backbone.offset)
    found = {}
    for name in NAMES:
        if name.endswith("_1") and name != "conv1_1":
            x = pool(x, pooling) * pool_scale
        edge = "edge" if name == "conv1_1" and padding == "replicate" else "constant"
        conv = backbone.params[name]
        x = convolve(x, np.float64(conv["kernel"]), edge) + np.float64(conv["bias"])
        x = np.maximum(x, 0)
        found[name.replace("conv", "relu")] = x
    return found


def correlation(f, g):
    """2 (1 - r), averaged over the channels."""
    pairs = zip(f.reshape(-1, f.shape[-1]).T, g.reshape(-1, g.shape[-1]).T, strict=True)
    return np.mean([2 - 2 * np.corrcoef(a, b)[0, 1] for a, b in pairs])


def gram(f):
    """Gram matrix, by the definition."""
    h, w, _ = f.shape
    return np.einsum("hwi,hwj->ij", f, f) / (h * w)


def mean_and_covariance(f):
    """Mean and covariance of the channels."""
    flat = f.reshape(-1, f.shape[-1])
    return flat.mean(0), np.cov(flat, rowvar=False, bias=True)


def sqrtm(a):
    """Root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def wasserstein2(f, g):
    """Squared Wasserstein-2 distance of the Gaussians of two features, per channel."""
    (m, a), (n, b) = mean_and_covariance(f), mean_and_covariance(g)
    root = sqrtm(b)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ a @ root), 0)).sum()
    return (((m - n) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * cross) / len(m)


def sliced_wasserstein(f, g, basis):
    """Mean squared difference of sorted projections, of as many positions each."""
    a, b = (np.sort(x.reshape(-1, x.shape[-1]) @ basis, axis=0) for x in (f, g))
    return ((a - b) ** 2).mean()


def wasserstein2_gradient(f, g, floor=0.0):
    """Its gradient with respect to f; roots are smoothed as λ / √(λ + floor²)."""
    (m, a), (n, b) = mean_and_covariance(f), mean_and_covariance(g)
    root = sqrtm(b)
    values, vectors = np.linalg.eigh(root @ a @ root)
    values = np.maximum(values, 0) + 1e-30
    slope = (values + 2 * floor**2) / (values + floor**2) ** 1.5
    transport = root @ (vectors * slope) @ vectors.T @ root
    flat = f.reshape(-1, f.shape[-1])
    gradient = 2 * (m - n) + 2 * (flat - m) @ (np.eye(len(m)) - transport)
    return (gradient / flat.size).reshape(f.shape)


def total_variation(x):
    """The eight-direction sum, pixel by pixel, borders replicated."""
    h, w, _ = x.shape
    at = lambda i, j: x[np.clip(i, 0, h - 1), np.clip(j, 0, w - 1)]
    total = 0.0
    steps = {(0, 1): 1 / 3, (1, 0): 1 / 3, (1, 1): 1 / 12, (-1, 1): 1 / 12}
    for (di, dj), weight in steps.items():
        # Diagonal pairs also reach out over the first row and column.
        rows = range(-abs(di * dj) + (di < 0), h + (di < 0))
        columns = range(-abs(di * dj), w)
        differences = [
            ((at(i + di, j + dj) - at(i, j)) ** 2).mean() for i in rows for j in columns
        ]
        total += 2 * weight * np.mean(differences)
    return total


def squared_variation(x):
    """Half the squared differences to the right and below, pixel by pixel."""
    h, w, _ = x.shape
    return sum(
        ((x[i, j] - x[i, j + 1]) ** 2 + (x[i, j] - x[i + 1, j]) ** 2).sum() / 2
        for i in range(h - 1)
        for j in range(w - 1)
    )


def nearest_neighbors(f, g):
    """1 - the cosine to the most similar vector, all from the mean of the style's."""
    rows, style = f.reshape(-1, f.shape[-1]), g.reshape(-1, g.shape[-1])
    cosines = [
        max(
            np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
            for b in style - style.mean(0)
        )
        for a in rows - style.mean(0)
    ]
    return 1 - np.mean(cosines)


def oklab(image):
    """OKLab of sRGB, from Ottosson's definition by XYZ."""
    linear = np.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    to_xyz = [
        [0.4123908, 0.3575843, 0.1804808],
        [0.2126390, 0.7151687, 0.0721923],
        [0.0193308, 0.1191948, 0.9505322],
    ]
    first = [
        [0.8189330101, 0.3618667424, -0.1288597137],
        [0.0329845436, 0.9293118715, 0.0361456387],
        [0.0482003018, 0.2643662691, 0.6338517070],
    ]
    second = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.transpose(to_xyz) @ np.transpose(first)) @ np.transpose(
        second
    )
