"""A shot: its first frame is painted as a picture, later ones from earlier frames."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxnst.compiled import Runner
from jaxnst.objective import Agreement, StyleTarget
from jaxnst.painting import scene as scenes
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.multiscale import PicturePainter
from jaxnst.painting.plan import Stages
from jaxnst.painting.scene import Masks, Region, Scene
from jaxnst.painting.stage import Measuring, init, scale
from jaxnst.painting.stages import SetUp, Setup, Show, paint_stages
from jaxnst.pictures.color import ColorMap, to_grey
from jaxnst.transfer import State, at_rest
from jaxnst.types import Image
from jaxnst.video.temporal import Paint


class Shot(PicturePainter):
    """Paints the frames of a shot.

    The styles are measured once, in the colours that they get at the first frame.

    Args:
        first: Index of the shot's first frame.
        steps: Steps of each later frame. Default: half the steps of the last scale, but
            at least 3 if that scale has so many.
        given: Arguments of `PicturePainter` for the first frame.
    """

    def __init__(self, first: int, steps: int | None, *given: Any):
        super().__init__(*given)
        self.first, self.styles = first, given[2]
        # A later frame has a single stage, like the last stage of the first frame.
        last = self.stages[-1]
        fewer = max(3, min(self.recipe.schedule.steps, last.steps) // 2)
        self.stage = last._replace(steps=steps or min(fewer, last.steps))
        (self.picture,) = self.pictures
        self.canvas = self.picture.canvases[-1]
        self.call = Runner(f"at {max(self.stage.shape)} px", self.options.on_wait)
        place = self.canvas, self.recipe, self.stage.tile
        self.measured = Measuring(self.call, self.measuring, *place)

    @cached_property
    def first_scene(self) -> Scene:
        """The scene of the first frame, scaled to the size that is measured."""
        scene = self.picture.scene
        return scale(scene, scene.content, self.canvas, self.recipe)

    @cached_property
    def summaries(self) -> list[StyleTarget]:
        """The style target of each region, for all frames."""
        return list(map(self.measured.styles, self.first_scene.regions))

    @cached_property
    def colors(self) -> list[ColorMap]:
        """The colour map of each region, from the first frame, against flicker."""
        return scenes.color_maps(self.picture.scene)

    def paint_first(self) -> tuple[Image, float]:
        """Paint the first frame coarse to fine; return it and its last loss.

        The frame does not have the colours of the result yet, see `scene.finish`.
        """
        given = self.set_up, self.image, self.stages
        state, loss = self._paint(*given, resume=self.options.resume)
        return self.image(state, -1), loss

    def follow(self, scene: Scene, content: Image, past: Paint, weight: float) -> Image:
        """Paint a later frame; where `past` is reliable, its paint stays.

        `scene` is from `scene_of`. `weight` is the factor on the disagreement with
        earlier frames.
        """
        past, content = scenes.on_host((past, content))
        if self.turned:
            scene, past, content = scenes.turn((scene, past, content))
        known = self.first_scene
        regions = _with_masks(known.regions, scene.regions)
        scene = scene._replace(regions=regions, turned=self.turned, paint=known.paint)
        start = scene.content + past.reliability * (past.image - scene.content)
        start = scenes.keep(scene, np.clip(start, 0, 1), content)
        new = past.reliability.min() < 1
        image = self._paint_new(scene, start, past, weight) if new else start
        return scenes.turn(image) if self.turned else image

    def scene_of(self, content: Image, masks: Masks | None) -> Scene:
        """The scene of a frame at its own size, with the styles of the first frame.

        The scene's content is grey if the recipe paints only lightness.
        """
        own = self.picture.scene
        if masks is None:
            own = scenes.turn(own)._replace(turned=False) if own.turned else own
            if self.recipe.look.colors == "luminance":
                content = to_grey(content)
            return own._replace(content=np.asarray(content))
        options = {"blend": self.options.blend, "masks": masks}
        found = scenes.make_scene(content, self.styles, self.recipe, **options)
        return found._replace(regions=_with_masks(own.regions, found.regions))

    def _paint_new(
        self, scene: Scene, start: Image, past: Paint, weight: float
    ) -> Image:
        """Paint the new parts of a frame; kept paint is the same after the steps."""
        recipe, setup = self.recipe, self._set_up(scene, start, past, weight)
        show = lambda state, _: self.image(state, -1)
        state, _ = self._paint(lambda *_: setup, show, (self.stage,))
        kept = lambda image: image + past.reliability * (start - image)
        image = kept(*self.images(state, -1))
        if not recipe.look.repaint:
            return image
        # Patches are matched to the strokes that stay, so that new ones join them.
        mixed = scene.content + past.reliability * (image - scene.content)
        (laid,) = self.lay(self.call, [scene._replace(content=mixed)], [image])
        return scenes.keep(scene, kept(scenes.sharpened(scene, laid)), start)

    def _set_up(self, scene: Scene, start: Image, past: Paint, weight: float) -> Setup:
        """What the steps of a frame need."""
        canvas, recipe = self.canvas, self.recipe
        transfer, targets = self.transfers[-1], None
        state = at_rest(canvas.place(start))
        if self.stage.steps:
            if recipe.look.repaint:
                # Smoothing would add up from frame to frame, since only new parts get
                # new patches.
                recipe = recipe.replace(tv_weight=0.0)
            measured = self.measured._replace(recipe=recipe)
            targets = measured.targets(scene, styles=self.summaries)
            # The disagreement is a mean over the canvas.
            weight *= math.prod(canvas.size) / math.prod(canvas.shape)
            held = canvas.place(past.reliability, "constant")
            agreement = Agreement(canvas.place(past.image), held, np.float32(weight))
            targets = targets._replace(agreement=jax.device_put(agreement))
            state = self.call(init, canvas.place(start), transfer=transfer)
        end = lambda state: state
        setup = Setup(transfer, state, self.stepping, targets, end, self.call)
        return setup if self.stage.tile is None else self.spread(setup)

    def _paint(
        self,
        set_up: SetUp,
        show: Show,
        stages: Stages,
        resume: Checkpoint | None = None,
    ) -> tuple[State, float]:
        """Paint stages; return the last state and loss."""
        hooks: dict = {"chunk": self.options.chunk, "on_chunk": self.options.on_chunk}
        given = set_up, show, stages
        state, infos, _ = paint_stages(*given, resume=resume, stop=True, **hooks)
        if infos and not infos[-1].finite.all():
            raise FloatingPointError(
                "a step was not finite; lower the learning rate or the loss weights"
            )
        return state, float(infos[-1].loss[-1]) if infos else 0.0


def _with_masks(own: Sequence[Region], other: Sequence[Region]) -> tuple[Region, ...]:
    """Regions with the masks of other regions."""
    if len(own) != len(other):
        raise ValueError(
            f"a frame has {len(other)} regions, the rest included, but the first frame "
            f"has {len(own)}; give all frames the same regions, some of them black"
        )
    pairs = zip(own, other, strict=True)
    return tuple(region._replace(mask=masked.mask) for region, masked in pairs)
