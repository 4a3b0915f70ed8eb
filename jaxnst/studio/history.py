"""The folder of results: pictures with manifests, and variations to choose from."""

import contextlib
import os
import shlex
import stat
import tempfile
import threading
import time
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta
from PIL import Image as pil

from jaxnst.disk import numbered
from jaxnst.foreign import convert, read_json, write_json
from jaxnst.pictures.files import SUFFIXES, image_shape
from jaxnst.request.manifest import Manifest, manifest_path, read_manifest
from jaxnst.request.manifest import painting_of as read_painting
from jaxnst.request.terminal import as_argument, as_command
from jaxnst.studio.pictures import plain
from jaxnst.studio.settings import Settings, painting_of, read_settings
from jaxnst.weights.registry import ASSETS

RECORD = ".job.json"
"""Suffix of the file beside a result that has the settings of its job."""

Stamp = tuple[int, int, int] | None
"""Modification time, size and inode of a file; None if there is no file."""


Seconds = Annotated[float, Meta(ge=0, le=1e11)]
"""A duration, or a time since 1970."""


class Entry(NamedTuple):
    """A result, or the remains of a stopped run.

    An entry holds few fields of its manifest. A whole manifest has hundreds of objects,
    and collecting garbage among a thousand manifests would stop all threads.

    Attributes:
        state: `done`; `unpainted`; or `stopped`, with something to see or to resume.
        time: Time of the request, in seconds since 1970.
        version: Text that changes whenever the visible picture changes.
        resumable: Whether a stopped run left a checkpoint.
        command: Command that repaints the result, made from checked values.
        size: Width and height, in pixels.
        diverged: Whether the run diverged.
        settings: Settings that were chosen on the page, if any.
        picture: Path of the visible picture; None before anything was painted.
        content: Path of the photograph, if it is inside the folder.
    """

    name: str
    state: Literal["done", "stopped", "unpainted"]
    time: float
    version: str
    resumable: bool
    command: str
    size: tuple[int, int] | None
    recipe: str | None
    seconds: float | None
    diverged: bool
    settings: Settings | None
    picture: Path | None
    content: Path | None

    def as_json(self) -> dict[str, Any]:
        """The fields that the page gets."""
        told, settings = self._asdict(), self.settings
        told["seen"] = told.pop("picture") is not None
        told["before"] = told.pop("content") is not None
        return told | {"settings": None if settings is None else settings.as_json()}


class History:
    """The results in a folder; only changed files are read again.

    Results of the command are shown like those of the studio. A picture without a
    manifest of jaxnst is neither shown nor deleted. Names from a browser are looked up
    among the results, and never become part of a path.

    Attributes:
        sources: Folder of the pictures that results were painted from.
        weights: Network of the commands that are shown, if a manifest names none.
            Default: the recipe's.
        known: The results, by name.
        stamps: Stamps of the files of each result when they were read, by name.
        changed: Revision of the last change or deletion of each result, by name.
        revision: Number of changes so far.
    """

    def __init__(self, folder: Path, weights: str | None = None):
        self.folder, self.sources, self.weights = folder, folder / "sources", weights
        self.known: dict[str, Entry] = {}
        self.stamps: dict[str, tuple[Stamp, ...]] = {}
        self.changed: dict[str, int] = {}
        self.revision, self.lock = 0, threading.RLock()

    def refresh(self) -> None:
        """Read the results that have changed in the folder."""
        with self.lock:
            # The folder is missing before the first result.
            files = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
            recorded = {x.removesuffix(RECORD) for x in files if x.endswith(RECORD)}
            painted = {x for x in files if f"{x}.json" in files}
            for name in {*filter(_is_ours, recorded | painted), *self.stamps}:
                self.look(name, files)

    def look(self, name: str, files: Container[str] | None = None) -> None:
        """Read one result if its files have changed.

        `files` are the names in the folder, if they are known already. The cost does
        not depend on the number of results.
        """
        with self.lock:
            stamps = tuple(
                None if files is not None and x not in files else self._stamp(x)
                for x in _beside(name)
            )
            if stamps == self.stamps.get(name):
                return
            self.stamps[name] = stamps
            if not any(stamps):
                del self.stamps[name]
            before, entry = self.known.pop(name, None), self._read(name, stamps)
            if entry is not None:
                self.known[name] = entry
            if entry != before:
                self.revision += 1
                self.changed[name] = self.revision

    def _stamp(self, name: str) -> Stamp:
        with contextlib.suppress(OSError):
            found = (self.folder / name).lstat()
            if stat.S_ISREG(found.st_mode):  # neither a link nor a pipe
                return found.st_mtime_ns, found.st_size, found.st_ino
        return None

    def _read(self, name: str, stamps: tuple[Stamp, ...]) -> Entry | None:
        """A result from its files; None if they have neither manifest nor settings."""
        picture, about, recorded, so_far, checkpoint = stamps
        path = self.folder / name
        manifest, seconds, settings, when = None, None, None, None
        with contextlib.suppress(OSError, ValueError):
            if picture and about and _is_picture(path):
                found = read_manifest(manifest_path(path))
                spent = convert(found.seconds.get("all"), Seconds | None, "seconds")
                manifest, seconds = found, spent
        with contextlib.suppress(OSError, ValueError):
            if recorded:
                record = read_json(self.folder / f"{name}{RECORD}")
                record = convert(record, dict[str, Any], "a record")
                asked = convert(record.get("time"), Seconds, "the time of a record")
                # Only its settings are used: anybody may have put a command there.
                settings, when = read_settings(record.get("settings")), asked
        if manifest is None and settings is None:
            return None
        shown, seen = (path, picture) if manifest else (self.so_far(name), so_far)
        newest, *_ = seen or recorded or (0,)
        source = self.sources / settings.content if settings else Path()
        content = self.folder / manifest.painting.content if manifest else source
        left = "stopped" if so_far or checkpoint else "unpainted"
        state = "done" if manifest else left
        return Entry(
            name=name,
            state=state,
            time=newest / 1e9 if when is None else when,
            version=str(newest),
            resumable=state == "stopped" and checkpoint is not None,
            command=self._command(path, manifest, settings),
            size=manifest and manifest.size,
            recipe=manifest and manifest.painting.recipe.name,
            seconds=seconds,
            diverged=bool(manifest) and manifest.status == "diverged",
            settings=settings,
            picture=shown if seen else None,
            content=self._inside(content),
        )

    def _command(
        self, out: Path, manifest: Manifest | None, settings: Settings | None
    ) -> str:
        """The command that repaints a result, made from checked values."""
        if settings is None:
            return shlex.join(["jaxnst", "again", as_argument(out)])
        used = manifest and manifest.painting.weights
        weights = used if used in ASSETS else self.weights
        painting = read_painting(painting_of(settings, self.sources, weights))
        bits = [] if settings.bits == 8 else ["--bits", str(settings.bits)]
        return shlex.join(["jaxnst", *as_command(painting, out), *bits])

    def _inside(self, path: Path) -> Path | None:
        """The path, if it is a file inside the folder; otherwise None."""
        with contextlib.suppress(OSError, ValueError):
            inside = path.resolve().is_relative_to(self.folder.resolve())
            return path if inside and path.is_file() else None
        return None

    def since(self, revision: int) -> tuple[int, list[dict[str, Any]], list[str]]:
        """The revision, results changed since `revision`, and names of deleted ones."""
        with self.lock:
            names = [name for name, at in self.changed.items() if at > revision]
            names.sort(key=self.changed.__getitem__)
            there = [self.known[x].as_json() for x in names if x in self.known]
            return self.revision, there, [x for x in names if x not in self.known]

    def find(self, name: str) -> Entry | None:
        """The result of that name as it is now, if there is one."""
        with self.lock:
            if name not in self.known:
                self.refresh()
            if name in self.known:
                self.look(name)
            return self.known.get(name)

    def so_far(self, name: str) -> Path:
        """Where the picture of a stopped run is kept."""
        return self.folder / f"{name}.so-far.png"

    def free_name(self, parts: Sequence[str], taken: Sequence[str] = ()) -> str:
        """`CONTENT-STYLE.png`, numbered if that name is taken."""
        stem = "-".join(plain(Path(part).stem) for part in parts)[:80]
        used = set(taken)
        if self.folder.is_dir():
            used |= {path.name for path in self.folder.iterdir()}
        free = lambda x: x not in used and not any(y.startswith(f"{x}.") for y in used)
        return next(x.name for x in numbered(Path(f"{stem}.png")) if free(x.name))

    def record(self, name: str, settings: Settings) -> None:
        """Save the settings of a result before it is painted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {"settings": settings.as_json(), "time": round(time.time(), 3)}
        write_json(self.folder / f"{name}{RECORD}", kept)

    def remove(self, entry: Entry) -> None:
        """Delete a result and the files of jaxnst beside it."""
        own, manifest, *beside = _beside(entry.name)
        painted = [own, manifest] if entry.state == "done" else []
        for name in (*painted, *beside):
            (self.folder / name).unlink(missing_ok=True)
        self.look(entry.name)


def _is_ours(name: str) -> bool:
    """Whether a name may be that of a result: a picture's, and valid Unicode."""
    try:
        name.encode()
    except UnicodeError:
        return False
    return Path(name).suffix.lower() in SUFFIXES


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture, of any size, by its header."""
    try:
        image_shape(path)
    except ValueError as error:
        return isinstance(error.__cause__, pil.DecompressionBombError)
    return True


def _beside(name: str) -> tuple[str, ...]:
    """Names of the files of a result: its own, then those beside it."""
    beside = ".json", RECORD, ".so-far.png", ".checkpoint.npz"
    return name, *(f"{name}{suffix}" for suffix in beside)


GROUPS, PREFIX, SETTINGS = "variations", "group-", "settings.json"
"""Names beside the results: the folder of all variations, the prefix of the folder of
each group, and the file in it with the settings around which the group varies."""


def new_group(results: Path, settings: Settings) -> Path:
    """Make a folder for variations, with the settings around which they vary."""
    folder = results / GROUPS
    folder.mkdir(parents=True, exist_ok=True)
    found = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    write_json(found / SETTINGS, settings.as_json())
    return found


def groups(results: Path) -> list[tuple[float, Path, Settings]]:
    """Groups of variations: the time of their request, their folder and settings.

    Anybody may write there, so folders without valid settings are skipped.
    """
    folder, found = results / GROUPS, []
    for path in [] if folder.is_symlink() else folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if not path.is_symlink():
                kept = path / SETTINGS
                settings = read_settings(read_json(kept))
                found.append((kept.stat().st_mtime, path, settings))
    return sorted(found, key=lambda group: group[0])


def remove_group(folder: Path) -> None:
    """Delete variations of jaxnst, and their folder if it then is empty."""
    with contextlib.suppress(OSError):
        for manifest in list(folder.glob("*.png.json")):
            with contextlib.suppress(ValueError):
                read_manifest(manifest)
                manifest.with_suffix("").unlink(missing_ok=True)
                manifest.unlink()
        (folder / SETTINGS).unlink(missing_ok=True)
        folder.rmdir()
