"""Draw the house: the folders and files of the package, floor by floor.

The floors come from the imports. A room stands one floor above the highest room that it
imports, so every import points down.
"""

import ast
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "jaxnst"
COLOURS = "#d9e4f5", "#dff0e0", "#fbeccb", "#f7dcd5", "#e8def3"
INK, FAINT = "#1b2430", "#7a8494"
WIDTH, HEIGHT, GAP, MARGIN = 184, 82, 14, 36


def floors() -> list[list[str]]:
    """Names of the rooms by floor, the lowest first."""
    rooms = {
        path.stem: path
        for path in sorted(PACKAGE.iterdir())
        if not path.name.startswith("_")
        and (path.suffix == ".py" or (path / "__init__.py").exists())
    }

    @cache
    def floor(name: str) -> int:
        below = {other for other in imports(rooms[name]) if other in rooms} - {name}
        return 1 + max(map(floor, below), default=-1)

    house: list[list[str]] = [[] for _ in range(1 + max(map(floor, rooms)))]
    for name in rooms:
        house[floor(name)].append(name)
    return house


def imports(room: Path) -> Iterator[str]:
    """Names of the rooms that a file, or the files of a folder, import."""
    for path in room.rglob("*.py") if room.is_dir() else [room]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "jaxnst":
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
                yield from (m.split(".")[1] for m in modules if m.startswith("jaxnst."))


def draw() -> str:
    """The house as an SVG that is readable on light and on dark pages."""
    house = floors()
    width = MARGIN + max(map(len, house)) * (WIDTH + GAP) + GAP
    height = len(house) * (HEIGHT + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" role="img">',
        "<title>The rooms of jaxnst; each imports only rooms on floors below</title>",
    ]
    for number, rooms in enumerate(house):
        y = height - (number + 1) * (HEIGHT + GAP)
        parts.append(_text(MARGIN / 2, y + HEIGHT / 2 + 5, str(number), 15, FAINT))
        for place, name in enumerate(rooms):
            x = (width + MARGIN + GAP) / 2 + (place - len(rooms) / 2) * (WIDTH + GAP)
            colour = COLOURS[number % len(COLOURS)]
            parts.append(
                f'<rect x="{x:g}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" '
                f'fill="{colour}" stroke="{FAINT}"/>'
            )
            lines = _contents(PACKAGE / name)
            middle = x + WIDTH / 2
            top = y + HEIGHT / 2 + 6 - 8 * len(lines)
            parts.append(_text(middle, top, name, 16, INK, "bold"))
            for row, line in enumerate(lines, 1):
                parts.append(_text(middle, top + 2 + 16 * row, line, 12, INK))
    return "\n".join([*parts, "</svg>\n"])


def _contents(room: Path) -> list[str]:
    """The names of a folder's rooms, in lines that fit."""
    if not room.is_dir():
        return []
    names = sorted(
        path.stem
        for path in room.iterdir()
        if not path.name.startswith("_") and (path.suffix == ".py" or path.is_dir())
    )
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > 26:
            lines.append("")
        lines[-1] = f"{lines[-1]} {name}".strip()
    return lines


def _text(
    x: float, y: float, text: str, size: int, colour: str, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}" text-anchor="middle">{escape(text)}</text>'
    )
