"""The frames of a video file, as a player shows them."""

import contextlib
import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxnst.video.tags import PEAK, ColorTags, to_sdr


class Entry(NamedTuple):
    """Where the decoding of a video begins.

    Attributes:
        seek: Time of a key frame to go to, in the units of the stream. Default: begin
            with the file.
        first: Frames before that time are dropped, in the same units.
        number: Of the first frame that is left, from 0.
        begin: Time of the video's own first frame, in the same units.
    """

    seek: int | None = None
    first: int | None = None
    number: int = 0
    begin: int = 0


WHOLE = Entry()
"""All of a video."""


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


def picture_stream(container: Any, path: Path) -> Any:
    """The first video of a file, without covers, such as that of a song."""
    from av.stream import Disposition

    cover = Disposition.attached_pic
    videos = [x for x in container.streams.video if not x.disposition & cover]
    if not videos:
        raise ValueError(
            f"expected a video in {path}, got a file without one, such as sound "
            "alone; choose another file"
        )
    return videos[0]


def decoded(path: Path, entry: Entry = WHOLE) -> Generator[Any, None, None]:
    """The frames of the first video of a file; a ValueError if it is truncated.

    They come in the order in which they are shown. Edit lists are followed. Frames have
    their times, in the units of the stream, or None where the file has none.
    """
    with open_video(path) as container, reading(path):
        stream = picture_stream(container, path)
        decoder = _decoder(stream)
        if entry.seek is not None:
            container.seek(entry.seek, stream=stream)
        clock, number, packets, newest = None, entry.number, 0, None
        corrupt, end = False, False
        for packet in container.demux(stream):
            end = packet.size == 0 and packet.dts is None
            corrupt = corrupt or packet.is_corrupt
            if not (end or corrupt):
                if packet.size == 0:  # the frame before is shown for longer
                    continue
                packets, newest = packets + 1, packet.dts
                clock = clock or _Clock(container, packet)
                clock.times.append(packet.dts)
            # The frames before the damage are still in the decoder.
            for frame in decoder.decode(None if end or corrupt else packet):
                frame.time_base = stream.time_base  # the last ones lack it
                if clock is None or not clock.set(frame, entry.first):
                    continue
                number += 1
                yield frame
            if end or corrupt:
                break
        short = newest is not None and newest < _last(container, stream)
        short = short or (entry == WHOLE and packets < _count(container, stream))
        short = short or ("matroska" in container.format.name and _is_cut(path))
        if corrupt or short:
            cure = ", or cut the damage off with --end" if number > 1 else ""
            raise ValueError(
                f"expected all frames in {path}, got a file that is truncated or "
                f"damaged after {number}; copy it again{cure}"
            )


def _last(container: Any, stream: Any) -> int | float:
    """The time of the last packet as the file states it, if it does."""
    index = stream.index_entries
    if _is_mp4(container) and len(index):
        return index[len(index) - 1].timestamp  # without what edit lists hide
    # An AVI counts chunks that hold no frame, too, of which some may be the last.
    return 0.9 * stream.frames - 3 if container.format.name == "avi" else -math.inf


def _count(container: Any, stream: Any) -> int:
    """How many packets there are at least, as the file states it, if it does.

    MP4 counts hidden ones, too; AVI counts a frame that is shown for longer as several.
    """
    return 0 if _is_mp4(container) or container.format.name == "avi" else stream.frames


def _is_cut(path: Path) -> bool:
    """Whether a Matroska file, such as a WebM, is shorter than its segment."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4
    length = 9 - head[at].bit_length()  # a leading 1 bit tells how many bytes follow
    size = int.from_bytes(head[at : at + length]) - 2 ** (7 * length)
    unknown = size == 2 ** (7 * length) - 1  # of a stream
    return not unknown and path.stat().st_size < at + length + size


def _decoder(stream: Any) -> Any:
    """The decoder of a stream, with alpha where it has that."""
    import av

    alpha = {x.lower(): y for x, y in stream.metadata.items()}.get("alpha_mode")
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if alpha == "1" and name in av.codecs_available:
        return av.CodecContext.create(name, "r")  # FFmpeg's own would drop it
    stream.thread_type = "AUTO"
    return stream.codec_context


class _Clock:
    """When frames are shown.

    Args:
        container: Of the file.
        packet: Its first one.
    """

    def __init__(self, container: Any, packet: Any):
        # Where times are those of decoding, the first frame has the first one, and so
        # on. What FFmpeg takes for the time of showing is a guess then.
        guessed = packet.pts is None and packet.dts is not None
        self.ranked = guessed or container.format.name == "avi"
        self.edited = _is_mp4(container)
        self.times: deque[int | None] = deque()

    def set(self, frame: Any, first: int | None) -> bool:
        """Give a frame its time; return whether it is shown, from `first` on."""
        time = self.times.popleft() if self.times else None
        if self.ranked:
            frame.pts = time
        if frame.pts is None:
            return True
        # FFmpeg leaves out what an edit list hides, but not in fragmented files.
        if first is None:
            return frame.pts >= 0 or not self.edited
        return frame.pts >= first


def _is_mp4(container: Any) -> bool:
    return "mp4" in container.format.name.split(",")


def find_entry(path: Path, start: Fraction) -> Entry:
    """Where to begin decoding for the frames from a time on.

    The frames are the same as without it: decoding begins two key frames early, since
    open groups of pictures, slow refreshes and streams without an index need that, and
    the times of the frames that come are compared with those in the file. Where they
    differ, times are missing, or seeking fails, decoding begins with the file.

    Args:
        path: A video file.
        start: Seconds from the first frame.
    """
    if start == 0:
        return WHOLE
    with contextlib.closing(decoded(path)) as frames:
        first = next(frames, None)
    if first is None or first.pts is None:
        return WHOLE
    begin, wanted = first.pts, first.pts + start / Fraction(first.time_base)
    times, keys = _times_until(path, begin, wanted)
    if len(keys) < 3 or len(set(times)) < len(times):
        return WHOLE
    seek, roll, key = keys[-3:]
    entry = Entry(seek, key, bisect_left(times, key), begin)
    probe = entry._replace(first=roll)
    expected = [x for x in times if roll <= x <= wanted]
    found = []
    with contextlib.suppress(ValueError), contextlib.closing(decoded(path, probe)) as x:
        found = [frame.pts for _, frame in zip(expected, x, strict=False)]
    return entry if found == expected else WHOLE


def _times_until(path: Path, begin: int, end: Fraction) -> tuple[list, list]:
    """Sorted times of the frames up to a time, and those of key frames among them.

    Both are empty where times are missing.
    """
    times, keys = [], []
    with open_video(path) as container, reading(path):
        stream = picture_stream(container, path)
        for packet in container.demux(stream):
            if packet.size == 0 or (packet.dts is not None and packet.dts > end):
                break  # no frame is shown before it is decoded
            if packet.pts is None or _Clock(container, packet).ranked:
                return [], []
            if begin <= packet.pts <= end and not packet.is_discard:
                times.append(packet.pts)
                keys += [packet.pts] * packet.is_keyframe
    return sorted(times), sorted(keys)


def rate_and_aspect(path: Path) -> tuple[Fraction | None, Fraction]:
    """Frames per second of a video, if they are known; width of a pixel by height."""
    with open_video(path) as container:
        stream = picture_stream(container, path)
        rate = stream.guessed_rate or stream.average_rate
        return rate, stream.sample_aspect_ratio or Fraction(1)


def even_times(times: list[Fraction | None], rate: Fraction) -> list[Fraction]:
    """Times that grow from frame to frame, in the order of the decoder.

    Those that are missing, or are not later than the one before, are spread evenly
    between those around them, and follow the rate where there are none.

    Example:
        >>> given = [None, Fraction(1), Fraction(1), Fraction(2), None]
        >>> [float(x) for x in even_times(given, Fraction(2))]
        [0.5, 1.0, 1.5, 2.0, 2.5]
    """
    known = iter(sorted(x for x in times if x is not None))
    kept: dict[int, Fraction] = {}
    last = 0
    for place, given in enumerate(times):
        time = None if given is None else next(known)
        if time is not None and (not kept or time > kept[last]):
            kept[place], last = time, place
    if not kept:
        return [place / rate for place in range(len(times))]
    places, found = list(kept), []
    for place in range(len(times)):
        i = bisect_right(places, place)
        before = places[max(0, i - 1)]
        step = 1 / rate
        if 0 < i < len(places):
            step = (kept[places[i]] - kept[before]) / (places[i] - before)
        found.append(kept[before] + (place - before) * step)
    return found


def read_pixels(
    frame: Any, tags: ColorTags, peak: float, shape: tuple[int, int]
) -> Float[np.ndarray, "_h _w 3"]:
    """A frame in a size, SDR, RGB in [0, 1]; what is clear in it is white.

    Args:
        frame: PyAV's.
        tags: What its numbers mean.
        peak: See `to_sdr`.
        shape: Height and width.
    """
    clear = any(x.is_alpha for x in frame.format.components)
    clear = clear or frame.format.has_palette  # whose colours may be clear
    size = (frame.height, frame.width) if clear else shape
    colors = {"src_colorspace": tags.matrix_name, "src_color_range": tags.range}
    pixels = _levels(frame, size, "rgba64le" if clear else "rgb48le", **colors)
    shown = to_sdr(pixels[..., :3], tags, peak)
    if not clear:
        return shown
    import av

    # Laid over white first, so that colours of what is clear do not run into the rest.
    white = 1 + pixels[..., 3:] * (shown - 1)
    levels = (white * 65535 + 0.5).astype(np.uint16)
    found = av.VideoFrame.from_ndarray(levels, "rgb48le")
    return _levels(found, shape, "rgb48le")


def _levels(frame: Any, shape: tuple[int, int], kind: str, **colors: Any) -> np.ndarray:
    height, width = shape
    found = frame.reformat(width, height, kind, interpolation="LANCZOS", **colors)
    return np.asarray(found.to_ndarray(), np.float32) / 65535


def brightest(frame: Any) -> float:
    """The brightest white of a frame of HDR, in cd/m², as its metadata state it."""
    from av.sidedata.sidedata import Type

    stated = None
    with contextlib.suppress(ValueError):  # of data that PyAV does not know, as EXIF
        stated = frame.side_data.get(Type.CONTENT_LIGHT_LEVEL)
    level = 0 if stated is None else int.from_bytes(bytes(stated)[:4], "little")
    return float(level) or PEAK
