"""What is imported is declared: by freeu itself, or by the extra of the part that imports it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import freeu

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOURCE = Path(freeu.__file__).parent
PROJECT = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The extra of each part, the longest prefix first; "" is what ``pip install freeu`` brings.
PARTS = {
    "analysis": "analysis",
    "evaluate": "eval",
    "intervals": "eval",
    "motion": "video",
    "personalize": "personalize",
    "pipelines": "diffusers",
    "rerender": "video",
    "study": "study",
    "tuning": "tune",
    "ui": "ui",
}
# What a module imports inside a function, for a feature whose extra is not that of its part.
OPTIONAL = {
    ("cli.commands.study.serve", "uvicorn"): "study",
    ("cli.voting", "uvicorn"): "tune",
    ("core.region", "numpy"): "diffusers",
    ("evaluate.attribution.maps", "matplotlib"): "analysis",
    ("evaluate.attribution.page", "matplotlib"): "analysis",
    ("metadata.png", "PIL"): "diffusers",
    ("metadata.writing", "PIL"): "diffusers",
    ("motion.raft", "onnxruntime"): "raft",
    ("pipelines.io.clip_files", "av"): "video",
    ("pipelines.runs.ray_executor", "ray"): "ray",
    ("pipelines.models.addons.attaching", "peft"): "personalize",
    ("evaluate.metrics.outline", "cv2"): "video",
    ("pipelines.models.control.control", "cv2"): "video",
    ("study.media.video", "av"): "study-video",
    ("study.results.exporting", "pyarrow"): "parquet",
    ("study.results.report", "av"): "study-video",
}
# Declared and imported by no module of freeu: who imports them instead.
BY_OTHERS = {
    "freeu-zoo-video": "freeu-zoo, by its installed name",
    "freeu-zoo": "freeu itself, by its installed name",
    "python-multipart": "FastAPI, for forms",
    "psycopg": "SQLAlchemy, for PostgreSQL",
}


class Import(NamedTuple):
    """A third-party import: the module of freeu, the name imported, and whether importing the module runs it."""

    module: str
    name: str
    at_once: bool


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(name: str) -> set[str]:
    """The distributions that an imported top-level name can come from."""
    return {canonical(one) for one in installed().get(name, ())}


@cache
def installed() -> dict[str, list[str]]:
    return dict(packages_distributions())


@cache
def declared(extra: str) -> frozenset[str]:
    """The distributions that ``pip install freeu[extra]`` asks for by name, those of other extras in it too."""
    found = {canonical(Requirement(line).name) for line in PROJECT["dependencies"]}
    for line in PROJECT["optional-dependencies"][extra] if extra else ():
        requirement = Requirement(line)
        if requirement.name == "freeu":
            found = found.union(*(declared(one) for one in requirement.extras))
        else:
            found.add(canonical(requirement.name))
    return frozenset(found)


def of_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def third_party(path: Path) -> set[Import]:
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    found = set()

    def walk(node: ast.AST, at_once: bool) -> None:
        if of_type_checkers(node):
            return
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        found.update(Import(module, name.split(".")[0], at_once) for name in names)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            walk(child, at_once and not inside)

    walk(ast.parse(path.read_text(encoding="utf-8")), True)
    return {one for one in found if one.name not in sys.stdlib_module_names | {"freeu"}}


IMPORTS = sorted(set().union(*(third_party(path) for path in SOURCE.rglob("*.py"))))


def part_extra(module: str) -> str:
    return PARTS.get(module.split(".")[0], "")


@pytest.mark.parametrize("one", IMPORTS, ids=lambda one: f"{one.module}-{one.name}")
def test_every_import_is_declared(one):
    if one.name == "tomli":  # Python 3.10 alone has it
        assert "tomli" in declared("")
        return
    known = distributions(one.name)
    assert known, f"{one.name} is not installed here: whose is it?"
    if known & declared(part_extra(one.module)):
        return
    assert not one.at_once, f"{one.module} imports {one.name}, which freeu[{part_extra(one.module)}] does not bring"
    extra = OPTIONAL.get((one.module, one.name))
    assert extra, f"{one.module} imports {one.name}: declare it, or name its extra in OPTIONAL"
    assert known & declared(extra)


def needs(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Extra and modules of every ``need(...)`` in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "need":
            words = [word.value for word in node.args if isinstance(word, ast.Constant)]
            if len(words) == len(node.args):
                found.append((words[0], tuple(words[1:])))
    return found


def test_optional_imports_are_used_and_say_their_extra():
    made = {(one.module, one.name) for one in IMPORTS}
    for (module, name), extra in OPTIONAL.items():
        assert (module, name) in made, f"{module} does not import {name} any more"
        path = (SOURCE / Path(*module.split("."))).with_suffix(".py")
        assert any(extra == said and name in names for said, names in needs(path)), f"{module} lacks need({extra!r})"


def test_need_names_the_extra_that_brings_it():
    said = [(path, *one) for path in SOURCE.rglob("*.py") for one in needs(path)]
    assert len(said) > 30
    for path, extra, names in said:
        for name in names:
            assert distributions(name) & declared(extra), f"{path}: freeu[{extra}] does not bring {name}"


def test_every_extra_is_for_something():
    """No extra declares what nobody imports."""
    used = {(part_extra(one.module), owner) for one in IMPORTS for owner in distributions(one.name)}
    used |= {(extra, owner) for (_, name), extra in OPTIONAL.items() for owner in distributions(name)}
    for extra, lines in PROJECT["optional-dependencies"].items():
        if extra == "dev":
            continue
        for requirement in map(Requirement, lines):
            name = canonical(requirement.name)
            users = {user for user, owner in used if owner == name}
            assert name == "freeu" or name in BY_OTHERS or extra in users, f"nothing of freeu[{extra}] imports {name}"


def test_every_extra_is_documented():
    page = (SOURCE.parents[1] / "docs" / "install.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)
    assert set(named) == PROJECT["optional-dependencies"].keys() - {"dev"}


def test_lower_bounds_are_those_that_were_run():
    """``python scripts/lower_bounds.py`` installs them; a bound that changes has to be run again."""
    run = json.loads((SOURCE.parents[1] / "benchmarks" / "results" / "lower-bounds.json").read_text(encoding="utf-8"))
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras.keys() - {"dev"} for line in extras[extra])]
    bounds = {}
    for requirement in map(Requirement, lines):
        if not canonical(requirement.name).startswith("freeu"):
            (bound,) = (one.version for one in requirement.specifier if one.operator == ">=")
            bounds[canonical(requirement.name)] = bound
    assert run["bounds"] == bounds
    assert {name: Version(held) for name, held in run["held"].items()} == {
        name: Version(bound) for name, bound in bounds.items()
    }
    assert PROJECT["requires-python"] == ">=" + ".".join(run["python"].split(".")[:2])
    assert all(check["passed"] for check in run["checks"])
    assert len(run["checks"]) > 30


def test_all_is_all():
    extras = PROJECT["optional-dependencies"]
    assert declared("all") == frozenset().union(*(declared(extra) for extra in extras.keys() - {"dev"}))


# -- without any extra ----------------------------------------------------------------------------------------------

MISSING = """
import contextlib, io, sys

sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))  # None: importing it fails, and find_spec finds nothing
from freeu.cli import main

for line in sys.stdin.read().splitlines():
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(line.split())
        except Exception as failure:
            code = repr(failure)
    print(code, error.getvalue().strip().replace("\\n", "\\\\n"), sep="\\t")
"""
# Words of a command, and the extra that it must name where nothing but freeu is installed.
COMMANDS = {
    "compare fox": "diffusers",
    "generate fox": "diffusers",
    "video fox": "video",
    "inspect unet": "diffusers",
    "convert unet --to comfyui": "diffusers",
    "check unet": "diffusers",
    "sweep fox --x b1=1,1.2": "diffusers",
    "evaluate --prompts paper": "eval",
    "analyze": "analysis",
    "rerender film.mp4 fox": "video",
    "dreambooth train folder --class-noun fox": "diffusers",
    "reversion train folder": "diffusers",
    "ui": "ui",
    "study new one two": "study",
    "study serve folder": "study",
    "study results folder": "study",
    "study export folder": "study",
    "study power --effect 0.6": "study",
}


def test_commands_without_their_extra_say_so_in_one_line(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    optional = {one.name for one in IMPORTS if not distributions(one.name) & declared("")}
    hidden = optional - {"pydantic", "tomli"} | {
        "freeu_zoo",
        "python_multipart",
        "psycopg",
    }  # typer may import pydantic
    assert {"diffusers", "numpy", "PIL", "fastapi", "gradio"} <= hidden
    out = subprocess.run(
        [sys.executable, "-c", MISSING, ",".join(sorted(hidden))],
        input="\n".join([*COMMANDS, "presets"]),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    *lines, presets = out.splitlines()
    assert presets == "0\t"
    for (command, extra), line in zip(COMMANDS.items(), lines, strict=True):
        code, _, message = line.partition("\t")
        assert code == "2", (command, line)
        assert re.fullmatch(rf"freeu: [\w, ]+ (is|are) not installed: pip install 'freeu\[{extra}\]'", message), line
