"""Build the documentation: `python scripts/docs/build.py`.

First it writes what comes from elsewhere: a reference for each folder and file of the
package, the table of recipes, the picture of the house, sections of the README, and
files that a page shows. The build needs no network. It fails on any warning, and on a
page that would load something from another site.
"""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import house

DOCS = Path(__file__).parent
ROOT = DOCS.parents[1]
PACKAGE = ROOT / "jaxnst"
BUILD = DOCS / "build"
ROOMS = [
    *("types", "storage", "linalg", "pictures", "network", "losses", "masks"),
    *("weights", "recipes"),
    *("objective", "repaint", "lbfgs", "optimizers", "tiles", "transfer", "painting"),
    "video",
    "studio",
]
"""Folders and files of the package that have a page, in the order of its floors."""

LINKS = {
    "#recipes": "recipes.md",
    "#regions-and-colours": "regions.md",
    "#large-pictures": "large-pictures.md",
    "#videos": "videos.md",
    "#studio": "studio.md",
    "#speed": "speed.md",
    "weights/README.md": "embedded.md",
    "scripts/gallery.jpg": "gallery.jpg",
    "scripts/settings.jpg": "settings.jpg",
}
"""Pages of the site, by what the README calls them."""


def main() -> int:
    """Write the pages, build the site, and return the exit code."""
    shutil.rmtree(BUILD, ignore_errors=True)
    write_pages(BUILD / "pages")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(
        [*command, "-f", str(DOCS / "mkdocs.yml")],
        cwd=DOCS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    # Griffe's warnings about docstrings do not fail a strict build by themselves.
    doubts = [line for line in done.stdout.splitlines() if line.startswith("griffe:")]
    doubts += loads_from_elsewhere(BUILD / "site")
    if done.returncode or doubts:
        print(f"The build failed, with {len(doubts)} warnings of ours:", *doubts[:50])
        return 1
    print(BUILD / "site" / "index.html")
    return 0


def write_pages(folder: Path) -> None:
    """Write every page of the site into a folder."""
    shutil.copytree(DOCS / "pages", folder)
    for name in ("gallery.jpg", "settings.jpg"):
        shutil.copy(ROOT / "scripts" / name, folder)
    for page in folder.glob("*.md"):
        text = page.read_text().replace("<!-- recipes -->", recipe_table())
        text = re.sub(r"<!-- readme: (.+) -->", lambda m: section(m[1]), text)
        text = re.sub(r"<!-- file: (.+) -->", lambda m: shown(m[1]), text)
        page.write_text(text)
    (folder / "house.svg").write_text(house.draw())
    (folder / "reference").mkdir(exist_ok=True)
    for room in ROOMS:
        (folder / "reference" / f"{room}.md").write_text(room_page(room))
    index = folder / "reference" / "index.md"
    index.write_text(index.read_text().replace("<!-- names -->", name_table()))


def room_page(room: str) -> str:
    """The docstrings of a file, or of every file of a folder."""
    path = PACKAGE / room
    module = f"jaxnst.{room}"
    lines = [f"# {room.capitalize()}", "", f"::: {module}"]
    if path.is_dir():
        # The folder only collects the names of its files.
        lines += ["    options:", "      members: false"]
        for name in sorted(
            item.stem
            for item in path.iterdir()
            if (item.suffix == ".py" or (item / "__init__.py").exists())
            and not item.stem.startswith("_")
        ):
            lines += ["", f"## {name.capitalize()}", "", f"::: {module}.{name}"]
            lines += ["    options:", "      heading_level: 3"]
    return "\n".join(lines) + "\n"


def name_table() -> str:
    """Every name of `jaxnst.__all__`, with a link and its first sentence."""
    import jaxnst

    homes = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    rows = [
        f"| [`{name}`][{homes[name]}] | {first_line(getattr(jaxnst, name))} |"
        for name in jaxnst.__all__
    ]
    return "\n".join(["| Name | |", "|---|---|", *rows])


def first_line(item: Any) -> str:
    """The first line of a docstring, for a cell of a table."""
    return (item.__doc__ or "").splitlines()[0].replace("|", "\\|")


def recipe_table() -> str:
    """What the named recipes measure and how they optimise."""
    from jaxnst.recipes import RECIPES

    head = "Name", "Style", "Content", "Pooling", "Optimiser", "Start", "Steps"
    rows = [
        (
            f"`{name}`",
            recipe.program.style_loss,
            ", ".join(layer for layer, _ in recipe.program.content_layers),
            recipe.program.pooling,
            recipe.program.optimizer,
            recipe.look.init,
            steps(recipe),
        )
        for name, recipe in RECIPES.items()
    ]
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def steps(recipe: Any) -> str:
    """How many steps a recipe takes, in words."""
    if recipe.schedule.scales == 1:
        return f"{recipe.schedule.first_steps:,}"
    return f"{recipe.schedule.first_steps:,}, then {recipe.schedule.steps:,} per scale"


def section(title: str) -> str:
    """The text below a heading of the README, or all of another file but its title."""
    if title.endswith(".md"):
        text = (ROOT / title).read_text().partition("\n")[2]
    else:
        parts = re.split(r"^#+ (.+)\n", (ROOT / "README.md").read_text(), flags=re.M)
        text = dict(zip(parts[1::2], parts[2::2], strict=True))[title]
    for before, after in LINKS.items():
        text = text.replace(f"]({before})", f"]({after})")
    return text.strip()


def shown(name: str) -> str:
    """A file of the repository as a block of code; nothing until it exists."""
    path = ROOT / name
    if not path.exists():
        return ""
    return f'```python title="{name}"\n{path.read_text().strip()}\n```'


def loads_from_elsewhere(site: Path) -> list[str]:
    """What pages and style sheets would load from another site."""
    loads = re.compile(
        r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'> ]+"""
        r"""|<link\b[^>]*\brel=["']?(?:stylesheet|preconnect)[^>]*//[^"'> ]+"""
        r"""|(?:@import\s*|url\()["']?(?:https?:)?//[^"')]+"""
    )
    return [
        f"{path.relative_to(site)}: {match[0]}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css")
        for match in loads.finditer(path.read_text())
    ]


if __name__ == "__main__":
    sys.exit(main())
