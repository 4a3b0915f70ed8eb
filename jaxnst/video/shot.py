"""A shot: its first frame is painted as a picture, later ones from those before."""

import math
from collections.abc import Sequence
from functools import cached_property, partial

import jax
import numpy as np

from jaxnst.compiled import Runner
from jaxnst.objective import Agreement, StyleTarget
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.multiscale import PicturePainter
from jaxnst.painting.plan import Stages
from jaxnst.painting.scene import (
    Masks,
    Region,
    Scene,
    Style,
    color_maps,
    finish,
    keep,
    make_scene,
    on_host,
    painted_content,
    recolored,
    turn,
)
from jaxnst.painting.stage import image_of, init, lay, measure, measure_styles, scale
from jaxnst.painting.stages import SetUp, Setup, paint_stages
from jaxnst.pictures.color import ColorMap, to_grey
from jaxnst.process import single_threaded_lapack, standard_dtypes
from jaxnst.transfer import State
from jaxnst.types import Image, Mask
from jaxnst.video.store import ImageArray
from jaxnst.video.temporal import Paint

FEWEST = 3
"""Steps of a frame that follows another, at least, unless fewer are asked for."""


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
        self.first, self.painter, self.styles = first, painter, styles
        self.recipe, self.options = painter.recipe, painter.options
        # Every other frame has one stage, and its programs.
        last = painter.stages[-1]
        fewer = max(FEWEST, min(self.recipe.schedule.steps, last.steps) // 2)
        self.stage = last._replace(steps=steps or min(fewer, last.steps))
        self.transfer = painter.transfer(self.stage)
        self.canvas = painter.canvas(self.stage)
        self.call = Runner(f"at {max(self.stage.shape)} px", self.options.on_wait)
        # Where patches are laid, each frame would be smoothed once more than the one
        # before, and only what is laid anew gets strokes again.
        smooth = 0.0 if self.recipe.look.repaint else self.recipe.weights.tv_weight
        self.following = self.recipe.replace(tv_weight=smooth)

    @cached_property
    def scaled(self) -> Scene:
        """The scene of the first frame, its styles as large as is measured."""
        scene = self.painter.scene
        return scale(scene, scene.content, self.canvas, self.recipe)

    @cached_property
    def measured(self) -> list[StyleTarget]:
        """The styles of all frames, by region."""
        given, tile = (self.call, self.painter.measuring), self.stage.tile
        measured = partial(measure_styles, *given, tile=tile)
        return [measured(x, self.canvas, self.recipe) for x in self.scaled.regions]

    @cached_property
    def colors(self) -> list[ColorMap]:
        """The map of each region at the first frame, so that colours do not flicker."""
        return color_maps(self.painter.scene)

    def recolor(self, scene: Scene) -> Image:
        """A frame in the colours of the styles, by a recipe that paints nothing."""
        return recolored(scene, self.recipe, self.colors)

    def paint_first(self) -> tuple[Image, float]:
        """The first frame, painted coarse to fine; and its last loss.

        Frames are returned before the colours of the result are made.
        """
        painter, resume = self.painter, self.options.resume
        state, loss = self._run(painter.set_up, painter.stages, resume)
        return painter.image(state, painter.stages[-1]), loss

    def follow(
        self, scene: Scene, content: ImageArray, past: Paint, weight: float
    ) -> Image:
        """Another frame, painted; where the past is reliable, it stays as it is.

        The scene is that of `scene_of`; the weight is a factor on the disagreement with
        earlier frames.
        """
        scene = scene._replace(content=painted_content(scene, self.recipe))
        past, content = on_host((past, content))
        if turned := self.painter.turned:
            scene, past, content = turn((scene, past, content))
        regions, paint = (
            _with_masks(self.scaled.regions, scene.regions),
            self.scaled.paint,
        )
        scene = scene._replace(regions=regions, paint=paint, turned=turned)
        start = scene.content + past.reliability * (past.image - scene.content)
        start = keep(scene, np.clip(start, 0, 1), content)
        if past.reliability.min() == 1:  # nothing is new
            return turn(start) if turned else start
        setup = self._set_up(scene, start, past, weight)
        state, _ = self._run(lambda *_: setup, (self.stage,))
        return self.painter.image(state, self.stage)

    @standard_dtypes()
    @single_threaded_lapack
    def finish(self, scene: Scene, content: ImageArray, image: ImageArray) -> Image:
        """A painted frame in the colours that the recipe asks for."""
        return finish(scene, image, content, self.recipe, self.painter.palette)

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
        return found._replace(regions=_with_masks(own.regions, found.regions))

    def _set_up(self, scene: Scene, start: Image, past: Paint, weight: float) -> Setup:
        """What the steps of a frame need."""
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
        given = self.transfer, state, painter.stepping, targets, self.call, finish
        return Setup(*given) if tile is None else painter.spread(Setup(*given))

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
    ) -> tuple[State, float]:
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
        return state, float(infos[-1].loss[-1]) if infos else 0.0


def _with_masks(own: Sequence[Region], other: Sequence[Region]) -> tuple[Region, ...]:
    """Regions, with the masks of other ones."""
    if len(own) != len(other):
        raise ValueError(
            f"a frame has {len(other)} regions, the rest included, and the first one "
            f"{len(own)}; give all frames the same regions, some of them black"
        )
    pairs = zip(own, other, strict=True)
    return tuple(region._replace(mask=masked.mask) for region, masked in pairs)
