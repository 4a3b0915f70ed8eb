"""The recipes of the literature, and the default."""

import dataclasses

from jaxnst.messages import nearest
from jaxnst.recipes.recipe import (
    LayerWeights,
    Look,
    LossWeights,
    Program,
    Recipe,
    Schedule,
    Sizes,
)

GATYS_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

CAFFE_UNITS = (255.0, 255.0, 255.0)
"""`Program.units` for pixels in [0, 255], as the Caffe networks see them."""


def equal_weights(layers: tuple[str, ...]) -> LayerWeights:
    """Give each layer the weight 1 / number of layers."""
    return tuple((layer, 1 / len(layers)) for layer in layers)


def weighted(weights: tuple[float, ...]) -> LayerWeights:
    """Pair the first style layers of Gatys et al. with these weights, in order."""
    return tuple(zip(GATYS_STYLE_LAYERS, weights, strict=False))


PAINTERLY = Recipe(
    name="painterly",
    summary="Broad strokes: Wasserstein-2, then patches of the style (the default)",
    network="embedded",
    program=Program(
        content_layers=(("relu4_2@2", 0.7), ("relu3_1@2", 0.3)),
        style_layers=tuple(
            (layer + size, weight)
            for size in ("@2", "@4", "@8")
            for layer, weight in weighted((0.35, 0.25, 0.2))
        ),
        content_loss="correlation",
        style_loss="wasserstein2",
        pooling="average",
        padding="replicate",
        optimizer="lbfgs",
        ema_decay=0.5,
    ),
    weights=LossWeights(content_weight=0.3, tv_weight=10.0, learning_rate=1.0),
    schedule=Schedule(
        first_steps=12, steps=0, scales=16, scale_factor=2.0, min_size=256
    ),
    look=Look(palette="style", repaint=True),
)
"""The default: scales that double, Wasserstein-2 between Gaussians, L-BFGS. At the end
of each scale, the picture is laid out of patches of the style.

A few steps at the coarsest scale place colours and forms; the patches add the strokes,
at all scales. The last picture is made as crisp as the styles are.
More steps would draw strokes of their own, which the patches then follow. Steps at
finer scales would take most of the time, and three judges of 12 pairs liked as many
pictures without them as with them.

The network sees the picture at a half, a quarter and an eighth of its size, so a step
costs a quarter. Shallow features of small pictures hold more of a painting's large
structure than the deep layers of the embedded weights do. The content is held by
relu4_2, which says what is where and leaves the strokes free, and a little by relu3_1.
With a `content_weight` of 0.05, the result is the painting with a hint of the
photograph; with 5, it is the photograph in paint.

Reference:
    The scheme is Katherine Crowson's (style-transfer-pytorch, 2020-2023); the loss is
    that of Mroueh (2019), "Wasserstein Style Transfer"; the pyramid is that of
    Snelgrove (2017), "High-Resolution Multi-Scale Neural Texture Synthesis". For the
    patches see `repaint.repaint`.
"""

DELICATE = PAINTERLY.replace(
    name="delicate",
    summary="Fine strokes that keep every edge: Wasserstein-2, coarse to fine, L-BFGS",
    content_layers=(("relu3_1", 0.5), ("relu4_2", 0.5)),
    style_layers=weighted((0.35, 0.25, 0.2, 0.12, 0.08)),
    content_weight=0.2,
    tv_weight=12.0,
    detail=0.5,
    repaint=False,
    first_steps=80,
    steps=30,
    scale_factor=2**0.5,
    min_size=128,
)
"""The default of version 0.1: the photograph with a fine texture of the style.

Reference:
    As `painterly`, at the layers of Gatys et al. and without a pyramid.
"""

PALETTE = PAINTERLY.replace(
    name="palette",
    summary="The colours of the styles without strokes, in seconds, at full size",
    content_weight=1.0,
    repaint=False,
    first_steps=0,
    size=2**31 - 1,
)
"""No steps: the photograph gets the mean and covariance of the styles' colours.

The result is as large as the photograph. With a `content_weight` c > 1, colours change
only by the fraction 1 / √c of the way.

Reference:
    See `pictures.color.fit_colors`.
"""

CROWSON = Recipe(
    name="crowson",
    summary="style-transfer-pytorch's defaults: Wasserstein-2, coarse to fine, Adam",
    program=Program(
        style_layers=weighted(tuple(x / 341 for x in (256, 64, 16, 4, 1))),
        style_loss="wasserstein2",
        activations="torchvision",
        padding="replicate",
        ema_decay=0.99,
    ),
    weights=LossWeights(content_weight=0.015, tv_weight=2.0, learning_rate=0.02),
    schedule=Schedule(first_steps=1000, steps=500, scales=16, min_size=128),
    sizes=Sizes(enlarge="content"),
)
"""The published Wasserstein-2 defaults, 3,000 steps at 512 px.

Here the roots of the covariances are exact. The original adds 1e-4 to the diagonals and
takes 12 Newton-Schulz rounds. Here the average of the iterates leaves out the start
image. In the original, the start image has 0.7 % of the weight.

Reference:
    Katherine Crowson, style-transfer-pytorch (2020-2023), `style_transfer.py`.
"""

NNST = Recipe(
    name="nnst",
    summary="Neural Neighbor Style Transfer: nearest neighbours of features, Adam",
    program=Program(
        style_layers=equal_weights(GATYS_STYLE_LAYERS[:4]),
        content_loss="correlation",
        style_loss="nearest_neighbors",
    ),
    weights=LossWeights(content_weight=0.3, learning_rate=0.01),
    schedule=Schedule(
        first_steps=200, steps=200, scales=16, scale_factor=2.0, min_size=64
    ),
    look=Look(palette="style"),
)
"""Each feature is pulled to the nearest style feature, as in the final pass of NNST.

The original first matches all layers together, a scale at a time, against a mixture of
content and picture. It also turns the style by quarters, optimises a Laplacian pyramid
and recolours the result. Here each layer is matched alone, anew at each step and at all
scales, and relu4_2 holds the content. Matching takes longer than the network does; use
an accelerator.

Reference:
    Kolkin, Kucera, Paris, Sykora, Shechtman, Shakhnarovich (2022), "Neural Neighbor
    Style Transfer".
"""

HEITZ_2021 = Recipe(
    name="heitz2021",
    summary="Sliced Wasserstein: whole distributions of features, L-BFGS",
    program=Program(
        style_layers=equal_weights(
            (*GATYS_STYLE_LAYERS[:2], "relu2_2", "relu3_1", "relu3_3", "relu4_1")
        ),
        content_loss="correlation",
        style_loss="sliced_wasserstein",
        padding="replicate",
        optimizer="lbfgs",
    ),
    weights=LossWeights(content_weight=0.05, tv_weight=5.0, learning_rate=1.0),
    schedule=Schedule(
        first_steps=100, steps=50, scales=16, scale_factor=2.0, min_size=128
    ),
    look=Look(palette="style"),
)
"""The sliced Wasserstein loss, with a content term.

The original makes textures from noise, without a content, and uses the first twelve
layers. It draws new directions at each step; here they are fixed, as L-BFGS requires.

Reference:
    Heitz, Vanhoey, Chambon, Belcour (2021), "A Sliced Wasserstein Loss for Neural
    Texture Synthesis", CVPR.
"""

GATYS_2016 = Recipe(
    name="gatys2016",
    summary="Gatys, Ecker, Bethge (CVPR 2016): Gram matrices, L-BFGS from noise",
    program=Program(
        style_layers=equal_weights(GATYS_STYLE_LAYERS),
        style_loss="gram_quarter_mean",
        content_loss="half_sum",
        pooling="average",
        units=CAFFE_UNITS,
        optimizer="lbfgs",
        history=100,
        clip=False,
    ),
    # The paper's ratio of 1e-3 fits losses that are means, as in its authors' code for
    # the normalised network (1e6 and 1e9). In the sums of its equations such a content
    # term leaves no style at all; 5e-6 was found by eye.
    weights=LossWeights(content_weight=5.0, style_weight=1e6, learning_rate=1.0),
    schedule=Schedule(first_steps=500, steps=500),
    sizes=Sizes(squash_style=True),
    look=Look(init="noise"),
)
"""The paper: average pooling, the sums of eq. 1 and 4, a start from white noise.

Reference:
    Gatys, Ecker, Bethge (2016), "Image Style Transfer Using Convolutional Neural
    Networks", CVPR.
"""

GATYS_2016_CODE = Recipe(
    name="gatys2016-code",
    summary="The authors' PyTorch notebook: 512 px, then 800 px from its result",
    program=dataclasses.replace(
        GATYS_2016.program,
        style_layers=weighted((1.0, 1.0, 1.0, 1.0, 1.0)),
        # The layer weights 1e3 / n² of the notebook, with n channels.
        style_loss="gram_channels",
        content_loss="mean",
        activations="caffe",
        pooling="max",
    ),
    weights=LossWeights(style_weight=1e3, learning_rate=1.0),
    schedule=Schedule(first_steps=500, steps=200, scales=2, scale_factor=800 / 512),
    sizes=Sizes(size=800, size_edge="short", enlarge="both"),
)
"""The authors' published code: max pooling, means instead of the paper's sums, a start
from the content, and a second pass at high resolution.

Style and content keep their own aspect ratios, with short edges of the same length.
torch's L-BFGS may stop early at a tolerance, and begins the second pass with a very
short step. Here L-BFGS has no tolerance, and keeps the curvature of the first pass.

Reference:
    leongatys/PytorchNeuralStyleTransfer (2017), `NeuralStyleTransfer.ipynb`.
"""

JOHNSON = Recipe(
    name="johnson",
    summary="neural-style (Lua), its defaults: Gram matrices, L-BFGS from faint noise",
    program=dataclasses.replace(
        GATYS_2016_CODE.program,
        tv_loss="squares",
        # The original multiplies by 256, not 255, before it subtracts the mean.
        input_gain=256 / 255,
        units=(256.0, 256.0, 256.0),
    ),
    weights=LossWeights(
        content_weight=5.0,
        style_weight=1e2,
        tv_weight=1e-3 * 256**2,  # 1e-3 on the image in [0, 256]
        learning_rate=1.0,
    ),
    schedule=Schedule(first_steps=1000, steps=1000),
    sizes=Sizes(enlarge="both"),
    look=Look(init="noise", noise=1e-3 / 256),
)
"""Justin Johnson's defaults; his `-normalize_gradients` is `normalize_gradients`.

The original's total variation acts only through the gradient; here it is also part of
the loss.

Reference:
    jcjohnson/neural-style (2015), `neural_style.lua`.
"""

TF_BLOG = Recipe(
    name="tf-blog",
    summary="TensorFlow's eager blog post: Gram matrices, TF1 Adam, the best iterate",
    program=Program(
        content_layers=(("relu5_2", 1.0),),
        style_layers=equal_weights(GATYS_STYLE_LAYERS),
        style_loss="gram",
        activations="caffe",
        units=CAFFE_UNITS,
        optimizer="tf1_adam",
        beta1=0.99,
        beta2=0.999,
        epsilon=0.1,
        keep_best=True,
    ),
    weights=LossWeights(content_weight=1e3, style_weight=1e-2, learning_rate=5.0),
    schedule=Schedule(first_steps=1000, steps=1000),
    sizes=Sizes(enlarge="both"),
)
"""The tf.keras and eager-execution tutorial: content from block5_conv2, a box clip in
pixel space.

As in the tutorial, the result is the image after the step with the lowest loss.

Reference:
    Raymond Yuan (2018), "Neural Style Transfer: Creating Art with Deep Learning using
    tf.keras and eager execution"; tensorflow/models, `research/nst_blogpost`.
"""

UDACITY = Recipe(
    name="udacity",
    summary="Udacity's deep-learning course: Gram matrices, slow Adam from the content",
    program=Program(
        style_layers=weighted((1.0, 0.75, 0.2, 0.2, 0.2)),
        style_loss="gram_sums",
        activations="torchvision",
        units=(1 / 0.229, 1 / 0.224, 1 / 0.225),  # divided by ImageNet's deviations
        beta2=0.999,
        clip=False,
    ),
    weights=LossWeights(style_weight=1e6, learning_rate=0.003),
    schedule=Schedule(first_steps=2000, steps=2000),
    sizes=Sizes(size=400, size_edge="short", squash_style=True),
)
"""The course notebook. The short edge gets 400 px, or the length of the long edge if
that is less, so a small picture is enlarged.

The strength of the style depends on the size: its Gram matrices are sums, divided by
`c h w` only once. Layers are measured after the ReLU, since the original's works in
place.

Reference:
    udacity/deep-learning-v2-pytorch (2018), `Style_Transfer_Solution.ipynb`.
"""

KAGGLE = UDACITY.replace(
    name="kaggle",
    summary="soumya044's Kaggle notebook: Udacity's with a thousandfold style weight",
    style_weight=1e9,
)
"""The notebook that the Boston project started from.

Reference:
    Soumya Ranjan Behera (2018), "Artistic neural style transfer using PyTorch", Kaggle.
"""

BOSTON = KAGGLE.replace(
    name="boston",
    summary="Boston by night: the paper's style terms in the Kaggle notebook's loop",
    # From its README: α = 1, β = 1e3, E_l divided by 4 N² M², weights w_l not stated.
    style_layers=equal_weights(GATYS_STYLE_LAYERS),
    style_loss="gram_quarter_mean",
    style_weight=1e3,
)
"""The project this one began from. Its README gives the weights, the layers and the
style term; the content layer, the mean in the content term, size, optimiser and steps
are inherited from `kaggle`.

Reference:
    weibb123, Boston style transfer (2022), README.
"""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        *(PAINTERLY, DELICATE, PALETTE, CROWSON, GATYS_2016, GATYS_2016_CODE),
        *(JOHNSON, TF_BLOG, UDACITY, KAGGLE, BOSTON, NNST, HEITZ_2021),
    )
}
"""The named recipes."""

LOOKS = {
    "painterly": "Broad brush strokes, bold shapes",
    "delicate": "Fine strokes, every edge kept",
    "palette": "New colours and no strokes",
    "crowson": "Thick strokes, shapes still clear",
    "gatys2016": "Swirls grown from pure noise",
    "gatys2016-code": "Large swirls, photograph half dissolved",
    "johnson": "Swirls everywhere, photograph nearly gone",
    "tf-blog": "Rough texture in bright colours",
    "udacity": "Fine ripples over the photograph",
    "kaggle": "Ripples with little photograph weight",
    "boston": "Fine ripples, photograph comes first",
    "nnst": "Soft strokes in calm colours",
    "heitz2021": "Fine grain, photograph kept clear",
}
"""The look of each recipe in five plain words, judged by drafts of the sample pictures
at 128 px with the embedded weights."""


def get_recipe(name: str) -> Recipe:
    """Look a recipe up by its name.

    Args:
        name: One of `RECIPES`.

    Returns:
        The recipe of that name.

    Raises:
        ValueError: If there is no such recipe; the message names the nearest one.

    Example:
        >>> get_recipe("gatys2016").program.pooling
        'average'
    """
    if name not in RECIPES:
        raise ValueError(
            f"no recipe is called {name!r}; did you mean {nearest(name, RECIPES)}? The "
            f"recipes are {', '.join(RECIPES)}"
        )
    return RECIPES[name]
