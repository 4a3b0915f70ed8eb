"""Frames of a video file, an animated picture or a folder, with their times."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image as pil

from jaxnst.messages import found_at
from jaxnst.pictures.files import image_shape, is_picture, load_image

RATE = Fraction(24)
"""Frames per second of a folder, unless another rate is asked for."""

FRAME = Fraction(1, 10)
"""Seconds of a frame of an animated picture that says 0, as browsers show it."""

HIGH = 576
"""Lines of a picture up to which colours that are not tagged are those of standard
definition (BT.601); above it is high definition (BT.709)."""

UNKNOWN, BT709, BT601 = 2, 1, 6
"""Codes of ISO/IEC 23091-2 for matrices of colours."""

MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "SMPTE170M", 7: "SMPTE240M"}
"""Their names in PyAV; those of BT.2020 are 9 and 10."""


class ColorTags(NamedTuple):
    """What the numbers of a video mean, in the codes of ISO/IEC 23091-2.

    Attributes:
        matrix: From luma and chroma to RGB.
        range: 1: luma from 16 to 235 of 255; 2: from 0 to 255.
        primaries: Chromaticities of RGB.
        transfer: From numbers to light.
    """

    matrix: int = BT709
    range: int = 1
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN

    @property
    def matrix_name(self) -> str:
        """The name of the matrix in PyAV."""
        return (
            "BT2020" if self.matrix in (9, 10) else MATRICES.get(self.matrix, "ITU709")
        )


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
        color: What its numbers mean.
        deep: Whether it has more than 8 bits for each number.
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
    color: ColorTags = ColorTags()
    deep: bool = False
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
    elif is_picture(path) or _looks_like_picture(path):
        found = _scan_animation(path)
    else:
        found = _scan_video(path, selection.end)
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


def _looks_like_picture(path: Path) -> bool:
    with contextlib.suppress(Exception), pil.open(path):
        return True
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
        with pil.open(path) as file:
            for number in range(getattr(file, "n_frames", 1)):
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


def check_codecs() -> None:
    """Raise a ValueError unless video files can be read and written here."""
    if find_spec("av") is None:
        raise ValueError(
            "expected PyAV to read and write video files, got none; "
            "pip install 'jaxnst[video]'"
        )


def open_video(path: Path) -> Any:
    """Open a video file with PyAV; a ValueError says why that fails."""
    check_codecs()
    import av

    with reading(path):
        # Whole, as FFmpeg takes what is before a colon for a protocol.
        return av.open(str(path.absolute()), metadata_errors="ignore")


def picture_streams(container: Any) -> list[Any]:
    """The videos of a file, without covers, such as that of a song."""
    from av.stream import Disposition

    cover = Disposition.attached_pic
    return [x for x in container.streams.video if not x.disposition & cover]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every failure to read a video into a ValueError of one line."""
    import av.error

    try:
        yield
    except (av.error.FFmpegError, EOFError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"expected a video at {path}, got a file that is damaged, truncated or "
            f"none ({why}); copy it again"
        ) from error


def _decoded(path: Path) -> Iterator[Any]:
    """The frames of the first video of a file; a ValueError if it is truncated."""
    with open_video(path) as container, reading(path):
        videos = picture_streams(container)
        if not videos:
            raise ValueError(
                f"expected a video in {path}, got a file without one, such as sound "
                "alone; choose another file"
            )
        stream, packets, corrupt = videos[0], 0, False
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            corrupt = corrupt or packet.is_corrupt
            # The frames before the damage are still in the decoder.
            last = corrupt or packet.size == 0
            packets += not last
            for frame in stream.decode(None) if last else packet.decode():
                frame.time_base = stream.time_base  # the last ones lack it
                yield frame
            if last:
                break
        if corrupt or packets < stream.frames:
            _truncated(path, stream.frames, packets)


def _truncated(path: Path, stated: int, found: int) -> None:
    cure = ", or cut the damage off with --end" if found > 1 else ""
    raise ValueError(
        f"expected {stated or 'whole'} frames in {path}, got a file that is truncated "
        f"or damaged after {found}; copy it again{cure}"
    )


def _scan_video(path: Path, end: Fraction | None) -> Clip:
    times, first, last = [], None, None
    for frame in _decoded(path):
        size = frame.width, frame.height
        if first is None:
            first = frame
        _same_size(path, len(times) + 1, size, (first.width, first.height))
        times.append(_time(frame, times))
        last = frame
        if end is not None and times[-1] - times[0] >= end:
            break
    if first is None or last is None:
        raise ValueError(
            f"expected frames in {path}, got none that can be decoded; convert it with "
            "another program"
        )
    order = np.argsort(times, kind="stable")
    if list(order) != list(range(len(times))) or len(set(times)) < len(times):
        raise ValueError(
            f"expected frames in the order of their times in {path}, got others; "
            "convert it with another program"
        )
    usual = (times[-1] - times[0]) / max(1, len(times) - 1)
    shown = Fraction(last.duration or 0) * last.time_base or usual or 1 / RATE
    return Clip(
        path=path,
        kind="video",
        shape=_upright(first, path),
        numbers=tuple(range(len(times))),
        times=tuple(time - times[0] for time in times),
        end=times[-1] + shown - times[0],
        begin=times[0],
        time_base=first.time_base,
        rotation=_rotation(first),
        color=_color(first),
        deep=max(x.bits for x in first.format.components) > 8,
    )


def _time(frame: Any, before: list[Fraction]) -> Fraction:
    """Seconds at which a frame is shown."""
    if frame.pts is not None:
        return frame.pts * Fraction(frame.time_base)
    return before[-1] + 1 / RATE if before else Fraction(0)


def _rotation(frame: Any) -> int:
    """Degrees, counter-clockwise, that turn a frame upright: 0, 90, 180 or 270."""
    return round(frame.rotation / 90) * 90 % 360


def _upright(frame: Any, path: Path) -> tuple[int, int]:
    """Height and width of a frame, upright and of square pixels."""
    with open_video(path) as container:
        stream = picture_streams(container)[0]
        aspect = stream.sample_aspect_ratio or Fraction(1)
    height, width = frame.height, max(1, round(frame.width * aspect))
    return (width, height) if _rotation(frame) in (90, 270) else (height, width)


def _color(frame: Any) -> ColorTags:
    matrix = int(frame.colorspace)
    if matrix not in (*MATRICES, 9, 10):
        matrix = BT709 if frame.height > HIGH else BT601
    full = int(frame.color_range) == 2 or frame.format.name.startswith("yuvj")
    return ColorTags(
        matrix, 2 if full else 1, int(frame.color_primaries), int(frame.color_trc)
    )


def _video(clip: Clip, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    wanted, turned = set(clip.numbers), clip.rotation in (90, 270)
    height, width = shape[::-1] if turned else shape
    frames = _decoded(clip.path)
    for number, frame in enumerate(frames):
        if number in wanted:
            rgb = frame.reformat(
                width=width,
                height=height,
                format="rgb48le",
                src_colorspace=clip.color.matrix_name,
                src_color_range=clip.color.range,
                interpolation="LANCZOS",
            )
            pixels = np.asarray(rgb.to_ndarray(), np.float32) / 65535
            yield np.ascontiguousarray(np.rot90(pixels, clip.rotation // 90))
        if number == clip.numbers[-1]:
            return
