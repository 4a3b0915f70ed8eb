"""What goes wrong while a picture is painted: disks, signals, caches."""

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import LIGHT, refused

from jaxnst import disk
from jaxnst.command import describe, program_cache, records, reporter, stylize
from jaxnst.command.cli import main
from jaxnst.compiled import private_folder
from jaxnst.pictures.files import load_image
from jaxnst.pictures.samples import sample_path

RUN = ["stylize", str(sample_path("harbour")), str(sample_path("swirls"))]
RUN += ["--size", "48", "--steps", "4", "--weights", "embedded", *LIGHT, "--quiet"]
RUN += ["--recipe", "udacity", "-o", "out/a.png"]
pytestmark = pytest.mark.usefixtures("elsewhere")


def full(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_picture_that_cannot_be_written_is_saved_where_there_is_room(
    monkeypatch, capsys
):
    save, tried = stylize.save_image, []

    def save_image(path, image, **options):
        tried.append(path)
        return full() if len(tried) == 1 else save(path, image, **options)

    monkeypatch.setattr(stylize, "save_image", save_image)
    said = refused(RUN, capsys)
    assert f"the picture is in {tried[1]}" in said
    assert load_image(tried[1]).shape == (36, 48, 3)


def test_the_next_writer_deletes_what_a_killed_one_had_written(elsewhere):
    code = "from jaxnst.disk import write_whole as w; import os\n"
    code += "with w('a[1].png') as file: os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert len(list(elsewhere.iterdir())) == 1
    with disk.write_whole("a[1].png"), disk.write_whole("a[1].png"):
        pass  # a file that is being written stays
    assert [path.name for path in elsewhere.iterdir()] == ["a[1].png"]


def test_a_write_that_fails_says_where_and_leaves_nothing(elsewhere):
    def fill():
        with disk.write_whole("a.png"):
            full()

    with pytest.raises(OSError, match=r"a\.png cannot be written \(No space left"):
        fill()
    assert not list(elsewhere.iterdir())


def test_a_missing_folder_is_made_and_a_link_stays_a_link(elsewhere):
    with disk.write_whole("new/a.txt") as file:
        file.write(b"old")
    (elsewhere / "link.txt").symlink_to("new/a.txt")
    with disk.write_whole("link.txt") as file:
        file.write(b"new")
    assert (elsewhere / "link.txt").is_symlink()
    assert (elsewhere / "new" / "a.txt").read_bytes() == b"new"
    with pytest.raises(ValueError, match="does not exist"):
        disk.check_folder(elsewhere / "a" / "b")


def test_previews_and_states_that_cannot_be_kept_are_said_once(monkeypatch, capsys):
    monkeypatch.setattr(reporter, "save_image", full)
    monkeypatch.setattr(reporter, "save_checkpoint", full)
    monkeypatch.setattr(reporter, "OFTEN", 0)
    assert main([*RUN, "--save-every", "1"]) == 0
    said = capsys.readouterr().err
    assert said.count("the preview cannot be saved") == 1
    assert said.count("the state cannot be saved") == 1
    assert json.loads(Path("out/a.png.json").read_text())["status"] == "done"


@pytest.mark.parametrize("failing", ["save_plot", "save_timelapse"])
def test_a_record_that_cannot_be_drawn_leaves_all_others(
    elsewhere, monkeypatch, capsys, failing
):
    def fail(*args):
        raise RuntimeError("no font")

    monkeypatch.setattr(records, failing, fail)
    assert main([*RUN, "--plot", "p.svg", "--timelapse", "l.gif"]) == 0
    kept = {path.name for path in elsewhere.iterdir()}
    assert kept == {"out", "l.gif" if failing == "save_plot" else "p.svg"}
    assert json.loads(Path("out/a.png.json").read_text())["status"] == "done"
    kind = failing.removeprefix("save_")
    assert f"the {kind} cannot be saved: no font" in capsys.readouterr().err


def test_a_long_run_keeps_its_state_until_it_is_done(elsewhere, monkeypatch):
    kept, save = [], reporter.save_checkpoint

    def save_checkpoint(path, checkpoint):
        save(path, checkpoint)
        kept.append(path.exists())

    monkeypatch.setattr(reporter, "save_checkpoint", save_checkpoint)
    monkeypatch.setattr(reporter, "OFTEN", 0)
    assert main([*RUN, "--save-every", "1"]) == 0
    assert kept
    assert all(kept)
    assert not list(elsewhere.glob("out/*checkpoint*"))


def test_a_picture_that_gets_no_better_is_said_to(capsys):
    assert main([*RUN, "--learning-rate", "0.01"]) == 0
    still = [*RUN[:-2], "-o", "out/b.png", "--learning-rate", "3"]
    assert main(still) == 0
    assert capsys.readouterr().err.count("did not fall at the last scale") == 1


@pytest.mark.parametrize("number", reporter.SIGNALS, ids=lambda x: x.name)
def test_every_signal_that_ends_a_process_interrupts_a_run(number, capsys):
    before = signal.getsignal(number)
    with reporter.Reporter(1, 0, quiet=True) as found:
        os.kill(os.getpid(), number)
        assert found.interrupted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
    assert "stopping" in capsys.readouterr().err


def test_a_program_that_takes_long_to_compile_is_named(capsys):
    with reporter.Reporter(1, 0, quiet=False) as found:
        found.wait("the steps at 256 px", 3.0)
        assert not capsys.readouterr().out
        found.waited -= 11
        found.wait("the steps at 256 px", 14.0)
        found.wait("the patches at 256 px", 1.0)
    assert capsys.readouterr().out == "compiling the steps at 256 px, 14 s so far\n"


@pytest.fixture
def programs_in():
    """Keep compiled programs in a folder of the test."""
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    names = *names, "jax_compilation_cache_max_size"
    before = {name: jax.config.values[name] for name in names}

    def use(folder, most=None):
        jax.experimental.compilation_cache.compilation_cache.reset_cache()
        return program_cache.keep_programs(folder, most)

    yield use
    jax.experimental.compilation_cache.compilation_cache.reset_cache()
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("damage", [b"", b"no program", None])
def test_damaged_programs_are_said_once_and_replaced(elsewhere, programs_in, damage):
    folder, told = elsewhere / "xla", []
    assert programs_in(folder) == ""

    def use():
        jax.clear_caches()
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = program_cache.Listener(folder, told.append)
            for factor in (2, 3, 4):
                assert jax.jit(lambda x, f=factor: f * x + 1)(jnp.ones(3))[0] > 2

    use()
    kept = list(folder.glob("jit*-cache"))
    assert len(kept) >= 3
    for path in kept:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    use()
    assert len(told) == 1
    use()
    assert len(told) == 1


def trouble(message, folder, *, ours=True):
    """What is told of a warning of JAX's about kept programs."""
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = program_cache.Listener(folder, told.append, ours=ours)
        warnings.warn(message, stacklevel=1)
    return "".join(told).replace(str(folder), "FOLDER")


@pytest.mark.parametrize(
    ("verb", "why", "damaged"),
    [
        ("reading", "JaxRuntimeError: INTERNAL: no program", True),
        ("reading", "error: Error -3 while decompressing", True),
        ("reading", "PermissionError: [Errno 13] Permission denied: 'x-cache'", False),
        ("reading", "FileNotFoundError: [Errno 2] No such file: 'x-cache'", False),
        ("reading", "Timeout: The file lock '.lockfile' could not be acquired", False),
        ("writing", "FileNotFoundError: [Errno 2] No such file: 'x-atime'", False),
        ("writing", "OSError: [Errno 28] No space left on device", False),
    ],
)
def test_only_damaged_programs_are_called_damaged(elsewhere, verb, why, damaged):
    program = elsewhere / f"jit_f-{'0' * 64}-cache"
    program.touch()
    text = f"Error {verb} persistent compilation cache entry for 'jit_f': {why}"
    said = trouble(text, elsewhere)
    assert ("damaged" in said, program.exists()) == (damaged, not damaged)
    assert damaged or why.partition(": ")[2] in said
    program.touch()
    assert ("jaxnst cache --clear" in trouble(text, elsewhere, ours=False)) == damaged
    assert program.exists()


def test_other_warnings_are_shown_as_before(elsewhere, monkeypatch):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda text, *_: shown.append(text))
    for _ in range(2):
        warnings.showwarning = program_cache.Listener(elsewhere, print)
    warnings.showwarning("another", UserWarning, "", 1)
    assert shown == ["another"]


@pytest.mark.parametrize("bound_of_jax", [-1, 10**6])
def test_a_foreign_file_among_programs_is_no_damage(
    elsewhere, programs_in, bound_of_jax
):
    (elsewhere / "xla").mkdir()
    (elsewhere / "xla" / "x-cache").write_text("not JAX's")
    jax.config.update("jax_compilation_cache_max_size", bound_of_jax)
    assert programs_in(elsewhere / "xla", 10**6) == ""
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = program_cache.Listener(elsewhere / "xla", told.append)
        assert jax.jit(lambda x: 5 * x + 1)(jnp.ones(3))[0] == 6
    assert "damaged" not in "".join(told).replace(str(elsewhere), "")
    assert len(told) == (bound_of_jax > 0)  # JAX's bound reads the time of every file
    assert (elsewhere / "xla" / "x-cache").read_text() == "not JAX's"


def write_programs(folder, *sizes):
    """Kept programs, the first one used last, and files that are none."""
    folder.mkdir(exist_ok=True)
    for i, size in enumerate(sizes):
        path = folder / f"jit_f-{i:064x}-cache"
        path.write_bytes(bytes(size))
        os.utime(path, (10**9 - i, 10**9 - i))
    for name in ("x-cache", "notes.txt", "jit_f-cache"):
        (folder / name).write_text("mine")
    return lambda: [int(p.name[6:-6], 16) for p in sorted(folder.glob("*0?-cache"))]


def test_kept_programs_are_bounded_by_their_last_use(elsewhere, programs_in):
    left = write_programs(elsewhere / "xla", 300, 300, 300, 300)
    assert programs_in(elsewhere / "xla") == ""
    assert left() == [0, 1, 2, 3]
    assert programs_in(elsewhere / "xla", 700) == ""
    assert left() == [0, 1]
    assert (elsewhere / "xla" / "x-cache").read_text() == "mine"


@pytest.mark.parametrize("told", [True, False])
def test_the_cache_is_told_and_cleared(
    elsewhere, programs_in, monkeypatch, capsys, told
):
    folder = elsewhere / ("told" if told else "home/xla")
    monkeypatch.setenv("JAXNST_HOME", str(elsewhere / "home"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder) if told else "")
    assert main(["cache", "--clear"]) == 0
    assert "deleted 0 of 0 programs" in capsys.readouterr().out
    left = write_programs(folder, 1_500_000, 600_000)
    (folder / f"jit_f-{0:064x}-atime").write_bytes(bytes(8))
    assert main(["cache"]) == 0
    said = capsys.readouterr().out
    assert str(folder) in said
    assert "programs  2\n" in said
    assert ("2 MB, of at most 1.0 GB" in said) == (not told)
    assert left() == [0, 1]
    assert main(["cache", "--clear"]) == 0
    assert "deleted 2 of 2 programs" in capsys.readouterr().out
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["jit_f-cache", "notes.txt", "x-cache"]


ERRORS = {
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.": "--size",
    "INTERNAL: Failed to allocate 1 bytes: CUDA_ERROR_OUT_OF_MEMORY": "--size",
    "FAILED_PRECONDITION: DNN library initialization failed. Look at the": "cuDNN",
    "INTERNAL: Loaded runtime CuDNN library: 8.9.7 but source was compiled with": (
        "unset LD_LIBRARY_PATH"
    ),
    "INTERNAL: CUDNN_STATUS_NOT_INITIALIZED in external/xla/cuda_dnn.cc": "cuDNN",
    "INTERNAL: failed to create cublas handle: the resource allocation failed": (
        "nvidia-smi"
    ),
    "INTERNAL: cuSolver internal error CUSOLVER_STATUS_NOT_INITIALIZED": "nvidia-smi",
    "INTERNAL: ptxas exited with non-zero error code 65280": "NVIDIA driver",
    "INTERNAL: CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "NVIDIA driver",
    "INTERNAL: CUDA driver version is insufficient": "NVIDIA driver",
    "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access": "JAX_PLATFORMS",
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_of_devices_are_said_with_their_cure(message, monkeypatch, capsys):
    def fail(*args, **options):
        raise jax.errors.JaxRuntimeError(f"{message}\nwith more lines")

    monkeypatch.setattr(stylize, "stylize_files", fail)
    said = refused(RUN, capsys)
    assert said.startswith(f"jaxnst: error: {message}; ")
    assert ERRORS[message] in said


def test_an_unused_card_is_said_in_the_first_line(elsewhere, monkeypatch, capsys):
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(describe, "GPU_SIGNS", ("none", "nvidia0"))
    assert describe.unused_gpu() == ""
    (elsewhere / "nvidia0").touch()
    assert "pip install 'jaxnst[cuda]'" in describe.unused_gpu()
    monkeypatch.setattr(describe, "find_spec", lambda name: name)
    assert "driver" in describe.unused_gpu()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert describe.unused_gpu() == ""
    monkeypatch.setattr(describe, "unused_gpu", lambda: "the card is not used")
    assert main([*RUN[:-5], "-o", "b.png", "--recipe", "udacity"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("device cpu")
    assert "; the card is not used; weights embedded" in first


def test_a_default_name_that_another_run_has_taken_is_not_used(elsewhere):
    run = [*RUN[:-2]]
    with (
        disk.held(Path("harbour-swirls.png")) as ours,
        disk.held(Path("harbour-swirls-2.png")),
    ):
        assert ours
        assert main(run) == 0
        assert [x.name for x in elsewhere.glob("*.png")] == ["harbour-swirls-3.png"]
    assert main(run) == 0
    assert {path.name for path in elsewhere.iterdir()} == {
        *("harbour-swirls.png", "harbour-swirls.png.json"),
        *("harbour-swirls-3.png", "harbour-swirls-3.png.json"),
    }


@pytest.mark.parametrize("taken", ["out/a.png", "a.npz", "t.jsonl"])
def test_an_output_that_another_run_writes_is_refused(elsewhere, capsys, taken):
    with disk.held(Path(taken)):
        said = refused([*RUN, "--checkpoint", "a.npz", "--trace", "t.jsonl"], capsys)
    assert f"another run is writing {taken}; hint: wait" in said
    assert not list(elsewhere.iterdir())


def test_names_are_free_once_a_process_dies(elsewhere):
    code = "from jaxnst.disk import held; from pathlib import Path; import sys\n"
    code += "with held(Path('a.png')) as ours: print(ours, flush=True); input()"
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "True\n"
        with disk.held(Path("a.png")) as ours:
            assert not ours
        process.kill()
    with disk.held(Path("a.png")) as ours:
        assert ours
    assert not list(elsewhere.iterdir())


def test_threads_paint_at_once_into_pictures_of_their_own(elsewhere):
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(main, [RUN[:-2]] * 2))
    assert codes == [0, 0]
    names = [path.name for path in sorted(elsewhere.glob("*.png"))]
    assert names == ["harbour-swirls-2.png", "harbour-swirls.png"]


SCALES = ["stylize", str(sample_path("harbour")), str(sample_path("swirls"))]
SCALES += ["--weights", "embedded", "--quiet", "--recipe", "delicate", "-o", "a.png"]
SCALES += LIGHT
SCALES += ["--size", "64", "--set", "min_size=32", "--set", "first_steps=4"]
SCALES += ["--set", "steps=6"]
"""A run of three scales, of 4, 6 and 6 steps."""


@pytest.fixture
def stopped_run(monkeypatch):
    """Run until a scale is half done, by interruption or as if it were killed."""

    def run(flags, killed):
        report = reporter.PictureReporter.report

        def stop(self, progress):
            report(self, progress)
            self.interrupted = progress.stage_index == 1 and not killed
            if progress.stage_index == 1 and progress.taken >= 4:
                raise RuntimeError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(reporter, "OFTEN", 0)
            patch.setattr(reporter.PictureReporter, "report", stop)
            if killed:
                with pytest.raises(RuntimeError, match="killed"):
                    main(flags)
            else:
                assert main(flags) == 130

    return run


def test_a_run_stops_and_resumes_where_a_scale_takes_no_steps(stopped_run):
    run = [*SCALES[: SCALES.index("--recipe")], "-o", "a.png", *LIGHT, "--size", "64"]
    run += ["--set", "min_size=32", "--set", "first_steps=2", "--trace", "t.jsonl"]
    assert main([*run, "--timelapse", "l.gif"]) == 0
    whole = load_image("a.png")
    Path("a.png").unlink()
    stopped_run(run, killed=False)
    assert main([*run, "--resume"]) == 0
    np.testing.assert_array_equal(load_image("a.png"), whole)


@pytest.mark.parametrize("killed", [False, True])
def test_records_of_a_resumed_run_are_whole(stopped_run, monkeypatch, killed):
    run = [*SCALES, "--trace", "t.jsonl", "--timelapse", "l.gif", "--plot", "p.svg"]
    stopped_run(run, killed)
    plotted, shown = [], []
    monkeypatch.setattr(records, "save_plot", lambda *x: plotted.append(x[1]))
    monkeypatch.setattr(records, "save_timelapse", lambda *x: shown.extend(x[1]))
    assert main([*run, "--resume"]) == 0
    lines = [json.loads(x) for x in Path("t.jsonl").read_text().splitlines()]
    places = [(line["scale"], line["step"]) for line in lines]
    assert places == sorted(set(places))
    assert [max(s for i, s in places if i == k) for k in (0, 1, 2)] == [4, 6, 6]
    assert lines[0]["scale"] == 0
    assert [x["seconds"] for x in lines] == sorted(x["seconds"] for x in lines)
    assert [x.shape for x in shown] == [(48, 64, 3)] * (len(lines) + 1)
    (table,) = plotted
    assert [int((table[:, 0] == k).sum()) for k in (0, 1, 2)] == [4, 6, 6]
    assert (np.diff(table[:4, 2]) < 0).any()


def test_a_folder_where_no_programs_can_be_kept_is_done_without(elsewhere, programs_in):
    (elsewhere / "file").touch()
    assert "cannot be kept in" in programs_in(elsewhere / "file" / "xla")
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_a_link_and_its_target_are_one_output(elsewhere):
    target, link = elsewhere / "a.png", elsewhere / "link.png"
    link.symlink_to(target)
    with disk.held(target) as first, disk.held(link) as second:
        assert (first, second) == (True, False)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with reporter.Reporter(1, 0, quiet=True):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no such modes")
def test_a_folder_of_ours_is_for_nobody_else(elsewhere, programs_in):
    folder = elsewhere / "xla"
    folder.mkdir()
    folder.chmod(0o777)
    assert programs_in(folder) == ""  # the user's, left as it is
    assert private_folder() is None
    assert programs_in(folder, 10**9) == ""
    assert private_folder() == folder
