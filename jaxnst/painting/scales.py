"""Sizes of the result, of the scales that lead to it, and of the styles."""

import itertools
import math

from jaxnst.network.vgg import stride
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import Recipe

EDGES = {"long": max, "short": min}


RUNG = 512
"""Long edge, in pixels, from which the ladder of shared scales is computed."""

LAST = 2**0.25
"""Smallest ratio of the last scale to the one before: half a step of √2."""


def scale_shapes(shape: tuple[int, ...], recipe: Recipe) -> list[tuple[int, int]]:
    """Height and width of every scale, coarsest first, `scale_factor` apart.

    Pictures that share canvases take their sizes from one ladder: `RUNG` times powers
    of `scale_factor`. Only their last scale has another size, that of the result.

    Example:
        >>> from jaxnst import get_recipe
        >>> scale_shapes((192, 256), get_recipe("delicate"))
        [(96, 128), (136, 181), (192, 256)]
    """
    schedule = recipe.schedule
    longest, factor = max(shape), schedule.scale_factor
    smallest = max(map(stride, recipe.program.layers))
    top, first = longest, -1
    if recipe.program.shares_canvases:
        top, first = RUNG, math.floor(math.log(longest / LAST / RUNG, factor))
    sides = [longest]
    for power in itertools.count(first, -1):
        side = round(top * factor**power)
        if side < schedule.min_size or min(fit_shape(shape, side)) < smallest:
            break
        if len(sides) == schedule.scales:
            break
        if side < sides[-1]:  # a small factor may round to the same size
            sides.append(side)
    return [fit_shape(shape, side) for side in reversed(sides)]


def scale_steps(recipe: Recipe, scales: int) -> list[int]:
    """Steps at every scale, coarsest first.

    Example:
        >>> from jaxnst import get_recipe
        >>> scale_steps(get_recipe("painterly").replace(first_steps=9, steps=4), 3)
        [9, 4, 4]
    """
    return [recipe.schedule.first_steps] + [recipe.schedule.steps] * (scales - 1)


def takes_steps(shape: tuple[int, int], recipe: Recipe) -> bool:
    """Whether a picture of that shape takes steps at its last scale, or only patches.

    Example:
        >>> from jaxnst import get_recipe
        >>> takes_steps((192, 256), get_recipe("painterly"))
        True
        >>> takes_steps((384, 512), get_recipe("painterly"))
        False
    """
    return scale_steps(recipe, len(scale_shapes(shape, recipe)))[-1] > 0


def content_size(shape: tuple[int, ...], recipe: Recipe) -> int:
    """Long edge that a recipe gives to the result, for a content of that shape.

    Without `enlarge`, `size` is limited to the content's long edge. If `size` means the
    short edge, small pictures are still enlarged, as by torchvision's `Resize`.

    Example:
        >>> from jaxnst import get_recipe
        >>> content_size((600, 800), get_recipe("kaggle"))
        533
        >>> content_size((200, 300), get_recipe("kaggle"))
        450
        >>> content_size((200, 300), get_recipe("painterly"))
        300
    """
    longest, sizes = max(shape), recipe.sizes
    size = sizes.size if sizes.enlarge != "none" else min(sizes.size, longest)
    return round(size * longest / EDGES[sizes.size_edge](shape))


def style_shape(
    style: tuple[int, ...], content: tuple[int, int], recipe: Recipe, scale: float = 1.0
) -> tuple[int, int]:
    """Height and width at which a style is measured, for a content of that size.

    The style's edge that `size_edge` names is the same edge of the content, times
    `style_scale`, times the style's own `scale`. The style is at least large enough for
    the network. It is not enlarged, unless the recipe enlarges both pictures.
    """
    sizes = recipe.sizes
    if sizes.squash_style:
        return content
    smallest = smallest_side(recipe)
    if min(style) < smallest:
        raise ValueError(
            f"expected a style of at least {smallest} px on each side, got "
            f"{style[1]} x {style[0]} px; use a larger picture"
        )
    enough = math.ceil(smallest * max(style) / min(style))
    size = round(EDGES[sizes.size_edge](content) * sizes.style_scale * scale)
    if sizes.size_edge == "short":
        size = round(size * max(style) / min(style))
    size = max(size, enough)
    return fit_shape(style, size if sizes.enlarge == "both" else min(size, max(style)))


def smallest_side(recipe: Recipe) -> int:
    """Smallest short edge, in pixels, that the layers of a recipe can measure."""
    return max(map(stride, recipe.program.layers)) if recipe.paints else 1


def check_content(shape: tuple[int, ...], recipe: Recipe) -> None:
    """Raise a ValueError if a content is too small for the layers of a recipe."""
    smallest = smallest_side(recipe)
    if min(shape[:2]) < smallest:
        raise ValueError(
            f"expected a content of at least {smallest} px on each side, got "
            f"{shape[1]} x {shape[0]} px; use a larger --size, or a "
            "picture that is less narrow"
        )
