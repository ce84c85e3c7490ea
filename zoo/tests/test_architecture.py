"""The structure of the package: which way imports go, no circles, small folders and files."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import freeu_zoo
import pytest

SOURCE = Path(freeu_zoo.__file__).parent
# Each layer may import those above it; parts in one line do not know each other. A folder stands for all of its files.
LAYERS = """
errors files
assemble
world
recipe reader
prompts films
relations subjects grid card
training
export
train
"""
RANK = {part: rank for rank, line in enumerate(LAYERS.split("\n")) for part in line.split()}
FILES = sorted(SOURCE.rglob("*.py"))


def module(path: Path) -> str:
    """The dotted name of a file below freeu_zoo; a folder is its own name, the package itself is empty."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules of freeu_zoo that a file imports, wherever in the file; names of the package itself are none."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            if node.module is None or node.module.split(".")[0] != "freeu_zoo":
                continue
            home = node.module.removeprefix("freeu_zoo").removeprefix(".")
            for alias in node.names:
                inner = f"{home}.{alias.name}".removeprefix(".")
                found.add(inner if inner in MODULES else home)
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names if alias.name.split(".")[0] == "freeu_zoo"}
            assert not names, f"{path}: say from ... import"
    return found - {""}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_flow_one_way(path) -> None:
    own = module(path).split(".")[0]
    if not own:  # the door: it opens on everything
        return
    for other in {name.split(".")[0] for name in imports(path)} - {own}:
        assert RANK[other] < RANK[own], f"{module(path)} must not import {other}"


def test_every_part_has_its_place() -> None:
    assert {name.split(".")[0] for name in MODULES if name} == RANK.keys()


def test_no_module_imports_itself_through_others() -> None:
    arrows = {module(path): imports(path) - {module(path)} for path in FILES}
    graphlib.TopologicalSorter(arrows).prepare()


def test_folders_and_files_stay_small() -> None:
    for folder in {path.parent for path in FILES}:
        assert len(list(folder.glob("*.py"))) <= 14, folder
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path


def test_every_folder_says_what_lives_there() -> None:
    for path in SOURCE.rglob("__init__.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert text, path
        assert path.parent == SOURCE or ("Imports" in text and "never" in text), path


@pytest.mark.parametrize(
    "command", ["train", "card", "grid", "prompts", "films", "relations", "subjects", "world.sprites"]
)
def test_commands_read_their_arguments_before_torch_is_loaded(command) -> None:
    heavy = {"torch", "diffusers", "transformers", "safetensors"} & loaded_by(command)
    assert not heavy, f"{command} loads {', '.join(heavy)}"


def loaded_by(name: str) -> set[str]:
    """Packages that importing a module loads, through other modules of freeu_zoo too."""
    found: set[str] = set()
    waiting, seen = [name], set()
    while waiting:
        seen.add(name := waiting.pop())
        path = SOURCE / f"{name.replace('.', '/')}.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else ():
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                home, _, rest = node.module.partition(".")
                found.add(home)
                names = {f"{rest}.{alias.name}".removeprefix(".") for alias in node.names} & MODULES or {rest}
                waiting += sorted(names - seen) if home == "freeu_zoo" else []
    return found
