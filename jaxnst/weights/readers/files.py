"""Bytes and zip entries of files, checked before anything is copied or allocated."""

import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path


def map_file(path: Path) -> mmap.mmap:
    """Map a file into memory; only the bytes that are used are read."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def zip_entries(file: mmap.mmap) -> dict[str, Callable[[], memoryview]]:
    """Entries of a zip archive that is not compressed, as PyTorch and Keras write it.

    Each name has a function that checks the entry and returns its bytes as a view of
    the mapped file. It raises a ValueError if the entry is compressed, cut or damaged.
    """
    entries = zipfile.ZipFile(file).filelist  # pyright: ignore
    return {info.filename: partial(_entry, memoryview(file), info) for info in entries}


def _entry(data: memoryview, info: zipfile.ZipInfo) -> memoryview:
    start = info.header_offset + 30  # a local header, then a name and extras
    start += sum(struct.unpack("<HH", data[start - 4 : start]))
    content = data[start : start + info.file_size]
    if info.compress_type != zipfile.ZIP_STORED or len(content) != info.file_size:
        raise ValueError(
            f"expected {info.file_size} stored bytes in {info.filename}, got "
            f"{len(content)}, or compressed ones"
        )
    # PyTorch writes zero if it was told to leave the checksums out.
    if info.CRC and zlib.crc32(content) != info.CRC:
        raise ValueError(f"expected the checksum of {info.filename}, got another one")
    return content
