"""Writes a video file, an animated picture or a folder, whole or not at all."""

import heapq
import itertools
import os
import shutil
from collections.abc import Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image as pil

from jaxnst.checks import check_installed
from jaxnst.disk import check_folder, check_target, write_whole
from jaxnst.pictures.files import save_image
from jaxnst.pictures.source import as_levels
from jaxnst.types import Image
from jaxnst.video.clip import Clip
from jaxnst.video.sound import sound_packets

X264 = "libx264", {"crf": "16", "preset": "medium"}
VP9 = "libvpx-vp9", {"crf": "24", "b:v": "0", "row-mt": "1", "cpu-used": "3"}
VIDEOS = {
    **{".mp4": ("mp4", *X264), ".m4v": ("mp4", *X264), ".mov": ("mov", *X264)},
    **{".mkv": ("matroska", *X264), ".webm": ("webm", *VP9)},
}
"""Containers, codecs and options of the video files that are written, by suffix. The
usual options would lose fine strokes."""

ANIMATIONS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    ".webp": ("WEBP", {"quality": 90, "method": 4}, 1, 1),
    ".gif": ("GIF", {}, 10, 2),  # browsers show a frame of one unit for ten
}
"""Animated pictures that are written, by suffix: their format and options, the unit of
their times in ms, and the least number of units for which a frame is shown."""

Kind = Literal["video", "animation", "folder"]


def output_kind(path: Path) -> Kind:
    """The kind of output at a path; a ValueError if it cannot be written there."""
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        check_folder(path.parent)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(f"{path} is no empty folder; choose another output")
        if path.is_mount():  # it cannot be replaced by a finished folder
            raise ValueError(f"{path} is a mount point; choose a new folder inside it")
        return "folder"
    check_target(path)
    if suffix in ANIMATIONS:
        return "animation"
    if suffix not in VIDEOS:
        wanted = ", ".join((*VIDEOS, *ANIMATIONS))
        raise ValueError(
            f"{path} has no suffix of a video; end it in {wanted}, or leave the suffix "
            "out for a folder"
        )
    check_installed("av", "a video file", "video")
    return "video"


def write_clip(path: Path, clip: Clip, images: Iterable[Image]) -> None:
    """Write painted frames with the times, sound and colour tags of their source.

    Args:
        path: See `output_kind`. Frames in a folder are PNGs, named like the files of
            the source, or numbered from 1 if it has no names or duplicate names.
        clip: Source of the frames.
        images: RGB in [0, 1], h w 3, one for each frame of the clip. A video file needs
            even sides.

    Raises:
        ValueError: As `output_kind`.
        OSError: If writing fails, as on a full disk.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxnst.video.clip import open_clip
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("1.png", "2.png"):
        ...     save_image(folder / name, np.zeros((20, 30, 3)))
        >>> clip = open_clip(folder)
        >>> painted = [np.full((20, 30, 3), x, np.float32) for x in (0.2, 0.8)]
        >>> write_clip(folder / "grey.webp", clip, painted)
        >>> len(open_clip(folder / "grey.webp"))
        2
    """
    kind, suffix = output_kind(path), path.suffix.lower()
    if kind == "folder":
        _write_folder(path, clip, images)
    elif kind == "animation":
        with write_whole(path) as file:
            _write_animation(file, suffix, clip, images)
    else:
        import av.error

        try:
            with write_whole(path) as file:
                _write_video(file, suffix, clip, images)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):  # from the system
                raise
            why = f"the video cannot be encoded ({error.strerror})"
            raise OSError(why) from error


def _write_folder(path: Path, clip: Clip, images: Iterable[Image]) -> None:
    """Write into a hidden folder, then rename it to `path`."""
    path = path.resolve()  # a link stays, and leads to the new folder
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        names = clip.names
        if len({name.casefold() for name in names}) < len(clip):
            names = tuple(f"{i + 1:06d}" for i in range(len(clip)))
        for name, image in zip(names, images, strict=True):
            save_image(part / f"{name}.png", image)
        if path.is_dir():
            path.rmdir()
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _ticks(clip: Clip, unit: Fraction, least: int = 1) -> list[int]:
    """Times of the frames and of the end, in whole units, at least `least` apart."""
    found = [0]  # Times are rounded, not their differences, so that no error adds up.
    for time in (*clip.times[1:], clip.end):
        found.append(max(found[-1] + least, round(time / unit)))
    return found


def _write_animation(
    file: Any, suffix: str, clip: Clip, images: Iterable[Image]
) -> None:
    """Write an animated picture that repeats without end."""
    frames = (pil.fromarray(as_levels(image)) for image in images)
    kind, options, unit, least = ANIMATIONS[suffix]
    ticks = [unit * x for x in _ticks(clip, Fraction(unit, 1000), least)]
    more = {"duration": [b - a for a, b in itertools.pairwise(ticks)], "loop": 0}
    more |= {"save_all": True, "append_images": frames}
    next(frames).save(file, kind, **options, **more)


def _write_video(file: Any, suffix: str, clip: Clip, images: Iterable[Image]) -> None:
    """Write a video file: frames at their times, and the sound of the source."""
    import av
    from av.codec.context import Flags

    container, codec, options = VIDEOS[suffix]
    images, tags, unit = iter(images), clip.source.shown, clip.time_base
    first, ticks = next(images), _ticks(clip, unit)
    with av.open(file, "w", format=container) as out:
        height, width = first.shape[:2]
        size = {"height": height, "width": width, "time_base": unit}
        stream: Any = out.add_stream(codec, clip.rate, options, **size)
        context = stream.codec_context
        context.flags |= Flags.frame_duration
        context.colorspace, context.color_range = tags.matrix, tags.range
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer

        def write(image: Image, tick: int, end: int) -> None:
            frame = av.VideoFrame.from_ndarray(as_levels(image, 16), "rgb48le")
            frame.colorspace = tags.matrix
            # 4:2:0 is all that every browser plays.
            frame = frame.reformat(format="yuv420p", dst_color_range=tags.range)
            frame.pts, frame.duration, frame.time_base = tick, end - tick, unit
            out.mux(stream.encode(frame))

        images = itertools.chain([first], images)
        given = zip(clip.times, images, ticks[:-1], ticks[1:], strict=True)
        frames = ((time, partial(write, *rest)) for time, *rest in given)
        sound = sound_packets(clip, out)
        for _, write_next in heapq.merge(frames, sound, key=lambda found: found[0]):
            write_next()
        out.mux(stream.encode(None))
