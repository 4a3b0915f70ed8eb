"""What a grid paints, and in which batches: planned before anything is painted.

A lane is one picture to paint. Lanes of the same shape and `Recipe.program` make a
batch, as many as keep a device busy and fit into its memory.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jaxnst.objective import check_blend
from jaxnst.painting.memory import free_memory, in_gigabytes, step_bytes
from jaxnst.painting.scales import check_content, scale_shapes, scale_steps
from jaxnst.recipes import Recipe


class Lane(NamedTuple):
    """One picture of a grid, before it is painted.

    Attributes:
        content: Index of its content.
        styles: Index of its style, or of all of them where they are blended.
        setting: What was varied, by name.
        shape: Height and width.
        recipe: The recipe with its setting.
        key: Random key of the start image.
        blend: Weight of each style, where they are blended.
    """

    content: int
    styles: tuple[int, ...]
    setting: dict[str, Any]
    shape: tuple[int, int]
    recipe: Recipe
    key: Array
    blend: tuple[float, ...] | None


Values = Sequence[Any] | Array | np.ndarray
"""Values to try."""

EXTRA = ("recipe", "seed", "blend")
"""What can vary beside the fields of the recipe."""


def make_lanes(
    contents: int,
    styles: int,
    recipe: Recipe,
    shape: Callable[[int, Recipe], tuple[int, int]],
    *,
    key: Array,
    vary: Mapping[str, Values] | None = None,
) -> list[Lane]:
    """All pictures of a grid: contents outermost, then styles, then settings.

    Args:
        contents: Number of contents.
        styles: Number of styles.
        recipe: What to minimise and how.
        shape: Height and width of a content, from its index and its lane's recipe.
        key: Random key of the start images.
        vary: Values by name of a field of the recipe, `recipe`, `seed` or `blend`; the
            settings are all combinations.

    Returns:
        The lanes.

    Raises:
        ValueError: If a name is unknown, a value is bad, changes nothing or comes
            twice, a content is too small, or the host shall keep the state.

    Example:
        >>> from jaxnst import get_recipe
        >>> vary = {"style_weight": [0.5, 1.0, 2.0]}
        >>> lanes = make_lanes(
        ...     2, 5, get_recipe("painterly"), lambda i, recipe: (48, 64),
        ...     key=jax.random.key(0), vary=vary,
        ... )
        >>> len(lanes), lanes[1].styles, lanes[1].setting
        (30, (0,), {'style_weight': 1.0})
    """
    known = [*Recipe.__dataclass_fields__, *EXTRA]
    vary = {name: _plain(values) for name, values in (vary or {}).items()}
    for name, values in vary.items():
        if name not in known:
            nearest = get_close_matches(name, known, 1, 0.0)[0]
            raise ValueError(
                "expected to vary a field of the recipe, recipe, seed or blend, "
                f"got {name!r}; did you mean {nearest}?"
            )
        if not len(values):
            raise ValueError(f"expected values of {name}, got none")
        for i, value in enumerate(values):
            if value in values[:i]:
                raise ValueError(
                    f"expected values that differ of {name}, got {value} twice"
                )
    settings = [
        dict(zip(vary, values, strict=True))
        for values in itertools.product(*vary.values())
    ]
    recipes = [_apply(recipe, setting, styles) for setting in settings]
    keys = [jax.random.key(x["seed"]) if "seed" in x else key for x in settings]
    columns = [(j,) for j in range(styles)]
    if "blend" in vary:
        columns = [tuple(range(styles))]
    lanes = []
    for i, column in itertools.product(range(contents), columns):
        for setting, changed, own in zip(settings, recipes, keys, strict=True):
            size = shape(i, changed)
            check_content(size, changed)
            blend = setting.get("blend")
            lanes.append(Lane(i, column, setting, size, changed, own, blend))
    return lanes


def _plain(value: Any) -> Any:
    """Numbers and tuples in the place of arrays and lists, so that they can be keys."""
    if isinstance(value, Array | np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _apply(recipe: Recipe, setting: dict[str, Any], styles: int) -> Recipe:
    """The recipe with a setting; seed and blend are checked, but are not in it."""
    changes = {name: x for name, x in setting.items() if name not in EXTRA}
    recipe = setting.get("recipe", recipe).replace(**changes)
    if recipe.state_memory != "device":
        raise ValueError(
            "expected the state_memory device for a grid, got host; leave it out, or "
            "use jaxnst stylize"
        )
    if "seed" in setting:
        seed = setting["seed"]
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ValueError(f"expected a seed from 0 to 4294967295, got {seed!r}")
        if recipe.init == "content":
            raise ValueError(
                "seed changes nothing where init is content; set init to noise or "
                "style as well, or leave it out"
            )
    if "blend" in setting:
        check_blend(setting["blend"], styles)
    return recipe


Groups = dict[tuple[Recipe, tuple[int, int]], list[Lane]]
"""Lanes by program and shape."""


def lane_bytes(shape: tuple[int, int], recipe: Recipe) -> int:
    """Memory that one more lane in a batch takes, at most.

    Half as much again as that of a picture alone, since XLA updates the states of a
    batch beside the old ones; and the statistics of its style.
    """
    return 3 * step_bytes(shape, recipe) // 2 + 8 * 2**20


BATCH_PIXELS = {"cpu": 2**16}
"""Pixels that keep a device busy; a batch of more gains nothing. On a CPU what fits
into its caches counts; elsewhere `2**22`, which was not measured."""


def group_lanes(lanes: Sequence[Lane]) -> Groups:
    """Lanes by program and shape, in the order they come."""
    groups: Groups = {}
    for lane in lanes:
        groups.setdefault((lane.recipe.program, lane.shape), []).append(lane)
    return groups


def plan_batches(
    lanes: Sequence[Lane], mesh: Mesh, *, batch: int | None = None
) -> list[tuple[list[Lane], int]]:
    """Divide lanes into batches that share a program and fit into memory.

    Args:
        lanes: Any lanes.
        mesh: The devices that a batch is spread over.
        batch: Lanes on a device at a time, or as many as there are of one program and
            shape. Default: as many as keep it busy and fit into two thirds of its free
            memory, or fewer where all batches are then equally full.

    Returns:
        Lanes of each batch, with the width of the batch: a multiple of the number of
        devices, at least the number of its lanes, and the same for all batches of a
        program.

    Raises:
        ValueError: If a lane does not fit.
    """
    device, devices = mesh.devices.flat[0], mesh.size
    memory = free_memory(device) * 2 / 3
    if device.platform == "cpu":
        memory /= devices
    plan = []
    for (recipe, shape), group in group_lanes(lanes).items():
        needed = lane_bytes(shape, recipe)
        if needed > free_memory(device):
            raise ValueError(
                f"expected {in_gigabytes(needed)} of memory for "
                f"{shape[1]} x {shape[0]} px, got {in_gigabytes(free_memory(device))}; "
                "use a smaller --size, or jaxnst stylize, which paints in tiles"
            )
        enough = BATCH_PIXELS.get(device.platform, 2**22) // math.prod(shape)
        fitting = int(memory // needed)
        # With a number that was asked for, each device's share of a batch is as wide
        # on any number of devices, and so rounds alike.
        most = min(batch, len(group)) if batch else max(1, min(enough, fitting))
        batches = math.ceil(len(group) / (devices * most))
        even = math.ceil(len(group) / batches / devices)
        width = devices * (most if batch else even)
        bounds = np.linspace(0, len(group), batches + 1).astype(int)
        plan += [(group[a:b], width) for a, b in itertools.pairwise(bounds)]
    return plan


def share_of_lanes(lanes: Sequence[Lane], index: int, count: int) -> list[Lane]:
    """The lanes that one of several machines paints: about as many pixels each.

    Lanes of one program stay together as far as possible, so that a machine compiles
    few of them.

    Args:
        lanes: All lanes that are to be painted, the same on every machine.
        index: Which machine this is.
        count: Number of machines.

    Returns:
        Its lanes; every lane is in the share of exactly one machine.
    """
    ordered = [lane for group in group_lanes(lanes).values() for lane in group]
    if not ordered:
        return []
    work = np.array([lane_work(lane) for lane in ordered], float)
    owner = ((work.cumsum() - work / 2) * count / work.sum()).astype(int)
    return [
        lane for lane, machine in zip(ordered, owner, strict=True) if machine == index
    ]


def lane_work(lane: Lane) -> int:
    """Pixels times steps over all scales, which time is about proportional to."""
    shapes = scale_shapes(lane.shape, lane.recipe)
    steps = scale_steps(lane.recipe, len(shapes))
    return sum(map(lambda s, n: math.prod(s) * n, shapes, steps))


def lane_mesh() -> Mesh:
    """The devices of this process, as a mesh of one axis, `lane`."""
    return Mesh(np.array(jax.local_devices()), ("lane",))
