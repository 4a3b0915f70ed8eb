"""Videos, animated pictures and folders: frames in and out, with all they carry."""

from fractions import Fraction
from pathlib import Path

import av
import imagecodecs
import numpy as np
import pytest
from PIL import Image as pil
from test_pictures import small_in_a_large_gif

import jaxnst
from jaxnst.disk import write_whole
from jaxnst.pictures.files import load_image
from jaxnst.video import sound
from jaxnst.video.clip import Selection, open_clip
from jaxnst.video.store import FolderStore, Frame
from jaxnst.video.write import output_kind, write_clip

TIMES = (0, 40, 120, 160, 300, 340)
"""Milliseconds of the frames that the tests write: a variable rate."""


def picture(i, width=64, height=48):
    """A frame whose upper half is purple and whose lower half is red; green counts."""
    image = np.zeros((height, width, 3), np.float32)
    image[..., 0], image[..., 1] = 0.8, 0.1 + 0.1 * i
    image[: height // 2, :, 2] = 0.6
    return image


def encode(
    path,
    frames,
    codec="libx264",
    pixels="yuv420p",
    *,
    rate=24,
    unit=None,
    options=None,
    tags=None,
    matrix=None,
    turn=0,
    wave=None,
    sound="aac",
    layout="mono",
    title="",
    **container,
):
    """Write a video of frames, arrays with their formats, by their times in units."""
    unit = unit or Fraction(1, rate)
    with av.open(str(path.absolute()), "w", **container) as out:
        out.metadata["title"] = title
        video = out.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = 64, 48, pixels
        context = video.codec_context
        context.time_base = unit
        if tags is not None:
            context.colorspace, context.color_range = tags[:2]
            context.color_primaries, context.color_trc = tags[2:]
        if turn:
            video.set_display_rotation(turn)
        audio = None if wave is None else out.add_stream(sound, rate=48000)
        if audio is not None:
            audio.codec_context.layout = layout
        for time, given in frames.items():
            frame = av.VideoFrame.from_ndarray(*given)
            if tags is not None:
                frame.colorspace = tags[0]
            to = {"dst_colorspace": matrix, "dst_color_range": tags and tags[1]}
            if given[1] != pixels:
                frame = frame.reformat(format=pixels, **to)
            frame.pts, frame.time_base = time, unit
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 0
            own = audio.codec_context.format
            for part in av.AudioResampler(own, layout, 48000).resample(frame):
                out.mux(audio.encode(part))
            out.mux(audio.encode(None))
    return path


def make_video(path, *, sound=None, tags=(1, 1, 1, 1), **given):
    """A video of `picture` at `TIMES`, with half a second of a tone."""
    frames = {
        time: (np.uint16(picture(i) * 65535), "rgb48le") for i, time in enumerate(TIMES)
    }
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(19200) / 48000)
    given["wave"] = np.float32(wave)[None] if sound else None
    more = {"rate": 25, "unit": Fraction(1, 1000), "options": {"crf": "5"}}
    return encode(path, frames, sound=sound, tags=tags, **given, **more)


def probe(path):
    """What another player sees: times, last duration, size and tags; and the sound."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    first, last = frames[0], frames[-1]
    seen = {
        "times": [round(1000 * frame.time) for frame in frames],
        "last": round(1000 * last.duration * last.time_base),
        "size": (first.width, first.height),
        "turn": first.rotation,
        "tags": (first.colorspace, first.color_range)
        + (first.color_primaries, first.color_trc),
        "format": first.format.name,
    }
    with av.open(str(path)) as file:
        sounds = [list(file.decode(x)) for x in file.streams.audio[:1]]
    return seen, [np.concatenate([x.to_ndarray()[0] for x in own]) for own in sounds]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_a_video_keeps_its_frames_times_colours_and_sound(tmp_path, suffix):
    clip = open_clip(make_video(tmp_path / "a.mp4", sound="aac"))
    assert (len(clip), clip.shape) == (6, (48, 64))
    frames = list(clip.frames(clip.shape))
    write_clip(tmp_path / f"b{suffix}", clip, frames)
    before, after = probe(tmp_path / "a.mp4"), probe(tmp_path / f"b{suffix}")
    assert before[0] == after[0] | {"format": "yuv420p"}
    assert before[0]["times"] == list(TIMES)
    for found in open_clip(tmp_path / f"b{suffix}").frames(clip.shape):
        assert np.abs(found[6] - found[6, :1]).max() < 0.02
    for number, frame in enumerate(open_clip(tmp_path / f"b{suffix}").frames((48, 64))):
        assert np.abs(frame[40] - picture(number)[40]).max() < 0.03
        assert np.abs(frame[6] - picture(number)[6]).max() < 0.03
    (wave,) = after[1]
    assert abs(len(wave) / 48000 - 0.38) < 0.05
    spectrum = np.abs(np.fft.rfft(wave[4800:14400] / np.abs(wave).max()))
    assert abs(spectrum.argmax() * 5 - 440) <= 5
    if suffix in (".mp4", ".mov"):  # copied bit for bit, from the first packet on
        np.testing.assert_array_equal(wave, before[1][0][: len(wave)])


@pytest.mark.parametrize(
    ("tags", "kind"), [((5, 2, 5, 6), "yuvj420p"), ((6, 1, 6, 6), "yuv420p")]
)
def test_colour_tags_are_used_and_carried_over(tmp_path, tags, kind):
    clip = open_clip(make_video(tmp_path / "a.mp4", tags=tags, pixels=kind))
    frames = list(clip.frames(clip.shape))
    assert np.abs(frames[3][40] - picture(3)[40]).max() < 0.03
    write_clip(tmp_path / "b.mp4", clip, frames)
    assert probe(tmp_path / "b.mp4")[0] == probe(tmp_path / "a.mp4")[0]


def test_colours_without_tags_are_those_of_their_size(tmp_path):
    clip = open_clip(make_video(tmp_path / "a.mp4", tags=(2, 0, 2, 2)))
    assert clip.source.shown.matrix == 6  # standard definition


@pytest.mark.parametrize(("turn", "side"), [(90, 0), (180, 0), (270, -1)])
def test_a_turned_video_is_painted_upright(tmp_path, turn, side):
    clip = open_clip(make_video(tmp_path / "a.mp4", turn=turn))
    assert clip.shape == ((48, 64) if turn == 180 else (64, 48))
    frame = next(clip.frames(clip.shape))
    # The purple upper half is now at the left, below, or at the right.
    purple = {90: frame[32, 4], 180: frame[44, 32], 270: frame[32, -4]}[turn]
    red = {90: frame[32, -4], 180: frame[4, 32], 270: frame[32, 4]}[turn]
    assert purple[2] > 0.5 > 0.1 > red[2]
    write_clip(tmp_path / "b.mp4", clip, list(clip.frames(clip.shape)))
    found = probe(tmp_path / "b.mp4")[0]
    assert (found["turn"], found["size"]) == (0, clip.shape[::-1])


def test_a_cut_keeps_times_and_sound_in_step(tmp_path):
    make_video(tmp_path / "a.mp4", sound="aac")
    clip = open_clip(tmp_path / "a.mp4", Selection(Fraction("0.1"), Fraction("0.32")))
    assert list(clip.numbers) == [2, 3, 4]
    write_clip(tmp_path / "b.mp4", clip, list(clip.frames((32, 32))))
    found, (wave,) = probe(tmp_path / "b.mp4")
    assert (found["times"], found["last"]) == ([0, 40, 180], 20)
    assert abs(len(wave) / 48000 - 0.2) < 0.05
    every = open_clip(tmp_path / "a.mp4", Selection(every=4))
    assert list(every.numbers) == [0, 4]
    assert [float(x) for x in (*every.times, every.end)] == [0, 0.3, 0.38]


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_an_animated_picture_keeps_its_times(tmp_path, suffix):
    clip = open_clip(make_video(tmp_path / "a.mp4"))
    write_clip(tmp_path / f"b{suffix}", clip, list(clip.frames(clip.shape)))
    again = open_clip(tmp_path / f"b{suffix}")
    assert (again.times, again.end) == (clip.times, clip.end)
    for number, frame in enumerate(again.frames((48, 64))):
        assert np.abs(frame[40] - picture(number)[40]).max() < 0.03


def test_a_still_before_an_animation_is_none_of_its_frames(tmp_path):
    still, *frames = (pil.new("RGB", (32, 24), (0, 60 * i, 0)) for i in range(4))
    more = {"save_all": True, "append_images": frames, "duration": [100, 200, 300]}
    still.save(tmp_path / "a.png", default_image=True, **more)
    clip = open_clip(tmp_path / "a.png")
    assert [float(x) for x in (*clip.times, clip.end)] == pytest.approx(
        [0, 0.1, 0.3, 0.6]
    )
    levels = [round(255 * float(x[4, 4, 1])) for x in clip.frames((24, 32))]
    assert levels == [60, 120, 180]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_frames_of_an_animation_have_the_colours_that_its_profile_states(
    tmp_path, suffix
):
    profile = imagecodecs.cms_profile("adobergb")
    frames = [pil.new("RGB", (32, 24), (200, 60 + i, 80)) for i in range(3)]
    kinds = {"save_all": True, "append_images": frames[1:], "icc_profile": profile}
    frames[0].save(tmp_path / f"a{suffix}", lossless=True, **kinds)
    frames[0].save(tmp_path / "b.png", icc_profile=profile)
    first = next(iter(open_clip(tmp_path / f"a{suffix}").frames((24, 32))))
    np.testing.assert_allclose(first, load_image(tmp_path / "b.png"), atol=1 / 255)
    assert first[0, 0, 0] > 210 / 255


def test_a_gif_smaller_than_its_canvas_moves_on_its_background(tmp_path):
    small_in_a_large_gif(tmp_path / "a.gif", frames=3)
    clip = open_clip(tmp_path / "a.gif")
    frames = list(clip.frames((12, 20)))
    assert len(frames) == 3
    for frame in frames:
        np.testing.assert_array_equal(frame[10, 18], [0, 0, 1])
        np.testing.assert_array_equal(frame[6, 10], [1, 0, 0])


def test_a_folder_is_read_by_the_numbers_of_its_names(tmp_path):
    (source := tmp_path / "in").mkdir()
    for i in (1, 2, 10):
        jaxnst.save_image(source / f"frame{i}.png", picture(i % 9))
    (source / "notes.txt").write_text("no picture")
    clip = open_clip(source, rate=Fraction(10))
    assert clip.names == ["frame1", "frame2", "frame10"]
    write_clip(tmp_path / "out", clip, list(clip.frames((24, 32))))
    assert sorted(x.name for x in (tmp_path / "out").iterdir()) == [
        "frame1.png", "frame10.png", "frame2.png",
    ]  # fmt: skip
    assert jaxnst.load_image(tmp_path / "out/frame10.png").shape == (24, 32, 3)
    write_clip(tmp_path / "out.mp4", clip, list(clip.frames((24, 32))))
    assert probe(tmp_path / "out.mp4")[0]["times"] == [0, 100, 200]


def bad_sources(folder: Path) -> dict[str, Path]:
    """Sources that cannot be painted, by what is said about them."""
    (empty := folder / "empty").mkdir()
    (mixed := folder / "mixed").mkdir()
    jaxnst.save_image(mixed / "1.png", picture(0))
    jaxnst.save_image(mixed / "2.png", picture(0, 32))
    (broken := folder / "broken").mkdir()
    jaxnst.save_image(broken / "1.png", picture(0))
    (broken / "2.png").write_bytes((broken / "1.png").read_bytes()[:60])
    still = folder / "still.png"
    jaxnst.save_image(still, picture(0))
    text = folder / "a.mp4"
    text.write_text("no video")
    whole = make_video(folder / "whole.mkv", sound="aac").read_bytes()
    short = folder / "short.mkv"
    short.write_bytes(whole[:100])
    with av.open(str(folder / "sound.m4a"), "w", format="mp4") as out:
        audio = out.add_stream("aac", rate=48000)
        audio.codec_context.layout = "mono"
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), "fltp", "mono"
        )
        frame.sample_rate = 48000
        out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return {
        "no video or folder of frames": folder / "nowhere.mp4",
        "has no pictures": empty,
        "the first frame of .* has": mixed,
        "expected a readable picture": broken,
        "fewer than two frames; paint it with jaxnst stylize": still,
        "not a readable video": text,
        "not a readable|damaged|truncated|cannot be decoded": short,
        "no video in it": folder / "sound.m4a",
    }


def test_what_cannot_be_painted_is_said_in_one_line(tmp_path):
    for why, path in bad_sources(tmp_path).items():
        with pytest.raises(ValueError, match=why) as caught:
            open_clip(path)
        assert "\n" not in str(caught.value)


def test_a_gif_takes_as_long_as_its_source(tmp_path):
    for i in range(24):
        jaxnst.save_image(tmp_path / f"frames/{i}.png", picture(0) + i / 100)
    for rate, seconds in ((24, 1), (30, 0.8), (60, 0.48)):  # at most 50 a second
        clip = open_clip(tmp_path / "frames", rate=Fraction(rate))
        write_clip(tmp_path / "b.gif", clip, list(clip.frames(clip.shape)))
        again = open_clip(tmp_path / "b.gif")
        assert float(again.end) == pytest.approx(seconds, abs=0.01)
        assert min(np.diff((*again.times, again.end))) >= Fraction(2, 100)


def test_frames_of_one_name_are_numbered(tmp_path):
    for name in ("a.png", "A.jpg", "b.png"):
        jaxnst.save_image(tmp_path / "frames" / name, picture(0))
    clip = open_clip(tmp_path / "frames")
    write_clip(tmp_path / "painted", clip, list(clip.frames(clip.shape)))
    assert {x.stem for x in (tmp_path / "painted").iterdir()} == {
        f"{i:06d}" for i in (1, 2, 3)
    }


def test_a_linked_folder_gets_the_frames(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there", target_is_directory=True)
    clip = open_clip(make_video(tmp_path / "a.mp4"))
    write_clip(tmp_path / "here", clip, list(clip.frames(clip.shape)))
    assert len(list((tmp_path / "there").iterdir())) == len(TIMES)
    assert (tmp_path / "here").is_symlink()


def test_a_name_with_a_colon_and_a_title_of_another_alphabet_are_read(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "12:30.mkv", title="caf-e")
    data = Path("12:30.mkv").read_bytes()
    Path("12:30.mkv").write_bytes(
        data.replace(b"caf-e", "café".encode("latin1") + b".")
    )
    assert len(open_clip(Path("12:30.mkv"))) == len(TIMES)


@pytest.mark.parametrize(
    ("layout", "written"),
    [("5.1(side)", "5.1"), ("2.1", "3.0"), ("4.0", "quad"), ("7.1(wide)", "7.1")],
)
def test_sound_of_many_speakers_is_encoded_anew(tmp_path, layout, written):
    made = make_video(tmp_path / "a.mkv", sound="pcm_s16le", layout=layout)
    clip = open_clip(made)
    write_clip(tmp_path / "b.webm", clip, list(clip.frames(clip.shape)))
    with av.open(str(tmp_path / "b.webm")) as file:
        assert file.streams.audio[0].codec_context.layout.name == written


def test_a_failure_to_write_is_not_blamed_on_the_source(tmp_path, monkeypatch):
    clip = open_clip(make_video(tmp_path / "a.mp4", sound="aac"))
    monkeypatch.setattr(
        sound, "_copy", lambda *_: lambda packet: av.error.err_check(-22) or None
    )
    with pytest.raises(OSError, match="cannot be encoded"):
        write_clip(tmp_path / "b.mp4", clip, list(clip.frames(clip.shape)))
    assert [x.name for x in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_is_said_of_the_file_that_has_no_room(tmp_path):
    clip = open_clip(make_video(tmp_path / "a.mp4"))

    def painted():
        with write_whole(tmp_path / "state.npz"):
            raise OSError(28, "No space left on device")
        yield

    with pytest.raises(
        OSError, match=r"state\.npz cannot be written \(No space"
    ) as caught:
        write_clip(tmp_path / "b.gif", clip, painted())
    assert "b.gif" not in str(caught.value)


@pytest.mark.parametrize("module", ["av", "cv2"])
def test_a_missing_package_names_its_extra(tmp_path, monkeypatch, module):
    from importlib import util

    from jaxnst import checks
    from jaxnst.video import flow

    real = util.find_spec
    hidden = lambda name: None if name == module else real(name)
    monkeypatch.setattr(checks, "find_spec", hidden)
    image = np.zeros((32, 32, 3), np.float32)
    (tmp_path / "a.mp4").write_text("")
    calls = {
        "av": [
            lambda: open_clip(tmp_path / "a.mp4"),
            lambda: output_kind(tmp_path / "b.mp4"),
        ],
        "cv2": [lambda: flow.measure_flow(image, image)],
    }
    for call in calls[module]:
        with pytest.raises(ValueError, match=r"pip install 'jaxnst\[video\]'"):
            call()


def test_outputs_of_unknown_kinds_and_full_folders_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.png").write_text("earlier work")
    for name, why in (
        ("a.avi", "end it in .mp4"),
        ("full", "no empty folder"),
        ("nowhere/deeper/a.mp4", "does not exist"),
    ):
        with pytest.raises(ValueError, match=why):
            output_kind(tmp_path / name)
    assert (tmp_path / "full/a.png").read_text() == "earlier work"


@pytest.mark.parametrize("name", ["b.mp4", "b.webp", "b"])
def test_nothing_is_left_of_a_file_whose_frames_stop(tmp_path, name):
    clip = open_clip(make_video(tmp_path / "a.mp4"))

    def stop():
        yield picture(0)
        yield picture(1)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_clip(tmp_path / name, clip, stop())
    assert [x.name for x in tmp_path.iterdir()] == ["a.mp4"]


def test_a_damaged_state_is_named(tmp_path):
    store = FolderStore(tmp_path)
    image = np.random.default_rng(0).random((4, 6, 3)).astype(np.float32)
    store[1, 0] = Frame(image, 0, 2.0, np.uint8(255 * image))
    np.testing.assert_array_equal(store[1, 0].image, image)
    data = store.path((1, 0)).read_bytes()
    store.path((1, 0)).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"pass1-000001\.npz is damaged"):
        store[1, 0]
