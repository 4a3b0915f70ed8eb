"""The contact sheet of a grid, and its page, which opens from disk."""

import base64
import io
import itertools
import json
import math
import os
import textwrap
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image as pil
from PIL import ImageDraw, ImageFont

from jaxnst.disk import write_whole
from jaxnst.pictures.files import thumbnail

PAGE_MARK = "<title>jaxnst grid</title>"
"""Text that every page of a grid has, and no other file."""

MARGIN, LABEL, TOP, LONGEST_SHEET = 6, 112, 40, 12_000
"""Pixels of gaps, of row labels, of column labels, and of the sheet's longer edge."""

THUMBNAIL = 192
"""Longest edge of the pictures on the sheet, and of the originals on the page, in
pixels; each original takes about 8 kB."""


class Cell(NamedTuple):
    """One picture of a grid as it is shown, with the command that paints it larger.

    `setting` is empty if nothing was varied. The picture need not exist yet. `larger`
    is the long edge that the command paints, in pixels.
    """

    content: Path
    styles: tuple[Path, ...]
    setting: str
    out: Path
    command: str
    larger: int = 0


def cell_places(cells: Sequence[Cell]) -> tuple[list[str], list[str], list[tuple]]:
    """Arrange cells in a table: contents × styles, or contents and styles × settings.

    Returns the labels of rows and of columns, and (row, column) of each cell.

    Example:
        >>> cells = [
        ...     Cell(Path("a.jpg"), (Path(style),), "", Path("out.png"), "")
        ...     for style in ("x.jpg", "y.jpg")
        ... ]
        >>> cell_places(cells)
        (['a'], ['x', 'y'], [(0, 0), (0, 1)])
    """
    varied = len({cell.setting for cell in cells}) > 1
    rows: dict[str, int] = {}
    columns: dict[str, int] = {}
    places = []
    for cell in cells:
        styles = " + ".join(path.stem for path in cell.styles)
        row, column = cell.content.stem, styles
        if varied:
            row, column = f"{row}\n{styles}", cell.setting
        across = columns.setdefault(column, len(columns))
        places.append((rows.setdefault(row, len(rows)), across))
    return list(rows), list(columns), places


def draw_sheet(cells: Sequence[Cell]) -> pil.Image:
    """Draw the contact sheet; pictures that are not painted yet are grey.

    It is at most about `LONGEST_SHEET` px on each side, unless the thumbnails would be
    smaller than 8 px.
    """
    rows, columns, places = cell_places(cells)
    most = (LONGEST_SHEET - LABEL) // max(len(rows), len(columns)) - MARGIN
    size = max(8, min(THUMBNAIL, most))
    font = ImageFont.load_default(max(9, min(14, size // 10)))
    thumbnails = [
        thumbnail(cell.out, size) if cell.out.exists() else None for cell in cells
    ]
    found = [picture for picture in thumbnails if picture is not None]
    width = max((picture.width for picture in found), default=size)
    height = max((picture.height for picture in found), default=size)
    lefts = [LABEL + MARGIN + i * (width + MARGIN) for i in range(len(columns) + 1)]
    tops = [TOP + i * (height + MARGIN) for i in range(len(rows) + 1)]
    sheet = pil.new("RGB", (lefts[-1], tops[-1] + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for left, text in zip(lefts, columns, strict=False):
        draw.text((left, 8), _wrapped(text, font, width), "black", font)
    for top, text in zip(tops, rows, strict=False):
        draw.text((MARGIN, top), _wrapped(text, font, LABEL - MARGIN), "black", font)
    grey = pil.new("RGB", (width, height), "gainsboro")
    for (row, column), picture in zip(places, thumbnails, strict=True):
        sheet.paste(picture or grey, (lefts[column], tops[row]))
    return sheet


def _as_address(path: Path) -> str:
    """A thumbnail of an original as a data URL; empty if it cannot be read."""
    memory = io.BytesIO()
    try:
        thumbnail(path, THUMBNAIL).save(memory, "JPEG", quality=80)
    except (OSError, ValueError):  # missing, or huge
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(memory.getvalue()).decode()}"


def _wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int):
    """Wrap each line of a label into at most two lines, and cut the rest."""
    # If Python reads file names as ASCII, other bytes are surrogates.
    text = text.encode(errors="surrogateescape").decode(errors="replace")
    letters = max(4, math.floor(width / font.getlength("n")))
    lines = [textwrap.wrap(line, letters)[:2] for line in text.split("\n")]
    return "\n".join(itertools.chain(*lines))


def save_page(path: Path, cells: Sequence[Cell], title: str) -> None:
    """Write the page: a table of the pictures, to filter and to enlarge.

    The page refers to the pictures by relative paths, and may be written before them.
    It has thumbnails of the originals, since browsers cannot show all their formats.
    """
    rows, columns, places = cell_places(cells)
    paths = dict.fromkeys(x for cell in cells for x in (cell.content, *cell.styles))
    number = {path: i for i, path in enumerate(paths)}
    originals = [{"name": path.name, "source": _as_address(path)} for path in paths]
    data = {
        "title": title,
        "rows": rows,
        "columns": columns,
        "originals": originals,
        "cells": [
            {
                "row": row,
                "column": column,
                "content": cell.content.stem,
                "style": " + ".join(style.stem for style in cell.styles),
                "from": [number[path] for path in (cell.content, *cell.styles)],
                "setting": cell.setting,
                "source": urllib.parse.quote(os.fsencode(cell.out.name)),
                "command": cell.command,
                "larger": cell.larger,
            }
            for cell, (row, column) in zip(cells, places, strict=True)
        ],
    }
    # `<` could end the script element that holds the data.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    template = Path(__file__).with_name("grid.html").read_text(encoding="utf-8")
    with write_whole(path) as file:
        page = template.replace('"{{data}}"', text)
        file.write(page.encode(errors="surrogateescape"))  # names as they are on disk
