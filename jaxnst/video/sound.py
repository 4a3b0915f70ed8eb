"""The sound of a video: copied as it is, or encoded anew for another container."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from jaxnst.video.clip import Clip
from jaxnst.video.decode import open_video, reading

RATE = 48000
"""Samples per second of sound that is encoded anew; Opus knows few others."""


def sound_streams(source: Any) -> list[Any]:
    """The tracks of sound of a file that can be read; FFmpeg may not know all."""
    return [x for x in source.streams.audio if x.codec_context is not None]


def lost_tracks(clip: Clip) -> int:
    """How many tracks of sound of a clip cannot be carried over."""
    if clip.kind != "video":
        return 0
    with open_video(clip.path) as source:
        return len(source.streams.audio) - len(sound_streams(source))


@contextlib.contextmanager
def carry_sound(clip: Clip, out: Any) -> Iterator["Sound"]:
    """Bring the sound of a source into PyAV's container `out`, from frame to frame."""
    if clip.kind != "video":
        yield Sound(clip, None, out)
        return
    with open_video(clip.path) as source:
        sound = Sound(clip, source, out)
        yield sound
        sound.finish()


class Sound:
    """All tracks of sound of a clip; its streams are made at once, packets later."""

    def __init__(self, clip: Clip, source: Any, out: Any):
        streams = sound_streams(source) if source else []
        self.clip, self.held = clip, None
        # Of what is before the first frame, a decoder wants a packet. Containers
        # without edit lists would show the first frame later instead.
        self.lead = 2 if out.format.name in ("mp4", "mov") else 0
        self.tracks = {x.index: _track(clip, x, out) for x in streams}
        self.packets = _packets(clip.path, source, streams)

    def until(self, time: Fraction) -> None:
        """Write the sound up to a time, in seconds from the first frame."""
        while (packet := self.held or next(self.packets, None)) is not None:
            self.held = None
            if packet.pts is None:  # the end of a track
                continue
            when = packet.pts * Fraction(packet.time_base) - self.clip.begin
            if when >= time:
                self.held = packet
                return
            ahead = self.lead * (packet.duration or 0) * Fraction(packet.time_base)
            if when >= 0 or when + ahead > 0:
                self.tracks[packet.stream.index].write(packet)

    def finish(self) -> None:
        """Write the sound up to the end of the clip."""
        self.until(self.clip.end)
        for track in self.tracks.values():
            track.finish()


def _packets(path: Path, source: Any, streams: list[Any]) -> Iterator[Any]:
    if streams:
        with reading(path):
            yield from source.demux(streams)


REFUSED = {"mov": ("opus", "flac", "truehd"), "mp4": ("truehd", "pcm_f32le")}
"""Codecs that containers are said to hold and are not written in."""

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""Usual places of so many channels, of which a file tells no places."""


def _track(clip: Clip, stream: Any, out: Any) -> "_Copy | _Encode":
    name, kind = stream.codec_context.name, out.format.name
    known = name in out.supported_codecs and name not in REFUSED.get(kind, ())
    # MPEG layer III in MP4 has at least 16,000 samples per second.
    slow = name == "mp3" and kind == "mp4" and stream.rate < 16_000
    return (_Copy if known and not slow else _Encode)(clip, stream, out)


class _Copy:
    """Copies the packets of a track."""

    def __init__(self, clip: Clip, stream: Any, out: Any):
        self.stream, self.out = out.add_stream_from_template(stream), out
        self.begin = round(clip.begin / stream.time_base)

    def write(self, packet: Any) -> None:
        packet.pts -= self.begin
        if packet.dts is not None:
            packet.dts -= self.begin
        packet.stream = self.stream
        self.out.mux(packet)

    def finish(self) -> None:
        """Nothing is held back."""


class _Encode:
    """Encodes a track anew, in the usual codec of a container."""

    def __init__(self, clip: Clip, stream: Any, out: Any):
        import av

        # Encoders know 5.1, and few know 5.1(side), of the same speakers.
        given = stream.codec_context.layout
        layout = given.name.replace("(side)", "")
        if "channel" in layout:
            layout = LAYOUTS.get(given.nb_channels, "stereo")
        self.out, self.begin = out, clip.begin
        self.stream = out.add_stream(out.default_audio_codec, rate=RATE)
        self.stream.codec_context.layout = layout
        kind = self.stream.codec_context.format
        self.resampler = av.AudioResampler(format=kind, layout=layout, rate=RATE)

    def write(self, packet: Any) -> None:
        for frame in packet.decode():
            frame.pts -= round(self.begin / frame.time_base)
            self._encode(self.resampler.resample(frame))

    def finish(self) -> None:
        self._encode([*self.resampler.resample(None), None])

    def _encode(self, frames: list) -> None:
        for frame in frames:
            self.out.mux(self.stream.encode(frame))
