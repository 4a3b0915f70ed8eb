"""Frames of video files as a player shows them: edits, times, alpha, HDR, seeking."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from test_clip import encode, make_video, probe

from jaxnst.video.clip import Selection, open_clip
from jaxnst.video.decode import find_entry
from jaxnst.video.tags import HLG, PQ, ColorTags, to_sdr
from jaxnst.video.write import write_clip

COUNT = 48
"""Frames of the films, 24 a second."""


def marked(i):
    """A grey picture that says its number, in bars of black and white."""
    bits = [255 * (i >> bit & 1) for bit in range(8)]
    return np.tile(np.repeat(np.uint8(bits), 8), (48, 1)), "gray"


def film(path, codec="libx264", *, sound=False, shift=0, options=None, **settings):
    """Numbered frames, six in a group of pictures; a click of sound at 1 s."""
    options = options or {"g": "6", "bf": "2", "crf": "5"}
    frames = {i + shift: marked(i) for i in range(COUNT)}
    wave = None
    if sound:
        wave = np.zeros((1, 2 * 48000), np.float32)
        wave[:, 48000:50400] = np.sin(np.arange(2400) / 3)
    given = {"options": options, "container_options": settings}
    return encode(path, frames, codec, wave=wave, **given)


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
    """Which frames of a film a clip has, by their bars."""
    bits = [frame[24, 4::8].mean(-1) > 0.5 for frame in clip.frames((48, 64))]
    return [int(x @ (1 << np.arange(8))) for x in bits]


TICKS = 512
"""Of a frame, in the MP4 files of `film`."""


@pytest.mark.parametrize(
    ("name", "change", "frames"),
    [
        ("a.mov", lambda time, at: (time // 2, at), range(24)),
        ("a.mp4", lambda time, at: (time // 2, at + 20 * TICKS), range(20, 44)),
        ("a.mov", lambda time, at: (time // 4, at + 21 * TICKS), range(21, 33)),
        ("a.mp4", lambda time, at: (time, at), range(48)),
    ],
)
def test_an_edit_list_is_followed(tmp_path, name, change, frames):
    clip = open_clip(edit(film(tmp_path / name), change))
    assert shown(clip) == list(frames)
    assert len(clip) == len(frames)
    assert float(clip.end) == pytest.approx(len(frames) / 24)


def click(path):
    """Seconds from the first frame to the click in the sound of a film."""
    with av.open(str(path)) as file:
        video = next(file.decode(video=0)).time
    with av.open(str(path)) as file:
        heard = [(x.time, x.to_ndarray()[0]) for x in file.decode(audio=0)]
    loud = [(time, wave) for time, wave in heard if np.abs(wave).max() > 0.3]
    time, wave = loud[0]
    return time + np.argmax(np.abs(wave) > 0.3) / 48000 - video


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("cut", "shift", "number"), [(20, 0, 0), (0, 12, 1)])
def test_sound_stays_in_step_with_an_edited_film(tmp_path, suffix, cut, shift, number):
    # A shift makes an empty entry of the list, before which nothing is shown.
    path = film(tmp_path / "a.mp4", sound=True, shift=shift)
    if cut:
        edit(path, lambda time, at: (time // 2, at + cut * TICKS), number)
    before = click(path)
    clip = open_clip(path)
    assert shown(clip) == list(range(cut, cut + (24 if cut else COUNT)))
    write_clip(tmp_path / f"b{suffix}", clip, list(clip.frames((48, 64))))
    assert click(tmp_path / f"b{suffix}") == pytest.approx(before, abs=0.03)


def test_what_is_before_the_edit_list_of_a_fragmented_film_is_left_out(tmp_path):
    fragments = {"movflags": "frag_keyframe+delay_moov"}
    path = film(tmp_path / "a.mp4", **fragments)
    clip = open_clip(edit(path, lambda time, at: (time, at + 20 * TICKS)))
    assert shown(clip) == list(range(20, 48))


def test_a_film_that_lacks_what_its_edit_list_shows_is_refused(tmp_path):
    path = film(tmp_path / "a.mp4", movflags="faststart")
    edit(path, lambda time, at: (time // 2, at))
    data, at = path.read_bytes(), path.read_bytes().index(b"mdat")
    path.write_bytes(data[: at + (len(data) - at) * 8 // 10])
    assert shown(open_clip(path)) == list(range(24))  # the rest is not shown
    path.write_bytes(data[: at + (len(data) - at) * 3 // 10])
    with pytest.raises(ValueError, match="truncated"):
        open_clip(path)


def places_of(path):
    """Where the frames of a film begin in its file."""
    with av.open(str(path)) as file:
        return [x.pos for x in file.demux(video=0) if x.size]


def test_a_film_that_is_cut_between_two_frames_is_refused(tmp_path):
    path = film(tmp_path / "a.mp4", movflags="faststart")
    path.write_bytes(path.read_bytes()[: places_of(path)[30]])
    with pytest.raises(ValueError, match="truncated"):
        open_clip(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "libx264"), ("a.mkv", "mpeg4"), ("a.webm", "libvpx")]
)
def test_a_film_of_matroska_that_is_cut_is_refused(tmp_path, name, codec):
    path = film(tmp_path / name, codec, options={"g": "6"}, reserve_index_space="500")
    assert shown(open_clip(path)) == list(range(COUNT))
    places, data = places_of(path), path.read_bytes()
    for end in (places[30], places[30] + 9, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(
            ValueError, match=r"truncated .* after \d+ frames; .* --end"
        ):
            open_clip(path)
        cut = Selection(end=Fraction(4, 5))
        assert shown(open_clip(path, cut)) == list(range(20))
    at = data.index(b"\x18\x53\x80\x67") + 4  # a stream does not know its size
    path.write_bytes(data[:at] + b"\x01" + b"\xff" * 7 + data[at + 8 : places[30]])
    assert len(open_clip(path)) in (29, 30)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("kept", [range(COUNT), range(0, COUNT, 3), [0, 1, 5, 6, 9]])
def test_frames_of_avi_are_in_the_order_of_the_decoder(tmp_path, codec, kept):
    # AVI shows a frame for longer by empty packets.
    frames, options = {i: marked(i) for i in kept}, {"bf": "2", "g": "12"}
    clip = open_clip(encode(tmp_path / "a.avi", frames, codec, options=options))
    assert shown(clip) == list(kept)
    # B-frames delay what follows the first frame, by three frames at most.
    wanted = [Fraction(x, 24) for x in kept]
    gaps = np.abs(np.array(clip.times, float) - np.array(wanted, float))
    assert gaps.max() < (0.001 if kept == range(COUNT) else 0.2)
    assert clip.begin == 0


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.h264", "libx264"),
        ("a.hevc", "libx265"),
        ("a.m2v", "mpeg2video"),
        ("a.m4v", "mpeg4"),
        ("a.mjpeg", "mjpeg"),
    ],
)
def test_raw_streams_have_the_times_of_their_rate(tmp_path, name, codec):
    kind = {"a.m4v": "m4v", "a.m2v": "mpeg2video"}.get(name, name[2:])
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    given = {"format": kind, "options": {"g": "12", **quiet}}
    given["pixels"] = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    frames = {i: marked(i) for i in range(12)}
    clip = open_clip(encode(tmp_path / name, frames, codec, **given))
    rate = 25 if codec == "mjpeg" else 24  # it does not say its own
    assert shown(clip) == list(range(12))
    times = np.array(clip.times, float)
    np.testing.assert_allclose(times, np.arange(12) / rate, atol=1e-4)


def with_time(path, old, new):
    """Change the time of a frame of an MKV file, in ms."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\x81" + struct.pack(">h", old))  # after the number of its track
    data[at + 1 : at + 3] = struct.pack(">h", new)
    path.write_bytes(data)
    return path


def test_times_that_are_given_twice_are_spread(tmp_path):
    path = film(tmp_path / "a.mkv", options={"g": "99", "bf": "0"})
    clip = open_clip(with_time(path, 167, 125))
    assert shown(clip) == list(range(COUNT))
    wanted = np.arange(COUNT) / 24
    np.testing.assert_allclose(np.array(clip.times, float), wanted, atol=2e-3)
    write_clip(tmp_path / "b.mp4", clip, list(clip.frames((48, 64))))
    assert len(open_clip(tmp_path / "b.mp4")) == COUNT
    with pytest.raises(ValueError, match="are not in order"):
        open_clip(with_time(path, 1500, 42))


CLEAR = {
    "a.mov": ("qtrle", "argb"),
    "b.mov": ("prores_ks", "yuva444p10le"),
    "c.mov": ("png", "rgba"),
    "d.mov": ("png", "rgba64be"),
    "e.mov": ("cfhd", "gbrap12le"),
    "a.webm": ("libvpx-vp9", "yuva420p"),
    "b.webm": ("libvpx", "yuva420p"),
    "a.mkv": ("ffv1", "bgra"),
    "b.mkv": ("libvpx-vp9", "yuva420p"),
    "a.avi": ("utvideo", "gbrap"),
    "a.webp": ("libwebp_anim", "bgra"),
    "a.apng": ("apng", "rgba"),
}
"""Codecs with alpha."""


@pytest.mark.parametrize("name", CLEAR)
def test_what_is_clear_is_laid_over_white(tmp_path, name):
    codec, kind = CLEAR[name]
    pixels = np.zeros((48, 64, 4), np.uint16)
    pixels[..., 0] = 52000
    pixels[:16, :, 3], pixels[16:32, :, 3] = 65535, 32768
    pixels[32:, :, 3], pixels[32:, :, 0] = 0, 0
    frames = {}
    for i in range(3):
        pixels[..., 2] = 9000 * i * (pixels[..., 3] > 0)
        frames[i] = pixels.copy(), "rgba64le"
    quiet = {"auto-alt-ref": "0"} if "vpx" in codec else {}
    clip = open_clip(encode(tmp_path / name, frames, codec, kind, options=quiet))
    frames = list(clip.frames((24, 32)))
    assert len(frames) == 3
    red = np.array([52000, 0, 18000]) / 65535
    for row, wanted in ((4, red), (12, (red + 1) / 2), (21, np.ones(3))):
        np.testing.assert_allclose(frames[2][row, 9], wanted, atol=0.03)


@pytest.mark.parametrize("name", ["a.mov", "a.avi"])
def test_what_is_clear_in_a_palette_is_laid_over_white(tmp_path, name):
    index = np.zeros((48, 64), np.uint8)
    index[16:32], index[32:] = 1, 2
    palette = np.zeros((256, 4), np.uint8)  # alpha first
    palette[:3] = [255, 200, 0, 80], [128, 200, 0, 80], [0, 0, 0, 0]
    frames = {i: ((index, palette), "pal8") for i in range(2)}
    encode(tmp_path / name, frames, "png", "pal8")
    red = np.array([200, 0, 80]) / 255
    for frame in open_clip(tmp_path / name).frames((24, 32)):
        for row, wanted in ((4, red), (12, (red + 1) / 2), (21, np.ones(3))):
            np.testing.assert_allclose(frame[row, 9], wanted, atol=0.03)


def hdr(path, transfer, primaries=9, matrix=9):
    """A ramp of luminances in cd/m², 10 bits."""
    nits = np.array([0, 5, 26, 100, 203, 400, 1000, 1000])
    if transfer == PQ:
        power = (nits / 10_000) ** (2610 / 16384)
        coded = (3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)
        coded = coded ** (2523 / 32)
    else:  # of grey, with the gamma of 1.2 of a display of 1000 cd/m²
        scene = (nits / 1000) ** (1 / 1.2)
        bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9))
        coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright + 0.55991073)
    image = np.tile(np.repeat(coded, 8)[None, :, None], (48, 1, 3))
    frames = {i: (np.uint16(image * 65535), "rgb48le") for i in range(3)}
    quiet = {"x265-params": "log-level=none", "crf": "5"}
    given = frames, "libx265", "yuv420p10le"
    tags = (matrix, 1, primaries, transfer)
    return encode(path, *given, options=quiet, tags=tags, matrix="BT2020")


@pytest.mark.parametrize("kind", ["yuv420p10le", "yuv422p10le", "yuv444p"])
def test_sdr_of_any_depth_is_written_as_browsers_play_it(tmp_path, kind):
    clip = open_clip(make_video(tmp_path / "a.mp4", pixels=kind))
    write_clip(tmp_path / "b.mp4", clip, list(clip.frames(clip.shape)))
    found = probe(tmp_path / "b.mp4")[0]
    assert found["format"] == "yuv420p"
    assert found["tags"] == (1, 1, 1, 1)  # as they were
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert file.streams.video[0].profile == "High"


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_becomes_sdr_that_looks_alike(tmp_path, transfer):
    clip = open_clip(hdr(tmp_path / "a.mp4", transfer))
    frames = list(clip.frames((48, 64)))
    seen = frames[1][24, 4::8].mean(-1)
    assert seen[0] < 0.03
    # Of BT.2408, as a display of SDR with a gamma of 2.4 would show them.
    np.testing.assert_allclose(seen[1], (5 / 203) ** (1 / 2.4), atol=0.02)
    np.testing.assert_allclose(seen[2], (26 / 203) ** (1 / 2.4), atol=0.02)
    assert 0.85 < seen[4] < 0.95 < seen[5] < seen[6]  # room for what is brighter
    assert seen[6] > 0.99
    write_clip(tmp_path / "b.mp4", clip, frames)
    found = probe(tmp_path / "b.mp4")[0]
    assert (found["tags"], found["format"]) == ((1, 1, 1, 1), "yuv420p")
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert file.streams.video[0].profile == "High"


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_without_a_matrix_has_that_of_its_standard(tmp_path, transfer):
    clip = open_clip(hdr(tmp_path / "a.mp4", transfer, primaries=2, matrix=2))
    assert clip.source == ColorTags(9, 1, 9, transfer)


def test_wide_gamuts_keep_the_colours_that_srgb_has():
    # Of ITU-R BT.2087: sRGB's red and a mixed colour, in the primaries of BT.2020.
    tags = ColorTags(9, 1, 9, 14)
    light = np.array([[[0.6274, 0.0691, 0.0164], [0.3293, 0.9195, 0.0880]]])
    found = to_sdr(np.float32(light ** (1 / 2.4)), tags)
    np.testing.assert_allclose(found, [[[1, 0, 0], [0, 1, 0]]], atol=0.06)
    assert to_sdr(found, ColorTags()) is found
    assert ColorTags(1, 1, 12, 1).shown == ColorTags(1, 1, 1, 1)
    assert ColorTags(6, 2, 6, 6).shown == ColorTags(6, 2, 6, 6)


SOUGHT = {
    "a.mp4": ("libx264", {"x264-params": "open-gop=1:bframes=3"}),
    "b.mp4": ("libx265", {"x265-params": "log-level=none:open-gop=1"}),
    "a.ts": ("libx264", {"x264-params": "open-gop=1:bframes=3"}),
    "a.mkv": ("libx264", {"x264-params": "intra-refresh=1"}),
    "a.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "a.avi": ("mpeg4", {"bf": "2"}),
    "c.mp4": ("libx264", {"bf": "2"}),
}


@pytest.mark.parametrize("name", SOUGHT)
def test_a_film_that_is_sought_in_gives_the_same_frames(tmp_path, name):
    codec, options = SOUGHT[name]
    path = moving_film(tmp_path / name, codec, options)
    if name == "c.mp4":
        edit(path, lambda time, at: (time * 3 // 4, at + 7 * TICKS))
    whole = open_clip(path)
    frames = list(whole.frames((48, 64)))
    for start in (Fraction("0.7"), Fraction("1.21")):
        wanted = Selection(start, start + Fraction(1, 5))
        cut = open_clip(path, wanted)
        places = [i for i, x in enumerate(whole.times) if start <= x < wanted.end]
        assert list(cut.numbers) == places
        assert cut.begin == whole.begin + whole.times[places[0]]
        assert cut.end == min(wanted.end, whole.end) - whole.times[places[0]]
        for i, frame in zip(places, cut.frames((48, 64)), strict=True):
            np.testing.assert_array_equal(frame, frames[i])
        assert name == "a.avi" or start < 1 or len(find_entry(path, start).before) > 6


@pytest.mark.parametrize(("name", "codec"), [("a.m4v", "mpeg4"), ("a.h264", "libx264")])
def test_a_raw_film_that_cannot_be_sought_in_is_decoded_from_its_start(
    tmp_path, name, codec
):
    frames, options = (
        {i: marked(i) for i in range(COUNT)},
        {"bf": "2", "g": "12"},
    )
    path = encode(tmp_path / name, frames, codec, options=options, format=name[2:])
    clip = open_clip(path, Selection(Fraction("1.1")))
    assert shown(clip) == list(range(27, COUNT))


def moving_film(path, codec, options):
    """A film of noise that moves, so that frames depend on each other."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 160), np.uint8)
    cut = lambda i: np.ascontiguousarray(noise[i // 2 : i // 2 + 48, i : i + 64])
    frames = {i: (cut(i), "gray") for i in range(COUNT)}
    return encode(path, frames, codec, options={"g": "6", **options})
