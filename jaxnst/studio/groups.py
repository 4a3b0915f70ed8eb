"""Variations that were painted, each group in a folder of its own."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxnst.foreign import read_json, write_json
from jaxnst.request.manifest import read_manifest
from jaxnst.studio.settings import Settings, read_settings

FOLDER, PREFIX = "variations", "group-"
"""Folder of all groups beside the results, and how their own names begin."""

RECORD = "settings.json"
"""What is kept of each group."""


def new_group(results: Path, settings: Settings) -> Path:
    """Make a folder for variations around these settings, which it keeps."""
    folder = results / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    found = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    write_json(found / RECORD, settings.as_json())
    return found


def groups(results: Path) -> Iterator[tuple[float, Path, Settings]]:
    """Groups that are there: when each was asked for, its folder and its settings.

    What is no group of ours is passed over, since anybody may write there.
    """
    folder = results / FOLDER
    for path in [] if folder.is_symlink() else folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if not path.is_symlink():
                record = path / RECORD
                settings = read_settings(read_json(record))
                yield record.stat().st_mtime, path, settings


def remove_group(folder: Path) -> None:
    """Delete what is ours in the folder of a group, and it if nothing else is there."""
    with contextlib.suppress(OSError):
        for manifest in list(folder.glob("*.png.json")):
            with contextlib.suppress(ValueError):
                read_manifest(manifest)
                manifest.with_suffix("").unlink(missing_ok=True)
                manifest.unlink()
        (folder / RECORD).unlink(missing_ok=True)
        folder.rmdir()
