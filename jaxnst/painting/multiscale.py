"""Coarse to fine: the driver that paints one picture."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Array, Float

from jaxnst import tiles
from jaxnst.linalg import float32
from jaxnst.network.calibrate import accelerate, calibrate
from jaxnst.network.vgg import Backbone
from jaxnst.objective import (
    Objective,
    RegionTargets,
    StyleSummary,
    Targets,
    blend_styles,
    measure_content,
    measure_style,
    objective,
    region_targets,
    with_weights,
)
from jaxnst.painting import inputs
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.memory import mask_bytes, usable_memory
from jaxnst.painting.plan import Stage, Stages, plan_run
from jaxnst.painting.scene import (
    Masks,
    Region,
    Scene,
    Style,
    finish,
    first_image,
    keep,
    make_scene,
    painted_content,
    repaint_scene,
    scale_scene,
)
from jaxnst.painting.stages import Progress, Result, Setup, paint_stages
from jaxnst.pictures.geometry import crop_like, crop_middle
from jaxnst.process import forget_programs, single_threaded_lapack, usual_numbers
from jaxnst.recipes import Recipe
from jaxnst.tiles import Tiled, smallest_tile
from jaxnst.transfer import State, Transfer, current_image, make_transfer
from jaxnst.types import Image


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run, in addition to its pictures and recipe.

    Attributes:
        blend: Weight of each style. Default: equal weights.
        masks: Regions with styles of their own, and where and how the rest is painted.
        init: Start image of any size, RGB in [0, 1]; of one of another shape the middle
            is taken. Default: as the recipe says.
        objective: What to minimise instead of the recipe's loss, see
            `objective.Objective`. The picture is then never painted in tiles.
        optimizer: An optax transformation instead of the recipe's optimiser, see
            `make_transfer`.
        resume: Checkpoint of the same run to go on from.
        stages: From `plan.plan_run`; tiles change the result only by rounding.
            Default: planned for the memory that is free.
        mesh: Devices with one axis, `tile`, to spread tiles over.
        on_chunk: Called between launches of steps, for progress, previews, checkpoints.
            An exception it raises, such as KeyboardInterrupt, ends the run.
        chunk: Steps between two calls, at most; each multiple of it has a call.
        throw: Raise if a step was not finite. Otherwise the result's status says so.
    """

    blend: Float[Array, "_n"] | None = None
    masks: Masks = Masks()
    init: Image | None = None
    objective: Objective = objective
    optimizer: optax.GradientTransformation | None = None
    resume: Checkpoint | None = None
    stages: Stages | None = None
    mesh: Mesh | None = None
    on_chunk: Callable[[Progress], None] | None = None
    chunk: int = 50
    throw: bool = True


@usual_numbers()
@single_threaded_lapack
def stylize(
    backbone: Backbone,
    content: Image,
    styles: Sequence[Style | Image],
    recipe: Recipe,
    *,
    key: Array,
    options: Options = Options(),
) -> Result:
    """Paint a picture in the style of one or more others, coarse to fine.

    Args:
        backbone: From `load_backbone`.
        content: RGB in [0, 1], h w 3; the result has its size.
        styles: RGB images of any size, at least one unless regions cover the content.
        recipe: What to minimise and how.
        key: Random key of the start image; unused by recipes that start from the
            content.
        options: Further options of the run.

    Returns:
        The picture, and what the steps measured.

    Raises:
        ValueError: If an image is too small, the blend does not match the styles, a
            region is empty, or the memory is not enough even in tiles.
        FloatingPointError: If a step was not finite and `options.throw` is set.

    Example:
        >>> import jax, jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> content, style = jaxnst.sample("harbour", 48), jaxnst.sample("swirls", 48)
        >>> recipe = jaxnst.get_recipe("painterly").replace(first_steps=2)
        >>> result = stylize(
        ...     backbone, content, [style], recipe, key=jax.random.key(0)
        ... )
        >>> result.image.shape
        (36, 48, 3)

        With another style for the sky, the upper half:

        >>> upper = jnp.zeros((36, 48, 1)).at[:18].set(1.0)
        >>> sky = Region([jaxnst.sample("mosaic", 48)], upper)
        >>> result = stylize(
        ...     backbone, content, [style], recipe, key=jax.random.key(0),
        ...     options=Options(masks=Masks(regions=[sky])),
        ... )
    """
    stages = options.stages or plan_stages(content.shape, recipe, options)
    painter = PicturePainter(backbone, content, styles, recipe, key, options)
    state, infos, seconds = paint_stages(
        painter.set_up,
        stages,
        resume=options.resume,
        chunk=options.chunk,
        on_chunk=options.on_chunk,
        stop=lambda info: not info.finite.all(),
    )
    diverged = bool(infos) and not infos[-1].finite.all()
    if diverged and options.throw:
        height, width, _ = state.image.shape
        raise FloatingPointError(
            f"step {int(infos[-1].finite.argmin()) + 1} at {width} x {height} px was "
            "not finite; lower the learning rate or the loss weights, or use "
            "throw=False to keep the last finite image"
        )
    status = "diverged" if diverged else "done"
    image = painter.finish(current_image(state, recipe))
    return Result(image, stages, infos, status, seconds)


def plan_stages(shape: tuple[int, ...], recipe: Recipe, options: Options) -> Stages:
    """The stages of a picture of that shape, for the memory that is free."""
    before = None if options.resume is None else options.resume.tiles
    kept = mask_bytes(shape, recipe, options.masks.count)
    memory = usable_memory() - kept if options.objective is objective else None
    return plan_run(shape, recipe, memory, tiles=before)


class PicturePainter:
    """Sets up the stages of one picture; the arguments are those of `stylize`."""

    def __init__(
        self,
        backbone: Backbone,
        content: Image,
        styles: Sequence[Style | Image],
        recipe: Recipe,
        key: Array,
        options: Options,
    ):
        self.recipe, self.key, self.options = recipe, key, options
        self.host = self.device = None
        if recipe.state_memory == "host":
            self.host = SingleDeviceSharding(jax.devices("cpu")[0])
            self.device = jax.tree.leaves(backbone)[0].sharding

        def place(x: Any) -> Any:
            if not hasattr(x, "shape"):
                return x
            return jax.device_put(float32(jnp.asarray(x)), self.host)

        pictures = content, list(styles), options.init, options.masks
        self.content, styles, self.init, self.masks = jax.tree.map(place, pictures)
        self.scene = make_scene(
            self.content, styles, recipe, blend=options.blend, masks=self.masks
        )
        self.measuring, self.stepping = prepare_backbone(backbone, recipe)

    def set_up(self, state: State | None, before: Stage | None, stage: Stage) -> Setup:
        """Begin a stage, see `stages.SetUp`."""
        recipe, options, tile = self.recipe, self.options, stage.tile
        if tile is not None:
            # Programs of earlier stages are no longer needed, and together take as much
            # memory as a tile.
            forget_programs()
        transfer = make_transfer(
            recipe,
            objective=options.objective if tile is None else Tiled(tile, options.mesh),
            optimizer=options.optimizer,
        )
        # Recoloured at each stage: it is fast, and keeping it would take memory.
        content = painted_content(self.scene, recipe)
        scene = scale_scene(self.scene, content, stage.shape, recipe)
        if state is None:
            # Compiled, so that the whole state is on the image's device.
            state = jax.jit(transfer.init)(self.start(scene))
        elif before is not None:
            detail = inputs.scale_detail(content, before.shape, stage.shape, recipe)
            state = jax.jit(transfer.enlarge)(state, detail)
        del content
        scene = jax.device_put(scene, self.device)
        targets = measure_targets(self.measuring, scene, recipe, tile=tile)
        state = cast(State, jax.device_put(state, self.host))
        finish = partial(self.repaint, transfer, scene) if recipe.repaint else None
        setup = Setup(transfer, state, self.stepping, targets, self.host, finish)
        return setup if tile is None else self.spread(setup)

    def repaint(self, transfer: Transfer, scene: Scene, state: State) -> State:
        """Lay the image of a state out of its styles, and begin anew with it."""
        image = jax.device_put(current_image(state, self.recipe), self.device)
        del state
        image = repaint_scene(scene, image, self.recipe)
        image = keep(scene, image, self.scene.content)
        return jax.jit(transfer.init)(jax.device_put(image, self.host))

    def start(self, scene: Scene) -> Image:
        """The start image, of the content's shape."""
        if self.init is not None:
            shape = scene.content.shape[0], scene.content.shape[1]
            image = inputs.scale_content(crop_like(self.init, shape), shape)
        else:
            image = first_image(self.key, scene, self.recipe)
        return keep(scene, image, self.scene.content)

    def finish(self, image: Image) -> Image:
        """What was painted, in the colours that the recipe asks for."""
        given = self.scene, image, self.content, self.recipe
        return finish(*given, self.masks.palette)

    def spread(self, setup: Setup) -> Setup:
        """Place arrays as a step in tiles returns them, so that it compiles once."""
        if self.options.mesh is None:
            return setup
        _, state, backbone, targets, host, _ = setup
        everywhere = NamedSharding(self.options.mesh, PartitionSpec())
        backbone, targets = jax.device_put((backbone, targets), everywhere)
        if host is None:
            state = cast(State, jax.device_put(state, everywhere))
        return setup._replace(state=state, backbone=backbone, targets=targets)


def prepare_backbone(backbone: Backbone, recipe: Recipe) -> tuple[Backbone, Backbone]:
    """The network with a recipe's activations: to measure with, and to step with.

    The second has the recipe's dtype. In float32 on a CPU, it holds prepared kernels as
    well, and shares the plain ones with the first.
    """
    backbone = calibrate(backbone, recipe.activations)
    if jax.default_backend() == "cpu" and recipe.dtype == "float32":
        return backbone, accelerate(backbone, recipe.layers)
    cast = lambda x: x.astype(recipe.dtype)
    params = jax.tree.map(cast, backbone.params)
    return backbone, dataclasses.replace(backbone, params=params)


def measure_targets(
    backbone: Backbone, scene: Scene, recipe: Recipe, *, tile: int | None = None
) -> Targets:
    """`objective.make_targets`, measured in tiles of size `tile` if it is given.

    A style that would take more memory than a step is measured in tiles, too.
    """
    program, content, hold = recipe.program, scene.content, scene.hold
    if tile is None:
        feats = measure_content(backbone, content, program, hold)
    else:
        feats = tiles.measure_content(backbone, content, program, tile, hold)
        # Wait, or it would run and hold memory while the styles are measured.
        jax.block_until_ready(feats)
    # Measuring takes half as much memory per pixel as a step.
    enough, loss = 2 * math.prod(content.shape[:2]), program.losses.style
    parts = tile or max(math.isqrt(enough), smallest_tile(recipe.layers))

    def summarize(style: Style) -> StyleSummary:
        image, mask, _ = style
        small = tile is None and math.prod(image.shape[:2]) <= enough
        if loss.match is not None:
            crop = lambda x: None if x is None else crop_middle(x, parts**2)
            image, mask = crop_middle(image, parts**2), crop(mask)
        if small or not loss.additive or loss.match is not None:
            return measure_style(backbone, image, program, mask)
        found = tiles.measure_style(backbone, image, program, parts, mask)
        return jax.block_until_ready(found)

    def measure(region: Region) -> RegionTargets:
        found = [summarize(style) for style in region.styles]
        shapes = [style.image.shape for style in region.styles]
        measured = blend_styles(found, shapes, program, blend=region.blend)
        return region_targets(measured, region.mask, program)

    regions = [measure(region) for region in scene.regions]
    return with_weights(feats, regions, recipe, hold=hold, paint=scene.paint)
