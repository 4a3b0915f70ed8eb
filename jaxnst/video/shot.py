"""A shot: its first frame is painted as a picture, later ones from those before."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnst import tiles
from jaxnst.objective import (
    Agreement,
    Targets,
    measure_content,
    region_targets,
    with_weights,
)
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.multiscale import PicturePainter
from jaxnst.painting.plan import Stage, Stages
from jaxnst.painting.programs import measure_targets
from jaxnst.painting.scene import (
    Masks,
    Region,
    Scene,
    Style,
    finish,
    keep,
    make_scene,
    painted_content,
    repaint_scene,
    scale_scene,
)
from jaxnst.painting.stages import SetUp, Setup, paint_stages
from jaxnst.pictures.color import to_grey
from jaxnst.process import single_threaded_lapack, usual_numbers
from jaxnst.transfer import State, Transfer, current_image
from jaxnst.types import Image, Mask
from jaxnst.video.store import ImageArray
from jaxnst.video.temporal import Past

FEWEST = 3
"""Steps of a frame that follows another, at least, unless fewer are asked for."""


class Painted(NamedTuple):
    """A painted frame, before the colours of the result are made; and its last loss."""

    image: Image
    loss: float


class Shot:
    """Paints the frames of a shot.

    What does not depend on a single frame is measured once: the styles, in the colours
    that they are given at the first frame.

    Args:
        first: Index of its first frame.
        painter: Of the first frame.
        styles: As they were given to the painter.
        steps: Of every other frame. Default: half of those of the last scale.
    """

    def __init__(
        self,
        first: int,
        painter: PicturePainter,
        styles: Sequence[Style | Image],
        steps: int | None = None,
    ):
        self.first, self.painter = first, painter
        self.styles, self.steps = styles, steps
        self.recipe, self.options = painter.recipe, painter.options

    @property
    def stages(self) -> Stages:
        """The stages of the first frame."""
        return self.painter.stages

    @cached_property
    def stage(self) -> Stage:
        """The one stage of every other frame."""
        last = self.stages[-1]
        fewer = max(FEWEST, min(self.recipe.steps, last.steps) // 2)
        return last._replace(steps=self.steps or min(fewer, last.steps))

    @cached_property
    def transfer(self) -> Transfer:
        """The kernel of every other frame."""
        return self.painter.transfer(self.stage)

    @cached_property
    def scene(self) -> Scene:
        """The scene of the first frame, its styles as large as they are measured."""
        scene = self.painter.scene
        return scale_scene(scene, scene.content, self.stage.shape, self.recipe)

    @cached_property
    def targets(self) -> Targets:
        """The targets of the first frame, whose styles are those of all frames."""
        scene = jax.device_put(self.scene, self.painter.device)
        measuring, tile = self.painter.measuring, self.stage.tile
        return measure_targets(measuring, scene, self.recipe, tile=tile)

    @usual_numbers()
    @single_threaded_lapack
    def paint_first(self) -> Painted:
        """Paint the first frame, coarse to fine."""
        resume = self.options.resume
        try:
            return self._run(self.painter.set_up, self.stages, resume=resume)
        finally:
            self.painter.ahead.close()

    @usual_numbers()
    @single_threaded_lapack
    def follow(
        self, scene: Scene, content: ImageArray, past: Past, weight: float
    ) -> Painted:
        """Paint another frame.

        Args:
            scene: Of the frame, from `scene_of`.
            content: The frame of the source, h w 3.
            past: What earlier frames say of it, warped to it.
            weight: Factor on the disagreement with them.

        Returns:
            The frame; where the past is reliable, it stays as it is.
        """
        scene = self._scale(scene)
        start = scene.content + past.reliability * (past.image - scene.content)
        start = keep(scene, jnp.clip(start, 0, 1), jnp.asarray(content))
        if past.reliability.min() == 1:
            return Painted(start, 0.0)  # nothing is new
        return self._paint(scene, start, past, weight)

    @usual_numbers()
    @single_threaded_lapack
    def finish(
        self, content: ImageArray, image: ImageArray, masks: Masks | None = None
    ) -> Image:
        """A painted frame in the colours that the recipe asks for."""
        scene = self.scene_of(content, masks)
        palette = (masks or self.options.masks).palette
        given = jnp.asarray(image), jnp.asarray(content), self.recipe, palette
        return finish(scene, *given)

    def scene_of(self, content: ImageArray, masks: Masks | None) -> Scene:
        """The scene of a frame, with the styles of the first one, in the own size.

        Its content is grey where the recipe paints nothing but lightness.
        """
        shown, own = jnp.asarray(content), self.painter.scene
        if masks is None:
            grey = self.recipe.colors == "luminance"
            return own._replace(content=to_grey(shown) if grey else shown)
        blend, recipe = self.options.blend, self.recipe
        found = make_scene(shown, self.styles, recipe, blend=blend, masks=masks)
        return found._replace(regions=_with_masks(own, found))

    def _scale(self, scene: Scene) -> Scene:
        """A scene of a frame as it is painted."""
        content = painted_content(scene, self.recipe)
        regions = _with_masks(self.scene, scene)
        return scene._replace(content=content, regions=regions)

    def _measure(self, scene: Scene) -> Targets:
        """The targets of a scene, without measuring its styles again."""
        recipe, tile = self.recipe, self.stage.tile
        arrays = recipe.arrays
        given = self.painter.measuring, scene.content, recipe.program
        if tile is None:
            feats = measure_content(*given, scene.hold)
        else:
            feats = tiles.measure_content(*given, tile, scene.hold)
        pairs = zip(self.targets.regions, scene.regions, strict=True)
        regions = [
            region_targets(measured.style, region.mask, recipe.program)
            for measured, region in pairs
        ]
        if recipe.repaint:
            # Each frame would be smoothed once more than the one before, and only what
            # is laid anew gets strokes again.
            arrays["tv_weight"] = jnp.float32(0)
        return with_weights(feats, regions, arrays, hold=scene.hold, paint=scene.paint)

    def _paint(
        self,
        scene: Scene,
        start: Image,
        past: Past,
        weight: float,
    ) -> Painted:
        """Take the steps of a frame."""
        painter, host = self.painter, self.painter.host
        scene, past = jax.device_put((scene, past), painter.device)
        agreement = Agreement(*past, jnp.float32(weight))
        targets = self._measure(scene)._replace(agreement=agreement)
        state = jax.device_put(jax.jit(self.transfer.init)(start), host)
        finish = partial(self._finish_new, scene, start, past.reliability)
        setup = Setup(self.transfer, state, painter.stepping, targets, host, finish)
        if self.stage.tile is not None:
            setup = painter.spread(setup)
        return self._run(lambda *_: setup, (self.stage,))

    def _finish_new(
        self, scene: Scene, start: Image, reliable: Mask, state: State
    ) -> State:
        """Finish what is new in a frame; what is kept is as it was before the steps."""
        image = current_image(state, self.recipe)
        image, start = jax.device_put((image, start), self.painter.device)
        kept = lambda image: image + reliable * (start - image)
        image = kept(image)
        if self.recipe.repaint:
            # Where strokes stay, they are what is looked for, so that new ones join.
            mixed = scene.content + reliable * (image - scene.content)
            ratio = self.recipe.content_ratio
            laid = repaint_scene(scene._replace(content=mixed), image, ratio)
            image = keep(scene, kept(laid), start)
        return jax.jit(self.transfer.init)(jax.device_put(image, self.painter.host))

    def _run(
        self, set_up: SetUp, stages: Stages, resume: Checkpoint | None = None
    ) -> Painted:
        """Paint stages; a FloatingPointError if a step was not finite."""
        state, infos, _ = paint_stages(
            set_up,
            stages,
            resume=resume,
            chunk=self.options.chunk,
            on_chunk=self.options.on_chunk,
            stop=lambda info: not info.finite.all(),
        )
        if infos and not infos[-1].finite.all():
            raise FloatingPointError(
                "a step was not finite; lower the learning rate or the loss weights"
            )
        loss = float(infos[-1].loss[-1]) if infos else 0.0
        return Painted(current_image(state, self.recipe), loss)


def _with_masks(scene: Scene, masked: Scene) -> tuple[Region, ...]:
    """The regions of a scene, with the masks of those of another one."""
    if len(scene.regions) != len(masked.regions):
        raise ValueError(
            f"expected masks of {len(scene.regions)} regions in every frame, the rest "
            f"included, got {len(masked.regions)}; regions may not come and go"
        )
    pairs = zip(scene.regions, masked.regions, strict=True)
    return tuple(own._replace(mask=other.mask) for own, other in pairs)
