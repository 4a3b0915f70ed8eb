"""The plan of a run: its stages, decided before anything is painted."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxnst.painting.memory import choose_tile, process_bytes
from jaxnst.painting.scales import check_content, scale_shapes, scale_steps
from jaxnst.recipes import Recipe


class Stage(NamedTuple):
    """One scale of a run.

    Attributes:
        shape: Height and width of the picture.
        steps: Number of steps.
        tile: Size of the tiles in pixels; None: the picture is painted whole.
    """

    shape: tuple[int, int]
    steps: int
    tile: int | None = None


Stages = tuple[Stage, ...]


def plan_run(
    shape: tuple[int, ...],
    recipe: Recipe,
    memory: int | None = None,
    *,
    tiles: Sequence[int | None] | None = None,
) -> Stages:
    """Decide sizes, steps and tiles of a run.

    Args:
        shape: Height and width of the result.
        recipe: How it is painted.
        memory: Bytes that the process may use. Scales that need more are painted in
            tiles. Default: no limit, so no tiles.
        tiles: Tile sizes of an interrupted run that is resumed, one for each scale.
            They are used again if they still fit.

    Returns:
        The stages, coarsest first. If the recipe takes no steps, a single stage of 0
        steps.

    Raises:
        ValueError: If the picture is too small for the recipe's layers, or the memory
            is not enough even in tiles.

    Example:
        >>> from jaxnst import get_recipe
        >>> recipe = get_recipe("delicate").replace(first_steps=9, steps=4)
        >>> for stage in plan_run((192, 256), recipe):
        ...     print(stage)
        Stage(shape=(96, 128), steps=9, tile=None)
        Stage(shape=(136, 181), steps=4, tile=None)
        Stage(shape=(192, 256), steps=4, tile=None)
    """
    check_content(shape, recipe)
    if not recipe.paints:
        height, width = shape[:2]
        if memory is not None:
            choose_tile((height, width), recipe, memory)
        return (Stage((height, width), 0),)
    shapes = scale_shapes(shape[:2], recipe)
    steps = scale_steps(recipe, len(shapes))
    if memory is None:
        return tuple(map(Stage, shapes, steps))
    # The finest scale comes first: it needs most memory, so the error is about it.
    chosen = [choose_tile(shape, recipe, memory) for shape in reversed(shapes)][::-1]
    if tiles is not None:
        if len(tiles) != len(shapes):
            raise ValueError(
                f"expected the tiles of {len(shapes)} scales, got {len(tiles)}; leave "
                "out --resume to start anew"
            )
        chosen = [
            before if process_bytes(shape, recipe, before) <= memory else tile
            for shape, before, tile in zip(shapes, tiles, chosen, strict=True)
        ]
    return tuple(map(Stage, shapes, steps, chosen))


PATCH_STEPS = 10
"""Number of steps that take about as long as laying the patches of a scale. Measured
with `painterly` on a CPU: 3.5 at 160 px, 9 at 256 px and 11 at 512 px."""


def work_done(stages: Stages, recipe: Recipe, scale: int, taken: int) -> int:
    """Work done after `taken` steps of a scale, in pixels times steps."""
    before = total_work(stages[:scale], recipe)
    return before + taken * math.prod(stages[scale].shape)


def patch_work(stage: Stage, recipe: Recipe) -> int:
    """Work of laying the patches of a stage, in pixels times steps."""
    return PATCH_STEPS * recipe.look.repaint * math.prod(stage.shape)


def total_work(stages: Iterable[Stage], recipe: Recipe) -> int:
    """Pixels times steps of stages, with patches; about proportional to time."""
    each = lambda x: max(1, x.steps) * math.prod(x.shape) + patch_work(x, recipe)
    return sum(map(each, stages))
