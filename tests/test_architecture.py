"""The structure that DESIGN asks for: direction of imports, light import, public surface."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import freeu

SOURCE = Path(freeu.__file__).parent
# Each layer may import those above it; parts in one line do not know each other. A folder is written with its dots.
LAYERS = """
errors lazy
json_files extras schedule foreign
config
wording profiles presets.named presets.files ops
metadata
presets
intervals motion
core
adapters
presets.recommending
api scalecrafter conversion output_blocks
guiding
pipelines.io
pipelines.models.sources
pipelines.models.addons pipelines.models.control pipelines.models.modelscope
pipelines.models
pipelines.options
pipelines.runs
pipelines.video pipelines.pages
pipelines.making pipelines.sweep pipelines.check
pipelines
evaluate.metrics
evaluate.calibration
evaluate.experiment
evaluate.attribution
evaluate
analysis.measurement
analysis.figures
analysis
personalize.training
personalize.dreambooth personalize.reversion
personalize
rerender.outline
rerender.video rerender.denoise
rerender
study.media
study.plan
study.store
study.statistics
study.results
study.web
study
tuning
tuning.votes
tuning.web
ui
cli
cli.commands.study cli.commands.personalize cli.commands.carry
cli.commands
__main__
"""
RANK = {part: rank for rank, line in enumerate(LAYERS.split("\n")) for part in line.split()}
PUBLIC = {
    "FreeUConfig",
    "FreeUError",
    "FreeURuntimeError",
    "FreeUValueError",
    "Handle",
    "Inspection",
    "NoEffectWarning",
    "NoSitesError",
    "Preset",
    "Recommendation",
    "Schedule",
    "Site",
    "Stage",
    "__version__",
    "active",
    "analysis",
    "apply",
    "apply_freeu",
    "convert",
    "enabled",
    "evaluate",
    "guiding",
    "inspect",
    "metadata",
    "ops",
    "personalize",
    "preset",
    "presets",
    "recommend",
    "recommendation",
    "remove_all",
    "scalecrafter",
    "tune",
}
# ``from freeu import *`` would load diffusers, or fail without it.
NEED_DIFFUSERS = {"FreeUGuidance"}


def module(path: Path) -> str:
    """The dotted name of a file below freeu; a package is its own name."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path) for path in SOURCE.rglob("*.py")}


def part(name: str) -> str:
    """The layer of a module: the longest of its prefixes that has a place in the order."""
    words = name.split(".")
    prefixes = (".".join(words[:count]) for count in range(len(words), 0, -1))
    return next((prefix for prefix in prefixes if prefix in RANK), words[0])


def imports(path: Path) -> set[str]:
    """Modules of freeu that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "freeu":
            home = node.module.removeprefix("freeu").removeprefix(".")
            inner = {f"{home}.{alias.name}".removeprefix(".") for alias in node.names} & MODULES
            found |= inner if inner or not home else {home}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("freeu.") for alias in node.names if alias.name.startswith("freeu.")}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_flow_one_way(path):
    if path in (SOURCE / "__init__.py", SOURCE / "cli" / "__init__.py"):  # the doors: they open on everything
        return
    own = part(module(path))
    assert own in RANK, f"{own} has no place in the order of imports"
    for other in {part(name) for name in imports(path)} - {own}:
        assert RANK[other] < RANK[own], f"{own} must not import {other}"


def test_no_module_imports_itself_through_others():
    arrows = {module(path): imports(path) - {module(path)} for path in SOURCE.rglob("*.py")}
    graphlib.TopologicalSorter({name: others for name, others in arrows.items() if name}).prepare()


def test_folders_stay_small():
    for folder in {path.parent for path in SOURCE.rglob("*.py")}:
        assert len(list(folder.glob("*.py"))) <= 14, folder


def test_the_zoo_uses_the_public_door_only():
    zoo = SOURCE.parents[1] / "zoo" / "src"
    for path in zoo.rglob("*.py"):
        inside = imports(path) - {"analysis", "evaluate", "guiding", "metadata", "ops", "personalize", "scalecrafter"}
        assert not inside, f"{path.name} reaches inside freeu"


def test_files_stay_small():
    for path in SOURCE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 500, path


def test_public_surface():
    assert set(freeu.__all__) == PUBLIC
    for name in PUBLIC - {"__version__", "ops"}:
        assert getattr(freeu, name).__doc__, f"freeu.{name} has no docstring"
    assert set(freeu.ops.__all__) == {"filter_skip", "freeu", "reference", "scale_backbone", "structure_gain"}


def test_what_needs_diffusers_is_public_and_not_for_star_imports():
    for name in NEED_DIFFUSERS:
        assert name in dir(freeu)
        assert getattr(freeu, name).__doc__


def test_every_public_name_is_documented():
    docs = (SOURCE.parents[1] / "docs" / "api.md").read_text()
    for name in (PUBLIC | NEED_DIFFUSERS) - {"__version__"}:
        assert f"freeu.{name}" in docs, f"docs/api.md does not mention freeu.{name}"


def loaded_by(statement: str) -> tuple[set[str], float]:
    """Top-level modules that a statement loads in a fresh interpreter, and its seconds beyond importing torch."""
    code = (
        "import torch, time, sys, json; before = set(sys.modules); start = time.perf_counter();"
        f"{statement};"
        "seconds = time.perf_counter() - start;"
        "print(json.dumps([sorted({n.split('.')[0] for n in set(sys.modules) - before}), seconds]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names, seconds = json.loads(out)
    return set(names), seconds


def test_import_is_light():
    names, _ = loaded_by("import freeu; freeu.apply; freeu.ops")
    heavy = {"triton", "diffusers", "transformers", "matplotlib", "gradio", "fastapi", "PIL", "typer", "rich", "jinja2"}
    assert not names & heavy
    assert "freeu" in names


def test_command_line_starts_without_torch():
    code = "import sys, freeu.cli; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


@pytest.mark.parametrize("part", ["analysis", "evaluate", "guiding", "metadata", "personalize", "scalecrafter"])
def test_parts_are_light_and_documented(part):
    names, _ = loaded_by(f"import freeu; freeu.{part}; import freeu.{part}")
    assert not names & {"scipy", "diffusers", "transformers", "PIL", "matplotlib", "plotly"}
    docs = (SOURCE.parents[1] / "docs" / "api.md").read_text()
    module = getattr(freeu, part)
    for name in module.__all__:
        found = getattr(module, name)
        assert isinstance(found, (tuple, str)) or found.__doc__, f"freeu.{part}.{name} has no docstring"
        assert f"`{name}" in docs, f"docs/api.md does not mention freeu.{part}.{name}"
