"""Build the documentation: `python scripts/docs/build.py`.

The pages are Markdown files in `pages`, and `mkdocs.yml` states the navigation. This
script adds what the code knows: a reference from the docstrings, the table of recipes,
and the table of the package's folders and files. The build needs no network. It fails
on any warning, and on a page that would load something from another site.
"""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parents[1]
PACKAGE = ROOT / "jaxnst"
BUILD = DOCS / "build"


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
    for name in ("gallery.jpg", "settings.jpg", "krita.jpg"):
        shutil.copy(ROOT / "scripts" / name, folder)
    tables = {"recipes": recipe_table, "rooms": room_table, "names": name_table}
    for page in folder.rglob("*.md"):
        text = page.read_text()
        page.write_text(re.sub("<!-- (.+) -->", lambda m: tables[m[1]](), text))
    for room in referenced():
        (folder / "reference" / f"{room}.md").write_text(room_page(room))


def referenced() -> list[str]:
    """Folders and files of the package that have a page in the navigation."""
    nav = (DOCS / "mkdocs.yml").read_text()
    return [x for x in re.findall(r"reference/(\w+)\.md", nav) if x != "index"]


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


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [head := list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def first_line(docstring: str | None) -> str:
    """The first line of a docstring, for a cell of a table."""
    return (docstring or "").partition("\n")[0].replace("|", "\\|")


def name_table() -> str:
    """Every name of `jaxnst.__all__`, with a link and its first sentence."""
    import jaxnst

    homes = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    docs = {name: first_line(getattr(jaxnst, name).__doc__) for name in jaxnst.__all__}
    rows = ((f"[`{name}`][{homes[name]}]", docs[name]) for name in docs)
    return table(["Name", ""], rows)


def room_table() -> str:
    """The folders and files of the package, as the test of imports orders them."""
    test = ast.parse((ROOT / "tests" / "test_api.py").read_text())
    floors = next(
        ast.literal_eval(node.value)
        for node in test.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS"
    )

    def row(room: str) -> tuple[str, str, str]:
        path = PACKAGE / room
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        about = first_line(ast.get_docstring(ast.parse(path.read_text())))
        linked = f"[`{room}`](reference/{room}.md)"
        name = linked if room in referenced() else f"`{room}`"
        return name, about, ", ".join(floors.get(f"jaxnst/{room}", ())[::-1])

    rows = map(row, floors["jaxnst"][::-1])
    return table(["Folder or file", "Purpose", "Its files, the highest first"], rows)


def recipe_table() -> str:
    """The named recipes, and how many steps they take."""
    from jaxnst.recipes import RECIPES

    def row(recipe: Any) -> tuple[str, str, str]:
        plan = recipe.schedule
        each = f", then {plan.steps:,} per scale" if plan.scales > 1 else ""
        steps = f"{plan.first_steps:,}{each}" if recipe.paints else "none"
        return f"`{recipe.name}`", recipe.summary, steps

    return table(["Name", "Method", "Steps"], map(row, RECIPES.values()))


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
