"""Coarse to fine: the driver that paints one picture."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from jaxnst.checks import check_image, check_key, check_kind, check_untraced
from jaxnst.compiled import OnWait, Preparer, Runner, clear_compiled
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Objective, objective
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.loop import run_chunk
from jaxnst.painting.memory import mask_bytes, usable_memory
from jaxnst.painting.painter import Painter, Picture
from jaxnst.painting.plan import Stage, Stages, plan_run
from jaxnst.painting.scene import (
    Masks,
    Scene,
    Style,
    check_pictures,
    finish,
    make_scene,
    on_host,
    painted_content,
    recolored,
    turn,
)
from jaxnst.painting.stage import (
    Measuring,
    canvas_of,
    most_pixels,
    prepare_backbone,
    scale,
)
from jaxnst.painting.stages import Progress, Result, Setup, paint_stages
from jaxnst.pictures.canvas import exact
from jaxnst.process import single_threaded_lapack, standard_dtypes
from jaxnst.recipes import Recipe
from jaxnst.tiles import Tiled
from jaxnst.transfer import State, Transfer, make_transfer
from jaxnst.types import Image


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run, in addition to its pictures and recipe.

    Attributes:
        blend: Weight of each style. Default: equal weights.
        masks: Regions with styles of their own, and where and how the rest is painted.
        init: Start image, RGB in [0, 1], of any size. It is cropped to the content's
            aspect ratio and resized. Default: as the recipe says.
        objective: What to minimise instead of the recipe's loss, see
            `objective.Objective`. The picture is then never painted in tiles.
        optimizer: An optax transformation instead of the recipe's optimiser, see
            `make_transfer`.
        resume: Checkpoint of the same run to continue from.
        stages: From `plan.plan_run`. Tiles change the result only by rounding. Default:
            planned for the free memory.
        mesh: Mesh with one axis, `tile`: the devices that share the tiles of a picture.
            Default: one device.
        on_chunk: Called between launches of steps, for progress, previews, checkpoints.
            If it raises an exception, the run ends.
        on_wait: Called while the run waits for a program to be compiled, with the name
            of the program and the seconds waited.
        chunk: Largest number of steps between two calls of `on_chunk`. There is also a
            call when the number of steps taken is a multiple of `chunk`.
        throw: Whether a step that is not finite raises a FloatingPointError. If False,
            the result then has the status `diverged`.
    """

    blend: Float[Array | np.ndarray, "_n"] | None = None
    masks: Masks = Masks()
    init: Image | None = None
    objective: Objective = objective
    optimizer: optax.GradientTransformation | None = None
    resume: Checkpoint | None = None
    stages: Stages | None = None
    mesh: Mesh | None = None
    on_chunk: Callable[[Progress], None] | None = None
    on_wait: OnWait = lambda program, seconds: None
    chunk: int = 50
    throw: bool = True


@standard_dtypes()
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

    `stylize` runs Python between compiled steps, so it cannot be part of `jit`, `vmap`
    or `grad`; `make_targets`, `objective` and `make_transfer` can.

    Args:
        backbone: From `load_backbone`.
        content: RGB in [0, 1], h w 3; the result has its size.
        styles: RGB images of any size. At least one, unless regions cover the content.
        recipe: What to minimise and how.
        key: Random key of the start image; unused by recipes that start from the
            content.
        options: Further options of the run.

    Returns:
        The picture, with the losses of all steps.

    Raises:
        ValueError: If an image is too small or not RGB in [0, 1], the blend does not
            match the styles, a region is empty, the key is not a random key, the memory
            is not enough even in tiles, or the call is inside `jit`, `vmap` or `grad`.
        FloatingPointError: If a step was not finite and `options.throw` is set.

    Example:
        For pictures of your own, use `load_image("photo.jpg", size=512)` instead of
        `sample`, and leave out `replace`, which makes this example quick:

        >>> import jax, jax.numpy as jnp, jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> content = jaxnst.sample("harbour", size=48)
        >>> style = jaxnst.sample("swirls", size=48)
        >>> recipe = jaxnst.get_recipe("painterly").replace(first_steps=2)
        >>> key = jax.random.key(0)
        >>> result = jaxnst.stylize(backbone, content, [style], recipe, key=key)
        >>> jaxnst.save_image("painted.png", result.image)
        >>> result.image.shape
        (36, 48, 3)

        With another style for the sky, the upper half:

        >>> upper = jnp.zeros((36, 48, 1)).at[:18].set(1.0)
        >>> sky = jaxnst.Region([jaxnst.sample("mosaic", size=48)], upper)
        >>> options = jaxnst.Options(masks=jaxnst.Masks(regions=[sky]))
        >>> result = jaxnst.stylize(
        ...     backbone, content, [style], recipe, key=key, options=options
        ... )
    """
    given = content, styles, key, options.masks, options.blend, options.init
    check_untraced("stylize", backbone, *given)
    check_kind(backbone, Backbone, "load_backbone")
    check_kind(recipe, Recipe, "get_recipe")
    check_pictures(content, styles, options.masks)
    if options.init is not None:
        check_image(options.init, "init")
    if not recipe.paints:
        return recolor(content, styles, recipe, options)
    painter = PicturePainter(backbone, content, styles, recipe, key, options)
    state, infos, seconds = paint_stages(
        painter.set_up,
        painter.show,
        painter.stages,
        resume=options.resume,
        chunk=options.chunk,
        on_chunk=options.on_chunk,
        stop=True,
    )
    first = options.resume.scale if options.resume else 0
    last = first + len(seconds) - 1
    diverged = bool(infos) and not infos[-1].finite.all()
    if diverged and options.throw:
        height, width = painter.stages[last].shape
        before = options.resume.taken if options.resume and len(seconds) == 1 else 0
        step = before + int(infos[-1].finite.argmin()) + 1
        raise FloatingPointError(
            f"step {step} at {width} x {height} px was not finite; lower the learning "
            "rate or the loss weights, or use throw=False to keep the last finite image"
        )
    status = "diverged" if diverged else "done"
    image = jnp.asarray(painter.show(state, last))
    return Result(image, painter.stages, infos, status, seconds, recipe.weights)


def recolor(
    content: Image, styles: Sequence[Style | Image], recipe: Recipe, options: Options
) -> Result:
    """Do the work of `stylize` for recipes that take no steps."""
    began, masks = time.perf_counter(), options.masks
    scene = make_scene(content, styles, recipe, blend=options.blend, masks=masks)
    image = recolored(scene, recipe)
    image = finish(scene, image, content, recipe, masks.palette)
    stages = plan_run(content.shape, recipe)
    seconds = [time.perf_counter() - began]
    return Result(image, stages, [], "done", seconds, recipe.weights)


def plan_stages(shape: tuple[int, ...], recipe: Recipe, options: Options) -> Stages:
    """The stages of a picture of that shape, for the free memory."""
    before = None if options.resume is None else options.resume.tiles
    kept = mask_bytes(shape, recipe, options.masks.count)
    memory = usable_memory() - kept if options.objective is objective else None
    return plan_run(shape, recipe, memory, tiles=before)


class PicturePainter(Painter):
    """Paints one picture; the arguments are those of `stylize`."""

    def __init__(
        self,
        backbone: Backbone,
        content: Image,
        styles: Sequence[Style | Image],
        recipe: Recipe,
        key: Array,
        options: Options,
    ):
        check_key(key)
        self.options = options
        stages = options.stages or plan_stages(content.shape, recipe, options)
        # Whether pictures of other shapes share the programs of this one.
        shares = options.objective is objective and recipe.program.shares_canvases
        self.turned = shares and content.shape[0] > content.shape[1]
        self.content, self.palette = on_host((content, options.masks.palette))
        start: Any = key
        if options.init is not None:
            start = on_host(options.init)
            start = turn(start) if self.turned else start
        given = {"blend": options.blend, "masks": options.masks, "turned": self.turned}
        scene = make_scene(content, styles, recipe, **given)
        own = partial(canvas_of, recipe=recipe, turned=self.turned) if shares else exact
        canvases = [own(stage.shape) for stage in stages]
        painted = painted_content(scene, recipe)
        picture = Picture(scene, painted, start, recipe, canvases)
        transfers = [self.transfer(recipe, stage) for stage in stages]
        super().__init__([picture], stages, transfers)
        self.scaled: dict[int, Scene] = {}
        pixels = most_pixels(stages, canvases)
        self.measuring, self.stepping = prepare_backbone(
            backbone, recipe.program, pixels=pixels, turned=self.turned
        )

    def transfer(self, recipe: Recipe, stage: Stage) -> Transfer:
        """The kernel that paints a stage."""
        options, tile = self.options, stage.tile
        return make_transfer(
            recipe.program,
            objective=options.objective if tile is None else Tiled(tile, options.mesh),
            optimizer=options.optimizer,
        )

    def set_up(self, number: int, state: State | None, resumed: bool) -> Setup:
        """Begin a stage, see `stages.SetUp`."""
        stage = self.stages[number]
        if stage.tile is not None:
            # Programs of earlier stages are no longer needed, and together take as much
            # memory as a tile.
            clear_compiled()
        if state is None or resumed:
            self.prepare(Preparer(), number, state)
        call = Runner(f"at {max(stage.shape)} px", self.options.on_wait)
        setup = self.begun(call, number, state, resumed)
        del self.scaled[number]  # free it with the stage
        setup = setup._replace(state=jax.device_put(setup.state))
        return setup if stage.tile is None else self.spread(setup)

    def prepare(self, call: Preparer, first: int, state: State | None) -> None:
        """Compile the stages from `first` on, up to a stage in tiles or on a mesh."""
        resumed = state is not None
        for number, stage in list(enumerate(self.stages))[first:]:
            if stage.tile is not None or self.options.mesh is not None:
                return
            setup = self.begun(call, number, state, resumed)
            after = setup.state
            if setup.targets is not None:
                given = after, setup.backbone, setup.targets, np.int32(0)
                after, _ = call(run_chunk, *given, transfer=setup.transfer)
            state, resumed = setup.end(after), False

    def begun(
        self, call: Runner, number: int, state: State | None, resumed: bool
    ) -> Setup:
        """Scale the pictures of a stage, measure them for its steps, and begin it."""
        (picture,), stage = self.pictures, self.stages[number]
        place = picture.canvases[number], self.recipe
        # Scaled once for both passes: one only compiles, the other one paints.
        if number not in self.scaled:
            self.scaled[number] = scale(picture.scene, picture.content, *place)
        scene = self.scaled[number]
        measuring = Measuring(call, self.measuring, *place, stage.tile)
        targets = measuring.targets(scene) if stage.steps else None
        if not resumed or state is None:
            state = self.begin(call, [scene], number, state)
        end = partial(self.end, call, [scene], number)
        return Setup(self.transfers[number], state, self.stepping, targets, end, call)

    def image(self, state: State, number: int) -> Image:
        """The picture so far."""
        (image,) = self.images(state, number)
        return turn(image) if self.turned else image

    def show(self, state: State, number: int) -> Image:
        """The picture so far, in the colours that the recipe asks for."""
        given = self.image(state, number), self.content, self.recipe, self.palette
        return finish(self.pictures[0].scene, *given)

    def spread(self, setup: Setup) -> Setup:
        """Place arrays on the devices as a tiled step does, so it compiles once."""
        if self.options.mesh is None:
            return setup
        everywhere = NamedSharding(self.options.mesh, PartitionSpec())
        given = setup.state, setup.backbone, setup.targets
        state, backbone, targets = jax.device_put(given, everywhere)
        return setup._replace(state=state, backbone=backbone, targets=targets)
