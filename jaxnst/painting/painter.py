"""Painting from stage to stage, for single pictures and for batches of lanes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxnst.compiled import Runner, shape_of
from jaxnst.painting.plan import Stages
from jaxnst.painting.scene import (
    Scene,
    compose,
    first_image,
    keep,
    scale_content,
    sharpened,
)
from jaxnst.painting.stage import init, layouts, resizer
from jaxnst.pictures.canvas import Canvas, Growth
from jaxnst.pictures.geometry import crop_like, resize
from jaxnst.recipes import Recipe
from jaxnst.repaint import Layout, lay_levels
from jaxnst.transfer import State, Transfer, at_rest, current_image
from jaxnst.types import Image


class Picture(NamedTuple):
    """One picture of a run.

    Attributes:
        scene: Scene of the run.
        content: Content in the colours that it is painted in.
        start: Start image, of any size, or the random key to make a start image.
        recipe: How the picture is painted.
        canvases: Canvas of each stage.
    """

    scene: Scene
    content: Image
    start: Image | Array
    recipe: Recipe
    canvases: list[Canvas]

    def first(self, number: int, scaled: Scene) -> Float[np.ndarray, "_h _w 3"]:
        """The image that a run begins with, on the canvas of a stage."""
        canvas = self.canvases[number]
        if self.start.ndim == 3:
            middle = crop_like(self.start, canvas.shape)
            image = scale_content(middle, canvas.shape)
        else:
            image = first_image(self.start, scaled, self.recipe)
        return self.place(number, scaled, image)

    def next(self, number: int, image: Image) -> Float[np.ndarray, "_h _w 3"]:
        """The image of the stage before, enlarged to the canvas of a stage."""
        before, canvas = (image.shape[0], image.shape[1]), self.canvases[number]
        larger, detail = resizer(self.recipe)(image, canvas.shape), np.float32(0)
        if self.recipe.look.detail:  # a part of the high frequencies
            coarse = resize(scale_content(self.content, before), canvas.shape)
            finer = scale_content(self.content, canvas.shape) - coarse
            detail = np.float32(self.recipe.look.detail) * finer
        return canvas.place(np.clip(larger + detail, 0, 1))

    def place(
        self, number: int, scaled: Scene, image: Image
    ) -> Float[np.ndarray, "_h _w 3"]:
        """An image on its canvas, with the photograph where nothing is painted."""
        kept = keep(scaled, image, self.scene.content)
        return self.canvases[number].place(kept)


class Painter:
    """Paints pictures that have the same program, stage after stage.

    The state of a batch has a first axis of lanes.

    Args:
        pictures: One picture, or the pictures of a batch.
        stages: Stages of the first picture; the others have canvases of the same size.
        transfers: The kernel of each stage.
        batched: Whether the pictures are a batch.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        stages: Stages,
        transfers: Sequence[Transfer],
        *,
        batched: bool = False,
    ):
        self.pictures, self.stages, self.batched = pictures, stages, batched
        self.transfers, self.recipe = transfers, pictures[0].recipe

    def begin(
        self, call: Runner, scenes: Sequence[Scene], number: int, state: State | None
    ) -> State:
        """The first state of a stage.

        `scenes` are the scenes of the pictures at this stage. `state` is the last state
        of the stage before; None at the start of a run.
        """
        transfer, pictures = self.transfers[number], self.pictures
        like = shape_of((*pictures[0].canvases[number].size, 3))
        if state is None:
            pairs = zip(pictures, scenes, strict=True)
            first = lambda: self.join([x.first(number, scene) for x, scene in pairs])
            return call(init, call.host(first, like), transfer=transfer)

        def enlarge() -> Float[np.ndarray, "*_lanes _h _w 3"]:
            pairs = zip(pictures, self.images(state, number - 1), strict=True)
            return self.join([x.next(number, image) for x, image in pairs])

        enlarged = call.host(enlarge, like)
        if not self.stages[number].steps:
            return at_rest(enlarged)
        fresh = call(init, enlarged, transfer=transfer)
        if not state.opt_state:  # the stage before took no steps, or laid patches
            return fresh
        pairs = [(x.canvases[number - 1], x.canvases[number]) for x in pictures]
        growth = Growth(pairs, batched=self.batched)
        return call.host(lambda: transfer.enlarge(state, fresh, growth), fresh)

    def end(
        self, call: Runner, scenes: Sequence[Scene], number: int, state: State
    ) -> State:
        """End a stage: if the recipe says so, lay its images out of style patches."""
        if not self.recipe.look.repaint:
            return self.transfers[number].drop_history(state)
        like = [np.zeros_like(scene.content) for scene in scenes]
        images = call.host(lambda: self.images(state, number), like)
        del state
        laid = self.lay(call, scenes, images)
        if number == len(self.stages) - 1:
            laid = call.host(lambda: list(map(sharpened, scenes, laid)), laid)
        each = zip(self.pictures, scenes, laid, strict=True)
        return at_rest(self.join([x.place(number, *own) for x, *own in each]))

    def lay(
        self, call: Runner, scenes: Sequence[Scene], images: Sequence[Image]
    ) -> list[Image]:
        """Lay the images of a stage out of patches of their styles, see `repaint`."""
        given = zip(scenes, images, self.pictures, strict=True)
        found = [layouts(call, x, image, own.recipe) for x, image, own in given]
        regions = [self.lay_region(call, x) for x in zip(*found, strict=True)]
        laid = call.host(lambda: jax.device_get(regions), [images] * len(regions))
        made = []
        for scene, image, *parts in zip(scenes, images, *laid, strict=True):
            h, w, _ = image.shape
            made.append(compose(scene, image, [part[:h, :w] for part in parts]))
        return made

    def lay_region(self, call: Runner, layouts: Sequence[Layout]) -> Sequence[Any]:
        """Lay one region of each picture out of patches."""
        return [jax.block_until_ready(lay_levels(x, call)) for x in layouts]

    def images(self, state: State, number: int) -> list[Image]:
        """The pictures so far, still turned if they are painted turned."""
        on_host = jax.device_get(state._replace(opt_state=()))
        found = current_image(on_host, self.recipe.program)
        pairs = zip(self.pictures, found if self.batched else [found], strict=True)
        return [picture.canvases[number].crop(image) for picture, image in pairs]

    def join(self, images: Sequence[Image]) -> Float[np.ndarray, "*_lanes _h _w 3"]:
        """Join images on their canvases into the array that a state holds."""
        return np.stack(images) if self.batched else images[0]
