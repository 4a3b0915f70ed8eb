"""Paints a video: the first frame as a picture, later ones from earlier frames.

A later frame keeps the paint of earlier ones, warped to it, where the flow is reliable
and the content has not changed. New parts start as the frame's own content. After a
cut, where nothing can be followed, a new shot begins.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxnst.background import ahead
from jaxnst.checks import check_image, check_kind, check_untraced
from jaxnst.network.vgg import Backbone
from jaxnst.painting import scene as scenes
from jaxnst.painting.multiscale import Options
from jaxnst.painting.scene import Masks, Scene, Style
from jaxnst.pictures.source import as_levels
from jaxnst.process import single_threaded_lapack, standard_dtypes
from jaxnst.recipes import Recipe
from jaxnst.types import Image, Mask
from jaxnst.video import temporal
from jaxnst.video.flow import Flows, measure_flow
from jaxnst.video.shot import Shot
from jaxnst.video.store import Frame, Store
from jaxnst.video.temporal import DARK, Flow, Paint, reliability, warp

DEGREE = 7
"""Degree of the splines for repeated warps, see `temporal.warp`."""

PERIOD = 8
"""Every `PERIOD` frames, a frame becomes a source of paint for later frames. Its paint
is warped once, not once for each frame, so it stays sharp."""

BACK = (1, 2, 4)
"""Earlier frames, as distances, that give paint where other sources are unreliable."""

CUT = 0.75
"""A new shot begins if a larger share of a frame and the frame before is unreliable."""

BRIGHTER = 2
"""A frame this many times as bright as the first of its shot begins a new shot."""

NEAR = 0.1
"""If each pixel differs this much from earlier paint, the cost is `VideoOptions.weight`
times the loss of the shot's first frame."""


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Options of a video, in addition to its frames, styles and recipe.

    Attributes:
        picture: Options of every frame. Its `init` and `resume` apply to the first
            frame only. Its masks are ignored if `masks` is given.
        masks: `masks(index)` gives the masks of a frame, if masks change. All frames
            need the same regions; the mask of a region may be black in some frames.
        steps: Steps of each frame but the first of a shot. Default: half the steps of
            the last scale, but at least 3. If that scale has fewer than 3, all of them.
        weight: How strongly kept paint is held during the steps. A frame that differs
            from it by `NEAR` at every pixel has a penalty of `weight` times the loss of
            the shot's first frame. After the steps, kept paint is restored anyway.
        flows: Gives the flow between two frames, see `flow.Flows`. Default:
            `measure_flow`.
        passes: 1 or 2. A second pass goes backward, so that newly visible parts are
            painted as they look in later frames.
        store: A dict or a `FolderStore` that keeps painted frames. Frames in it are not
            painted again. Default: memory keeps frames as long as they are needed.
        on_frame: Called after each frame of each pass, for progress.
    """

    picture: Options = Options()
    masks: Callable[[int], Masks] | None = None
    steps: int | None = None
    weight: float = 30.0
    flows: Flows | None = None
    passes: int = 1
    store: Store | None = None
    on_frame: Callable[["FrameProgress"], None] = lambda progress: None


class FrameProgress(NamedTuple):
    """A frame that was just painted, or was found in the store."""

    number: int  # of the pass, from 1
    index: int  # of the frame, from 0
    frame: Frame
    image: Image  # in the colours of the result, RGB in [0, 1], h w 3


class Pair(NamedTuple):
    """The flow from a frame to another one, and back, if that is known."""

    away: Flow
    back: Flow | None

    def bring(self, image: Image) -> Image:
        """Warp an image of the other frame to this frame."""
        return warp(image, self.away, degree=DEGREE)

    def reliability(self, area: Array, other: Array) -> Mask:
        """Where the flow is reliable, and both frames have the same regions.

        `area` and `other` are from `VideoPainter.area`, of this and the other frame.
        """
        gaps = jnp.max(jnp.abs(area - warp(other, self.away)), axis=-1, keepdims=True)
        return reliability(self.away, self.back) * jnp.clip(1.5 - 2 * gaps, 0, 1)


class Seen(NamedTuple):
    """A frame of the source, and its flows to earlier frames, the best one first."""

    index: int
    first: int  # of its shot
    content: Image
    flows: dict[int, Pair]


def stylize_video(
    backbone: Backbone,
    frames: Iterable[Image],
    styles: Sequence[Style | Image],
    recipe: Recipe,
    *,
    key: Array,
    options: VideoOptions = VideoOptions(),
) -> list[np.ndarray]:
    """Paint the frames of a video in the style of one or more pictures.

    Args:
        backbone: From `load_backbone`.
        frames: RGB in [0, 1], each h w 3, all of one shape.
        styles: As for `stylize`.
        recipe: What to minimise and how.
        key: Random key of the start image of every shot.
        options: Further options of the run.

    Returns:
        The painted frames, float32.

    Raises:
        ValueError: As `stylize`, or if the frames are not all of one shape.
        FloatingPointError: If a step was not finite.

    Example:
        >>> import jax, jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> wide = np.asarray(jaxnst.sample("harbour", 64))
        >>> frames = [wide[:, x : x + 48] for x in (0, 2, 4)]
        >>> recipe = jaxnst.get_recipe("painterly").replace(first_steps=2)
        >>> painted = stylize_video(
        ...     backbone, frames, [jaxnst.sample("swirls", 48)], recipe,
        ...     key=jax.random.key(0),
        ... )
        >>> len(painted), painted[0].shape
        (3, (48, 48, 3))

    Reference:
        Ruder, Dosovitskiy, Brox (2016), "Artistic style transfer for videos".
    """
    painted = paint_frames(backbone, frames, styles, recipe, key=key, options=options)
    return [np.asarray(image) for image in painted]


def paint_frames(
    backbone: Backbone,
    frames: Iterable[Image],
    styles: Sequence[Style | Image],
    recipe: Recipe,
    *,
    key: Array,
    options: VideoOptions = VideoOptions(),
) -> Iterator[Image]:
    """Yield the frames of `stylize_video` one by one, to save memory.

    The arguments are those of `stylize_video`. While a frame is painted, a thread reads
    the next frame and measures its flow. With two passes, the first frame is yielded
    after both passes.
    """
    check_untraced("stylize_video", backbone, styles, key)
    check_kind(backbone, Backbone, "load_backbone")
    check_kind(recipe, Recipe, "get_recipe")
    store = {} if options.store is None else options.store
    painter = VideoPainter(backbone, list(styles), recipe, key, options, store)
    count, again = 0, options.passes > 1 and recipe.paints
    for seen in ahead(painter.look(frames)):
        count, painted = seen.index + 1, painter.first_pass(seen)
        options.on_frame(painted)
        if not again:
            yield painted.image
    if not again:
        return
    for index in reversed(range(count)):
        options.on_frame(painter.second_pass(index))
    for index in range(count):
        yield painter.second_pass(index).image


@dataclass
class VideoPainter:
    """Paints the frames of a video; the arguments are those of `stylize_video`."""

    backbone: Backbone
    styles: list[Style | Image]
    recipe: Recipe
    key: Array
    options: VideoOptions
    store: Store
    shot: Shot | None = None
    earlier: dict[int, tuple[Frame, Array]] = field(default_factory=dict)

    @standard_dtypes()
    @single_threaded_lapack
    def first_pass(self, seen: Seen) -> FrameProgress:
        """A frame of the first pass: painted, or found in the store."""
        index, content = seen.index, seen.content
        shot = self.shot_from(seen.first, content)
        scene = shot.scene_of(content, self.masks(index))
        if (1, index) in self.store:
            frame = self.store[1, index]
        else:
            frame = self.paint(shot, seen, scene)
            if self.options.store is not None or self.options.passes > 1:
                self.store[1, index] = frame
        known = self.earlier | {index: (frame, self.area(scene))}
        self.earlier = self.needed(known, seen.first)
        given = scene, frame.image, content, self.recipe, shot.palette
        return FrameProgress(1, index, frame, scenes.finish(*given))

    @standard_dtypes()
    @single_threaded_lapack
    def second_pass(self, index: int) -> FrameProgress:
        """A frame of the second pass: joined with the next one, or found in the store.

        This pass goes from the last frame to the first.
        """
        if (2, index) not in self.store:
            self.store[2, index] = self.mend(index)._replace(content=None)
        frame, content = self.store[2, index], self.content_of(index)
        shot = self.shot_from(frame.first)
        scene = shot.scene_of(content, self.masks(index))
        given = scene, frame.image, content, self.recipe, shot.palette
        return FrameProgress(2, index, frame, scenes.finish(*given))

    def look(self, frames: Iterable[Image]) -> Iterator[Seen]:
        """The frames of the source, with the flows that painting needs."""
        before: dict[int, Image] = {}
        first, size = 0, lambda x: f"{x.shape[1]} x {x.shape[0]} px"
        for index, frame in enumerate(frames):
            check_image(frame, f"frame {index + 1}")
            content, flows = np.asarray(frame, np.float32), {}
            if index == 0:
                masks = self.masks(0) or self.options.picture.masks
                scenes.check_pictures(frame, self.styles, masks)
            elif content.shape != before[index - 1].shape:
                raise ValueError(
                    f"expected frames of {size(before[index - 1])}, got "
                    f"{size(content)} in frame {index + 1}"
                )
            if (1, index) in self.store:
                first = self.store[1, index].first
            elif index > 0:
                last = self.flow_pair(index, index - 1, content, before[index - 1])
                if last is None or self.is_cut(last, content, before[first]):
                    first = index
                for j in self.sources(first, index):
                    given = index, j, content, before[j]
                    pair = last if j == index - 1 else self.flow_pair(*given)
                    flows |= {j: pair} if pair else {}
            yield Seen(index, first, content, flows)
            before = self.needed(before | {index: content}, first)

    def sources(self, first: int, index: int) -> list[int]:
        """Earlier frames of a shot from which a frame may get paint, best first."""
        if index == first or not self.recipe.paints:
            return []
        key = index - 1 - (index - 1 - first) % PERIOD
        near = (index - j for j in BACK if index - j >= first)
        return list(dict.fromkeys((first, key, *near)))

    def needed(self, found: dict[int, Any], first: int) -> dict[int, Any]:
        """Keep the entries of `found`, by frame, that later frames need."""
        newest = max(found)
        recent = range(newest + 1 - max(BACK), newest + 1)
        needed = {*recent, first, *self.sources(first, newest + 1)}
        return {j: x for j, x in found.items() if j in needed}

    def flow_pair(self, i: int, j: int, image: Image, other: Image) -> Pair | None:
        """The flow from frame i to frame j, and back, if it is known."""
        flows = self.options.flows or (lambda i, j, *images: measure_flow(*images))
        away, back = flows(i, j, image, other), flows(j, i, other, image)
        return None if away is None else Pair(away, back)

    def is_cut(self, pair: Pair, content: Image, first: Image) -> bool:
        """Whether a frame begins a new shot.

        It does if too little of the frame before is visible, or if it is much brighter
        than `first`, the first frame of the shot so far: the first frame of a fade from
        black has no forms that paint could follow.
        """
        found = [reliability(pair.away, pair.back)]
        if pair.back is not None:
            found.append(reliability(pair.back, pair.away))
        lost = 1 - float(jnp.mean(jnp.stack(found))) > CUT
        return lost or bool(content.mean() + DARK > BRIGHTER * (first.mean() + DARK))

    def shot_from(self, first: int, content: Image | None = None) -> Shot:
        """The shot from frame `first` on; by default, `content` is from the store."""
        if self.shot is None or self.shot.first != first:
            options, picture = self.options, self.options.picture
            if options.masks is not None:
                picture = dataclasses.replace(picture, masks=self.masks(first))
            if first > 0:
                picture = dataclasses.replace(picture, resume=None, init=None)
            shown = self.content_of(first) if content is None else content
            given = self.backbone, shown, self.styles, self.recipe, self.key, picture
            self.shot = Shot(first, options.steps, *given)
        return self.shot

    def content_of(self, index: int) -> Image:
        """A frame of the source that the first pass kept for the second."""
        content = self.store[1, index].content
        if content is None:
            raise ValueError(
                "the store holds a run of one pass; start anew with an empty store"
            )
        return content

    def masks(self, index: int) -> Masks | None:
        """The masks of a frame; None if all frames have the same masks."""
        masks = self.options.masks
        return masks and scenes.with_traces(masks(index), rest=bool(self.styles))

    def area(self, scene: Scene) -> Array:
        """Masks of a frame as channels, after zeros; only zeros if masks are fixed."""
        parts = (*(x.mask for x in scene.regions), scene.content_strength)
        moving = [x for x in parts if x is not None and self.options.masks is not None]
        return jnp.concatenate([jnp.zeros_like(scene.content), *moving], axis=-1)

    def paint(self, shot: Shot, seen: Seen, scene: Scene) -> Frame:
        """Paint a frame of the first pass."""
        index, content, shown = seen.index, seen.content, scene.content
        try:
            if not self.recipe.paints:
                image, weight = scenes.recolored(scene, self.recipe, shot.colors), 0.0
            elif index == shot.first:
                image, loss = shot.paint_first()
                weight = self.options.weight * loss / NEAR**2
            else:
                weight = self.earlier[index - 1][0].weight
                target = scenes.painted_content(scene, self.recipe)
                past = self.past(seen, scene, target)
                shown = shown + past.reliability * (past.shown - shown)
                scene = scene._replace(content=target)
                image = shot.follow(scene, content, past, weight)
        except FloatingPointError as error:
            raise FloatingPointError(f"frame {index + 1}: {error}") from error
        kept = content if self.options.passes > 1 else None
        return Frame(np.asarray(image), shot.first, weight, as_levels(shown), kept)

    def past(self, seen: Seen, scene: Scene, target: Image) -> Paint:
        """Paint of earlier frames for a frame that should look like `target`.

        Each pixel takes the paint of a single frame, since a mix would blur strokes.
        """
        content, area = jnp.round(255 * scene.content) / 255, self.area(scene)

        def bring(j: int) -> Paint:
            (frame, other), pair = self.earlier[j], seen.flows[j]
            given = frame.image, frame.shown.astype(np.float32) / 255
            image, shown = map(pair.bring, given)
            paint = Paint(image, shown, pair.reliability(area, other))
            paint = temporal.relight(paint, content, target)
            return paint._replace(reliability=jnp.round(paint.reliability))

        before = bring(seen.index - 1)
        images, masks, found = [], [], jnp.zeros(())
        for j in seen.flows:
            image, shown, mask = before if j == seen.index - 1 else bring(j)
            both = jnp.concatenate([image, shown], axis=-1)
            # Parts that were painted anew since then keep the new paint.
            same = temporal.similarity(both, jnp.concatenate(before[:2], axis=-1))
            unknown = before.reliability == 0
            masks.append(mask * jnp.where(unknown, 1, jnp.round(same)))
            images.append(both)
            found = jnp.maximum(found, masks[-1])
            if found.min() == 1:
                break
        both, reliable = temporal.join_past(images, masks)
        return Paint(both[..., :3], both[..., 3:], reliable)

    def mend(self, index: int) -> Frame:
        """Join a frame of the first pass with the next one of the second.

        `x + c (1 - b) (y - x)` with the frame x, and y, the next frame warped to x. c
        is the reliability of the flow to the next frame, b that of the flow to the
        frame before. So the new parts of a frame look as in the next frame; the rest
        stays. No steps follow, since both are painted. Paint of another region is not
        reliable. The last frame of a shot stays.
        """
        frame, content = self.store[1, index], self.content_of(index)
        if (2, index + 1) not in self.store:  # it is the last one
            return frame
        after = self.store[2, index + 1]
        if after.first != frame.first:
            return frame
        shot = self.shot_from(frame.first)
        area = lambda j, shown: self.area(shot.scene_of(shown, self.masks(j)))

        def find(j: int) -> tuple[Pair | None, Mask | float]:
            other = self.content_of(j)
            pair = self.flow_pair(index, j, content, other)
            areas = area(index, content), area(j, other)
            return pair, 0.0 if pair is None else pair.reliability(*areas)

        pair, share = find(index + 1)
        if pair is None:
            return frame
        if index > frame.first:
            share = share * (1 - find(index - 1)[1])
        image = frame.image + share * (pair.bring(after.image) - frame.image)
        return frame._replace(image=np.asarray(jnp.clip(image, 0, 1)))
