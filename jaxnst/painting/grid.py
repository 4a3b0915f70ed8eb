"""Many pictures at once: contents × styles × settings, as lanes of one compiled step.

The lanes of a batch run side by side in a `vmap`, spread over the devices of a mesh;
what differs between them (pictures, loss weights, learning rates, blends, seeds) is in
arrays. Lanes never look at each other, so devices have nothing to tell each other.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from cachetools import LRUCache
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from jaxnst.losses import Gaussian
from jaxnst.network.vgg import Backbone, stride
from jaxnst.objective import Styles, Targets, measure_content, measure_styles, weigh
from jaxnst.painting.inputs import initial_image
from jaxnst.painting.lanes import (
    Lane,
    Values,
    group_lanes,
    lane_mesh,
    make_lanes,
    plan_batches,
)
from jaxnst.painting.multiscale import (
    prepare_backbone,
    resize_state,
    scale_content,
    scale_detail,
    scale_styles,
)
from jaxnst.painting.scales import scale_shapes, scale_steps, style_shape
from jaxnst.pictures.color import match_palette
from jaxnst.process import single_threaded_lapack
from jaxnst.recipes import Recipe
from jaxnst.transfer import Info, State, Transfer, make_transfer, picture, run
from jaxnst.types import Features, Image


class Painted(NamedTuple):
    """One picture of a grid, finished.

    Attributes:
        lane: What was asked for.
        image: RGB in [0, 1], h w 3.
        infos: Infos of its steps, one entry for each scale.
        status: `done`, or `diverged` if a step was not finite; the image then is what
            the last finite one became at the finer scales.
        seconds: Wall-clock time of each scale of its batch, over the lanes in it.
    """

    lane: Lane
    image: Float[np.ndarray, "_h _w 3"]
    infos: list[Info]
    status: Literal["done", "diverged"]
    seconds: list[float]


class Progress(NamedTuple):
    """What is known between two chunks of a batch.

    Attributes:
        lanes: The lanes of the batch.
        shapes: Height and width of every scale.
        scale: Index of the scale, coarsest first.
        taken: Steps taken at this scale.
        steps: Steps that will be taken at this scale.
    """

    lanes: list[Lane]
    shapes: list[tuple[int, int]]
    scale: int
    taken: int
    steps: int


@cache
def make_batch_transfer(recipe: Recipe, mesh: Mesh) -> Transfer:
    """`make_transfer` for states and targets with an axis of lanes in front.

    Args:
        recipe: A `Recipe.program`.
        mesh: The axis of lanes is spread over its axis `lane`.

    Returns:
        The functions. The network is the same for all lanes, and nothing is
        communicated.
    """
    transfer = make_transfer(recipe)
    each, all_lanes = PartitionSpec("lane"), PartitionSpec()

    def spread(function: Callable, in_specs: tuple) -> Callable:
        return jax.shard_map(
            jax.vmap(function, in_axes=[0 if x == each else None for x in in_specs]),
            mesh=mesh,
            in_specs=in_specs,
            out_specs=each,
            check_vma=False,  # an optimiser's inner loops are as long in all lanes
        )

    # Placed as steps leave it, so that one program does for the first chunk too.
    sharding = NamedSharding(mesh, each)
    return Transfer(
        init=jax.jit(jax.vmap(transfer.init), out_shardings=sharding),
        evaluate=spread(transfer.evaluate, (each, all_lanes, each)),
        move=spread(transfer.move, (each, each, each)),
    )


def paint_lanes(
    backbone: Backbone,
    lanes: Sequence[Lane],
    load_content: Callable[[Lane], Image],
    load_styles: Callable[[Lane], list[Image]],
    *,
    mesh: Mesh | None = None,
    batch: int | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
) -> Iterator[Painted]:
    """Paint lanes, batch after batch, in smaller ones where memory does not do.

    Args:
        backbone: From `load_backbone`.
        lanes: From `make_lanes`, all or some of them.
        load_content: Gives the content of a lane, of the lane's shape.
        load_styles: Gives the styles of a lane, of any size.
        mesh: Devices with one axis, `lane`. Default: all devices of this process.
        batch: Lanes on a device at a time, see `plan_batches`.
        on_chunk: Called between chunks of steps, for progress. An exception it raises,
            such as KeyboardInterrupt, ends the painting.

    Yields:
        Every picture, as soon as its batch is finished.
    """
    mesh = mesh or lane_mesh()
    prepared: dict[Any, Any] = {}
    plan = deque(plan_batches(lanes, mesh, batch=batch))
    while plan:
        some, width = plan.popleft()
        recipe = some[0].recipe.program
        network = (recipe.activations, recipe.layers, recipe.dtype)
        if network not in prepared:
            prepared.clear()  # one network with prepared kernels is large enough
            measuring, stepping = prepare_backbone(backbone, recipe)
            stepping = jax.device_put(stepping, NamedSharding(mesh, PartitionSpec()))
            prepared[network] = Measurer(measuring, load_content, load_styles), stepping
        measurer, stepping = prepared[network]
        try:
            painted = _paint_batch(some, width, measurer, stepping, mesh, on_chunk)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or width == mesh.size:
                raise
            alike = (recipe, some[0].shape)
            left = [*some, *(lane for others, _ in plan for lane in others)]
            others = [
                x for x in plan if (x[0][0].recipe.program, x[0][0].shape) != alike
            ]
            half = width // mesh.size // 2
            plan = deque(
                plan_batches(group_lanes(left)[alike], mesh, batch=half) + others
            )
        else:
            yield from painted


@single_threaded_lapack
def _paint_batch(
    lanes: list[Lane],
    width: int,
    measurer: "Measurer",
    stepping: Backbone,
    mesh: Mesh,
    on_chunk: Callable[[Progress], None] | None,
) -> list[Painted]:
    """Take a batch from coarse to fine; empty places repeat its last lane."""
    recipe = lanes[0].recipe.program
    transfer = make_batch_transfer(recipe, mesh)
    sharding = NamedSharding(mesh, PartitionSpec("lane"))
    shapes = scale_shapes(lanes[0].shape, recipe)
    filled = lanes + lanes[-1:] * (width - len(lanes))

    def stack(trees: list[PyTree]) -> PyTree:
        return jax.device_put(jax.tree.map(_stack, *trees), sharding)

    state: Any = None
    infos: list[Info] = []
    seconds: list[float] = []
    for scale, steps in enumerate(scale_steps(recipe, len(shapes))):
        began = time.perf_counter()
        shape = shapes[scale]
        targets = stack([measurer.targets(lane, shape) for lane in filled])
        if state is None:
            starts = [measurer.start(lane, shape) for lane in filled]
            state = transfer.init(stack(starts))
        else:
            before = shapes[scale - 1]
            details = [measurer.detail(lane, before, shape) for lane in filled]
            state = _resize_states(recipe, state, stack(details), sharding)
        taken = 0

        def report(_: State, info: Info, scale=scale, steps=steps) -> None:
            nonlocal taken
            taken += len(info.loss)
            if on_chunk is not None:
                on_chunk(Progress(lanes, shapes, scale, taken, steps))

        state, info = run(
            transfer, state, stepping, targets, steps=steps, on_chunk=report
        )
        infos.append(jax.device_get(info))
        seconds.append((time.perf_counter() - began) / len(lanes))
    images = jax.device_get(_pictures(state, recipe))
    painted = []
    for i, lane in enumerate(lanes):
        own = [jax.tree.map(lambda x, i=i: x[:, i], info) for info in infos]
        status = "done" if all(info.finite.all() for info in own) else "diverged"
        painted.append(Painted(lane, images[i], own, status, seconds))
    return painted


def _stack(*arrays: Array) -> Array:
    """Stack arrays; roots of covariances may have fewer columns than others."""
    if arrays[0].ndim == 2:
        most = max(x.shape[1] for x in arrays)
        arrays = tuple(jnp.pad(x, ((0, 0), (0, most - x.shape[1]))) for x in arrays)
    return jnp.stack(arrays)


@partial(jax.jit, static_argnames=("recipe", "sharding"))
def _resize_states(
    recipe: Recipe,
    state: State,
    details: Float[Array, "_n _h _w 3"],
    sharding: NamedSharding,
) -> State:
    states = jax.vmap(partial(resize_state, recipe))(state, details)
    return jax.lax.with_sharding_constraint(states, sharding)


@partial(jax.jit, static_argnames="recipe")
def _pictures(state: State, recipe: Recipe) -> Float[Array, "_n _h _w 3"]:
    return jax.vmap(lambda state: picture(state, recipe))(state)


class Measurer:
    """Loads and measures each picture once, however many lanes have it.

    What was used last is kept, up to `KEPT_BYTES`.
    """

    def __init__(
        self,
        backbone: Backbone,
        load_content: Callable[[Lane], Image],
        load_styles: Callable[[Lane], list[Image]],
    ):
        self.backbone = backbone
        self.load_content, self.load_styles = load_content, load_styles
        self.kept: LRUCache = LRUCache(KEPT_BYTES, getsizeof=_bytes)

    def targets(self, lane: Lane, shape: tuple[int, int]) -> Targets:
        """What a lane is compared with at a scale."""
        recipe = lane.recipe.program

        def features() -> Features:
            content = scale_content(self._content(lane), shape)
            return measure_content(self.backbone, content, recipe)

        def statistics() -> Styles:
            styles = scale_styles(self._styles(lane), shape, lane.recipe)
            found = measure_styles(
                self.backbone, styles, recipe, blend=_array(lane.blend)
            )
            return _with_equal_ranks(found, lane, shape)

        return weigh(
            self._once(("features", shape, *self._content_key(lane)), features),
            self._once(("statistics", shape, *self._style_key(lane)), statistics),
            lane.recipe,
        )

    def start(self, lane: Lane, shape: tuple[int, int]) -> Image:
        """The start image of a lane at its coarsest scale."""
        return initial_image(
            lane.key,
            scale_content(self._content(lane), shape),
            scale_styles(self._styles(lane), shape, lane.recipe),
            kind=lane.recipe.init,
            deviation=lane.recipe.noise,
        )

    def detail(
        self, lane: Lane, before: tuple[int, int], shape: tuple[int, int]
    ) -> Image:
        """What is added to a lane's image where it is enlarged to a scale."""
        return scale_detail(self._content(lane), before, shape, lane.recipe)

    def _content(self, lane: Lane) -> Image:
        def load() -> Image:
            content = self.load_content(lane)
            if lane.recipe.palette == "content":
                return content
            return match_palette(content, self._styles(lane), blend=_array(lane.blend))

        return self._once(("content", *self._content_key(lane)), load)

    def _styles(self, lane: Lane) -> list[Image]:
        key = ("styles", *self._style_key(lane))
        return self._once(key, lambda: self.load_styles(lane))

    def _content_key(self, lane: Lane) -> tuple:
        recoloured = lane.recipe.palette == "style"
        palette = (lane.styles, lane.blend) if recoloured else ()
        return lane.content, lane.shape, lane.recipe.sight, palette

    def _style_key(self, lane: Lane) -> tuple:
        return lane.styles, lane.blend, lane.shape, lane.recipe.sight

    def _once(self, key: tuple, make: Callable[[], Any]) -> Any:
        if key in self.kept:
            return self.kept[key]
        value = make()
        if _bytes(value) <= KEPT_BYTES:
            self.kept[key] = value
        return value


KEPT_BYTES = 2**30


def _bytes(tree: PyTree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _array(blend: tuple[float, ...] | None) -> Float[Array, "_n"] | None:
    return None if blend is None else jnp.array(blend)


def _with_equal_ranks(styles: Styles, lane: Lane, shape: tuple[int, int]) -> Styles:
    """Give roots of covariances as many columns as a square style has there.

    A style of few positions has fewer; zeros instead of them change nothing, and all
    batches fit into one program.
    """
    square = style_shape((2**16, 2**16), shape, lane.recipe)

    def widen(layer: str, style: Any) -> Any:
        if not isinstance(style, Gaussian):
            return style
        rows, columns = style.root.shape
        most = len(lane.styles) * math.prod(square) // stride(layer) ** 2
        missing = max(0, min(rows, most) - columns)
        return style._replace(root=jnp.pad(style.root, ((0, 0), (0, missing))))

    return {layer: widen(layer, style) for layer, style in styles.items()}


def stylize_grid(
    backbone: Backbone,
    contents: Sequence[Image],
    styles: Sequence[Image],
    recipe: Recipe,
    *,
    key: Array,
    vary: Mapping[str, Values] | None = None,
    mesh: Mesh | None = None,
    batch: int | None = None,
) -> list[Float[np.ndarray, "_styles _settings _h _w 3"]]:
    """Paint every content in every style with every setting.

    Each picture is what `stylize` paints of it alone, up to rounding. Contents of one
    shape share compiled programs, whatever else differs; only fields of the recipe that
    choose another computation, such as `pooling`, need programs of their own.

    Args:
        backbone: From `load_backbone`.
        contents: RGB images in [0, 1], h w 3; the results have their sizes.
        styles: RGB images of any size.
        recipe: What to minimise and how.
        key: Random key of the start images; unused by recipes that start from the
            content.
        vary: Values by name of any field of the recipe; or `recipe`, whole ones; or
            `seed`, for the start image of `jax.random.key(seed)`; or `blend`, weights
            of the styles, which are then one style together. The settings are all
            combinations.
        mesh: Devices to paint on, with one axis, `lane`. Default: all of this process.
        batch: Pictures on a device at a time. Default: as many as keep it busy and fit
            into its memory. Rounding depends on it; with a number of your own, results
            are the same on any number of devices.

    Returns:
        For each content an array of its pictures, styles settings h w 3.

    Raises:
        ValueError: If a picture is too small, or there is nothing to vary.

    Example:
        >>> import jax, jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> contents = [jaxnst.sample("harbour", 48)]
        >>> styles = [jaxnst.sample("swirls", 48), jaxnst.sample("mosaic", 48)]
        >>> recipe = jaxnst.get_recipe("painterly").replace(first_steps=2)
        >>> grid = stylize_grid(
        ...     backbone, contents, styles, recipe, key=jax.random.key(0),
        ...     vary={"style_weight": [0.3, 1.0, 3.0]},
        ... )
        >>> grid[0].shape
        (2, 3, 36, 48, 3)
    """
    if vary and "size" in vary:
        raise ValueError("size changes nothing here; resize the contents instead")
    for name, pictures in (("content", contents), ("style", styles)):
        if not len(pictures):
            raise ValueError(f"expected at least one {name}, got none")
    height_width = lambda i, recipe: (contents[i].shape[0], contents[i].shape[1])
    lanes = make_lanes(
        len(contents), len(styles), recipe, height_width, key=key, vary=vary
    )
    places = {id(lane): n for n, lane in enumerate(lanes)}
    images: list[Any] = [None] * len(lanes)
    for painted in paint_lanes(
        backbone,
        lanes,
        lambda lane: contents[lane.content],
        lambda lane: [styles[j] for j in lane.styles],
        mesh=mesh,
        batch=batch,
    ):
        images[places[id(painted.lane)]] = painted.image
    columns = len({lane.styles for lane in lanes})
    per_content = len(lanes) // len(contents)
    return [
        np.stack(images[n : n + per_content]).reshape(columns, -1, *images[n].shape)
        for n in range(0, len(lanes), per_content)
    ]
