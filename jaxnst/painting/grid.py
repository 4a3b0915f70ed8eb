"""Many pictures at once: contents × styles × settings, as lanes of one compiled step.

The lanes of a batch run side by side in a `vmap`, spread over the devices of a mesh.
The devices do not communicate. Lanes differ only in arrays, never in compiled code.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from jaxnst.checks import (
    check_image,
    check_key,
    check_kind,
    check_list,
    check_untraced,
)
from jaxnst.compiled import KeptJit, Runner
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Targets
from jaxnst.painting.lanes import (
    Lane,
    Values,
    group_of,
    lane_mesh,
    make_lanes,
    plan_batches,
)
from jaxnst.painting.measurer import Measurer
from jaxnst.painting.painter import Painter
from jaxnst.painting.scene import (
    Masks,
    Style,
    check_styles,
    turn,
)
from jaxnst.painting.stage import most_pixels, prepare_backbone
from jaxnst.painting.stages import Progress, Result, Setup, paint_stages
from jaxnst.process import single_threaded_lapack, standard_dtypes
from jaxnst.recipes import Recipe
from jaxnst.repaint import Layout, lay_levels
from jaxnst.transfer import Info, State, Transfer
from jaxnst.types import Image

BatchCallback = Callable[[list[Lane], Progress], None]
"""Called between the launches of a batch, with its lanes and its progress."""


EACH = PartitionSpec("lane")
"""Sharding of arrays with a first axis of lanes: each device holds a part of them."""


def spread(function: Callable, mesh: Any, parts: Any) -> Callable:
    """Spread a function of lanes over a mesh: each device computes its own lanes."""
    specs = {"in_specs": parts, "out_specs": EACH}
    # An optimiser's inner loops are equally long in all lanes.
    return jax.shard_map(function, mesh=mesh, check_vma=False, **specs)


@dataclass(frozen=True, repr=False)
class BatchTransfer(Transfer):
    """A `Transfer` whose states have a first axis of lanes.

    Attributes:
        mesh: Mesh with one axis, `lane`: the devices that share the lanes. Each device
            has the whole network.
    """

    mesh: Mesh = field(kw_only=True)

    def step(
        self, state: State, backbone: Backbone, targets: Targets
    ) -> tuple[State, Info]:
        """A step of all lanes, see `Transfer.step`."""
        step = jax.vmap(super().step, in_axes=(0, None, 0))
        if self.mesh.size > 1:
            step = spread(step, self.mesh, (EACH, PartitionSpec(), EACH))
        return step(state, backbone, targets)


class BatchRunner(Runner):
    """Calls programs of one picture for all lanes of a batch."""

    def __init__(self, sharding: NamedSharding):
        super().__init__()
        self.sharding = sharding

    def __call__(self, function: KeptJit, *args: Any, **static: Any) -> Any:
        """Call a program with arguments that have a first axis of lanes."""
        args = put_lanes(args, self.sharding)
        if self.sharding.mesh.size == 1:
            return super().__call__(function.batched, *args, **static)
        one = partial(function.batched.__wrapped__, **static)
        return jax.jit(spread(one, self.sharding.mesh, EACH))(*args)


def put_lanes(tree: PyTree, sharding: NamedSharding) -> Any:
    """Put arrays with an axis of lanes onto the devices of a mesh."""
    (first, *others) = sharding.device_set
    return jax.device_put(tree, sharding if others else first)


def paint_lanes(
    measurer: Measurer,
    backbone: Backbone,
    lanes: Sequence[Lane],
    *,
    mesh: Mesh | None = None,
    batch: int | None = None,
    on_chunk: BatchCallback | None = None,
) -> Iterator[tuple[Lane, Result]]:
    """Paint lanes in batches. If memory runs out, the batches become smaller.

    Each lane is yielded with its result as soon as its batch is finished. The image is
    a NumPy array. If the steps of a lane diverge, its finer stages continue from the
    last finite image. For `batch` see `plan_batches`. An exception from `on_chunk`,
    such as KeyboardInterrupt, ends the painting.
    """
    plain = [lane for lane in lanes if not lane.recipe.paints]
    yield from _recolor(plain, measurer, on_chunk)
    mesh = mesh or lane_mesh()
    pixels = max((most_pixels(x.stages, x.canvases) for x in lanes), default=0)
    plan = plan_batches(lanes, mesh, batch=batch)
    prepared: dict[Any, tuple[Backbone, Backbone]] = {}
    while plan:
        some, width = plan.pop(0)
        program, turned = some[0].recipe.program, some[0].turned
        network = program.activations, program.layers, program.dtype, turned
        if network not in prepared:
            options: dict = {"pixels": pixels, "turned": turned}
            measuring, stepping = prepare_backbone(backbone, program, **options)
            if mesh.size > 1:
                everywhere = NamedSharding(mesh, PartitionSpec())
                stepping = jax.device_put(stepping, everywhere)
            # Only one is kept, since a network with prepared kernels is large.
            prepared = {network: (measuring, stepping)}
        given = measurer, *prepared[network], mesh
        try:
            painted = _paint_batch(some, width, *given, on_chunk=on_chunk)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or width == mesh.size:
                raise
            # Paint its group again, in batches of half the width, before the others.
            group, all_left = group_of(some[0]), [(some, width), *plan]
            same = [x for xs, _ in all_left for x in xs if group_of(x) == group]
            others = [batch for batch in plan if group_of(batch[0][0]) != group]
            half = width // mesh.size // 2
            plan = plan_batches(same, mesh, batch=half) + others
        else:
            yield from painted


def _recolor(
    lanes: Sequence[Lane], measurer: Measurer, on_chunk: BatchCallback | None
) -> Iterator[tuple[Lane, Result]]:
    """Recolour lanes whose recipes take no steps; `on_chunk` is called after each."""
    nothing: Any = None  # no state, no info
    for lane in lanes:
        began = time.perf_counter()
        with standard_dtypes():
            image = measurer.recolored(lane)
        spent = [time.perf_counter() - began]
        result = Result(image, lane.stages, [], "done", spent, lane.recipe.weights)
        yield lane, result
        if on_chunk is not None:
            on_chunk([lane], Progress(lane.stages, 0, 0, nothing, nothing, nothing))


@standard_dtypes()
@single_threaded_lapack
def _paint_batch(
    lanes: list[Lane],
    width: int,
    measurer: Measurer,
    *given: Any,
    on_chunk: BatchCallback | None,
) -> list[tuple[Lane, Result]]:
    """Paint a batch from coarse to fine; the arguments are those of `BatchPainter`."""
    painter, stages = BatchPainter(lanes, width, measurer, *given), lanes[0].stages
    report = None if on_chunk is None else partial(on_chunk, lanes)
    hooks = painter.set_up, painter.show
    state, infos, seconds = paint_stages(*hooks, stages, on_chunk=report)
    infos = jax.device_get(infos)
    share = [x / len(lanes) for x in seconds]
    painted = []
    pictures = painter.show(state, len(stages) - 1)
    for i, (lane, image) in enumerate(zip(lanes, pictures, strict=True)):
        own = [jax.tree.map(lambda x, i=i: x[:, i], info) for info in infos]
        status = "done" if all(info.finite.all() for info in own) else "diverged"
        image = measurer.finish(lane, image)
        weights = lane.recipe.weights
        result = Result(image, lane.stages, own, status, share, weights)
        painted.append((lane, result))
    return painted


class BatchPainter(Painter):
    """Paints a batch of lanes; the last lane is repeated to fill the width."""

    def __init__(
        self,
        lanes: list[Lane],
        width: int,
        measurer: Measurer,
        measuring: Backbone,
        stepping: Backbone,
        mesh: Mesh,
    ):
        self.lanes, self.measurer = lanes, measurer
        self.measuring, self.stepping = measuring, stepping
        self.filled = lanes + lanes[-1:] * (width - len(lanes))
        transfer = BatchTransfer(lanes[0].recipe.program, mesh=mesh)
        stages, pictures = lanes[0].stages, list(map(measurer.picture, self.filled))
        super().__init__(pictures, stages, [transfer] * len(stages), batched=True)
        self.sharding = NamedSharding(mesh, EACH)

    def set_up(self, number: int, state: State | None, resumed: bool) -> Setup:
        """Begin a stage, see `stages.SetUp`."""
        stage, lanes, targets = self.stages[number], self.filled, None
        call, every = Runner(f"at {max(stage.shape)} px"), BatchRunner(self.sharding)
        if stage.steps:
            of = partial(self.measurer.targets, call, self.measuring)
            each = [of(lane, number) for lane in lanes]
            targets = put_lanes(stack(each), self.sharding)
        scenes = [self.measurer.scaled(lane, number) for lane in lanes]
        begun = put_lanes(self.begin(every, scenes, number, state), self.sharding)
        end = partial(self.end, every, scenes, number)
        return Setup(self.transfers[number], begun, self.stepping, targets, end, call)

    def lay_region(self, call: Runner, layouts: Sequence[Layout]) -> list[np.ndarray]:
        """Lay one region of each lane; in one call if all pyramids have one shape."""
        shapes = [str(jax.tree.map(np.shape, x)) for x in layouts]
        if len(set(shapes)) == 1:
            return list(np.asarray(lay_levels(stack(layouts), call)))
        return [np.asarray(lay_levels(x, Runner())) for x in layouts]

    def show(self, state: State, number: int) -> list[Image]:
        """The pictures of the lanes, turned back if they are painted turned."""
        found = self.images(state, number)[: len(self.lanes)]
        return [turn(x) for x in found] if self.lanes[0].turned else found


def stack(trees: Sequence[PyTree]) -> Any:
    """Stack trees along a first axis of lanes; pad smaller arrays with zeros."""

    def join(*arrays: Array | np.ndarray) -> np.ndarray:
        first, *others = map(np.asarray, arrays)
        if all(x.shape == first.shape for x in others):
            return np.stack([first, *others])
        shape = np.max([x.shape for x in arrays], axis=0)
        return np.stack([np.pad(x, [(0, n) for n in shape - x.shape]) for x in arrays])

    return jax.tree.map(join, *trees)


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """Options of a grid, in addition to its pictures and recipe.

    Attributes:
        vary: Lists of values to try, by name. A name is any field of the recipe, or one
            of three others: `recipe` has whole recipes; `seed` has seeds of the start
            image, for `jax.random.key`; `blend` has lists of weights that mix all
            styles. All combinations are painted. Default: the recipe alone.
        masks: Every content is painted once with each entry of this list. Default: no
            masks.
        mesh: Mesh with one axis, `lane`: the devices that share the pictures. Default:
            all devices of this process.
        batch: Number of pictures that a device paints at a time. Default: as many as
            keep the device busy and fit into its memory. Another batch changes results
            by rounding; a fixed batch gives the same results on any number of devices.
    """

    vary: Mapping[str, Values] | None = None
    masks: Sequence[Masks] = ()
    mesh: Mesh | None = None
    batch: int | None = None


@standard_dtypes()
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

    Each picture equals the one that `stylize` paints, up to rounding. Contents of one
    shape share compiled programs. Settings share them, too, unless `vary` changes a
    field that selects another computation, such as `pooling`.

    Args:
        backbone: From `load_backbone`.
        contents: RGB images in [0, 1], h w 3; the results have their sizes.
        styles: RGB images of any size.
        recipe: What to minimise and how.
        key: Random key of the start images; unused by recipes that start from the
            content.
        options: What to vary, and the devices to use.

    Returns:
        A list with an array for each content, of shape (styles, settings, h, w, 3).

    Raises:
        ValueError: As `stylize`, or if `contents` is empty or `vary` is invalid.

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
    given = shapes, len(styles), recipe
    lanes = make_lanes(*given, key=key, vary=vary, masked=bool(masks))
    measurer = Measurer(
        load_content=lambda lane: contents[lane.content],
        load_styles=lambda lane: [styles[j] for j in lane.styles],
        load_masks=lambda lane: (
            masks[lane.setting.get("masks", 0)] if masks else Masks()
        ),
    )
    painted = paint_lanes(
        measurer, backbone, lanes, mesh=options.mesh, batch=options.batch
    )
    found = {id(lane): result.image for lane, result in painted}
    images = [found[id(lane)] for lane in lanes]
    columns = len({lane.styles for lane in lanes})
    per_content = len(lanes) // len(contents)
    return [
        np.stack(images[n : n + per_content]).reshape(columns, -1, *images[n].shape)
        for n in range(0, len(lanes), per_content)
    ]
