"""Frames of a video file, an animated picture or a folder, with their times."""

import dataclasses
import itertools
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from PIL import Image as pil

from jaxnst.pictures.files import image_shape, is_picture, load_image
from jaxnst.pictures.geometry import resize
from jaxnst.pictures.source import from_profile, lay_background, open_pillow
from jaxnst.types import Image
from jaxnst.video import decode, tags
from jaxnst.video.tags import ColorTags

RATE = Fraction(24)
"""Frames per second of a folder, unless another rate is asked for."""

FRAME = Fraction(1, 10)
"""Seconds for which a frame that states 0 s is shown, as in browsers."""


class Selection(NamedTuple):
    """Which frames of a source are wanted.

    Attributes:
        start: Seconds from the source's start to the first frame.
        end: Seconds from the source's start at which the selection ends. Default: the
            source's end.
        every: Interval of frames: 2 takes every second frame.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    every: int = 1


WHOLE = Selection()
"""All frames of a source."""

CONVERT = "convert it with another program"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The selected frames of a source, with their times.

    Attributes:
        path: The source: a video file, an animated picture or a folder.
        kind: Kind of the source.
        shape: Height and width of an upright frame with square pixels.
        numbers: Numbers of the frames in the source, from 0.
        times: Seconds from the first frame to each frame.
        end: Seconds from the first frame to the end of the last frame.
        begin: Seconds from the source's own start to the first frame.
        read: `read(numbers, shape)` gives frames in order, resized to a shape.
        time_base: Unit of the source's times, in seconds.
        source: Colour tags of the source, if it is a video.
        names: Names of the files of a folder, without suffixes.
    """

    path: Path
    kind: Literal["video", "animation", "folder"]
    shape: tuple[int, int]
    numbers: range
    times: Sequence[Fraction]
    end: Fraction
    begin: Fraction = Fraction(0)
    read: Callable[[range, tuple[int, int]], Iterator[Image]]
    time_base: Fraction = Fraction(1, 1000)
    source: ColorTags = ColorTags()
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return Fraction(len(self) / self.end).limit_denominator(1001)

    def frames(self, shape: tuple[int, int]) -> Iterator[Image]:
        """Give the frames resized to a shape, one by one: RGB in [0, 1], upright."""
        return self.read(self.numbers, shape)


def open_clip(
    path: str | Path, selection: Selection = WHOLE, *, rate: Fraction = RATE
) -> Clip:
    """Read the times of all frames of a source, and check that they can be painted.

    Args:
        path: A video file, an animated picture, or a folder of pictures, which are
            sorted by the numbers in their names.
        selection: Which of its frames are wanted.
        rate: Frames per second of a folder.

    Returns:
        The clip; its frames are read again when they are used.

    Raises:
        ValueError: If the path does not exist, or PyAV is missing; if there is no video
            in it, or a damaged one, or frames of several sizes; or if fewer than two
            frames are wanted.

    Example:
        >>> import tempfile, jaxnst
        >>> folder = Path(tempfile.mkdtemp())
        >>> for number in (1, 2, 10):
        ...     jaxnst.save_image(folder / f"{number}.png", np.zeros((20, 30, 3)))
        >>> clip = open_clip(folder)
        >>> len(clip), clip.shape, float(clip.end), clip.names[-1]
        (3, (20, 30), 0.125, '10')
    """
    path = Path(path)
    if path.is_dir():
        found = _folder(path, rate)
    elif not path.is_file():
        raise ValueError(f"no video or folder of frames at {path}; check the path")
    elif is_picture(path):
        found = _animation(path)
    else:
        found = _video(path, selection)
    return _select(found, selection)


def _select(clip: Clip, selection: Selection) -> Clip:
    """The frames of a whole clip that are wanted."""
    start, end, every = selection
    end = clip.end if end is None else min(end, clip.end)
    part = slice(bisect_left(clip.times, start), bisect_left(clip.times, end), every)
    times = clip.times[part]
    if len(times) < 2:
        where, cure = str(clip.path), "paint it with jaxnst stylize"
        if selection != WHOLE:
            where, cure = f"that part of {where}", "take a longer part"
        raise ValueError(f"{where} has fewer than two frames; {cure}")
    return dataclasses.replace(
        clip,
        numbers=clip.numbers[part],
        times=[time - times[0] for time in times],
        end=end - times[0],
        begin=clip.begin + times[0],
        names=clip.names[part],
    )


def _same_size(path: Path, number: int, shape: Any, first: Any) -> None:
    if shape != first:
        raise ValueError(
            f"the first frame of {path} has {first[1]} x {first[0]} px, and frame "
            f"{number} {shape[1]} x {shape[0]}; cut it there with --end, or resize it"
        )


def _folder(path: Path, rate: Fraction) -> Clip:
    files = frame_files(path)
    if not files:
        raise ValueError(f"the folder {path} has no pictures; choose one with frames")
    first = image_shape(files[0])
    for number, file in enumerate(files, start=1):
        load_image(file, size=16)  # a damaged one is found now, not after hours
        _same_size(path, number, image_shape(file), first)
    return Clip(
        path=path,
        kind="folder",
        shape=first,
        numbers=range(len(files)),
        times=[i / rate for i in range(len(files))],
        end=len(files) / rate,
        read=lambda numbers, shape: (_load(files[i], shape) for i in numbers),
        names=[file.stem for file in files],
    )


def frame_files(path: Path) -> list[Path]:
    """The pictures of a folder, in the order of the numbers in their names."""
    files = [x for x in path.iterdir() if x.name[0] != "." and x.is_file()]
    # Digits are every second part, so numbers are compared with numbers.
    part = lambda text: int(text) if text.isdecimal() else text
    parts = lambda file: [part(x) for x in re.split(r"(\d+)", file.name)]
    return sorted(filter(is_picture, files), key=parts)


def _load(file: Path, shape: tuple[int, int]) -> Image:
    pixels = load_image(file, size=max(shape), enlarge=True)
    return np.clip(resize(pixels, shape), 0, 1)


def _animation(path: Path) -> Clip:
    ends = [*itertools.accumulate((x for _, x in _animated(path)), initial=Fraction(0))]

    def read(numbers: range, shape: tuple[int, int]) -> Iterator[Image]:
        wanted = numbers.start, numbers.stop, numbers.step
        for image, _ in itertools.islice(_animated(path), *wanted):
            small = image.resize((shape[1], shape[0]), pil.Resampling.LANCZOS)
            yield np.asarray(small, np.float32) / 255

    return Clip(
        path=path,
        kind="animation",
        shape=image_shape(path),
        numbers=range(len(ends) - 1),
        times=ends[:-1],
        end=ends[-1],
        read=read,
    )


def _animated(path: Path) -> Iterator[tuple[pil.Image, Fraction]]:
    """The frames of an animated picture, over white, and how long they are shown."""
    try:
        with open_pillow(path) as file:
            # A first picture may be only for viewers without animation.
            still = getattr(file, "default_image", False)
            numbers = range(still, getattr(file, "n_frames", 1))  # this rewinds it
            lay_background(file)
            for number in numbers:
                file.seek(number)
                white = pil.new("RGB", file.size, "white")
                alpha = file.convert("RGBA").getchannel("A")
                white.paste(from_profile(file).convert("RGB"), mask=alpha)
                seconds = Fraction(round(file.info.get("duration") or 0), 1000)
                yield white, seconds or FRAME
    except Exception as error:  # each decoder raises exceptions of its own
        raise ValueError(
            f"{path} cannot be decoded ({error}); save it again"
        ) from error


def _video(path: Path, selection: Selection) -> Clip:
    entry = decode.find_entry(path, selection.start)
    given: list[Fraction | None] = [*entry.before]
    first, last, end = cast(Any, None), cast(Any, None), selection.end or math.inf
    for time, last in decode.decoded(path, entry):
        first, number = first or last, len(given) + 1
        _same_size(path, number, (last.height, last.width), (first.height, first.width))
        given.append(time)
        if time is not None and given[0] is not None and time - given[0] >= end:
            break
    if first is None:
        raise ValueError(f"no frame of {path} can be decoded; {CONVERT}")
    known = [x for x in given if x is not None]
    if any(a - b > 1 for a, b in itertools.pairwise(known)):
        raise ValueError(f"the frames of {path} are not in order; {CONVERT}")
    with decode.open_video(path) as (_, stream):
        unit, rate = stream.time_base, stream.guessed_rate or stream.average_rate
        aspect = stream.sample_aspect_ratio or 1  # width of a pixel by its height
    begin, *_ = times = decode.even_times(given, rate or RATE)
    usual = (times[-1] - begin) / max(1, len(times) - 1)
    turns, width = round(first.rotation / 90) % 4, max(1, round(first.width * aspect))
    upright = lambda shape: shape[::-1] if turns % 2 else shape
    source, peak = tags.tags_of(first), decode.brightest(first)

    def read(numbers: range, shape: tuple[int, int]) -> Iterator[Image]:
        start, stop = (x - len(entry.before) for x in (numbers.start, numbers.stop))
        frames = decode.decoded(path, entry)
        for _, frame in itertools.islice(frames, start, stop, numbers.step):
            pixels = decode.read_pixels(frame, source, peak, upright(shape))
            yield np.ascontiguousarray(np.rot90(pixels, turns))

    return Clip(
        path=path,
        kind="video",
        shape=upright((first.height, width)),
        numbers=range(len(times)),
        times=[time - begin for time in times],
        end=times[-1] + (last.duration * unit or usual) - begin,
        begin=begin,
        read=read,
        time_base=unit,
        source=source,
    )
