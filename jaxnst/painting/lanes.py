"""The plan of a grid: its pictures, the lanes, and the batches they are painted in."""

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jaxnst.messages import gigabytes, nearest
from jaxnst.objective import check_blend
from jaxnst.painting.memory import free_memory, step_bytes
from jaxnst.painting.plan import Stages, plan_run, total_work
from jaxnst.painting.stage import canvas_of
from jaxnst.pictures.canvas import Canvas
from jaxnst.recipes import FIELDS, Recipe


class Lane(NamedTuple):
    """One picture of a grid, before it is painted.

    Attributes:
        content: Index or path of its content.
        styles: Index or file of one style, or of each style if they are blended.
        setting: Varied values, by name.
        recipe: The recipe with the setting applied.
        stages: From `plan_run`, without tiles.
        parts: Content and masks; None without masks. It is equal for all of a batch.
    """

    content: Any
    styles: tuple[Any, ...]
    setting: dict[str, Any]
    shape: tuple[int, int]
    recipe: Recipe
    key: Array
    blend: tuple[float, ...] | None
    stages: Stages
    parts: tuple | None = None

    @property
    def turned(self) -> bool:
        """Whether the picture is painted turned, see `scene.turn`."""
        recipe, (height, width) = self.recipe, self.shape
        return recipe.paints and recipe.program.shares_canvases and height > width

    @property
    def canvases(self) -> list[Canvas]:
        """The canvas of each stage."""
        own = partial(canvas_of, recipe=self.recipe, turned=self.turned)
        return [own(stage.shape) for stage in self.stages]


Values = Sequence[Any] | Array | np.ndarray
"""Values to try."""

EXTRA = ("recipe", "seed", "blend", "masks")
"""Names that can vary in addition to the fields of the recipe."""


def make_lanes(
    shapes: Sequence[tuple[int, int]],
    styles: int,
    recipe: Recipe,
    *,
    key: Array,
    vary: Mapping[str, Values] | None = None,
    masked: bool = False,
) -> list[Lane]:
    """All pictures of a grid: contents outermost, then styles, then settings.

    For `vary` see `grid.GridOptions`. If contents are `masked`, only pictures of one
    content with the same masks share a batch.

    Example:
        >>> from jaxnst import get_recipe
        >>> lanes = make_lanes(
        ...     [(48, 64)] * 2, 5, get_recipe("painterly"), key=jax.random.key(0),
        ...     vary={"style_weight": [0.5, 1.0, 2.0]},
        ... )
        >>> len(lanes), lanes[1].styles, lanes[1].setting
        (30, (0,), {'style_weight': 1.0})
    """
    vary = vary or {}
    settings = combine(vary)
    recipes = [apply_setting(recipe, setting, styles) for setting in settings]
    every = tuple(range(styles))
    columns = [every] if "blend" in vary else [(j,) for j in every] or [()]
    return [
        Lane(
            content=i,
            styles=column,
            setting=setting,
            shape=shape,
            recipe=own,
            key=jax.random.key(setting["seed"]) if "seed" in setting else key,
            blend=setting.get("blend"),
            stages=plan_run(shape, own),
            parts=(i, setting.get("masks")) if masked else None,
        )
        for (i, shape), column in itertools.product(enumerate(shapes), columns)
        for setting, own in zip(settings, recipes, strict=True)
    ]


def combine(
    vary: Mapping[str, Values], more: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """All combinations of values. A name is a recipe field, or in `EXTRA` or `more`."""
    known = [*FIELDS, *EXTRA, *more]
    found = {name: _plain(values) for name, values in vary.items()}
    for name, values in found.items():
        if name not in known:
            raise ValueError(
                f"{name!r} cannot be varied; did you mean {nearest(name, known)}?"
            )
        if not len(values):
            raise ValueError(f"expected values of {name}, got none; give at least one")
        if repeated := [x for i, x in enumerate(values) if x in values[:i]]:
            raise ValueError(
                f"{name} has a duplicate value {repeated[0]}; name each value once"
            )
    values = itertools.product(*found.values())
    return [dict(zip(found, chosen, strict=True)) for chosen in values]


def _plain(value: Any) -> Any:
    """Convert arrays and lists to numbers and tuples, which can be keys."""
    if isinstance(value, Array | np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def apply_setting(recipe: Recipe, setting: Mapping[str, Any], styles: int) -> Recipe:
    """The recipe with a setting applied; `seed` and `blend` are only checked."""
    changes = {name: x for name, x in setting.items() if name not in EXTRA}
    recipe = setting.get("recipe", recipe).replace(**changes)
    if "seed" in setting:
        seed = setting["seed"]
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ValueError(f"expected a seed from 0 to 4294967295, got {seed!r}")
        if recipe.look.init == "content":
            raise ValueError(
                "seed has no effect where init is content; set init to noise or "
                "style, or leave seed out"
            )
    if "blend" in setting:
        check_blend(setting["blend"], styles)
    return recipe


def lane_bytes(shape: tuple[int, int], recipe: Recipe) -> int:
    """Largest number of bytes that a lane adds to a batch.

    A lane takes 1.5 times the memory of a single picture, since XLA does not update the
    states of a batch in place, and 8 MiB for the statistics of its style.
    """
    return 3 * step_bytes(shape, recipe) // 2 + 8 * 2**20


BATCH_PIXELS = {"cpu": 2**16}
"""Pixels of a batch that keep a device busy, by platform. The caches of a CPU set its
limit. Other devices get `2**22`, which was not measured."""


def group_of(lane: Lane) -> tuple:
    """Key of a lane: lanes with equal keys may share batches."""
    recipe = lane.recipe
    kind = recipe.program, recipe.look.repaint, lane.turned
    sizes = tuple((canvas.size, canvas.part) for canvas in lane.canvases)
    return *kind, sizes, tuple(x.steps for x in lane.stages), lane.parts


def group_lanes(lanes: Sequence[Lane]) -> list[list[Lane]]:
    """Groups of lanes that may share batches, in the order of their first lanes."""
    groups: dict[tuple, list[Lane]] = {}
    for lane in lanes:
        groups.setdefault(group_of(lane), []).append(lane)
    return list(groups.values())


def plan_batches(
    lanes: Sequence[Lane], mesh: Mesh, *, batch: int | None = None
) -> list[tuple[list[Lane], int]]:
    """Divide lanes into batches that share a program and fit into memory.

    Returns the lanes and the width of each batch. The width is a multiple of the number
    of devices, at least the number of lanes, and the same for all batches of a program.
    `batch` is the largest number of lanes on a device. By default, a device gets as
    many lanes as keep it busy and fit into two thirds of its free memory, or fewer if
    this fills all batches equally. Lanes that take no steps are left out.
    """
    device, devices = mesh.devices.flat[0], mesh.size
    memory = free_memory(device) * 2 / 3
    if device.platform == "cpu":
        memory /= devices
    plan = []
    for group in group_lanes([lane for lane in lanes if lane.recipe.paints]):
        shape = max((lane.shape for lane in group), key=math.prod)
        needed = lane_bytes(shape, group[0].recipe)
        if needed > free_memory(device):
            raise ValueError(
                f"{shape[1]} x {shape[0]} px need {gigabytes(needed)} of memory, and "
                f"{gigabytes(free_memory(device))} are free; use a smaller --size, or "
                "jaxnst stylize, which paints in tiles"
            )
        enough = BATCH_PIXELS.get(device.platform, 2**22) // math.prod(shape)
        fitting = int(memory // needed)
        # With a given `batch`, each device's share of a batch has the same width on any
        # number of devices, so results are rounded alike.
        most = min(batch, len(group)) if batch else max(1, min(enough, fitting))
        batches = math.ceil(len(group) / (devices * most))
        even = math.ceil(len(group) / batches / devices)
        width = devices * (most if batch else even)
        bounds = np.linspace(0, len(group), batches + 1).astype(int)
        plan += [(group[a:b], width) for a, b in itertools.pairwise(bounds)]
    return plan


def share_of_lanes(lanes: Sequence[Lane], index: int, count: int) -> list[Lane]:
    """The lanes that machine `index` of `count` paints; all have about equal work.

    Lanes of one program stay together as far as possible, so that each machine compiles
    few programs. Every lane is in exactly one share.
    """
    ordered = list(itertools.chain(*group_lanes(lanes)))
    if not ordered:
        return []
    work = np.array(list(map(lane_work, ordered)), float)
    owner = ((work.cumsum() - work / 2) * count / work.sum()).astype(int)
    return [lane for lane, own in zip(ordered, owner, strict=True) if own == index]


def lane_work(lane: Lane) -> int:
    """Work of a lane, in pixels times steps; about proportional to time."""
    return total_work(lane.stages, lane.recipe)


def lane_mesh() -> Mesh:
    """The devices of this process, as a mesh of one axis, `lane`."""
    return Mesh(np.array(jax.local_devices()), ("lane",))
