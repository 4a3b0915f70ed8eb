import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import LIGHT, refused
from PIL import Image as pil

from jaxnst.command import reporter, stylize
from jaxnst.command.cli import COMMANDS, main, parse
from jaxnst.pictures.files import load_image
from jaxnst.pictures.samples import sample_path
from jaxnst.weights import registry

CONTENT, STYLE = str(sample_path("harbour")), str(sample_path("swirls"))
QUICK = ["--size", "48", "--steps", "2", "--weights", "embedded", *LIGHT]
pytestmark = pytest.mark.usefixtures("elsewhere")


def test_stylize_writes_a_picture_and_its_manifest(elsewhere, capsys):
    assert main(["stylize", CONTENT, STYLE, *QUICK]) == 0
    image = load_image("harbour-swirls.png")
    assert image.shape == (36, 48, 3)
    manifest = json.loads((elsewhere / "harbour-swirls.png.json").read_text())
    assert manifest["status"] == "done"
    assert manifest["recipe"]["name"] == "painterly"
    assert manifest["size"] == [48, 36]
    assert len(manifest["weights_sha256"]) == 64
    assert manifest["seconds"]["all"] >= manifest["seconds"]["compile"] > 0
    said = capsys.readouterr().out
    assert said.startswith("device cpu (")
    assert "weights embedded (as asked)" in said
    assert "wrote harbour-swirls.png (48 x 36 px)" in said
    assert len(list(elsewhere.iterdir())) == 2


@pytest.mark.parametrize("recipe", ["painterly", "delicate"])
def test_our_own_recipes_fetch_nothing(elsewhere, capsys, monkeypatch, recipe):
    fetched = []
    monkeypatch.setattr(registry, "pull", lambda *args, **_: fetched.append(args))
    command = ["stylize", CONTENT, STYLE, "--size", "32", "--set", "first_steps=1"]
    assert main([*command, "--recipe", recipe, *LIGHT]) == 0
    assert "; weights embedded (the recipe's)\n" in capsys.readouterr().out
    assert not fetched


def test_an_earlier_result_is_not_overwritten_unasked(elsewhere):
    (elsewhere / "harbour-swirls.png").write_text("mine")
    assert main(["stylize", CONTENT, STYLE, *QUICK, "--quiet"]) == 0
    assert (elsewhere / "harbour-swirls.png").read_text() == "mine"
    assert load_image("harbour-swirls-2.png").shape == (36, 48, 3)


def test_flags_reach_the_recipe_and_quiet_is_quiet(elsewhere, capsys):
    flags = ["--style-weight", "3", "--pooling", "max", "--style-scale", "0.5"]
    flags += ["--set", "style_layers=relu1_1:2,relu2_1", "--set", "clip=false"]
    flags += ["--init", "noise", "--seed", "7", "--blend", "2,1", "-o", "a.jpg"]
    flags += ["--recipe", "delicate"]
    second = str(sample_path("mosaic"))
    code = main(["stylize", CONTENT, STYLE, second, *QUICK, *flags, "--quiet"])
    assert code == 0
    manifest = json.loads((elsewhere / "a.jpg.json").read_text())
    recipe = manifest["recipe"]
    assert (recipe["style_weight"], recipe["pooling"]) == (3.0, "max")
    assert (recipe["style_scale"], recipe["init"]) == (0.5, "noise")
    assert recipe["style_layers"] == [["relu1_1", 2.0], ["relu2_1", 1.0]]
    assert recipe["clip"] is False
    weights = [style["weight"] for style in manifest["styles"]]
    assert (manifest["seed"], weights) == (7, [2.0, 1.0])
    assert capsys.readouterr() == ("", "")


def test_previews_are_kept_when_asked(elsewhere):
    flags = ["--save-every", "2", "-o", "a.png", "--quiet"]
    assert main(["stylize", CONTENT, STYLE, *QUICK, *flags]) == 0
    assert "a-00048px-0002.png" in {path.name for path in elsewhere.iterdir()}


def test_a_plan_is_what_is_painted_and_paints_nothing(elsewhere, capsys):
    flags = ["--size", "4096", "--memory", "7 GB", "--weights", "embedded"]
    assert main(["plan", CONTENT, STYLE, *flags]) == 0
    first, *others, total, left = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"256 x 192 px +\d+ steps on the whole picture, then patches", first
    )
    assert re.fullmatch(r"4096 x 3072 px +patches, no steps", others[-1])
    assert re.fullmatch(r"memory: 2\.\d GB at its peak, of 7\.0 GB; .*", total)
    flags += ["--recipe", "delicate", "--memory", "7.5 GB"]
    assert main(["plan", CONTENT, STYLE, *flags]) == 0
    *_, last, total, left = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"4096 x 3072 px +\d+ steps in \d+ tiles of \d+ x \d+", last)
    assert re.fullmatch(
        r"memory: [67]\.\d GB at its peak, of 7\.5 GB; "
        r"the largest that fits: --size \d+",
        total,
    )
    assert left.startswith(("time unknown", "about"))
    assert not list(elsewhere.iterdir())


def test_a_plan_tells_the_time_once_steps_were_timed(elsewhere, capsys):
    flags = ["--size", "48", "--set", "steps=4", "--weights", "embedded", *LIGHT]
    assert main(["stylize", CONTENT, STYLE, *flags, "--quiet"]) == 0
    assert main(["plan", CONTENT, STYLE, *flags]) == 0
    assert re.search(r"about \d+ s of steps", capsys.readouterr().out)


def test_what_is_set_is_final(elsewhere):
    flags = ["--quality", "best", "--set", "steps=3", "--set", "first_steps=2"]
    flags += ["--size", "64", "--set", "min_size=32", "--weights", "embedded", *LIGHT]
    flags += ["--recipe", "delicate", "--quiet"]
    assert main(["stylize", CONTENT, STYLE, "-o", "a.png", *flags]) == 0
    manifest = json.loads(Path("a.png.json").read_text())
    assert manifest["steps"] == [2, 3, 3]


def test_a_picture_too_large_is_refused_before_anything_else(elsewhere, capsys):
    flags = ["--size", "20000", "--memory", "5GB"]
    for command in ("plan", "stylize"):
        said = refused([command, CONTENT, STYLE, *flags], capsys)
        assert "and 5.0 GB are free; hint: use --size" in said
    assert not list(elsewhere.iterdir())


def test_demo_paints_at_least_two_pictures(elsewhere, capsys):
    command = ["demo", "--size", "48", "--steps", "1", "--recipe", "udacity"]
    command += ["--quiet", "--resume"]
    assert main(command[:-1]) == 0
    assert len(list((elsewhere / "demo").glob("*.png"))) >= 2
    assert (elsewhere / "demo/harbour.jpg").read_bytes() == Path(CONTENT).read_bytes()
    before = [path.stat() for path in sorted((elsewhere / "demo").iterdir())]
    assert main(command) == 0
    after = [path.stat() for path in sorted((elsewhere / "demo").iterdir())]
    assert before == after  # nothing is painted twice
    assert main([*command[:-2], "--resume"]) == 0
    assert "demo/harbour-swirls.png exists already" in capsys.readouterr().out


def test_the_other_commands_answer(capsys):
    assert main(["recipes"]) == 0
    assert main(["recipes", "gatys2016"]) == 0
    assert main(["weights", "list"]) == 0
    assert main(["weights", "check", "embedded"]) == 0
    said = capsys.readouterr().out
    assert "painterly" in said
    assert "pooling              average" in said
    assert "sha256" in said


BAD = {
    "stylize none.jpg STYLE": "does not exist",
    "stylize . STYLE": "is a folder",
    "stylize text.jpg STYLE": "cannot be decoded",
    "stylize cut.jpg STYLE": "cannot be decoded",
    "stylize one.png STYLE": "at least 32 px",
    "stylize eight.png STYLE": "at least 32 px",
    "stylize CONTENT eight.png": "at least 32 px",
    "stylize CONTENT STYLE --size 0": "from 1 to 10000000, got '0'",
    "stylize CONTENT STYLE --size -1": "got '-1'",
    "stylize CONTENT STYLE --size x": "got 'x'",
    "stylize CONTENT STYLE --recipe gatys": "mean gatys2016?",
    "stylize CONTENT STYLE --pooling min": "invalid choice: 'min'",
    "stylize CONTENT STYLE --style-weight -1": "style_weight cannot be -1.0",
    "stylize CONTENT STYLE --tv-weight nan": "tv_weight cannot be nan",
    "stylize CONTENT STYLE --blend 1,2": "one weight for each style; hint: give 1",
    "plan CONTENT STYLE --blend nan": "finite weights, not all 0",
    "plan CONTENT STYLE --weights w.h5": "does not exist",
    "plan CONTENT STYLE --init text.jpg": "cannot be deco",
    "stylize CONTENT STYLE --init eight.png -o eight.png": "is an input, too",
    "stylize CONTENT STYLE --checkpoint text.jpg": "text.jpg is no .npz",
    "stylize CONTENT STYLE -o kept.png": "unfinished run; hint: pass --resume",
    f"plan CONTENT STYLE -o {'a' * 240}.png": "at most 230 bytes",
    "stylize CONTENT STYLE --steps 9 --set steps=1": "by a flag and by --set",
    "stylize CONTENT STYLE --steps 9 --quality best": "not allowed with argument",
    "demo -o text.jpg": "text.jpg is a file; hint: choose a folder",
    "stylize CONTENT STYLE -o a.webp --timelapse a.webp": "give them different names",
    "stylize CONTENT STYLE -o a.png --trace a.png.json": "give them different names",
    "weights list --x": "see jaxnst weights --help",
    "plan CONTENT STYLE --siez 9": "see jaxnst plan --help",
    "grid --content CONTENT --style STYLE -o /proc/x": "/proc",
    "stylize text.mp4 STYLE": "paint it with jaxnst video",
    "weights convert . x.h5": "is a folder",
    "stylize CONTENT STYLE --blend a": "such as 0.7,0.3",
    "stylize CONTENT STYLE --blend 0": "not all 0",
    "stylize CONTENT STYLE -o no/b/a.png": "does not exist",
    "stylize eight.png STYLE -o eight.png": "an input",
    "stylize CONTENT STYLE -o f.png": "f.png is a folder",
    "stylize CONTENT STYLE -o g.png": "is a folder",
    "stylize CONTENT STYLE -o h.png": "is a folder",
    "grid --content CONTENT --style STYLE QUICK -o cells": "is a folder",
    "stylize CONTENT STYLE -o loop.png": "to itself",
    "stylize swirls.jpg swirls.jpg": "to itself",
    "stylize loop.png STYLE": "does not exist",
    "stylize CONTENT STYLE --trace loop.png": "to itself",
    "stylize CONTENT STYLE -o loop.png/a.png": "folder",
    "grid --content CONTENT --style STYLE -o loop.png": "to itself",
    "grid --content *.png --style STYLE -o new": "loop.png",
    "video text.mp4 STYLE -o loop.gif": "to itself",
    "weights convert w.h5 loop.h5": "to itself",
    "grid --content CONTENT --style STYLE -o pipes/page": "a device or a pipe",
    "grid --content CONTENT --style STYLE -o pipes/sheet": "a device or a pipe",
    "stylize CONTENT STYLE --init nosie": "--init nosie does not exist",
    "stylize CONTENT STYLE --seed -3": "got '-3'",
    "stylize narrow.png STYLE": "less narrow",
    "stylize CONTENT STYLE -o a.gif": "end the name in .png",
    "stylize CONTENT STYLE --bits 16 -o a.jpg": "cannot have 16 bits",
    "stylize CONTENT STYLE --memory 8XB": "such as 8GB, got '8XB'",
    "plan CONTENT STYLE --memory 8": "such as 8GB",
    "plan CONTENT STYLE --bits 16 -o a.jpg": "cannot have 16 bits",
    "stylize CONTENT STYLE --size 20000 -o a.webp": "at most 16383 px",
    "plan CONTENT STYLE --memory 1GB": "1.0 GB are free",
    "plan none.jpg STYLE": "does not exist",
    "plan CONTENT none.jpg": "does not exist",
    "stylize CONTENT STYLE --weights w.h5": "does not exist",
    "stylize CONTENT STYLE --resume": "leave out --resume",
    "recipes gaty": "did you mean gatys2016?",
    "weights check none": "one of embedded",
    "stylize CONTENT STYLE --set beta3=1": "did you mean beta",
    "stylize CONTENT STYLE --set clip=x": "give true or false",
    "stylize CONTENT STYLE --recipe johnson --set beta1=0.5": "beta1 has no effect",
    "stylize CONTENT": "no style is named",
    "": "required: COMMAND",
    "stilize": "invalid choice",
}


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_answered_in_one_line(command, elsewhere, capsys):
    for file in ("text.jpg", "text.mp4"):
        (elsewhere / file).write_text("no picture")
    (elsewhere / "cut.jpg").write_bytes(sample_path("harbour").read_bytes()[:20_000])
    for file, side in (("one.png", 1), ("eight.png", 8)):
        pil.fromarray(np.zeros((side, side, 3), np.uint8)).save(elsewhere / file)
    pil.fromarray(np.zeros((16, 4000, 3), np.uint8)).save(elsewhere / "narrow.png")
    for made in ("f.png", "g.png.json", "h.png.checkpoint.npz"):
        (elsewhere / made).mkdir()
    (elsewhere / "cells" / "harbour__swirls.png.json").mkdir(parents=True)
    for loop in ("loop.png", "loop.gif", "loop.h5", "swirls-swirls.png"):
        (elsewhere / loop).symlink_to(loop)
    (elsewhere / "swirls.jpg").write_bytes(Path(STYLE).read_bytes())
    for kind, pipe in (("page", "index.html"), ("sheet", "sheet.png")):
        (elsewhere / "pipes" / kind).mkdir(parents=True)
        os.mkfifo(elsewhere / "pipes" / kind / pipe)
    (elsewhere / "kept.png.checkpoint.npz").touch()
    before = sorted(elsewhere.iterdir())
    known = {"CONTENT": [CONTENT], "STYLE": [STYLE], "QUICK": QUICK}
    argv = [x for word in command.split() for x in known.get(word, [word])]
    assert BAD[command] in refused(argv, capsys)
    assert sorted(elsewhere.iterdir()) == before


DROPPED = "--bounding-set=-dac_override,-dac_read_search"
AS_ANYBODY = [] if os.geteuid() else ["setpriv", DROPPED, "--inh-caps=-all"]
"""Without these rights the superuser is a user like others."""


@pytest.mark.skipif(
    AS_ANYBODY and not shutil.which("setpriv"), reason="needs setpriv, or another user"
)
def test_what_may_not_be_read_or_written_is_said_with_its_cure(elsewhere):
    for name in ("a.jpg", "mask.png"):
        (elsewhere / name).write_bytes(Path(CONTENT).read_bytes())
        (elsewhere / name).chmod(0)
    for name in ("locked", "home"):
        (elsewhere / name).mkdir()
    (elsewhere / "locked" / "a.jpg").touch()
    (elsewhere / "locked").chmod(0)
    (elsewhere / "home").chmod(0o500)
    runs = [
        ["stylize", "a.jpg", STYLE],
        ["plan", CONTENT, "locked/a.jpg"],
        ["plan", CONTENT, STYLE, "--content-mask", "mask.png"],
        ["grid", "--content", "a.jpg", "--style", STYLE],
        ["weights", "pull", "imagenet"],
    ]
    code = "import sys, json; from jaxnst.command.cli import main\n"
    code += "for argv in json.loads(sys.argv[1]):\n"
    code += "    try: print(main(argv))\n"
    code += "    except SystemExit as error: print(error.code)"
    here = {"PYTHONPATH": str(Path(__file__).parents[1]), "JAXNST_HOME": "home"}
    env = os.environ | here | {"JAX_COMPILATION_CACHE_DIR": ""}
    run = [*AS_ANYBODY, sys.executable, "-c", code, json.dumps(runs)]
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "2\n" * len(runs)
    said = done.stderr
    assert "Traceback" not in said
    for name, times in (("a.jpg", 3), ("locked/a.jpg", 1), ("mask.png", 1)):
        assert said.count(f"{name} may not be read; hint: change") == times
    assert "kept in home/xla (Permission denied); set JAXNST_HOME" in said
    assert "for weights at home, got a read-only one; hint: set" in said


def test_a_grid_leaves_out_what_has_an_undecodable_name(elsewhere, capsys):
    name = os.fsdecode(b"b\xff.jpg")
    (elsewhere / name).write_bytes(Path(CONTENT).read_bytes())
    assert main(["grid", "--content", name, "--style", STYLE]) == 2
    said = capsys.readouterr().err.encode("ascii", "backslashreplace").decode()
    assert "left out: the name b\\udcff.jpg is not in UTF-8" in said
    assert "no content can be read" in said
    assert len(list(elsewhere.iterdir())) == 1


COMMAND_LINES = [
    ["--help"],
    *([name, "--help"] for name, *_ in COMMANDS),
    ["recipes", "painterly"],
    ["stylize", "海…ë.jpg", STYLE],
]


@pytest.mark.parametrize("argv", COMMAND_LINES, ids=" ".join)
def test_all_is_said_in_any_encoding(argv, monkeypatch):
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, file in written.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(file, encoding="ascii"))
    try:
        code = main(argv)
    except SystemExit as error:
        code = error.code
    sys.stdout.flush()
    sys.stderr.flush()
    assert code in (0, 2)
    said = b"".join(x.getvalue() for x in written.values()).decode("ascii")
    assert said
    assert ("\\u6d77" in said) == ("海" in "".join(argv))


PATTERNS = {
    "p/*.jpg a.jpg": "p/*.jpg matches 2 files; hint: name one",
    "q/*.jpg a.jpg": "no files match q/*.jpg",
    "a.jpg q/*.jpg": "no files match q/*.jpg",
    "a.jpg --size 64 q/*.jpg": "no files match q/*.jpg",
    "a.jpg a.jpg --init p/*.jpg": "p/*.jpg matches 2 files",
    "a.jpg a.jpg --colors p/*.jpg": "p/*.jpg matches 2 files",
    "a.jpg a.jpg --content-mask p/*.jpg": "p/*.jpg matches 2 files",
    "a.jpg --region p/*.jpg=a.jpg": "p/*.jpg matches 2 files",
    "a.jpg a.jpg --style-mask a.jpg=p/*.jpg": "p/*.jpg matches 2 files",
    "a.jpg a.jpg --style-scale p/*.jpg=2": "p/*.jpg matches 2 files",
    "a.jpg a.jpg --weights w/*.h5": "matches no file",
}


@pytest.fixture
def photographs(elsewhere):
    (elsewhere / "p").mkdir()
    for path in (elsewhere / "a.jpg", elsewhere / "p/1.jpg", elsewhere / "p/2.jpg"):
        path.write_bytes(Path(CONTENT).read_bytes())


@pytest.mark.parametrize("flags", PATTERNS)
@pytest.mark.parametrize("command", ["plan", "stylize"])
@pytest.mark.usefixtures("photographs")
def test_a_pattern_where_one_file_is_wanted_is_refused(flags, command, capsys):
    assert PATTERNS[flags] in refused([command, *flags.split()], capsys)


@pytest.mark.usefixtures("photographs")
def test_patterns_that_the_shell_left_alone_are_expanded(elsewhere):
    both = [Path("p/1.jpg"), Path("p/2.jpg")]
    for command in (["plan", "a.j*"], ["video", "a.j*", "-o", "x.mp4"]):
        assert parse([*command, "p/*.jpg"]).style == both
        assert parse([*command, "p/*.jpg"]).content == Path("a.jpg")
        assert parse([*command, "a.jpg", "--quiet", "p/*"]).style == [
            Path("a.jpg"),
            *both,
        ]
    args = parse(["plan", "a.jpg", "--region", "p/1*=p/*.jpg", "--labels", "p/*"])
    assert args.region == [(Path("p/1.jpg"), tuple(both))]
    assert args.labels == [both]
    (elsewhere / "b[1].jpg").write_bytes(Path(CONTENT).read_bytes())
    assert parse(["plan", "b[1].jpg", "b[1].jpg"]).style == [Path("b[1].jpg")]
    assert main(["stylize", "a.j*", "p/*.jpg", *QUICK, "--quiet"]) == 0
    assert (elsewhere / "a-1-2.png").exists()


def test_divergence_keeps_the_last_finite_picture(elsewhere, capsys):
    # A weight so large that the loss overflows.
    flags = ["--style-weight", "3e38", "--content-weight", "3e38", "-o", "a.png"]
    flags += ["--set", "style_layers=relu1_1:1000"]
    assert main(["stylize", CONTENT, STYLE, *QUICK, *flags]) == 3
    assert "the run diverged" in capsys.readouterr().err
    assert np.isfinite(load_image("a.png")).all()
    assert json.loads((elsewhere / "a.png.json").read_text())["status"] == "diverged"


@pytest.mark.parametrize(
    ("imported", "way"), [("jaxtyping", ["-m", "jaxnst"]), ("tqdm", ["jaxnst"])]
)
def test_an_interruption_while_the_command_is_imported_is_silent(
    elsewhere, imported, way
):
    interrupt = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
    (elsewhere / f"{imported}.py").write_text(f"{interrupt}import time; time.sleep(9)")
    script = "import sys; from jaxnst.command.cli import main; sys.exit(main())"
    (elsewhere / "jaxnst").write_text(script)  # as pip writes it
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join([str(elsewhere), root])
    env = os.environ | {"PYTHONPATH": path}
    run = [sys.executable, *way, "recipes"]
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interrupted_run_resumes_to_the_same_picture(elsewhere, monkeypatch, capsys):
    command = ["stylize", CONTENT, STYLE, *QUICK, "--steps", "5"]
    command += ["--recipe", "delicate"]
    report = reporter.PictureReporter.report

    def interrupted(self, progress):
        report(self, progress)
        os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored in the background

    with monkeypatch.context() as patch:
        patch.setattr(reporter.PictureReporter, "report", interrupted)
        assert main([*command, "-o", "a.png"]) == 130
    said = "state kept in a.png.checkpoint.npz; rerun with --resume"
    assert said in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["a.png.checkpoint.npz"]
    assert main([*command, "-o", "a.png", "--resume"]) == 0
    assert not (elsewhere / "a.png.checkpoint.npz").exists()
    assert main([*command, "-o", "b.png"]) == 0
    assert (elsewhere / "a.png").read_bytes() == (elsewhere / "b.png").read_bytes()


def test_a_long_name_is_cut_between_letters(elsewhere):
    names = ["海" * 50 + ".jpg", "山" * 50 + ".jpg"]
    for name, sample in zip(names, (CONTENT, STYLE), strict=True):
        (elsewhere / name).write_bytes(Path(sample).read_bytes())
    assert main(["stylize", *names, *QUICK, "--quiet"]) == 0
    assert (elsewhere / ("海" * 33 + ".png")).exists()


def test_a_start_image_is_a_part_of_the_manifest(elsewhere):
    flags = [*QUICK, "--quiet", "-o", "a.png", "--init", STYLE]
    assert main(["stylize", CONTENT, STYLE, *flags]) == 0
    manifest = json.loads((elsewhere / "a.png.json").read_text())
    content, style, start = manifest["pictures_sha256"]
    assert style == start != content


def test_a_picture_is_painted_though_nobody_reads_on(elsewhere):
    command = [sys.executable, "-m", "jaxnst", "stylize", CONTENT, STYLE, *QUICK]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    assert load_image("harbour-swirls.png").shape == (36, 48, 3)
    process.stderr.close()


def test_output_that_nobody_reads_to_the_end_is_no_error():
    command = f"{sys.executable} -u -m jaxnst recipes painterly boston | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("name")


def test_a_picture_is_painted_where_nothing_can_be_said(elsewhere):
    flags = shlex.join(["stylize", CONTENT, STYLE, *QUICK, "-o", "a.png"])
    command = f"exec {shlex.quote(sys.executable)} -m jaxnst {flags} >&- 2>&-"
    assert subprocess.run(["sh", "-c", command]).returncode == 0
    assert (elsewhere / "a.png").exists()


def test_photographs_that_are_put_into_a_folder_are_painted_once(
    elsewhere, monkeypatch, capsys
):
    (elsewhere / "photos").mkdir()
    first, second = (elsewhere / "photos" / f"{x}.png" for x in ("first", "second"))
    pil.open(CONTENT).resize((64, 48)).save(first)
    whole = first.read_bytes()
    writes = [  # as a camera does, between two looks
        lambda: None,
        lambda: second.write_bytes(whole[:4000]),
        lambda: second.write_bytes(whole),
        lambda: None,
        lambda: (elsewhere / "photos" / "none.jpg").write_text("no picture"),
        lambda: None,
        lambda: None,
    ]
    waits = iter(writes)

    def sleep(seconds):
        if (write := next(waits, None)) is None:
            raise KeyboardInterrupt
        write()

    clock = SimpleNamespace(sleep=sleep, perf_counter=time.perf_counter)
    monkeypatch.setattr(stylize, "time", clock)
    command = ["stylize", STYLE, "--watch", "photos", *QUICK, "--recipe", "udacity"]
    assert main(command) == 130
    out, err = capsys.readouterr()
    assert out.startswith("watching photos; results go to painted;")
    assert [out.count(f"wrote painted/{x}.png") for x in ("first", "second")] == [1, 1]
    left, *rest = err.splitlines()
    assert "photos/none.jpg is left out: " in left
    assert rest == ["jaxnst: interrupted"]
    painted = {x.name: x.stat().st_mtime_ns for x in (elsewhere / "painted").iterdir()}
    assert len(painted) == 4
    waits = iter([lambda: None] * 3)
    assert main([*command, "--quiet"]) == 130
    out, err = capsys.readouterr()
    assert (out, err.count("none.jpg is left out")) == ("", 1)
    again = {x.name: x.stat().st_mtime_ns for x in (elsewhere / "painted").iterdir()}
    assert again == painted


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--watch", "nowhere"], "expected a folder at nowhere"),
        (["--watch", ".", "-o", "."], "has the photographs"),
        (["--watch", ".", "-o", "a.txt"], "a.txt is a file"),
        (["--watch", ".", "--plot", "a.png"], "leave --plot out"),
        (["--watch", ".", "--dry-run"], "leave --dry-run out"),
    ],
)
def test_a_folder_that_cannot_be_watched_is_refused(elsewhere, capsys, flags, said):
    (elsewhere / "a.txt").write_text("mine")
    assert said in refused(["stylize", STYLE, *QUICK, *flags], capsys)
    assert [x.name for x in elsewhere.iterdir()] == ["a.txt"]
