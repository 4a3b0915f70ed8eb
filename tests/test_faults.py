"""What goes wrong while a picture is painted: disks, signals, caches."""

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxnst import disk, process
from jaxnst.command import reporter, stylize
from jaxnst.command.cli import main
from jaxnst.pictures.files import load_image
from jaxnst.pictures.samples import sample_path

RUN = ["stylize", str(sample_path("harbour")), str(sample_path("swirls"))]
RUN += ["--size", "48", "--steps", "4", "--weights", "embedded", "--quiet"]
RUN += ["--recipe", "udacity", "-o", "out/a.png"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    assert main(RUN) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
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

    with pytest.raises(OSError, match=r"write a\.png, got No space left"):
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
    with pytest.raises(ValueError, match="no such folder"):
        disk.check_folder(elsewhere / "a" / "b")


def test_previews_and_states_that_cannot_be_kept_are_said_once(monkeypatch, capsys):
    monkeypatch.setattr(reporter, "save_image", full)
    monkeypatch.setattr(reporter, "save_checkpoint", full)
    monkeypatch.setattr(reporter, "OFTEN", 0)
    assert main([*RUN, "--save-every", "1"]) == 0
    said = capsys.readouterr().err
    assert said.count("no preview is kept") == said.count("no state is kept") == 1
    assert json.loads(Path("out/a.png.json").read_text())["status"] == "done"


def test_a_long_run_keeps_its_state_until_it_is_done(elsewhere, monkeypatch):
    kept, save = [], reporter.save_checkpoint

    def save_checkpoint(path, checkpoint):
        save(path, checkpoint)
        kept.append(path.exists())

    monkeypatch.setattr(reporter, "save_checkpoint", save_checkpoint)
    monkeypatch.setattr(reporter, "OFTEN", 0)
    assert main([*RUN, "--save-every", "1"]) == 0
    assert kept == [True] * 3
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
        found.said -= 11
        found.wait("the steps at 256 px", 14.0)
        found.wait("the patches at 256 px", 1.0)
    assert capsys.readouterr().out == "compiling the steps at 256 px, 14 s so far\n"


@pytest.fixture
def programs_in():
    """Keep compiled programs in a folder of the test."""
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {name: jax.config.values[name] for name in names}

    def use(folder):
        jax.experimental.compilation_cache.compilation_cache.reset_cache()
        return process.keep_programs(folder)

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
            with process.one_warning(folder, told.append):
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


def test_programs_of_others_are_not_deleted(elsewhere):
    (elsewhere / "jit-other-cache").touch()
    text, told = "Error {} persistent compilation cache entry", []
    for ours, word in ((False, "reading"), (True, "writing")):
        with (
            warnings.catch_warnings(),
            process.one_warning(elsewhere, told.append, ours=ours),
        ):
            warnings.simplefilter("always")
            warnings.warn(text.format(word), stacklevel=1)
    assert len(told) == 2
    assert (elsewhere / "jit-other-cache").exists()


def test_a_folder_where_no_programs_can_be_kept_is_done_without(elsewhere, programs_in):
    (elsewhere / "file").touch()
    assert "cannot be kept in" in programs_in(elsewhere / "file" / "xla")
    assert jax.config.values["jax_compilation_cache_dir"] is None
