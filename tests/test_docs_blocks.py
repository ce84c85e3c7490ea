"""What the documentation shows works: commands parse, Python compiles and names what there is, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import freeu
from freeu.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "zoo" / "README.md",
        *ROOT.glob("zoo/src/*/models/*/README.md"),
    ]
)
COMMANDS = typer.main.get_command(app)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Fenced blocks in one of these languages; "" is an indented block."""
    text = page.read_text(encoding="utf-8")
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language and language in languages:
            yield body
    if "" in languages:
        outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        yield "".join(re.findall(r"^ {4,}\S.*\n", outside, re.MULTILINE))


def lines(page: Path) -> Iterator[str]:
    """Lines of a shell, continued ones joined, without what a # says of them."""
    for body in blocks(page, "sh", "bash", "console", ""):
        for line in re.sub(r"\\\n\s*", " ", body).splitlines():
            yield line.strip().removeprefix("$ ")


def all_lines(beginning: str) -> list[Any]:
    return [
        pytest.param(line, id=f"{page.relative_to(ROOT)}: {line[:60]}")
        for page in PAGES
        for line in lines(page)
        if line.startswith(beginning)
    ]


def parse(words: list[str]) -> None:
    """Read the words of a ``freeu`` command without running it."""
    group, context = COMMANDS, None
    while hasattr(group, "commands"):
        assert words, "a command is missing"
        assert words[0] in group.commands, f"there is no command {words[0]!r}"
        group, words = group.commands[words[0]], words[1:]
    with group.make_context("freeu", list(words), parent=context) as found:
        shown = {name for one in group.get_params(found) for name in (*one.opts, *one.secondary_opts)}
    for word in words:
        name = word.partition("=")[0]
        if re.fullmatch(r"--[a-z][a-z-]*", name) and word != "--":
            assert name in shown, f"{name} is an old name"


@pytest.mark.parametrize("line", all_lines("freeu "))
def test_commands_parse(line: str) -> None:
    for one in re.split(r"\s+(?:&&|;)\s+", line):
        words = shlex.split(one, comments=True)
        if words and words[0] == "freeu":
            parse(words[1:])


@pytest.mark.parametrize("line", all_lines("make "))
def test_targets_of_make_exist(line: str) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for word in shlex.split(line, comments=True)[1:]:
        assert "=" in word or word in targets, word


@pytest.mark.parametrize("line", all_lines("python "))
def test_scripts_and_modules_exist(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[1] == "-m" and words[2].split(".")[0] in ("freeu", "freeu_zoo"):
        places = [ROOT / "src", ROOT / "zoo" / "src"]
        name = words[2].replace(".", "/")
        assert any(
            (place / name).with_suffix(".py").is_file() or (place / name / "__main__.py").is_file() for place in places
        ), line
    elif words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), line


def test_extras_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    known = set(
        re.findall(r"^([a-z][\w-]*) = \[", project.partition("[project.optional-dependencies]")[2], re.MULTILINE)
    )
    for page in PAGES:
        for names in re.findall(r"freeu\[([\w,-]+)\]", page.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= known, f"{page.name}: {names}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_compiles_and_names_what_there_is(page: Path) -> None:
    for body in blocks(page, "python", "py"):
        tree = ast.parse(body)
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Attribute):
                names = ast.unparse(node).split(".")
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "freeu":
                module = __import__(node.module, fromlist=["*"])
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
            if names[:1] == ["freeu"]:
                found: Any = freeu
                for name in names[1:]:
                    if isinstance(found, type) or (not hasattr(found, "__path__") and found is not freeu):
                        break
                    assert hasattr(found, name), f"{page.name}: {'.'.join(names)}"
                    found = getattr(found, name)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as hosting sites make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head).lower()) for head in heads)
    return {head.strip().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            assert re.fullmatch(r"https?://[\w.-]+(/[^\s]*)?", target), target
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{page.name}: {target}"
