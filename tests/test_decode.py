"""Frames of video files as a player shows them: edits, times, alpha, HDR, seeking."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from test_clip import make_video, picture, probe

from jaxnst.video.clip import Selection, open_clip
from jaxnst.video.tags import HLG, PQ, ColorTags, to_sdr
from jaxnst.video.write import write_clip

COUNT = 48
"""Frames of the films, 24 a second."""


def level(i):
    """The grey of a frame, which tells frames apart."""
    return 40 + 4 * i


def film(path, codec="libx264", *, sound=False, shift=0, options=None, **settings):
    """Frames of plain greys, a group of pictures each 6; a click of sound at 1 s."""
    options = options or {"g": "6", "bf": "2", "crf": "5"}
    with av.open(str(path), "w", options=settings) as out:
        video = out.add_stream(codec, rate=24, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        if codec == "mjpeg":
            video.pix_fmt = "yuvj420p"
        audio = out.add_stream("aac", rate=48000) if sound else None
        for i in range(COUNT):
            pixels = np.full((48, 64), level(i), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "gray")
            frame = frame.reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = i + shift, Fraction(1, 24)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            audio.codec_context.layout = "mono"
            wave = np.zeros((1, 2 * 48000), np.float32)
            wave[:, 48000:50400] = np.sin(np.arange(2400) / 3)
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 0
            out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path


def edit(path, change, number=0):
    """Change the entries, (duration, time in the media, …), of an edit list."""
    data, at = bytearray(path.read_bytes()), 0
    for _ in range(number + 1):
        at = data.index(b"elst", at + 1)
    (count,) = struct.unpack(">I", data[at + 8 : at + 12])
    for i in range(count):
        where = slice(at + 12 + 12 * i, at + 20 + 12 * i)
        entry = change(*struct.unpack(">Ii", data[where]))
        data[where] = struct.pack(">Ii", *entry)
    path.write_bytes(data)
    return path


def shown(clip):
    """Which frames of a film a clip has, by their greys."""
    greys = [float(x.mean()) for x in clip.frames((48, 64))]
    return [round(((16 + 219 * x) * 255 / 255 - level(0)) / 4) for x in greys]


TICKS = 12288 // 24
"""Of a frame, in MP4 by FFmpeg."""


@pytest.mark.parametrize(
    ("change", "frames"),
    [
        (lambda time, at: (time // 2, at), range(24)),
        (lambda time, at: (time // 2, at + 20 * TICKS), range(20, 44)),
        (lambda time, at: (time // 4, at + 21 * TICKS), range(21, 33)),
        (lambda time, at: (time, at), range(48)),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_an_edit_list_is_followed(tmp_path, change, frames, name):
    ticks = lambda time, at: change(time, at)
    clip = open_clip(edit(film(tmp_path / name), ticks))
    assert shown(clip) == list(frames)
    assert len(clip) == len(frames)
    assert float(clip.end) == pytest.approx(len(frames) / 24)
