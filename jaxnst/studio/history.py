"""Results and their manifests in a folder, which is all that a history needs."""

import io
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import png
from PIL import Image as pil

from jaxnst.disk import write_whole
from jaxnst.pictures.files import SUFFIXES, read_description, save_image
from jaxnst.studio.pictures import plain

RECORD = ".job.json"
"""Suffix of what the studio keeps of a job beside its result: settings and command."""


class Entry(NamedTuple):
    """A result, or what a stopped run left of one.

    Attributes:
        name: Name of the file of the result.
        picture: What can be seen; None before anything was painted.
        state: `done`, `stopped` with something to see or to resume, or `unpainted`.
    """

    name: str
    picture: Path | None
    state: str
    time: float
    manifest: dict[str, Any]
    record: dict[str, Any]


@dataclass
class History:
    """The results in a folder.

    Results that the command painted there are shown like those of the studio. Names
    that a browser asks for are looked up in a listing and never become part of a path.
    """

    folder: Path
    listed: tuple[int, list[dict[str, Any]]] = field(default=(0, []))

    def all_as_json(self) -> list[dict[str, Any]]:
        """What the page shows of all results, read again only if the folder changed."""
        if not self.folder.is_dir():
            return []
        stamp = self.folder.stat().st_mtime_ns
        if stamp != self.listed[0]:
            self.listed = stamp, [self.as_json(entry) for entry in self.entries()]
        return self.listed[1]

    def entries(self) -> list[Entry]:
        """All results, the latest first."""
        if not self.folder.is_dir():
            return []
        own = (x for x in self.folder.iterdir() if not x.is_symlink())
        files = {x.name for x in own if x.is_file()}
        of_records = {x.removesuffix(RECORD) for x in files if x.endswith(RECORD)}
        painted = {x for x in files if f"{x}.json" in files}
        names = (x for x in of_records | painted if Path(x).suffix in SUFFIXES)
        found = [self._entry(name, files) for name in names]
        return sorted(found, key=lambda entry: (-entry.time, entry.name))

    def find(self, name: str) -> Entry:
        """The entry of that name; a KeyError if there is none."""
        return {entry.name: entry for entry in self.entries()}[name]

    def _entry(self, name: str, files: set[str]) -> Entry:
        manifest = _json(self.folder / f"{name}.json")
        record = _json(self.folder / f"{name}{RECORD}")
        so_far = self.so_far(name)
        picture, state = None, "unpainted"
        if name in files and manifest:
            picture, state = self.folder / name, "done"
        elif so_far.name in files:
            picture, state = so_far, "stopped"
        elif self.checkpoint(name).name in files:
            state = "stopped"
        when = record.get("time")
        if not isinstance(when, (int, float)):
            when = (picture or self.folder).stat().st_mtime
        return Entry(name, picture, state, float(when), manifest, record)

    def so_far(self, name: str) -> Path:
        """Where the picture of a stopped run is kept."""
        return self.folder / f"{name}.so-far.png"

    def checkpoint(self, name: str) -> Path:
        """Where the command keeps the state of a stopped run."""
        return self.folder / f"{name}.checkpoint.npz"

    def free_name(self, parts: Sequence[str], taken: Sequence[str] = ()) -> str:
        """`CONTENT-STYLE.png`, numbered if that is taken."""
        stem = "-".join(plain(Path(part).stem) for part in parts)[:80]
        used = set(taken)
        if self.folder.is_dir():
            used |= {path.name for path in self.folder.iterdir()}
        name, number = f"{stem}.png", 2
        while any(x == name or x.startswith(f"{name}.") for x in used):
            name, number = f"{stem}-{number}.png", number + 1
        return name

    def record(self, name: str, arguments: Sequence[str], settings: dict) -> None:
        """Keep what paints a result, before it is painted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = {
            "command": shlex.join(["jaxnst", *arguments]),
            "arguments": list(arguments),
            "settings": settings,
            "time": round(time.time(), 3),
        }
        with write_whole(self.folder / f"{name}{RECORD}") as file:
            file.write(json.dumps(text, indent=2).encode())

    def content(self, entry: Entry) -> Path | None:
        """The photograph of a result, if it lies inside the folder."""
        name = entry.manifest.get("content") or (entry.record.get("arguments") or [""])
        if isinstance(name, list):
            path = Path(name[1]) if len(name) > 1 else Path()
        else:
            path = self.folder / name
        inside = path.resolve().is_relative_to(self.folder.resolve())
        return path if inside and path.is_file() else None

    def remove(self, entry: Entry) -> None:
        """Delete a result and everything beside it."""
        name = entry.name
        beside = name, f"{name}.json", f"{name}{RECORD}"
        for path in map(self.folder.joinpath, beside):
            path.unlink(missing_ok=True)
        self.so_far(name).unlink(missing_ok=True)
        self.checkpoint(name).unlink(missing_ok=True)

    def as_json(self, entry: Entry) -> dict[str, Any]:
        """What the page shows of a result."""
        manifest, record = entry.manifest, entry.record
        recipe = manifest.get("recipe") or {}
        spent = manifest.get("seconds") or {}
        return {
            "name": entry.name,
            "state": entry.state,
            "time": entry.time,
            "seen": entry.picture is not None,
            "version": entry.picture and entry.picture.stat().st_mtime_ns,
            "before": self.content(entry) is not None,
            "resumable": entry.state == "stopped"
            and self.checkpoint(entry.name).exists(),
            "size": manifest.get("size"),
            "recipe": recipe.get("name"),
            "seconds": spent.get("all"),
            "diverged": manifest.get("status") == "diverged",
            "command": record.get("command") or again(self.folder / entry.name),
            "settings": record.get("settings"),
        }


def again(path: Path) -> str:
    """The command that paints a result of the command line anew."""
    return shlex.join(["jaxnst", "again", str(path)])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
    """Pixels in [0, 1], h w c, with all their bits; Pillow reads PNG with 8 only."""
    data = path.read_bytes()
    if data.startswith(b"\x89PNG"):
        width, height, rows, info = png.Reader(io.BytesIO(data)).asDirect()
        bits = 16 if info["bitdepth"] == 16 else 8
        levels = np.vstack([np.asarray(row, np.uint16) for row in rows])
        pixels = levels.reshape(height, width, info["planes"])
        return pixels / np.float32(2 ** info["bitdepth"] - 1), bits
    with pil.open(path) as file:
        return np.asarray(file.convert("RGB"), np.float32) / 255, 8
