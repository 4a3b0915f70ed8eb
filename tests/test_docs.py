"""README and documentation: their commands, options, Python and files are real."""

import re
import shlex

import pytest
from helpers import SCRIPTS, light_recipe

import jaxnst
from jaxnst.command.cli import parse

ROOT = SCRIPTS.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "weights/README.md")),
    *sorted((SCRIPTS / "docs" / "pages").rglob("*.md")),
]
COMMANDS = "stylize", "grid", "video", "studio", "again", "cache", "weights convert"
EACH_PAGE = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def blocks(text, language):
    """The blocks of code in a page."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def inline(text):
    """Code within the lines of a page."""
    return re.findall(r"`([^`]+)`", re.sub("```.*?```", "", text, flags=re.S))


def is_understood(words):
    """Whether the command takes these arguments."""
    try:
        parse(words)
    except SystemExit as end:
        return end.code == 0
    return True


@EACH_PAGE
def test_commands_are_understood(path):
    text = path.read_text()
    lines = re.split(r"\n|&&", "\n".join(blocks(text, "sh")))
    for line in lines + inline(text):
        if line.strip().startswith("jaxnst "):
            words = shlex.split(line, comments=True)[1:]
            assert is_understood(words if len(words) > 1 else [*words, "--help"]), line


def test_options_exist(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            parse([*command.split(), "--help"])
    known = set(re.findall(r"--?[a-z][a-z-]*", capsys.readouterr().out))
    for path in PAGES:
        named = {code.split()[0] for code in inline(path.read_text()) if code[0] == "-"}
        assert named <= known, path


@EACH_PAGE
def test_python_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxnst, "get_recipe", light_recipe)
    scope = {}
    for block in blocks(path.read_text(), "python"):
        exec(block, scope)


@EACH_PAGE
def test_files_exist(path):
    text = path.read_text()
    named = re.findall(r"\b(?:scripts|tests|weights|jaxnst)/[\w/.-]+\.\w+", text)
    missing = {x for x in named if not (ROOT / x).exists() and "/build/" not in x}
    if SCRIPTS not in path.parents:  # those are checked when the site is built
        links = re.findall(r"\]\((?!http)([^)#]+)", text)
        missing |= {x for x in links if not (path.parent / x).exists()}
    assert not missing
