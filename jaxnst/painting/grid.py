"""Many pictures at once: contents × styles × settings, as lanes of one compiled step.

The lanes of a batch run side by side in a `vmap`, spread over the devices of a mesh,
which do not communicate. All that differs between the lanes is in arrays.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from jaxnst.checks import check_image, check_kind, check_list, check_untraced
from jaxnst.network.vgg import Backbone
from jaxnst.painting.inputs import check_key
from jaxnst.painting.lanes import (
    Lane,
    Values,
    group_of,
    lane_mesh,
    make_lanes,
    plan_batches,
)
from jaxnst.painting.measurer import Measurer, pad_zeros
from jaxnst.painting.plan import Stage
from jaxnst.painting.programs import prepare_backbone
from jaxnst.painting.scene import Masks, Style, check_styles
from jaxnst.painting.stages import Progress, Result, Setup, paint_stages
from jaxnst.process import single_threaded_lapack, usual_numbers
from jaxnst.recipes import Program, Recipe
from jaxnst.transfer import State, Transfer, current_image, make_transfer
from jaxnst.types import Image

BatchCallback = Callable[[list[Lane], Progress], None]
"""Called between launches of a batch with its lanes, for progress."""


class PaintedLane(NamedTuple):
    """One picture of a grid, finished, as a NumPy array.

    If its steps diverged, the finer stages went on from the last finite image.
    """

    lane: Lane
    result: Result


@cache
def make_batch_transfer(program: Program, mesh: Mesh) -> Transfer:
    """`make_transfer` for states and targets with an axis of lanes in front.

    The lanes are spread over the axis `lane` of the mesh and share the network.
    """
    transfer = make_transfer(program)
    each, all_lanes = PartitionSpec("lane"), PartitionSpec()

    def spread(function: Callable, in_specs: tuple) -> Callable:
        return jax.shard_map(
            jax.vmap(function, in_axes=[0 if x == each else None for x in in_specs]),
            mesh=mesh,
            in_specs=in_specs,
            out_specs=each,
            check_vma=False,  # an optimiser's inner loops are as long in all lanes
        )

    # Sharded as a step returns it, so that the first chunk needs no extra program.
    sharding = NamedSharding(mesh, each)
    return Transfer(
        init=jax.jit(jax.vmap(transfer.init), out_shardings=sharding),
        evaluate=spread(transfer.evaluate, (each, all_lanes, each)),
        move=spread(transfer.move, (each, each, each)),
        enlarge=jax.jit(jax.vmap(transfer.enlarge), out_shardings=sharding),
        optimizer=transfer.optimizer,
    )


def paint_lanes(
    measurer_of: Callable[[Backbone], Measurer],
    backbone: Backbone,
    lanes: Sequence[Lane],
    *,
    mesh: Mesh | None = None,
    batch: int | None = None,
    on_chunk: BatchCallback | None = None,
) -> Iterator[PaintedLane]:
    """Paint lanes, batch after batch; if memory runs out, in smaller batches.

    Each picture comes as soon as its batch is finished. For `batch` see `plan_batches`.
    An exception from `on_chunk`, such as KeyboardInterrupt, ends the painting.
    """
    mesh = mesh or lane_mesh()
    prepared: dict[Any, tuple[Measurer, Backbone]] = {}
    plan = plan_batches(lanes, mesh, batch=batch)
    while plan:
        some, width = plan.pop(0)
        recipe = some[0].recipe
        network = (recipe.activations, recipe.layers, recipe.dtype)
        if network not in prepared:
            prepared.clear()  # one network with prepared kernels is large enough
            measuring, stepping = prepare_backbone(backbone, recipe)
            stepping = jax.device_put(stepping, NamedSharding(mesh, PartitionSpec()))
            prepared[network] = measurer_of(measuring), stepping
        painter = BatchPainter(some, width, *prepared[network], mesh)
        try:
            painted = _paint_batch(painter, on_chunk)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or width == mesh.size:
                raise
            # Its group again, in batches of half the width, before the others.
            group, all_left = group_of(some[0]), [(some, width), *plan]
            same = [x for xs, _ in all_left for x in xs if group_of(x) == group]
            others = [batch for batch in plan if group_of(batch[0][0]) != group]
            half = width // mesh.size // 2
            plan = plan_batches(same, mesh, batch=half) + others
        else:
            yield from painted


@usual_numbers()
@single_threaded_lapack
def _paint_batch(
    painter: "BatchPainter", on_chunk: BatchCallback | None
) -> list[PaintedLane]:
    """Take a batch from coarse to fine."""
    lanes, stages = painter.lanes, painter.lanes[0].stages
    report = None if on_chunk is None else partial(on_chunk, lanes)
    state, infos, seconds = paint_stages(painter.set_up, stages, on_chunk=report)
    infos = jax.device_get(infos)
    images = jax.device_get(_current_images(state, painter.program))
    share = [x / len(lanes) for x in seconds]
    painted = []
    for i, lane in enumerate(lanes):
        own = [jax.tree.map(lambda x, i=i: x[:, i], info) for info in infos]
        status = "done" if all(info.finite.all() for info in own) else "diverged"
        image = np.asarray(painter.measurer.finish(lane, jnp.asarray(images[i])))
        painted.append(PaintedLane(lane, Result(image, stages, own, status, share)))
    return painted


@partial(jax.jit, static_argnames="program")
def _current_images(state: State, program: Program) -> Float[Array, "_n _h _w 3"]:
    return jax.vmap(lambda state: current_image(state, program))(state)


class BatchPainter:
    """Sets up the stages of a batch of lanes; empty places repeat its last lane."""

    def __init__(
        self,
        lanes: list[Lane],
        width: int,
        measurer: Measurer,
        stepping: Backbone,
        mesh: Mesh,
    ):
        self.lanes, self.measurer, self.stepping = lanes, measurer, stepping
        self.filled = lanes + lanes[-1:] * (width - len(lanes))
        self.program = lanes[0].recipe.program
        self.transfer = make_batch_transfer(self.program, mesh)
        self.sharding = NamedSharding(mesh, PartitionSpec("lane"))

    def set_up(self, state: State | None, before: Stage | None, stage: Stage) -> Setup:
        """Begin a stage, see `stages.SetUp`."""
        measurer, shape = self.measurer, stage.shape
        targets = self.stack(lambda lane: measurer.targets(lane, shape))
        if state is None or before is None:
            starts = self.stack(lambda lane: measurer.start(lane, shape))
            state = self.transfer.init(starts)
        else:
            scales = before.shape, shape
            details = self.stack(lambda lane: measurer.detail(lane, *scales))
            state = self.transfer.enlarge(state, details)
        finish = self.repaint if self.lanes[0].recipe.repaint else None
        return Setup(self.transfer, state, self.stepping, targets, finish=finish)

    def repaint(self, state: State) -> State:
        """Lay the images of the lanes out of their styles, and begin anew with them."""
        images = map(jnp.asarray, jax.device_get(_current_images(state, self.program)))
        laid = self.stack(lambda lane: self.measurer.repaint(lane, next(images)))
        return self.transfer.init(laid)

    def stack(self, make: Callable[[Lane], PyTree]) -> Any:
        """Make something for each lane, and stack it along a first axis of lanes."""
        trees = [make(lane) for lane in self.filled]
        return jax.device_put(jax.tree.map(_stack, *trees), self.sharding)


def _stack(*arrays: Array) -> Array:
    """Stack arrays, the shorter ones padded with zeros."""
    shape = tuple(map(max, zip(*(x.shape for x in arrays), strict=True)))
    return jnp.stack([pad_zeros(x, shape) for x in arrays])


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """Options of a grid, in addition to its pictures and recipe.

    Attributes:
        vary: Values to try, by name: of any field of the recipe; of `recipe`, whole
            recipes; of `seed`, for the start image of `jax.random.key(seed)`; of
            `blend`, weights that mix all styles into one. The settings are all
            combinations. Default: the recipe alone.
        masks: Where and how contents are painted, of every content; a picture is
            painted for each of them, and its setting tells which, as `masks`. Default:
            everywhere.
        mesh: Devices with one axis, `lane`. Default: all of this process.
        batch: Pictures on a device at a time. Default: as many as keep it busy and fit
            into its memory. Rounding depends on it; if it is given, results are the
            same on any number of devices.
    """

    vary: Mapping[str, Values] | None = None
    masks: Sequence[Masks] = ()
    mesh: Mesh | None = None
    batch: int | None = None


@usual_numbers()
def stylize_grid(
    backbone: Backbone,
    contents: Sequence[Image],
    styles: Sequence[Style | Image],
    recipe: Recipe,
    *,
    key: Array,
    options: GridOptions = GridOptions(),
) -> list[Float[np.ndarray, "_styles _settings _h _w 3"]]:
    """Paint every content in every style with every setting.

    Each picture is what `stylize` paints of it alone, up to rounding. Contents of one
    shape share compiled programs, except where a field of the recipe, such as
    `pooling`, chooses another computation.

    Args:
        backbone: From `load_backbone`.
        contents: RGB images in [0, 1], h w 3; the results have their sizes.
        styles: RGB images of any size.
        recipe: What to minimise and how.
        key: Random key of the start images; unused by recipes that start from the
            content.
        options: What to vary, and what to paint on.

    Returns:
        For each content an array of its pictures, styles settings h w 3.

    Raises:
        ValueError: As `stylize`, or if there is nothing to vary.

    Example:
        >>> import jax, jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> contents = [jaxnst.sample("harbour", 48)]
        >>> styles = [jaxnst.sample("swirls", 48), jaxnst.sample("mosaic", 48)]
        >>> recipe = jaxnst.get_recipe("painterly").replace(first_steps=2)
        >>> grid = stylize_grid(
        ...     backbone, contents, styles, recipe, key=jax.random.key(0),
        ...     options=jaxnst.GridOptions(vary={"style_weight": [0.3, 1.0, 3.0]}),
        ... )
        >>> grid[0].shape
        (2, 3, 36, 48, 3)
    """
    if options.vary and "size" in options.vary:
        raise ValueError("size changes nothing here; resize the contents instead")
    check_untraced("stylize_grid", backbone, contents, styles, key, options.masks)
    check_kind(backbone, Backbone, "load_backbone")
    check_kind(recipe, Recipe, "get_recipe")
    check_list(contents, "content")
    for content in contents:
        check_image(content, "content")
    for own in options.masks or [Masks()]:
        check_styles(styles, own)
    if not len(contents):
        raise ValueError("expected at least one content, got none")
    check_key(key)
    shapes = [(content.shape[0], content.shape[1]) for content in contents]
    vary, masks = dict(options.vary or {}), options.masks
    if len(masks) > 1:
        vary["masks"] = range(len(masks))
    masked = [bool(masks)] * len(contents)
    given = shapes, len(styles), recipe
    lanes = make_lanes(*given, key=key, vary=vary, masked=masked)
    measurer_of = partial(
        Measurer,
        load_content=lambda lane: contents[lane.content],
        load_styles=lambda lane: [styles[j] for j in lane.styles],
        load_masks=lambda lane: (
            masks[lane.setting.get("masks", 0)] if masks else Masks()
        ),
    )
    painted = paint_lanes(
        measurer_of, backbone, lanes, mesh=options.mesh, batch=options.batch
    )
    found = {id(lane): result.image for lane, result in painted}
    images = [found[id(lane)] for lane in lanes]
    columns = len({lane.styles for lane in lanes})
    per_content = len(lanes) // len(contents)
    return [
        np.stack(images[n : n + per_content]).reshape(columns, -1, *images[n].shape)
        for n in range(0, len(lanes), per_content)
    ]
