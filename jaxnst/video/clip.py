"""Frames of a video file, an animated picture or a folder, with their times."""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image as pil

from jaxnst.messages import found_at
from jaxnst.pictures.files import image_shape, is_picture, load_image
from jaxnst.pictures.source import lay_background, open_pillow
from jaxnst.video.decode import WHOLE as WHOLE_VIDEO
from jaxnst.video.decode import (
    Entry,
    brightest,
    decoded,
    even_times,
    find_entry,
    rate_and_aspect,
    read_pixels,
)
from jaxnst.video.tags import (
    BT601,
    BT709,
    BT2020,
    HLG,
    MATRICES,
    PEAK,
    PQ,
    ColorTags,
)

RATE = Fraction(24)
"""Frames per second of a folder, unless another rate is asked for."""

FRAME = Fraction(1, 10)
"""Seconds of a frame of an animated picture that says 0, as browsers show it."""

HIGH = 576
"""Lines of a picture up to which colours that are not tagged are those of standard
definition (BT.601); above it is high definition (BT.709)."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The frames of a source that are painted.

    Attributes:
        path: The source.
        kind: What it is.
        shape: Height and width of a frame, upright, of square pixels.
        numbers: Which frames of the source they are, from 0.
        times: Seconds from the first frame to each.
        end: Seconds from the first frame to the end of the last.
        begin: Seconds from the source's own start to the first frame.
        time_base: Unit of the source's times, in seconds.
        rotation: Degrees that its frames are turned by to be upright.
        source: What the numbers of a video mean.
        peak: The brightest white of its HDR, in cd/m².
        entry: Where its decoding begins.
        names: Of the files of a folder.
    """

    path: Path
    kind: Literal["video", "animation", "folder"]
    shape: tuple[int, int]
    numbers: tuple[int, ...]
    times: tuple[Fraction, ...]
    end: Fraction
    begin: Fraction = Fraction(0)
    time_base: Fraction = Fraction(1, 1000)
    rotation: int = 0
    source: ColorTags = ColorTags()
    peak: float = PEAK
    entry: Entry = WHOLE_VIDEO
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def durations(self) -> list[Fraction]:
        """Seconds that each frame is shown."""
        ends = (*self.times[1:], self.end)
        return [end - time for time, end in zip(self.times, ends, strict=True)]

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return Fraction(len(self) / self.end).limit_denominator(1001)

    @property
    def color(self) -> ColorTags:
        """What the numbers of `frames` mean: those of the source, but SDR."""
        return self.source.shown

    def frames(self, shape: tuple[int, int]) -> Iterator[Float[np.ndarray, "_h _w 3"]]:
        """The frames in a size, RGB in [0, 1], upright, one after the other."""
        read = {"video": _video, "animation": _animation, "folder": _folder}[self.kind]
        return read(self, shape)


class Selection(NamedTuple):
    """Which frames of a source are wanted.

    Attributes:
        start: Seconds from its start to the first one.
        end: To where it ends. Default: the source's end.
        every: Of so many frames, one is taken.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    every: int = 1


WHOLE = Selection()
"""All frames of a source."""


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
        The frames, which are read again where they are used.

    Raises:
        ValueError: If there is nothing at the path, no video in it, it is truncated or
            damaged, its frames are not of one size, fewer than two are wanted, or PyAV
            is missing.

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
        found = _scan_folder(path, rate)
    elif not path.is_file():
        raise ValueError(
            f"expected a video, an animated picture or a folder of frames at {path}, "
            f"got {found_at(path)}; check the path"
        )
    elif is_picture(path) or _is_animated(path):
        found = _scan_animation(path)
    else:
        found = _scan_video(path, selection)
    return _select(found, selection)


def _select(clip: Clip, selection: Selection) -> Clip:
    """The frames of a whole clip that are wanted."""
    ends = clip.end if selection.end is None else min(selection.end, clip.end)
    wanted = [i for i, time in enumerate(clip.times) if selection.start <= time < ends]
    wanted = wanted[:: selection.every]
    if len(wanted) < 2:
        what = "; paint it with jaxnst stylize"
        if selection != WHOLE:
            until = clip.end if selection.end is None else selection.end
            times = f"{float(selection.start):g} s to {float(until):g} s"
            every = f", one of {selection.every}" if selection.every > 1 else ""
            what = f" from {times}{every}; take a longer part or more of them"
        raise ValueError(
            f"expected at least two frames in {clip.path}, got {len(wanted)}{what}"
        )
    first = clip.times[wanted[0]]
    return dataclasses.replace(
        clip,
        numbers=tuple(clip.numbers[i] for i in wanted),
        times=tuple(clip.times[i] - first for i in wanted),
        end=ends - first,
        begin=clip.begin + first,
        names=tuple(clip.names[i] for i in wanted) if clip.names else (),
    )


def _same_size(path: Path, number: int, size: Any, first: Any) -> None:
    if size != first:
        raise ValueError(
            f"expected frames of one size in {path}, got {first[0]} x {first[1]} px in "
            f"the first and {size[0]} x {size[1]} px in frame {number}; cut it there "
            "with --end, or resize the frames"
        )


def _scan_folder(path: Path, rate: Fraction) -> Clip:
    files = frame_files(path)
    if not files:
        raise ValueError(f"expected pictures in {path}, got none")
    shapes = []
    for number, file in enumerate(files, start=1):
        load_image(file, size=16)  # a damaged one is found now, not after hours
        shapes.append(image_shape(file))
        _same_size(path, number, shapes[-1][::-1], shapes[0][::-1])
    times = tuple(i / rate for i in range(len(files)))
    return Clip(
        path=path,
        kind="folder",
        shape=shapes[0],
        numbers=tuple(range(len(files))),
        times=times,
        end=len(files) / rate,
        names=tuple(file.stem for file in files),
    )


def frame_files(path: Path) -> list[Path]:
    """The pictures of a folder, in the order of the numbers in their names."""
    files = [x for x in path.iterdir() if x.name[0] != "." and x.is_file()]
    # Digits are every second part, so numbers are compared with numbers.
    parts = lambda x: [
        int(y) if y.isdecimal() else y for y in re.split(r"(\d+)", x.name)
    ]
    return sorted(filter(is_picture, files), key=parts)


def _folder(clip: Clip, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    files = frame_files(clip.path)
    for number in clip.numbers:
        image = load_image(files[number], size=max(shape), enlarge=True)
        pixels = np.asarray(image)
        if pixels.shape[:2] != shape:
            _same_shape(clip, pixels.shape, shape)
            pixels = _resize((pixels * 255 + 0.5).astype(np.uint8), shape)
        yield pixels


def _same_shape(clip: Clip, found: Any, shape: Any) -> None:
    """Raise a ValueError if a frame has been replaced by one of another shape."""
    if max(abs(found[0] - shape[0]), abs(found[1] - shape[1])) > 2:
        raise ValueError(f"expected {clip.path} as it was at the start, got a change")


def _resize(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Levels of 0 to 255 in a size, as numbers of 0 to 1."""
    image = pil.fromarray(pixels)
    if pixels.shape[:2] != shape:
        image = image.resize((shape[1], shape[0]), pil.Resampling.LANCZOS)
    return np.asarray(image, np.float32) / 255


def _is_animated(path: Path) -> bool:
    """Whether a file of any name is an animated picture; films may begin like one."""
    with contextlib.suppress(Exception), open_pillow(path) as file:
        return getattr(file, "n_frames", 1) > 1
    return False


def _scan_animation(path: Path) -> Clip:
    times, now = [], Fraction(0)
    height, width = image_shape(path)
    for _, seconds in _animated(path):
        times.append(now)
        now += seconds
    return Clip(
        path=path,
        kind="animation",
        shape=(height, width),
        numbers=tuple(range(len(times))),
        times=tuple(times),
        end=now,
    )


def _animated(path: Path) -> Iterator[tuple[np.ndarray, Fraction]]:
    """The frames of an animated picture, over white, and how long they are shown."""
    try:
        with open_pillow(path) as file:
            # A picture for those who show no animation comes first.
            still = getattr(file, "default_image", False)
            numbers = range(still, getattr(file, "n_frames", 1))
            lay_background(file)
            for number in numbers:
                file.seek(number)
                image = file.convert("RGBA")
                white = pil.new("RGB", image.size, "white")
                white.paste(image, mask=image.getchannel("A"))
                seconds = Fraction(round(file.info.get("duration") or 0), 1000)
                yield np.asarray(white), seconds or FRAME
    except Exception as error:  # each decoder raises exceptions of its own
        raise ValueError(
            f"expected an animated picture at {path}, got one that cannot be decoded "
            f"({error}); save it again"
        ) from error


def _animation(clip: Clip, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    wanted = set(clip.numbers)
    for number, (pixels, _) in enumerate(_animated(clip.path)):
        if number in wanted:
            yield _resize(pixels, shape)


def _scan_video(path: Path, selection: Selection) -> Clip:
    entry, given, frames = find_entry(path, selection.start), [], []
    for frame in decoded(path, entry):
        frames = [frames[0], frame] if frames else [frame]  # the first and the last
        sizes = [(x.width, x.height) for x in frames]
        _same_size(path, entry.number + len(given) + 1, sizes[-1], sizes[0])
        given.append(None if frame.pts is None else frame.pts * frame.time_base)
        begin = given[0] if entry.seek is None else entry.begin * frame.time_base
        ended = selection.end is not None and None not in (given[-1], begin)
        if ended and given[-1] - begin >= selection.end:
            break
    if not frames:
        raise ValueError(
            f"expected frames in {path}, got none that can be decoded; convert it with "
            "another program"
        )
    first, last = frames[0], frames[-1]
    known = [x for x in given if x is not None]
    if any(a - b > 1 for a, b in itertools.pairwise(known)):
        raise ValueError(
            f"expected frames in the order of their times in {path}, got one of more "
            "than a second before the last; convert it with another program"
        )
    rate, aspect = rate_and_aspect(path)
    times = even_times(given, rate or RATE)
    begin = times[0] if entry.seek is None else entry.begin * first.time_base
    usual = (times[-1] - times[0]) / max(1, len(times) - 1)
    shown = Fraction(last.duration or 0) * last.time_base or usual or 1 / RATE
    rotation = round(first.rotation / 90) * 90 % 360
    height, width = first.height, max(1, round(first.width * aspect))
    return Clip(
        path=path,
        kind="video",
        shape=(width, height) if rotation in (90, 270) else (height, width),
        numbers=tuple(range(entry.number, entry.number + len(times))),
        times=tuple(time - begin for time in times),
        end=times[-1] + shown - begin,
        begin=begin,
        time_base=first.time_base,
        rotation=rotation,
        source=_color(first),
        peak=brightest(first),
        entry=entry,
    )


def _color(frame: Any) -> ColorTags:
    matrix, transfer = int(frame.colorspace), int(frame.color_trc)
    if matrix not in MATRICES:
        matrix = BT709 if frame.height > HIGH else BT601
        matrix = BT2020 if transfer in (PQ, HLG) else matrix
    full = int(frame.color_range) == 2 or frame.format.name.startswith("yuvj")
    return ColorTags(matrix, 2 if full else 1, int(frame.color_primaries), transfer)


def _video(clip: Clip, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    wanted, turned = set(clip.numbers), clip.rotation in (90, 270)
    size = shape[::-1] if turned else shape
    for number, frame in enumerate(decoded(clip.path, clip.entry), clip.entry.number):
        if number in wanted:
            pixels = read_pixels(frame, clip.source, clip.peak, (size[0], size[1]))
            yield np.ascontiguousarray(np.rot90(pixels, clip.rotation // 90))
        if number == clip.numbers[-1]:
            return
