"""The frames of a video file, as a player shows them."""

import contextlib
import math
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnst.checks import check_installed
from jaxnst.pictures.geometry import resize
from jaxnst.types import Image
from jaxnst.video.tags import PEAK, ColorTags, to_sdr


class Entry(NamedTuple):
    """Where the decoding of a video begins; times are in seconds."""

    seek: Fraction | None = None  # to a key frame; None: the file's start
    first: Fraction | None = None  # frames before that time are dropped
    before: Sequence[Fraction] = ()  # times of the dropped frames


WHOLE = Entry()
"""All of a video."""


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file; yield its container and its first video stream.

    Cover pictures do not count as streams. All failures are ValueErrors.
    """
    check_installed("av", "a video file", "video")
    import av.error
    from av.stream import Disposition

    try:
        # An absolute path, since FFmpeg takes text before a colon for a protocol.
        with av.open(str(path.absolute()), metadata_errors="ignore") as container:
            cover = Disposition.attached_pic
            videos = [x for x in container.streams.video if not x.disposition & cover]
            if not videos:
                raise ValueError(f"{path} has no video in it; choose another file")
            yield container, videos[0]
    except (av.error.FFmpegError, EOFError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{path} is not a readable video ({why}); copy it again"
        ) from error


def decoded(
    path: Path, entry: Entry = WHOLE
) -> Generator[tuple[Fraction | None, Any], None, None]:
    """Yield the time of each frame in seconds, if known, and the frame.

    Edit lists are followed. Raises a ValueError if the file is truncated.
    """
    with open_video(path) as (container, stream):
        unit, decoder = stream.time_base, _decoder(stream)
        # FFmpeg drops frames that an edit list hides, except in fragmented files.
        first: Any = 0 if "mp4" in container.format.name else -math.inf
        if entry.seek is not None:
            container.seek(int(entry.seek / unit), stream=stream)
            first = entry.first
        number, packets, newest, times = len(entry.before), 0, None, deque()
        guessed, cut = container.format.name == "avi", False
        for packet in container.demux(stream):
            end, cut = packet.size == 0 and packet.dts is None, packet.is_corrupt
            if not (end or cut):
                if packet.size == 0:  # the frame before is shown for longer
                    continue
                if packets == 0:
                    guessed = guessed or (packet.pts is None and packet.dts is not None)
                packets, newest = packets + 1, packet.dts
                times.append(newest)
            # The frames before the damage are still in the decoder.
            for frame in decoder.decode(None if end or cut else packet):
                # If packets have decoding times only, FFmpeg's presentation times are
                # guesses. Then the first frame gets the first decoding time.
                made = times.popleft() if times else None
                shown = made if guessed else frame.pts
                time = None if shown is None else shown * unit
                if time is None or time >= first:
                    number += 1
                    yield time, frame
            if end or cut:
                break
        if cut or _is_short(container, stream, entry, packets, newest):
            cure = ", or cut the damage off with --end" if number > 1 else ""
            raise ValueError(
                f"{path} is truncated or damaged after {number} frames; copy it "
                f"again{cure}"
            )


def _is_short(file: Any, stream: Any, entry: Entry, packets: int, newest: Any) -> bool:
    """Whether the end of a file is missing, by its own index or counts."""
    kind, index = file.format.name, stream.index_entries
    if "mp4" in kind:  # its index omits what edit lists hide
        return bool(packets and len(index) and newest < index[len(index) - 1].timestamp)
    if kind == "avi":  # it also counts chunks without a frame, perhaps last
        return bool(packets) and newest < 0.9 * stream.frames - 3
    few = entry.seek is None and packets < stream.frames
    return few or ("matroska" in kind and _is_cut(Path(file.name)))


def _is_cut(path: Path) -> bool:
    """Whether a Matroska file, such as a WebM, is shorter than its segment."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4
    length = 9 - head[at].bit_length()  # a leading 1 bit tells how many bytes follow
    size = int.from_bytes(head[at : at + length]) - 2 ** (7 * length)
    unknown = size == 2 ** (7 * length) - 1  # as in live streams
    return not unknown and path.stat().st_size < at + length + size


def _decoder(stream: Any) -> Any:
    """The decoder of a stream; it decodes alpha if the stream has alpha."""
    import av

    alpha = {x.lower(): y for x, y in stream.metadata.items()}.get("alpha_mode")
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if alpha == "1" and name in av.codecs_available:
        return av.CodecContext.create(name, "r")  # FFmpeg's own would drop it
    stream.thread_type = "AUTO"
    return stream.codec_context


def find_entry(path: Path, start: Fraction) -> Entry:
    """Find where to begin decoding, to get the frames from `start` seconds on.

    The frames are the same as when all of the file is decoded. Decoding begins two key
    frames early, since open groups of pictures, slow refreshes and streams without an
    index need that. The times of the decoded frames are compared with those in the
    file. If they differ, if times are missing, or if seeking fails, decoding begins at
    the file's start.
    """
    if start == 0:
        return WHOLE
    with contextlib.closing(decoded(path)) as frames:
        begin, _ = next(frames, (None, None))
    if begin is None:
        return WHOLE
    times, keys = [], []
    with open_video(path) as (container, stream):
        unit, last = stream.time_base, begin + start
        for packet in container.demux(stream):
            made = packet.dts
            if packet.size == 0 or (made is not None and made * unit > last):
                break  # no frame is shown before it is decoded
            if packet.pts is None or container.format.name == "avi":
                return WHOLE
            shown = packet.pts * unit
            if begin <= shown <= last and not packet.is_discard:
                times.append(shown)
                keys += [shown] * packet.is_keyframe
    times, keys = sorted(times), sorted(keys)
    if len(keys) < 3 or len(set(times)) < len(times):
        return WHOLE
    seek, roll, key = keys[-3:]
    entry, found = Entry(seek, key, times[: times.index(key)]), []
    expected = times[times.index(roll) :]
    probe = decoded(path, entry._replace(first=roll))
    with contextlib.suppress(ValueError), contextlib.closing(probe):
        found = [time for _, (time, _) in zip(expected, probe, strict=False)]
    return entry if found == expected else WHOLE


def even_times(times: list[Fraction | None], rate: Fraction) -> list[Fraction]:
    """Strictly increasing times of the frames, in the order of the decoder.

    A time that is missing, or not later than the one before, is interpolated between
    the times around it, and extrapolated by the rate at both ends.
    """
    known = iter(sorted(x for x in times if x is not None))
    kept: dict[int, Fraction] = {}
    newest, count = -math.inf, len(times)
    for place, given in enumerate(times):
        if given is not None and (time := next(known)) > newest:
            kept[place] = newest = time
    kept = kept or {0: Fraction(0)}
    first, last, far = min(kept), max(kept), count / rate  # beyond both, by the rate
    around = {first - count: kept[first] - far, **kept, last + count: kept[last] + far}
    found = np.interp(range(count), [*around], [*map(float, around.values())])
    exact = lambda x: Fraction(x).limit_denominator(10**6)
    return [kept.get(place, exact(time)) for place, time in enumerate(found)]


def read_pixels(
    frame: Any, tags: ColorTags, peak: float, shape: tuple[int, int]
) -> Image:
    """A frame in a size, SDR, RGB in [0, 1]; transparent areas are white."""
    frame.colorspace, frame.color_range = tags.matrix, tags.range
    clear = any(x.is_alpha for x in frame.format.components)
    if not clear and not frame.format.has_palette:  # which may have clear colours
        return to_sdr(_floats(frame, "rgb48le", shape), tags, peak)
    # Laid over white before resizing, so that colours of clear pixels do not bleed.
    pixels = _floats(frame, "rgba64le", (frame.height, frame.width))
    white = 1 + pixels[..., 3:] * (to_sdr(pixels[..., :3], tags, peak) - 1)
    return np.clip(resize(white, shape), 0, 1)


def _floats(frame: Any, kind: str, shape: tuple[int, int]) -> np.ndarray:
    options = {"height": shape[0], "width": shape[1], "interpolation": "LANCZOS"}
    return frame.to_ndarray(format=kind, **options).astype(np.float32) / 65535


def brightest(frame: Any) -> float:
    """Luminance of the brightest white of a frame, in cd/m², from its metadata."""
    from av.sidedata.sidedata import Type

    level = 0
    with contextlib.suppress(ValueError, KeyError):  # PyAV does not know the data
        stated = bytes(frame.side_data[Type.CONTENT_LIGHT_LEVEL])
        level = int.from_bytes(stated[:4], "little")
    return float(level or PEAK)
