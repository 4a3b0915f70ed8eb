"""Coarse to fine: the driver that paints one picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Array, Float

from jaxnst.checks import check_image, check_kind, check_untraced
from jaxnst.linalg import float32
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Objective, Targets, objective
from jaxnst.painting.ahead import Ahead, Call, OnWait
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.inputs import check_key
from jaxnst.painting.loop import run_chunk
from jaxnst.painting.memory import mask_bytes, usable_memory
from jaxnst.painting.plan import Stage, Stages, plan_run
from jaxnst.painting.programs import (
    begin_scale,
    is_small,
    measure_scale,
    measure_targets,
    prepare_backbone,
    repaint_scale,
    scale_pictures,
)
from jaxnst.painting.scene import (
    Masks,
    Scene,
    Style,
    check_pictures,
    finish,
    make_scene,
    painted_content,
)
from jaxnst.painting.stages import Progress, Result, Setup, paint_stages
from jaxnst.process import forget_programs, single_threaded_lapack, usual_numbers
from jaxnst.recipes import Recipe
from jaxnst.tiles import Tiled
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
        on_wait: Called while a program is being compiled that is needed, with its name
            and the seconds waited.
        chunk: Steps between two calls of `on_chunk`, at most; each multiple of it has a
            call.
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
    on_wait: OnWait = lambda program, seconds: None
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

    It runs Python between compiled steps, so it cannot be part of `jit`, `vmap` or
    `grad`; `make_targets`, `objective` and `make_transfer` can.

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
        ValueError: If an image is too small or not RGB in [0, 1], the blend does not
            match the styles, a region is empty, the key is none, the memory is not
            enough even in tiles, or it is called under a transformation of JAX.
        FloatingPointError: If a step was not finite and `options.throw` is set.

    Example:
        >>> import jax, jax.numpy as jnp, jaxnst
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
        >>> sky = jaxnst.Region([jaxnst.sample("mosaic", 48)], upper)
        >>> result = stylize(
        ...     backbone, content, [style], recipe, key=jax.random.key(0),
        ...     options=Options(masks=Masks(regions=[sky])),
        ... )
    """
    given = content, styles, key, options.masks, options.blend, options.init
    check_untraced("stylize", backbone, *given)
    check_kind(backbone, Backbone, "load_backbone")
    check_kind(recipe, Recipe, "get_recipe")
    check_pictures(content, styles, options.masks)
    if options.init is not None:
        check_image(options.init, "init")
    painter = PicturePainter(backbone, content, styles, recipe, key, options)
    try:
        state, infos, seconds = paint_stages(
            painter.set_up,
            painter.stages,
            resume=options.resume,
            chunk=options.chunk,
            on_chunk=options.on_chunk,
            stop=lambda info: not info.finite.all(),
        )
    finally:
        painter.ahead.close()
    diverged = bool(infos) and not infos[-1].finite.all()
    if diverged and options.throw:
        height, width, _ = state.image.shape
        before = options.resume.taken if options.resume and len(infos) == 1 else 0
        step = before + int(infos[-1].finite.argmin()) + 1
        raise FloatingPointError(
            f"step {step} at {width} x {height} px was not finite; lower the learning "
            "rate or the loss weights, or use throw=False to keep the last finite image"
        )
    status = "diverged" if diverged else "done"
    image = painter.finish(current_image(state, recipe))
    return Result(image, painter.stages, infos, status, seconds)


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
        check_key(key)
        self.recipe, self.options = recipe, options
        self.stages = options.stages or plan_stages(content.shape, recipe, options)
        self.host = self.device = None
        if recipe.state_memory == "host":
            self.host = SingleDeviceSharding(jax.devices("cpu")[0])
            self.device = jax.tree.leaves(backbone)[0].sharding

        def place(x: Any) -> Any:
            if not hasattr(x, "shape"):
                return x
            return jax.device_put(float32(jnp.asarray(x)), self.host)

        given = content, list(styles), options.init, options.masks
        self.content, styles, init, self.masks = jax.tree.map(place, given)
        self.start = key if init is None else init
        self.scene = make_scene(
            self.content, styles, recipe, blend=options.blend, masks=self.masks
        )
        self.measuring, self.stepping = prepare_backbone(backbone, recipe)
        self.ahead = Ahead(options.on_wait)

    def set_up(self, state: State | None, before: Stage | None, stage: Stage) -> Setup:
        """Begin a stage, see `stages.SetUp`."""
        recipe, tile = self.recipe, stage.tile
        if tile is not None:
            # Programs of earlier stages are no longer needed, and together take as much
            # memory as a tile.
            forget_programs()
        # Recoloured at each stage: it is fast, and keeping it would take memory.
        content = painted_content(self.scene, recipe)
        if before is None:
            self.compile_ahead(content, state, self.stages.index(stage))
        targets = None
        if self.is_measured_at_once(content, stage):
            scene, targets = self.ahead.run(self.measure(content, stage))
        else:
            scene = scale_pictures(self.scene, content, **self.sizes(stage))
        if state is None or before is not None:
            state = self.ahead.run(self.begin(scene, content, state, stage))
        del content
        scene = jax.device_put(scene, self.device)
        if targets is None:
            targets = measure_targets(self.measuring, scene, recipe, tile=tile)
        state = cast(State, jax.device_put(state, self.host))
        finish = partial(self.repaint, scene, stage) if recipe.repaint else None
        transfer = self.transfer(stage)
        setup = Setup(transfer, state, self.stepping, targets, self.host, finish)
        self.ahead.wait(self.steps(state, targets, stage).name)
        return setup if tile is None else self.spread(setup)

    def compile_ahead(self, content: Image, state: State | None, first: int) -> None:
        """Compile the stages from `first` on, up to one that is painted in tiles."""
        if self.host is not None or self.options.mesh is not None:
            return  # where arguments are is known only when they are there
        compiled, before = self.ahead.compile, None
        for stage in self.stages[first:]:
            if not self.is_measured_at_once(content, stage):
                return
            scene, targets = compiled(self.measure(content, stage))
            if state is None or before is not None:
                state = compiled(self.begin(scene, content, state, stage))
            state, _ = compiled(self.steps(cast(State, state), targets, stage))
            if self.recipe.repaint:
                state = compiled(self.lay(scene, cast(State, state), stage))
            state = self.transfer(stage).shed(cast(State, state))
            before = stage

    def transfer(self, stage: Stage) -> Transfer:
        """The kernel that paints a stage."""
        options, tile = self.options, stage.tile
        return make_transfer(
            self.recipe,
            objective=options.objective if tile is None else Tiled(tile, options.mesh),
            optimizer=options.optimizer,
        )

    def is_measured_at_once(self, content: Image, stage: Stage) -> bool:
        """Whether one program scales and measures the pictures of a stage."""
        if stage.tile is not None or self.host is not None:
            return False
        sizes = self.sizes(stage)
        return is_small(scale_pictures.eval_shape(self.scene, content, **sizes))

    def sizes(self, stage: Stage) -> dict[str, Any]:
        """What the pictures of a stage are scaled by."""
        return {"shape": stage.shape, "recipe": self.recipe.structure}

    def begin(
        self, scene: Scene, content: Image, state: State | None, stage: Stage
    ) -> Call:
        """What makes the first state of a stage."""
        static = {"transfer": self.transfer(stage), "recipe": self.recipe.structure}
        given = self.scene, scene, content, self.start, state
        name = f"the start at {max(stage.shape)} px"
        return Call(name, begin_scale, given, static)

    def measure(self, content: Image, stage: Stage) -> Call:
        """What scales and measures the pictures of a stage."""
        given = self.measuring, self.scene, content, self.recipe.arrays
        name = f"the targets at {max(stage.shape)} px"
        return Call(name, measure_scale, given, self.sizes(stage))

    def steps(self, state: State, targets: Targets, stage: Stage) -> Call:
        """What `run` takes the steps of a stage with."""
        static = {"transfer": self.transfer(stage), "chunk": self.options.chunk}
        given = state, self.stepping, targets, 0
        return Call(f"the steps at {max(stage.shape)} px", run_chunk, given, static)

    def lay(self, scene: Scene, state: State, stage: Stage) -> Call:
        """What lays the image of a state out of the styles."""
        static = {"transfer": self.transfer(stage), "recipe": self.recipe.structure}
        given = scene, self.scene.content, state._replace(opt_state=())
        ratio = np.float32(self.recipe.content_ratio)
        name = f"the patches at {max(stage.shape)} px"
        return Call(name, repaint_scale, (*given, ratio), static)

    def repaint(self, scene: Scene, stage: Stage, state: State) -> State:
        """Lay the image of a state out of its styles, and begin anew with it."""
        state = cast(State, jax.device_put(state._replace(opt_state=()), self.device))
        call = self.lay(scene, state, stage)
        del state
        return jax.device_put(self.ahead.run(call), self.host)

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
