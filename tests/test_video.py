"""Painting videos: frames that agree, cuts, resuming; in Python and by the command."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import LIGHT, refused
from scipy.ndimage import laplace
from test_clip import make_video, probe
from test_decode import hdr

import jaxnst
from jaxnst.command.cli import main
from jaxnst.command.describe import compile_timer
from jaxnst.painting.scene import Masks, Region, Style
from jaxnst.pictures.samples import sample_path
from jaxnst.request import read as read_module
from jaxnst.request.painting import Painting
from jaxnst.request.read import moving_masks
from jaxnst.video import VideoOptions, stylize_video
from jaxnst.video.tags import PQ
from jaxnst.video.temporal import reliability, warp, warping_error

KEY = jax.random.key(0)
WIDE = np.asarray(jaxnst.sample("harbour", 96))
STYLE = jaxnst.sample("swirls", 40)
LAYERS = {
    "content_layers": (("relu2_1", 1.0),),
    "style_layers": (("relu1_1", 0.5), ("relu2_1", 0.5)),
}
FAST = jaxnst.get_recipe("delicate").replace(first_steps=6, steps=6, scales=1, **LAYERS)
LAID = FAST.replace(repaint=True)


def pan(count, step=2):
    """Frames of 40 x 32 px that move over a picture."""
    return [WIDE[16:48, 8 + step * t : 48 + step * t] for t in range(count)]


def moved(i, j, image, other):
    """The flow of `pan` by 2 px."""
    return np.full((*image.shape[:2], 2), (2.0 * (i - j), 0), np.float32)


def paint(backbone, frames, recipe=FAST, styles=(STYLE,), **options):
    return stylize_video(
        backbone, frames, styles, recipe, key=KEY, options=VideoOptions(**options)
    )


def painted_left(edge):
    """Masks of a region up to a column; the rest is kept."""
    left = jnp.zeros((32, 40, 1)).at[:, :edge].set(1.0)
    return Masks(regions=[Region([STYLE], left)], keep_rest=True)


def still(i, j, image, other):
    """The flow of frames that do not move."""
    return np.zeros((*image.shape[:2], 2), np.float32)


def flicker(frames):
    """Mean warping error over a pan by 2 px."""
    first = frames[0]
    away, back = (jnp.asarray(moved(*x, first, first)) for x in ((1, 0), (0, 1)))
    mask = reliability(away, back)
    pairs = zip(map(jnp.asarray, frames[1:]), map(jnp.asarray, frames), strict=False)
    return np.mean([warping_error(b, a, away, mask) for b, a in pairs])


def test_later_frames_compile_nothing(backbone):
    counts = []
    jax.clear_caches()
    with compile_timer() as compiled:
        paint(backbone, pan(6), LAID, on_frame=lambda _: counts.append(len(compiled)))
    assert counts[0] > 0
    # The third frame is the first that looks two frames back, the fifth four.
    assert counts[5] == counts[4]
    with compile_timer() as again:
        paint(backbone, pan(3, step=1), LAID)
    assert not again


def test_frames_flicker_a_third_as_much_as_those_painted_one_by_one(backbone):
    recipe = LAID.replace(content_weight=0.05)
    frames = pan(4)
    alone = [
        np.asarray(
            jaxnst.stylize(backbone, jnp.asarray(x), [STYLE], recipe, key=KEY).image
        )
        for x in frames
    ]
    found = paint(backbone, frames, recipe)
    np.testing.assert_array_equal(found[0], alone[0])
    assert flicker(found) <= flicker(alone) / 3


@pytest.mark.parametrize("recipe", [FAST, LAID])
def test_a_translation_gives_translations(backbone, recipe):
    found = paint(backbone, pan(4), recipe, flows=moved, weight=300.0)
    for before, after in zip(found, found[1:], strict=False):
        # Without the blur of the reliability beside what comes into sight.
        gaps = np.abs(after[:, :-6] - before[:, 2:-4])
        assert gaps.max() <= 1.5 / 255
    # What comes into sight is painted, too, and differs from its content.
    assert np.abs(found[3][:, -4:] - pan(4)[3][:, -4:]).mean() > 0.01


def test_a_cut_begins_anew(backbone):
    frames = [*pan(3), *(1 - x[::-1, ::-1] for x in pan(3))]
    firsts = []
    found = paint(backbone, frames, on_frame=lambda x: firsts.append(x.frame.first))
    assert firsts == [0, 0, 0, 3, 3, 3]
    alone = jaxnst.stylize(backbone, jnp.asarray(frames[3]), [STYLE], FAST, key=KEY)
    np.testing.assert_array_equal(found[3], alone.image)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_run_goes_on_from_any_frame(backbone, passes, monkeypatch):
    monkeypatch.setattr("jaxnst.video.paint.PERIOD", 2)

    class Dying(dict):
        left = 99

        def __setitem__(self, key, frame):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            super().__setitem__(key, frame)

    frames = [*pan(4), *(1 - x[::-1] for x in pan(2))]
    whole = paint(backbone, frames, passes=passes)
    store = Dying()
    for left in (1, 1, 2, 99):
        store.left = left
        try:
            found = paint(backbone, frames, passes=passes, store=store)
        except KeyboardInterrupt:
            continue
    np.testing.assert_array_equal(found, whole)


def test_what_comes_into_sight_stays_in_both_passes(backbone):
    one, two = (paint(backbone, pan(5), flows=moved, passes=x) for x in (1, 2))

    def gap(found):
        """What comes into sight, compared with the next frame."""
        pairs = zip(found[1:], found[2:], strict=False)
        return np.mean([np.abs(a[:, -3:] - b[:, -5:-2]).mean() for a, b in pairs])

    assert gap(one) < 0.001  # it stays
    assert gap(two) < 0.001
    np.testing.assert_array_equal(two[-1], one[-1])  # nothing comes after it


ADAM = FAST.replace(optimizer="adam", learning_rate=0.02, first_steps=4, steps=3)


@pytest.mark.parametrize(("recipe", "passes"), [(FAST, 1), (LAID, 2), (ADAM, 2)])
def test_where_nothing_moves_nothing_changes(backbone, recipe, passes):
    still, other = WIDE[16:48, 8:48], 1 - WIDE[16:48, 8:48][::-1, ::-1]
    found = paint(backbone, [still] * 3 + [other, still], recipe, passes=passes)
    gaps = [np.abs(found[i] - found[0]).mean() for i in (1, 2, 4)]
    assert max(gaps) < 1e-4
    assert np.abs(found[3] - found[0]).mean() > 0.05


@pytest.mark.parametrize("recipe", [FAST, LAID])
def test_what_an_object_passes_by_stays(backbone, recipe):
    thing, frames = np.asarray(STYLE)[:10, :10], []
    for left in range(2, 30, 4):
        frame = WIDE[16:48, 8:48].copy()
        frame[18:28, left : left + 10] = thing
        frames.append(frame)
    found = paint(backbone, frames, recipe)
    rows = slice(0, 12)
    assert np.abs(found[-1] - found[0])[rows].mean() < 0.005
    # Long since uncovered, it is what it was when it came into sight.
    assert np.abs(found[-1] - found[4])[:, :6].mean() < 0.005


def test_there_and_back_again_a_pan_ends_as_it_began(backbone):
    there = pan(5)
    found = paint(backbone, there + there[::-1], LAID)
    assert np.abs(found[-1] - found[0]).mean() < 0.005


def figures(image):
    """Deviation of luma and of red less luma, and variance of the Laplacian."""
    luma = image @ np.array([0.299, 0.587, 0.114])
    return np.array([luma.std(), (image[..., 0] - luma).std(), laplace(luma).var()])


@pytest.mark.parametrize("step", [2, 0.25])
def test_a_long_pan_keeps_colours_and_sharpness(backbone, monkeypatch, step):
    monkeypatch.setattr("jaxnst.video.paint.PERIOD", 4)
    wide, count = jnp.asarray(WIDE), 9
    still = jnp.zeros(WIDE.shape[:2] + (2,))
    seen = lambda t: warp(wide, still.at[..., 0].set(step * t), degree=7)
    frames = [np.clip(seen(t), 0, 1)[16:48, 8:48] for t in range(count)]
    flow = lambda i, j, *_: step / 2 * moved(i, j, frames[0], frames[0])
    found, gone = paint(backbone, frames, LAID, flows=flow), int(step * (count - 1))
    # Of what is seen from the first frame to the last.
    before, after = found[0][:, gone:], found[-1][:, : 40 - gone]
    np.testing.assert_allclose(figures(after), figures(before), rtol=0.05)
    # What came into sight is as lively as if it were painted with all the rest.
    if step == 2:
        alone = jaxnst.stylize(
            backbone, jnp.asarray(frames[-1]), [STYLE], LAID, key=KEY
        ).image
        new, wanted = (figures(np.asarray(x)[:, 16:]) for x in (found[-1], alone))
        np.testing.assert_allclose(new, wanted, rtol=0.5)


@pytest.mark.parametrize("recipe", [FAST, LAID])
def test_a_fade_is_followed(backbone, recipe):
    light = np.linspace(1, 0.4, 8, dtype=np.float32)
    found = paint(backbone, [x * pan(1)[0] for x in light], recipe)
    means = np.array([x.mean() for x in found])
    np.testing.assert_allclose(means / means[0], light, atol=0.08)
    # The same strokes, darker.
    assert np.corrcoef(found[0].ravel(), found[-1].ravel())[0, 1] > 0.7


def test_a_fade_from_black_ends_as_lively_as_a_frame_alone(backbone):
    frame, firsts = pan(1)[0], []
    light = np.linspace(0, 1, 9, dtype=np.float32)
    on_frame = lambda x: firsts.append(x.frame.first)
    found = paint(backbone, [x * frame for x in light], LAID, on_frame=on_frame)
    alone = jaxnst.stylize(backbone, jnp.asarray(frame), [STYLE], LAID, key=KEY).image
    alone = np.asarray(alone)
    assert 0 < firsts[-1] < 8
    np.testing.assert_allclose(found[-1].mean(), alone.mean(), rtol=0.1)
    assert np.corrcoef(found[-1].ravel(), frame.ravel())[0, 1] > 0.5


def test_what_changes_without_moving_is_painted_anew(backbone):
    dark = 0.5 * pan(1)[0]
    lamp = dark.copy()
    lamp[10:20, 10:20] = 1, 1, 0.4
    found = paint(backbone, [dark, dark, lamp, lamp, dark], FAST, flows=still)
    inside, far = slice(12, 18), slice(28, None)
    for on in (found[2], found[3]):
        assert (on - found[1])[inside, inside].mean() > 0.1
        assert np.abs(on - found[1])[:, far].mean() < 0.005
    assert np.abs(found[4] - found[1]).mean() < 0.005


def test_the_grain_of_a_camera_does_not_add_up(backbone):
    noise = lambda t: 0.02 * np.random.default_rng(t).normal(size=(32, 40, 3))
    frames = [np.clip(pan(1)[0] + noise(t), 0, 1) for t in range(12)]
    found = paint(backbone, frames, LAID)
    gaps = [np.abs(x - found[0]).mean() for x in found]
    assert np.mean(gaps[9:]) < 1.5 * np.mean(gaps[1:4]) + 0.002
    np.testing.assert_allclose(figures(found[-1]), figures(found[0]), rtol=0.15)


def test_what_a_moving_mask_reaches_is_painted(backbone):
    masks = lambda index: painted_left(8 + 8 * index)
    frame = pan(1)[0]
    found = paint(backbone, [frame] * 3, masks=masks, styles=[])
    assert np.abs(found[2] - frame)[:, 10:22].mean() > 0.02


def test_a_mask_that_grows_late_is_painted(backbone):
    masks = lambda index: painted_left(8 if index < 7 else 24)
    frame = pan(1)[0]
    found = paint(backbone, [frame] * 9, masks=masks, styles=[])
    assert np.abs(found[6] - frame)[:, 10:22].mean() < 0.01
    assert np.abs(found[8] - frame)[:, 10:22].mean() > 0.02


@pytest.mark.parametrize("kind", ["region", "alpha"])
def test_a_second_pass_mends_nothing_across_masks(backbone, kind):
    def masks(index):
        left = jnp.zeros((32, 40, 1)).at[:, : 8 if index == 1 else 24].set(1.0)
        if kind == "alpha":
            return Masks(alpha=left)
        return Masks(regions=[Region([STYLE], left)])

    styles, changed = [jaxnst.sample("harbour", 40)], slice(10, 22)
    given = backbone, [pan(1)[0]] * 4, FAST, styles
    # Nothing is known of the frame before, so all of each could be mended.
    blind = lambda i, j, *images: None if (i, j) == (1, 0) else still(i, j, *images)
    once, twice = (paint(*given, masks=masks, flows=blind, passes=x) for x in (1, 2))
    assert np.abs(once[0] - once[1])[:, changed].mean() > 0.02
    for before, after in zip(once[:2], twice, strict=False):
        np.testing.assert_allclose(after[:, changed], before[:, changed], atol=1e-5)


def test_masks_may_move_with_the_frames(backbone):
    frames, masks = pan(3), lambda index: painted_left(20 - 2 * index)
    found = paint(backbone, frames, masks=masks, styles=[])
    for edge, image, frame in zip((20, 18, 16), found, frames, strict=True):
        np.testing.assert_array_equal(image[:, edge:], frame[:, edge:])
        assert np.abs(image - frame)[:, :edge].max() > 0.05


@pytest.mark.parametrize("rest", [True, False])
@pytest.mark.parametrize("recipe", [FAST, LAID.replace(palette="style")])
def test_regions_come_and_go(backbone, recipe, rest):
    left = jnp.zeros((32, 40, 1)).at[:, :20].set(1.0)
    other = jaxnst.sample("harbour", 40)
    parts = [jnp.zeros_like(left), left, jnp.ones_like(left), jnp.zeros_like(left)]

    def masks(index):
        return Masks(regions=[Region([STYLE], parts[index])], keep_rest=not rest)

    frames, styles = [pan(1)[0]] * 4, [other] if rest else []
    seen = []
    found = paint(
        backbone, frames, recipe, styles, masks=masks, flows=still,
        on_frame=lambda x: seen.append(x.frame.first),
    )  # fmt: skip
    assert seen == [0] * 4  # of one shot
    assert np.isfinite(found).all()
    whole = np.abs(found[2] - frames[0]).mean()
    if rest:  # without the region, the frame is painted as if there were none
        alone = paint(backbone, frames[:1], recipe, styles)
        assert np.abs(found[0] - alone[0]).mean() < 0.02
    else:
        np.testing.assert_allclose(found[0], frames[0], atol=1 / 510)
        np.testing.assert_allclose(found[3], frames[0], atol=1 / 510)
    assert whole > 0.02


def test_the_chroma_of_every_frame_is_kept(backbone):
    from jaxnst.pictures.color import to_oklab

    frames = pan(3)
    found = paint(backbone, frames, FAST.replace(colors="luminance"))
    for image, frame in zip(found, frames, strict=True):
        lab, wanted = to_oklab(jnp.asarray(image)), to_oklab(jnp.asarray(frame))
        inside = np.asarray((image > 0.02) & (image < 0.98)).all(-1)
        assert inside.mean() > 0.3
        np.testing.assert_allclose(lab[inside][:, 1:], wanted[inside][:, 1:], atol=2e-3)


def test_a_step_that_is_not_finite_names_its_frame(backbone):
    with pytest.raises(FloatingPointError, match="frame 2: a step was not finite"):
        paint(backbone, pan(2), weight=np.inf)


def test_frames_of_two_sizes_are_refused(backbone):
    with pytest.raises(ValueError, match="40 x 32 px, got 38 x 32 px in frame 2"):
        paint(backbone, [pan(1)[0], pan(1)[0][:, 2:]])


SETTINGS = (
    *("--weights", "embedded", "--size", "48", "--steps", "2", "--quiet"),
    *("--set", "scales=1", "--set", "repaint=false", *LIGHT),
)
SWIRLS = str(sample_path("swirls"))


def video(*arguments):
    return main(["video", *map(str, arguments), *SETTINGS])


def video_refused(captured, *arguments):
    return refused(["video", *map(str, arguments), *SETTINGS], captured)


def test_the_command_writes_a_video_like_its_source(elsewhere, capfd):
    make_video(elsewhere / "a.mp4", sound="aac")
    assert video("a.mp4", SWIRLS, "-o", "b.mp4") == 0
    before, after = probe("a.mp4"), probe("b.mp4")
    assert after[0] == before[0] | {"size": (48, 36)}
    assert abs(len(after[1][0]) - 0.38 * 48000) < 2400
    manifest = json.loads(Path("b.mp4.json").read_text())
    assert manifest["video"]["frames"] == 6
    assert manifest["video"]["shots"][0] == 1
    kept = {x.name for x in elsewhere.iterdir()}
    assert kept == {"a.mp4", "b.mp4", "b.mp4.json"}
    assert "got that of a video" in refused(["again", "b.mp4"], capfd)


@pytest.mark.parametrize("out", ["b.webp", "b.gif", "b"])
def test_the_command_writes_pictures_and_folders(elsewhere, out):
    make_video(elsewhere / "a.mp4")
    cut = ("--start", "0.03", "--end", "0:00:0.32", "--every", "2")
    assert video("a.mp4", SWIRLS, "-o", out, *cut, "--keep-state") == 0
    found = jaxnst.video.open_clip(elsewhere / out)
    assert (len(found), found.shape) == (2, (36, 48))
    state = {x.name for x in (elsewhere / f"{out}.state").iterdir()}
    assert {"pass1-000001.npz", "pass1-000002.npz", "run.json"} <= state


@pytest.mark.parametrize("data", [None, b"{}", b"[]", b"[" * 10**6, b"\xff", b"3"])
def test_a_state_that_is_not_ours_is_refused_and_kept(elsewhere, data, capsys):
    make_video(elsewhere / "a.mp4")
    state = elsewhere / "b.mp4.state"
    state.mkdir()
    if data is not None:
        (state / "run.json").write_bytes(data)
    (state / "notes.txt").write_text("mine")
    video_refused(capsys, "a.mp4", SWIRLS, "-o", "b.mp4")
    assert (state / "notes.txt").read_text() == "mine"


def test_a_killed_run_goes_on_to_the_same_video(elsewhere):
    make_video(elsewhere / "a.mp4", sound="aac")
    flags = ["video", "a.mp4", SWIRLS, "-o", "b.mp4", "--passes", "2", *SETTINGS]
    command = [sys.executable, "-m", "jaxnst", *flags]
    # By a process, too, as users run it: within the tests, its last bits may differ.
    whole = ["whole.mp4" if x == "b.mp4" else x for x in command]
    assert subprocess.run(whole).returncode == 0
    kills = 0
    for wanted in (3, 8):  # in each pass
        process = subprocess.Popen(command)
        while process.poll() is None and len(states(elsewhere)) < wanted:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    assert len(states(elsewhere)) < 12
    # Another run does not touch it.
    other = [*flags[:-2], "--seed", "5"]
    assert main(other) == 2
    assert len(states(elsewhere)) >= 8
    assert subprocess.run(command).returncode == 0
    assert Path("b.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert not Path("b.mp4.state").exists()


def states(folder):
    return list(folder.glob("b.mp4.state/pass*.npz"))


def test_bad_requests_are_refused_before_anything_is_painted(elsewhere, capfd):
    make_video(elsewhere / "a.mp4")
    jaxnst.save_image("still.png", np.zeros((32, 32, 3)))
    jaxnst.save_image("black.png", np.zeros((48, 64, 3)))
    Path("text.mp4").write_text("no video")
    Path("flows").mkdir()
    Path("few").mkdir()
    jaxnst.save_image("few/1.png", np.ones((32, 32, 3)))
    for i in range(6):
        jaxnst.save_image(f"dark/{i}.png", np.zeros((48, 64, 3)))
        jaxnst.save_image(f"gaps/{i}.png", np.full((48, 64, 3), float(i != 4)))
    out = ("-o", "b.mp4")
    for flags, why in {
        ("still.png", SWIRLS, *out): "jaxnst stylize",
        ("text.mp4", SWIRLS, *out): "not a readable video",
        ("nowhere.mp4", SWIRLS, *out): "no video or folder of frames",
        ("a.mp4", SWIRLS, "-o", "b.avi"): "end it in .mp4",
        ("a.mp4", SWIRLS, "-o", "a.mp4"): "a.mp4 is an input, too",
        ("a.mp4", *out): "no style is named",
        ("a.mp4", SWIRLS, *out, "--start", "7"): "fewer than two frames",
        ("a.mp4", SWIRLS, *out, "--flow", "flows"): "no flow from frame 2 to 1",
        ("a.mp4", SWIRLS, *out, "--temporal-weight", "nan"): "at least 0",
        ("a.mp4", *out, "--region", f"few={SWIRLS}"): "1 masks for 6 frames",
        ("a.mp4", *out, "--region", f"dark={SWIRLS}"): "0.png and all after it",
        ("a.mp4", *out, "--region", f"gaps={SWIRLS}"): "100.0% of frame 5",
        ("a.mp4", SWIRLS, *out, "--rate", "9"): "a.mp4 has a rate of its own",
        ("a.mp4", "no.jpg", *out): "no.jpg",
        ("a.mp4", *out, "--region", f"black.png={SWIRLS}"): "all black",
    }.items():
        assert why in video_refused(capfd, *flags)
    for time_ in ("-1", "1:2:3:4", "x"):
        with pytest.raises(SystemExit) as caught:
            video("a.mp4", SWIRLS, "-o", "b.mp4", f"--start={time_}")
        assert caught.value.code == 2
    names = {"a.mp4", "black.png", "still.png", "text.mp4", "flows", "few", "dark"}
    names.add("gaps")
    assert {x.name for x in elsewhere.iterdir()} == names


def test_a_mask_may_be_black_in_some_frames(elsewhere, capfd, monkeypatch):
    make_video(elsewhere / "a.mp4")
    for i in range(6):
        mask = np.zeros((30, 80, 3))
        mask[:, : (0, 0, 40, 80, 20, 0)[i]] = 1
        jaxnst.save_image(f"masks/{i}.png", mask)
    read, opened = read_module.load_style, []
    counted = lambda path, *rest: opened.append(path) or read(path, *rest)
    monkeypatch.setattr(read_module, "load_style", counted)
    region = ("--region", f"masks={SWIRLS}")
    assert video("a.mp4", "-o", "b", *region, "--keep-rest") == 0
    assert capfd.readouterr().err.count("is stretched from") == 1
    assert len(opened) == 1
    source = [*jaxnst.video.open_clip("a.mp4").frames((36, 48))]
    found = [*jaxnst.video.open_clip("b").frames((36, 48))]
    gaps = [np.abs(a - b).mean(axis=(0, 2)) for a, b in zip(source, found, strict=True)]
    for i, edge in enumerate((0, 0, 24, 48, 12, 0)):
        assert gaps[i][edge + 2 :].max(initial=0) < 1.5 / 255
        assert edge == 0 or gaps[i][: edge - 2].mean() > 0.01


def test_labels_may_come_and_go(elsewhere):
    make_video(elsewhere / "a.mp4")
    colors = np.eye(3)
    for i in range(6):  # a third label in three frames, and others change their order
        shown = np.tile(colors[0], (48, 64, 1))
        shown[:, : 10 + 8 * i] = colors[1]
        if i > 2:
            shown[:12] = colors[2]
        jaxnst.save_image(f"labels/{i}.png", shown)
    style = np.repeat(colors, 20, axis=0)[:, None] * np.ones((1, 60, 1))
    jaxnst.save_image("style.png", style)
    files = [
        Painting(
            content=Path("a.mp4"),
            labels=(Path(f"labels/{i}.png"), Path("style.png")),
            recipe=FAST,
        )
        for i in range(6)
    ]
    styles = [Style(jnp.asarray(style, jnp.float32))]
    masks = moving_masks(files, styles, (48, 64, 3))
    for i in range(6):
        regions = masks(i).regions
        assert len(regions) == 3
        for region in regions:  # each label has the part of the style that it names
            part = np.asarray(region.styles[0].mask)[..., 0] > 0.5
            color = style[part][0]
            shown = np.asarray(jaxnst.load_image(f"labels/{i}.png"))
            wanted = np.abs(shown - color).max(-1) < 0.2
            np.testing.assert_array_equal(np.asarray(region.mask)[..., 0] > 0.5, wanted)


def test_a_disk_that_is_too_small_is_told_before(elsewhere, capfd, monkeypatch):
    make_video(elsewhere / "a.mp4")
    usage = shutil.disk_usage(elsewhere)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=9_000_000))
    flags = ("a.mp4", SWIRLS, "-o", "b.mp4")
    said = refused(["video", *flags, "--size", "512"], capfd)
    assert "18 MB" in said  # 6 · 512 · 384 · 15 bytes
    assert "9 MB" in said
    assert "--force" in said
    assert not Path("b.mp4.state").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=160_000))
    assert video(*flags) == 0  # 6 · 48 · 36 · 15 = 155,520 bytes
    assert video(*flags, "--passes", "2") == 2  # twice as much
    assert video(*flags, "--passes", "2", "--force") == 0


def test_hdr_is_told_once_and_written_as_sdr(elsewhere, capfd):
    hdr(elsewhere / "a.mp4", PQ)
    assert video("a.mp4", SWIRLS, "-o", "b.mp4") == 0
    assert capfd.readouterr().err.count("HDR (PQ)") == 1
    found = probe("b.mp4")[0]
    assert (found["tags"], found["format"]) == ((1, 1, 1, 1), "yuv420p")
