"""A shot: its first frame is painted as a picture, later ones from those before."""

import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np

from jaxnst.compiled import Runner
from jaxnst.objective import Agreement, Styles
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.multiscale import PicturePainter
from jaxnst.painting.plan import Stage, Stages
from jaxnst.painting.scene import (
    Masks,
    Region,
    Scene,
    Style,
    finish,
    keep,
    make_scene,
    on_host,
    painted_content,
    turn,
)
from jaxnst.painting.stage import image_of, init, lay, measure, measure_styles, scale
from jaxnst.painting.stages import SetUp, Setup, paint_stages
from jaxnst.pictures.canvas import Canvas
from jaxnst.pictures.color import to_grey
from jaxnst.process import single_threaded_lapack, usual_numbers
from jaxnst.recipes import Recipe
from jaxnst.transfer import State, Transfer
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
        fewer = max(FEWEST, min(self.recipe.schedule.steps, last.steps) // 2)
        return last._replace(steps=self.steps or min(fewer, last.steps))

    @cached_property
    def transfer(self) -> Transfer:
        """The kernel of every other frame."""
        return self.painter.transfer(self.stage)

    @cached_property
    def canvas(self) -> Canvas:
        """The canvas of every other frame."""
        return self.painter.canvas(self.stage)

    @cached_property
    def call(self) -> Runner:
        """Calls the programs of every other frame."""
        return Runner(f"at {max(self.stage.shape)} px", self.options.on_wait)

    @cached_property
    def scene(self) -> Scene:
        """The scene of the first frame, its styles as large as they are measured."""
        scene = self.painter.scene
        return scale(scene, scene.content, self.canvas, self.recipe)

    @cached_property
    def measured(self) -> list[Styles]:
        """The styles of all frames, by region."""
        given = self.call, self.painter.measuring
        options = {"tile": self.stage.tile}
        return [
            measure_styles(*given, region, self.canvas, self.recipe, **options)
            for region in self.scene.regions
        ]

    @cached_property
    def following(self) -> Recipe:
        """The recipe of every other frame.

        Where patches are laid, each frame would be smoothed once more than the one
        before, and only what is laid anew gets strokes again.
        """
        smooth = 0.0 if self.recipe.look.repaint else self.recipe.weights.tv_weight
        return self.recipe.replace(tv_weight=smooth)

    @usual_numbers()
    @single_threaded_lapack
    def paint_first(self) -> Painted:
        """Paint the first frame, coarse to fine."""
        resume = self.options.resume
        return self._run(self.painter.set_up, self.stages, resume=resume)

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
        scene, past, content = self._scale(scene), *on_host((past, content))
        if self.painter.turned:
            past, content = turn((past, content))
        start = scene.content + past.reliability * (past.image - scene.content)
        start = keep(scene, np.clip(start, 0, 1), content)
        if past.reliability.min() == 1:  # nothing is new
            return Painted(turn(start) if self.painter.turned else start, 0.0)
        return self._paint(scene, start, past, weight)

    @usual_numbers()
    @single_threaded_lapack
    def finish(
        self, content: ImageArray, image: ImageArray, masks: Masks | None = None
    ) -> Image:
        """A painted frame in the colours that the recipe asks for."""
        scene = self.scene_of(content, masks)
        palette = (masks or self.options.masks).palette
        return finish(scene, image, content, self.recipe, on_host(palette))

    def scene_of(self, content: ImageArray, masks: Masks | None) -> Scene:
        """The scene of a frame, with the styles of the first one, in the own size.

        Its content is grey where the recipe paints nothing but lightness.
        """
        own = self.painter.scene
        if masks is None:
            own = turn(own)._replace(turned=False) if own.turned else own
            if self.recipe.look.colors == "luminance":
                content = to_grey(content)
            return own._replace(content=np.asarray(content))
        blend, recipe = self.options.blend, self.recipe
        found = make_scene(content, self.styles, recipe, blend=blend, masks=masks)
        return found._replace(regions=_with_masks(own, found))

    def _scale(self, scene: Scene) -> Scene:
        """A scene of a frame as it is painted."""
        scene = scene._replace(content=painted_content(scene, self.recipe))
        if self.painter.turned:
            scene = turn(scene)._replace(turned=True)
        return scene._replace(regions=_with_masks(self.scene, scene))

    def _paint(self, scene: Scene, start: Image, past: Past, weight: float) -> Painted:
        """Take the steps of a frame."""
        painter, canvas, tile = self.painter, self.canvas, self.stage.tile
        given = self.call, painter.measuring, scene, canvas, self.following
        targets = measure(*given, tile=tile, styles=self.measured)
        # The disagreement is a mean over the canvas.
        weight *= math.prod(canvas.size) / math.prod(canvas.shape)
        agreement = Agreement(
            canvas.place(past.image),
            canvas.place_mask(past.reliability),
            np.float32(weight),
        )
        targets = targets._replace(agreement=jax.device_put(agreement))
        state = self.call(init, canvas.place(start), transfer=self.transfer)
        finish = partial(self._finish_new, scene, start, past.reliability)
        setup = Setup(
            self.transfer, state, painter.stepping, targets, self.call, finish
        )
        if tile is not None:
            setup = painter.spread(setup)
        return self._run(lambda *_: setup, (self.stage,))

    def _finish_new(
        self, scene: Scene, start: Image, reliable: Mask, state: State
    ) -> State:
        """Finish what is new in a frame; what is kept is as it was before the steps."""
        canvas, recipe = self.canvas, self.recipe
        kept = lambda image: image + reliable * (start - image)
        image = kept(canvas.crop(image_of(state, recipe.program)))
        if recipe.look.repaint:
            # Where strokes stay, they are what is looked for, so that new ones join.
            mixed = scene.content + reliable * (image - scene.content)
            joined = scene._replace(content=mixed)
            laid = lay(self.call, joined, image, recipe)
            image = keep(scene, kept(laid), start)
        return self.call(init, canvas.place(image), transfer=self.transfer)

    def _run(
        self, set_up: SetUp, stages: Stages, resume: Checkpoint | None = None
    ) -> Painted:
        """Paint stages; a FloatingPointError if a step was not finite."""
        state, infos, _ = paint_stages(
            set_up,
            self.painter.image,
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
        return Painted(self.painter.image(state, stages[-1]), loss)


def _with_masks(scene: Scene, masked: Scene) -> tuple[Region, ...]:
    """The regions of a scene, with the masks of those of another one."""
    if len(scene.regions) != len(masked.regions):
        raise ValueError(
            f"expected masks of {len(scene.regions)} regions in every frame, the rest "
            f"included, got {len(masked.regions)}; regions may not come and go"
        )
    pairs = zip(scene.regions, masked.regions, strict=True)
    return tuple(own._replace(mask=other.mask) for own, other in pairs)
