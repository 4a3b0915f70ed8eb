"""Results and their manifests in a folder, which is all that a history needs."""

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from msgspec import Meta
from PIL import Image as pil

from jaxnst.disk import numbered
from jaxnst.foreign import convert, read_json, write_json
from jaxnst.paths import as_argument
from jaxnst.pictures.files import SUFFIXES, image_shape, read_description, save_image
from jaxnst.pictures.source import open_source
from jaxnst.request.manifest import painting_of as read_painting
from jaxnst.request.manifest import read_manifest
from jaxnst.request.terminal import as_command
from jaxnst.studio.pictures import plain
from jaxnst.studio.settings import Settings, painting_of, read_settings
from jaxnst.weights.registry import ASSETS

RECORD = ".job.json"
"""Suffix of what the studio keeps of a job beside its result: its settings."""

When = Annotated[float, Meta(ge=0, le=1e11)]
"""Seconds since 1970."""

Stamp = tuple[int, int, int] | None
"""When a file was changed, its size and its number; None where there is none."""


class Entry(NamedTuple):
    """A result, or what a stopped run left of one.

    Attributes:
        name: Name of the file of the result.
        picture: What can be seen; None before anything was painted.
        state: `done`, `stopped` with something to see or to resume, or `unpainted`.
        time: When it was asked for, in seconds since 1970.
        version: Changes whenever what can be seen does.
        resumable: Whether a stopped run left the state to go on from.
        manifest: What is shown of it; empty before it is painted. A whole one has
            hundreds of objects, and collecting garbage among those of a thousand stops
            all threads.
        settings: What was chosen on the page, if it was.
        content: The photograph, if it lies inside the folder.
    """

    name: str
    picture: Path | None
    state: Literal["done", "stopped", "unpainted"]
    time: float
    version: int
    resumable: bool
    manifest: dict[str, Any]
    settings: Settings | None
    content: Path | None


@dataclass
class History:
    """The results in a folder, of which only what has changed is read again.

    Results that the command painted there are shown like those of the studio; a picture
    without a manifest of jaxnst is not ours, and is neither shown nor deleted. Names
    that a browser asks for are looked up among those and never become part of a path.

    Attributes:
        weights: Network of the commands that are shown, if a manifest names none.
            Default: the recipe's.
        revision: Counts changes.
        changed: Revision of each change, by name; also of what is gone.
    """

    folder: Path
    weights: str | None = None
    known: dict[str, Entry] = field(default_factory=dict)
    stamps: dict[str, tuple[Stamp, ...]] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    revision: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def refresh(self) -> int:
        """Take up what has changed in the folder; return the revision."""
        with self.lock:
            files = self._files()
            of_records = {x.removesuffix(RECORD) for x in files if x.endswith(RECORD)}
            painted = {x for x in files if f"{x}.json" in files}
            names = {x for x in of_records | painted if _is_ours(x)}
            for name in names | self.stamps.keys():
                self._take_up(name, tuple(map(files.get, _beside(name))))
            return self.revision

    def _files(self) -> dict[str, Stamp]:
        """All files of the folder; a link is none."""
        found: dict[str, Stamp] = {}
        try:
            with os.scandir(self.folder) as listing:
                for file in listing:
                    if file.is_file(follow_symlinks=False):
                        found[file.name] = _stamp(file.stat(follow_symlinks=False))
        except FileNotFoundError:  # before the first result, or deleted meanwhile
            pass
        return found

    def _take_up(self, name: str, stamps: tuple[Stamp, ...]) -> None:
        """Read a result again if its files have changed."""
        if stamps == self.stamps.get(name):
            return
        self.stamps[name] = stamps
        if not any(stamps):
            del self.stamps[name]
        before = self.known.pop(name, None)
        entry = self._entry(name, stamps)
        if entry is not None:
            self.known[name] = entry
        if entry != before:
            self.revision += 1
            self.changed[name] = self.revision

    def since(self, revision: int) -> tuple[int, list[dict[str, Any]], list[str]]:
        """The revision, what has changed since one, and the names of what is gone."""
        with self.lock:
            names = [name for name, at in self.changed.items() if at > revision]
            names.sort(key=self.changed.__getitem__)
            there = [self.as_json(self.known[x]) for x in names if x in self.known]
            return self.revision, there, [x for x in names if x not in self.known]

    def find(self, name: str) -> Entry:
        """The entry of that name as it is now; a KeyError if there is none."""
        with self.lock:
            if name not in self.known:
                self.refresh()
            self.look(name)
            return self.known[name]

    def look(self, name: str) -> None:
        """Take up what has changed of one result that is known; a KeyError if none is.

        It costs the same however many there are.
        """
        with self.lock:
            self._take_up(self.known[name].name, tuple(map(self._stat, _beside(name))))

    def _stat(self, name: str) -> Stamp:
        path = self.folder / name
        try:
            return None if path.is_symlink() else _stamp(path.stat())
        except OSError:
            return None

    def _entry(self, name: str, stamps: tuple[Stamp, ...]) -> Entry | None:
        """A result from its files; None if nothing shows that it is ours."""
        picture, about, recorded, so_far, checkpoint = stamps
        manifest: dict[str, Any] = {}
        settings, when = None, None
        if picture and about and _is_picture(self.folder / name):
            with contextlib.suppress(OSError, ValueError):
                found = read_manifest(self.folder / f"{name}.json")
                painting = found.painting
                manifest = {
                    "content": str(painting.content),
                    "size": found.size,
                    "seconds": found.seconds.get("all"),
                    "status": found.status,
                    "weights": painting.weights,
                    "recipe": painting.recipe.name,
                }
        if recorded:
            with contextlib.suppress(OSError, ValueError):
                settings, when = self._record(name)
        if not manifest and settings is None:
            return None
        path, seen, state = None, None, "unpainted"
        if manifest:
            path, seen, state = self.folder / name, picture, "done"
        elif so_far:
            path, seen, state = self.so_far(name), so_far, "stopped"
        elif checkpoint:
            state = "stopped"
        newest = seen or recorded or (0, 0, 0)
        return Entry(
            name=name,
            picture=path,
            state=state,
            time=newest[0] / 1e9 if when is None else when,
            version=newest[0],
            resumable=state == "stopped" and checkpoint is not None,
            manifest=manifest,
            settings=settings,
            content=self._content(manifest, settings),
        )

    def _record(self, name: str) -> tuple[Settings, float]:
        """What the studio kept of a job; a ValueError if that was changed to nonsense.

        Only its settings count: a command in it could be anybody's.
        """
        found = convert(
            read_json(self.folder / f"{name}{RECORD}"), dict[str, Any], "a record"
        )
        when = convert(found.get("time"), When, "the time of a record")
        return read_settings(found.get("settings")), when

    def _content(
        self, manifest: dict[str, Any], settings: Settings | None
    ) -> Path | None:
        """The photograph of a result, if it lies inside the folder."""
        path = self.folder / manifest.get("content", "")
        if not manifest and settings is not None:
            path = self.sources / settings.content
        with contextlib.suppress(OSError, ValueError):
            inside = path.resolve().is_relative_to(self.folder.resolve())
            return path if inside and path.is_file() else None
        return None

    @property
    def sources(self) -> Path:
        """Where the pictures lie that results were painted from."""
        return self.folder / "sources"

    def so_far(self, name: str) -> Path:
        """Where the picture of a stopped run is kept."""
        return self.folder / f"{name}.so-far.png"

    def free_name(self, parts: Sequence[str], taken: Sequence[str] = ()) -> str:
        """`CONTENT-STYLE.png`, numbered if that is taken."""
        stem = "-".join(plain(Path(part).stem) for part in parts)[:80]
        used = set(taken)
        if self.folder.is_dir():
            used |= {path.name for path in self.folder.iterdir()}
        free = lambda x: x not in used and not any(y.startswith(f"{x}.") for y in used)
        return next(x.name for x in numbered(Path(f"{stem}.png")) if free(x.name))

    def record(self, name: str, settings: Settings) -> None:
        """Keep what paints a result, before it is painted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = {"settings": settings.as_json(), "time": round(time.time(), 3)}
        write_json(self.folder / f"{name}{RECORD}", text)

    def remove(self, entry: Entry) -> None:
        """Delete a result and everything of ours beside it."""
        _, _, *ours = _beside(entry.name)
        painted = [entry.name, f"{entry.name}.json"] if entry.manifest else []
        for name in (*painted, *ours):
            (self.folder / name).unlink(missing_ok=True)
        self.look(entry.name)

    def as_json(self, entry: Entry) -> dict[str, Any]:
        """What the page shows of a result."""
        manifest, settings = entry.manifest, entry.settings
        told = {x: getattr(entry, x) for x in ("name", "state", "time", "resumable")}
        told |= {x: manifest.get(x) for x in ("size", "recipe", "seconds")}
        return told | {
            "seen": entry.picture is not None,
            "version": str(entry.version),
            "before": entry.content is not None,
            "diverged": manifest.get("status") == "diverged",
            "command": self.command(entry),
            "settings": None if settings is None else settings.as_json(),
        }

    def command(self, entry: Entry) -> str:
        """The command that paints a result anew, made from what was checked."""
        out, settings = self.folder / entry.name, entry.settings
        if settings is None:
            return shlex.join(["jaxnst", "again", as_argument(out)])
        paths = {name: self.sources / name for name in settings.pictures}
        used = entry.manifest.get("weights")
        weights = used if used in ASSETS else self.weights
        painting = read_painting(painting_of(settings, paths, weights))
        bits = [] if settings.bits == 8 else ["--bits", str(settings.bits)]
        return shlex.join(["jaxnst", *as_command(painting, out), *bits])


def _is_ours(name: str) -> bool:
    """Whether a name could be that of a result, and every browser can say it."""
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


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino


def as_tiff(path: Path, private: Path) -> bytes:
    """A result as a TIFF with the same levels and the same manifest inside."""
    pixels, bits = read_levels(path)
    target = private / "download.tif"
    about = read_description(path)
    save_image(target, pixels, bits=bits, description=about)
    data = target.read_bytes()
    target.unlink()
    return data


def read_levels(path: Path) -> tuple[np.ndarray, Literal[8, 16]]:
    """A result's own numbers in [0, 1], h w c, with all their bits."""
    with open_source(path, profiled=False) as source:
        return source.read(), 16 if source.bits == 16 else 8
