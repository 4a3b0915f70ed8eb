"""Painting a video: the first frame as a picture, later ones from those before.

A frame that follows others has their paint, warped to it, where the flow is reliable
and the content has not changed. What is new in it starts as its own content. A cut,
where nothing can be followed, begins a new shot.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxnst.checks import check_image, check_kind, check_untraced
from jaxnst.network.vgg import Backbone
from jaxnst.painting.multiscale import Options, PicturePainter
from jaxnst.painting.scene import (
    Masks,
    Scene,
    Style,
    check_pictures,
    painted_content,
    with_traces,
)
from jaxnst.process import single_threaded_lapack, usual_numbers
from jaxnst.recipes import Recipe
from jaxnst.types import Image, Mask
from jaxnst.video.flow import FlowArray, Flows, measured_flow
from jaxnst.video.shot import Shot
from jaxnst.video.store import Frame, ImageArray, MemoryStore, Store
from jaxnst.video.temporal import (
    DARK,
    Paint,
    Past,
    join_past,
    reliability,
    relight,
    similarity,
    warp,
)
from jaxnst.video.threads import ahead

X = TypeVar("X")

DEGREE = 7
"""Of the splines that frames are warped by: a frame is warped once for each later one,
and lower degrees would blur its strokes, see `temporal.warp`."""

PERIOD = 8
"""Frames after which one becomes a source of paint for those that follow. Paint that
comes from there was warped once, not once for each frame, so it stays sharp."""

BRIGHTER = 2
"""A frame so many times as bright as the first of its shot begins a new one."""

NEAR = 0.1
"""Difference from the frame before, in all pixels, that costs `VideoOptions.weight`
times the loss of the shot's first frame."""


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Options of a video, in addition to its frames, styles and recipe.

    Attributes:
        picture: Options of every frame; its start image and its checkpoint are those of
            the first one. Its masks are ignored if there are masks by frame.
        masks: Masks of each frame, by its index, if they are not the same for all. Each
            has the same regions, of which some may be black.
        steps: Steps of a frame that follows another. Default: half of those of the last
            scale, but at least three.
        weight: How strongly kept paint is held while new paint joins it: what it costs
            to differ by `NEAR` everywhere, in units of the loss of the shot's first
            frame. After the steps it is as it was, whatever the weight.
        back: How many frames back the images are that a frame has paint from where the
            first frame of the shot, and the last of every eight, are not reliable.
        flows: Where the flow between frames comes from.
        cut: Share of a frame and the one before that must be unreliable, on average,
            for a new shot to begin.
        passes: 2: go through the frames once more, backward, so that what comes into
            sight is painted as it looks later on.
        store: Where painted frames are kept. What is in it is not painted again.
            Default: in memory, as long as they are needed.
        on_frame: Called after each frame of each pass, for progress.
    """

    picture: Options = Options()
    masks: Callable[[int], Masks] | None = None
    steps: int | None = None
    weight: float = 30.0
    back: tuple[int, ...] = (1, 2, 4)
    flows: Flows = measured_flow
    cut: float = 0.75
    passes: int = 1
    store: Store | None = None
    on_frame: Callable[["FrameProgress"], None] | None = None


class FrameProgress(NamedTuple):
    """A frame that was just painted, or was found in the store.

    Attributes:
        number: Of the pass, from 1.
        index: Of the frame, from 0.
        frame: The frame, see `store.Frame`.
        image: It in the colours of the result, RGB in [0, 1], h w 3.
    """

    number: int
    index: int
    frame: Frame
    image: Image


class Pair(NamedTuple):
    """The flow from a frame to another one, and back, if that is known."""

    away: FlowArray
    back: FlowArray | None

    @property
    def reliability(self) -> Mask:
        """See `temporal.reliability`."""
        back = None if self.back is None else jnp.asarray(self.back)
        return reliability(jnp.asarray(self.away), back)

    def bring(self, image: ImageArray) -> Image:
        """The other frame's image, as seen from the frame."""
        return warp(jnp.asarray(image), jnp.asarray(self.away), degree=DEGREE)


class Seen(NamedTuple):
    """A frame of the source.

    Attributes:
        index: From 0.
        first: Index of the first frame of its shot.
        content: RGB in [0, 1], h w 3.
        flows: To earlier frames of the shot, by their index, the one that counts most
            first.
    """

    index: int
    first: int
    content: ImageArray
    flows: dict[int, Pair]


def stylize_video(
    backbone: Backbone,
    frames: Iterable[Image | np.ndarray],
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
    frames: Iterable[Image | np.ndarray],
    styles: Sequence[Style | Image],
    recipe: Recipe,
    *,
    key: Array,
    options: VideoOptions = VideoOptions(),
) -> Iterator[Image]:
    """`stylize_video`, frame by frame: for videos that do not fit into memory.

    The next frame is read, and its flow measured, while a frame is painted. With two
    passes, the first frame comes when all are painted once.

    Args:
        backbone: As for `stylize_video`, likewise the other arguments.
        frames: They are read one by one, in a thread.
        styles: At least one, unless regions cover the frames.
        recipe: What to minimise and how.
        key: Random key of the start image of every shot.
        options: Further options of the run.

    Returns:
        The painted frames, in order.
    """
    painter = VideoPainter(backbone, styles, recipe, key, options)
    first = painter.paint_forward(frames)
    if options.passes == 1:
        yield from first
        return
    for _ in first:
        pass
    yield from painter.paint_backward()


class VideoPainter:
    """Paints the frames of a video; the arguments are those of `stylize_video`."""

    def __init__(
        self,
        backbone: Backbone,
        styles: Sequence[Style | Image],
        recipe: Recipe,
        key: Array,
        options: VideoOptions,
    ):
        check_untraced("stylize_video", backbone, styles, key)
        check_kind(backbone, Backbone, "load_backbone")
        check_kind(recipe, Recipe, "get_recipe")
        self.backbone, self.styles, self.recipe = backbone, list(styles), recipe
        self.key, self.options, self.count = key, options, 0
        newest = None if options.passes > 1 else max(options.back)
        self.store = options.store or MemoryStore(newest)
        self.shot: Shot | None = None
        self.earlier: dict[int, Frame] = {}
        self.areas: dict[int, Array] = {}

    def paint_forward(self, frames: Iterable[Image | np.ndarray]) -> Iterator[Image]:
        """The first pass, in the order of the frames."""
        for seen in ahead(self.look(frames)):
            index, content, self.count = seen.index, seen.content, seen.index + 1
            shot = self.shot_from(seen.first, content)
            scene = shot.scene_of(content, self.masks(index))
            self.note_area(index, scene)
            if self.store.has(1, index):
                frame = self.store.load(1, index)
            else:
                frame = self.paint(shot, seen, scene)
                self.store.save(1, index, frame)
            self.earlier = self.needed({**self.earlier, index: frame}, seen.first)
            kept = self.earlier.keys() & self.areas.keys()
            self.areas = {j: self.areas[j] for j in kept}
            yield self.report(1, index, frame, content)

    def paint_backward(self) -> Iterator[Image]:
        """The second pass, from the last frame to the first; yields them in order."""
        after: Frame | None = None
        for index in reversed(range(self.count)):
            before = self.store.load(1, index)
            self.shot_from(before.first, None)
            if after is not None and after.first != before.first:
                after = None  # the last frame of a shot stays
            if not self.store.has(2, index):
                frame = before if after is None else self.mend(index, before, after)
                self.store.save(2, index, frame)
            after = self.store.load(2, index)
            self.report(2, index, after, self.content_of(index))
        for index in range(self.count):
            frame = self.store.load(2, index)
            shot = self.shot_from(frame.first, None)
            yield shot.finish(self.content_of(index), frame.image, self.masks(index))

    def look(self, frames: Iterable[Image | np.ndarray]) -> Iterator[Seen]:
        """The frames of the source, with the flows that painting needs."""
        before: dict[int, ImageArray] = {}
        first = 0
        for index, frame in enumerate(frames):
            check_image(frame, f"frame {index + 1}")
            if index == 0:
                masks = self.masks(0) or self.options.picture.masks
                check_pictures(frame, self.styles, masks)
            content = np.asarray(frame, np.float32)
            if before and content.shape != before[index - 1].shape:
                (h, w, _), (high, wide, _) = before[index - 1].shape, content.shape
                raise ValueError(
                    f"expected frames of one size, {w} x {h} px, got {wide} x {high} "
                    f"px in frame {index + 1}"
                )
            flows: dict[int, Pair] = {}
            if self.store.has(1, index):
                first = self.store.load(1, index).first
            elif index > 0:
                last = self.flow_pair(index, index - 1, content, before[index - 1])
                if last is None or self.is_cut(last, content, before[first]):
                    first = index
                for j in self.sources(first, index):
                    given = index, j, content, before[j]
                    pair = last if j == index - 1 else self.flow_pair(*given)
                    flows |= {} if pair is None else {j: pair}
            yield Seen(index, first, content, flows)
            before = self.needed({**before, index: content}, first)

    def sources(self, first: int, index: int) -> list[int]:
        """The frames of a shot that a later one may have paint from, best first."""
        if index == first:
            return []
        key = index - 1 - (index - 1 - first) % PERIOD
        near = (index - j for j in self.options.back if index - j >= first)
        return list(dict.fromkeys((first, key, *near)))

    def needed(self, found: dict[int, X], first: int) -> dict[int, X]:
        """Of what was found of each frame up to the newest, what later frames need."""
        newest = max(found)
        recent = range(newest + 1 - max(self.options.back), newest + 1)
        needed = {*recent, *self.sources(first, newest + 1)}
        return {j: x for j, x in found.items() if j in needed}

    def flow_pair(
        self, i: int, j: int, image: ImageArray, other: ImageArray
    ) -> Pair | None:
        """The flow from frame i to frame j, and back, if it is known."""
        away = self.options.flows(i, j, image, other)
        if away is None:
            return None
        return Pair(away, self.options.flows(j, i, other, image))

    def is_cut(self, pair: Pair, content: ImageArray, first: ImageArray) -> bool:
        """Whether too little of the frame before is in a frame, or it lights up.

        The first frame of a fade from black has no forms that paint could follow.
        """
        found = [pair.reliability]
        if pair.back is not None:
            found.append(Pair(pair.back, pair.away).reliability)
        lost = 1 - float(jnp.mean(jnp.stack(found))) > self.options.cut
        return lost or bool(content.mean() + DARK > BRIGHTER * (first.mean() + DARK))

    @usual_numbers()
    @single_threaded_lapack
    def shot_from(self, first: int, content: ImageArray | None) -> Shot:
        """The shot that begins at a frame; its content is looked up if not given."""
        if self.shot is None or self.shot.first != first:
            options = self.options
            picture = options.picture
            if options.masks is not None:
                picture = dataclasses.replace(picture, masks=self.masks(first))
            if first > 0:
                picture = dataclasses.replace(picture, resume=None, init=None)
            shown = jnp.asarray(self.content_of(first) if content is None else content)
            given = self.backbone, shown, self.styles, self.recipe, self.key, picture
            painter = PicturePainter(*given)
            self.shot = Shot(first, painter, self.styles, options.steps)
        return self.shot

    def content_of(self, index: int) -> ImageArray:
        """A frame of the source that the first pass kept for the second."""
        content = self.store.load(1, index).content
        if content is None:
            raise ValueError(
                "expected the frames of a run of two passes in the store, got those of "
                "a run of one; begin anew, in an empty one"
            )
        return content

    def masks(self, index: int) -> Masks | None:
        """The masks of a frame, where each has its own."""
        if self.options.masks is None:
            return None
        return with_traces(self.options.masks(index), rest=bool(self.styles))

    def paint(self, shot: Shot, seen: Seen, scene: Scene) -> Frame:
        """Paint a frame of the first pass."""
        index, content, shown = seen.index, seen.content, scene.content
        with _named(index):
            if index == shot.first:
                image, loss = shot.paint_first()
                weight = self.options.weight * loss / NEAR**2
            else:
                weight = self.earlier[index - 1].weight
                past = self.past(shot, seen, scene)
                image, before = jnp.split(past.image, 2, axis=-1)
                shown = shown + past.reliability * (before - shown)
                past = past._replace(image=image)
                image, _ = shot.follow(scene, content, past, weight)
        kept = content if self.options.passes > 1 else None
        levels = np.asarray(jnp.round(255 * shown)).astype(np.uint8)
        return Frame(np.asarray(image), shot.first, weight, kept, levels)

    def past(self, shot: Shot, seen: Seen, scene: Scene) -> Past:
        """What earlier frames of a shot say of a frame: paint, and what it shows.

        Each pixel has the paint of one frame; half of two would be no stroke of either.
        """
        content = jnp.round(255 * scene.content) / 255
        target = painted_content(scene, self.recipe)

        def bring(j: int) -> Past:
            pair = seen.flows[j]
            image, shown = map(pair.bring, (self.earlier[j].image, self.shown(j) / 255))
            paint = Paint(image, shown, pair.reliability)
            image, shown, found = relight(paint, content, target)
            found = jnp.round(found * self.same_area(seen.index, j, pair))
            return Past(jnp.concatenate([image, shown], axis=-1), found)

        before = bring(seen.index - 1)
        images, masks, found = [], [], jnp.zeros(())
        for j in seen.flows:
            image, mask = before if j == seen.index - 1 else bring(j)
            # What was painted anew since then stays anew.
            same = jnp.round(similarity(image, before.image))
            masks.append(mask * jnp.where(before.reliability > 0, same, 1))
            images.append(image)
            found = jnp.maximum(found, masks[-1])
            if found.min() == 1:
                break
        return join_past(images, masks)

    def shown(self, index: int) -> ImageArray:
        """What the paint of an earlier frame shows, in levels."""
        levels = self.earlier[index].shown
        if levels is None:
            raise ValueError(
                "expected frames of this version in the store, got those of an earlier "
                "one; begin anew, in an empty one"
            )
        return levels.astype(np.float32)

    def note_area(self, index: int, scene: Scene) -> None:
        """Keep the masks of a frame, where each has its own."""
        parts = (*(x.mask for x in scene.regions), scene.hold)
        areas = [mask for mask in parts if mask is not None]
        if areas and self.options.masks is not None:
            self.areas[index] = jnp.concatenate(areas, axis=-1)

    def same_area(self, index: int, other: int, pair: Pair) -> Mask | float:
        """Where a frame has the regions of another one, if they move."""
        if not {index, other} <= self.areas.keys():
            return 1.0
        moved = warp(self.areas[other], jnp.asarray(pair.away))
        gaps = jnp.abs(self.areas[index] - moved)
        return jnp.clip(1.5 - 2 * jnp.max(gaps, axis=-1, keepdims=True), 0, 1)

    def mend(self, index: int, before: Frame, after: Frame) -> Frame:
        """Join a frame of the first pass with the next one of the second.

        `x + c (1 - b) (y - x)` with the next one y, warped, its reliability c, and that
        of the frame before, b: what is new in a frame is painted as it looks in the
        next one; the rest stays. No steps follow, since both are painted. Paint of
        another region is not reliable.
        """
        shot = self.shot_from(before.first, None)
        near = range(max(index - 1, before.first), index + 2)
        contents = {j: self.content_of(j) for j in near}
        self.areas = {j: x for j, x in self.areas.items() if j in near}
        for j in set(near) - self.areas.keys():
            self.note_area(j, shot.scene_of(contents[j], self.masks(j)))

        def find(j: int) -> tuple[Pair | None, Mask | float]:
            pair = self.flow_pair(index, j, contents[index], contents[j])
            if pair is None:
                return None, 0.0
            return pair, pair.reliability * self.same_area(index, j, pair)

        pair, share = find(index + 1)
        if pair is None:
            return before._replace(content=None)
        if index > before.first:
            share = share * (1 - find(index - 1)[1])
        image = before.image + share * (pair.bring(after.image) - before.image)
        image = np.asarray(jnp.clip(image, 0, 1))
        return before._replace(image=image, content=None)

    def report(
        self, number: int, index: int, frame: Frame, content: ImageArray
    ) -> Image:
        """Tell about a frame, and return it in the colours of the result."""
        shot = self.shot_from(frame.first, None)
        image = shot.finish(content, frame.image, self.masks(index))
        if self.options.on_frame is not None:
            self.options.on_frame(FrameProgress(number, index, frame, image))
        return image


@contextlib.contextmanager
def _named(index: int) -> Iterator[None]:
    """Say in which frame a step was not finite."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"frame {index + 1}: {error}") from error
