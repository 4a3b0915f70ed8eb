"""The sound of a video: copied as it is, or encoded anew for another container."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

from jaxnst.video.clip import Clip
from jaxnst.video.decode import open_video

RATE = 48000
"""Samples per second of re-encoded sound; Opus supports few other rates."""


def sound_streams(source: Any) -> list[Any]:
    """The sound tracks of a file that FFmpeg can decode."""
    return [x for x in source.streams.audio if x.codec_context is not None]


def lost_tracks(clip: Clip) -> int:
    """Number of sound tracks of a clip that cannot be carried over."""
    if clip.kind != "video":
        return 0
    with open_video(clip.path) as (source, _):
        return len(source.streams.audio) - len(sound_streams(source))


def sound_packets(clip: Clip, out: Any) -> Iterator[tuple[Fraction, Callable]]:
    """Yield the time of each sound packet from the first frame on, and its writer.

    Before the first packet, the tracks are added to PyAV's container `out`.
    """
    if clip.kind != "video":
        return
    # A decoder needs packets from before the first frame. In containers without edit
    # lists, they would delay the first frame, so they are left out.
    lead = 2 if out.format.name in ("mp4", "mov") else 0
    with open_video(clip.path) as (source, _):
        streams = sound_streams(source)
        tracks = {x.index: _track(clip, x, out) for x in streams}
        for packet in source.demux(streams) if streams else ():
            if packet.pts is None:  # the end of a track
                continue
            unit = Fraction(packet.time_base)
            when = packet.pts * unit - clip.begin
            if when >= clip.end:
                break
            if when >= 0 or when + lead * (packet.duration or 0) * unit > 0:
                yield when, partial(tracks[packet.stream.index], packet)
        for write in tracks.values():
            yield clip.end, partial(write, None)


REFUSED = {"mov": ("opus", "flac", "truehd"), "mp4": ("truehd", "pcm_f32le")}
"""Codecs that FFmpeg lists for a container, but that are not written into it."""

LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
"""Usual layouts of one channel, two, and so on: all that Opus supports."""


def _track(clip: Clip, stream: Any, out: Any) -> Callable[[Any], None]:
    """A function that writes a packet of a track; given None, it ends the track."""
    name, kind = stream.codec_context.name, out.format.name
    known = name in out.supported_codecs and name not in REFUSED.get(kind, ())
    # MPEG layer III in MP4 has at least 16,000 samples per second.
    slow = name == "mp3" and kind == "mp4" and stream.rate < 16_000
    return (_copy if known and not slow else _encode)(clip, stream, out)


def _copy(clip: Clip, stream: Any, out: Any) -> Callable[[Any], None]:
    """`_track` that copies the packets."""
    copied = out.add_stream_from_template(stream)
    begin = round(clip.begin / stream.time_base)

    def write(packet: Any) -> None:
        if packet is not None:
            packet.pts -= begin
            packet.dts = None if packet.dts is None else packet.dts - begin
            packet.stream = copied
            out.mux(packet)

    return write


def _encode(clip: Clip, stream: Any, out: Any) -> Callable[[Any], None]:
    """`_track` that re-encodes the sound, in the usual codec of the container."""
    # Encoders support 5.1, but few support 5.1(side), which has the same speakers.
    given = stream.codec_context.layout
    layout = given.name.replace("(side)", "")
    if "channel" in layout or out.default_audio_codec == "opus":
        layout = dict(enumerate(LAYOUTS, start=1)).get(given.nb_channels, "stereo")
    encoded = out.add_stream(out.default_audio_codec, rate=RATE, layout=layout)

    def write(packet: Any) -> None:
        for frame in [None] if packet is None else packet.decode():
            if frame is not None:
                frame.pts -= round(clip.begin / frame.time_base)
            out.mux(encoded.encode(frame))

    return write
