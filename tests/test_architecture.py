"""The structure that DESIGN asks for: direction of imports, light import, public surface."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import freeu

SOURCE = Path(freeu.__file__).parent
# Each part may import the parts to the left of it (and itself).
ORDER = [
    ("errors",),
    ("config",),
    ("profiles", "presets", "metadata", "ops"),
    ("core",),
    ("adapters",),
    ("api",),
    ("pipelines",),
    ("evaluate",),
    ("analysis", "study", "personalize", "rerender"),
    ("ui",),
    ("cli",),
    ("__main__",),
]
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
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
    "Schedule",
    "Site",
    "Stage",
    "__version__",
    "active",
    "analysis",
    "apply",
    "enabled",
    "evaluate",
    "inspect",
    "ops",
    "preset",
    "presets",
    "recommend",
}


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Parts of freeu that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "freeu":
            if node.module == "freeu":
                found |= {alias.name for alias in node.names if alias.name in RANK}
            else:
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("freeu.")}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_flow_one_way(path):
    if path == SOURCE / "__init__.py":
        return
    own = part(path)
    assert own in RANK, f"{own} has no place in the order of imports"
    for other in imports(path) - {own}:
        assert RANK[other] < RANK[own], f"{own} must not import {other}"


def test_the_zoo_uses_the_public_door_only():
    zoo = SOURCE.parents[1] / "zoo" / "src"
    for path in zoo.rglob("*.py"):
        assert not imports(path), f"{path.name} reaches inside freeu"


def test_files_stay_small():
    for path in SOURCE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 500, path


def test_public_surface():
    assert set(freeu.__all__) == PUBLIC
    for name in PUBLIC - {"__version__", "ops"}:
        assert getattr(freeu, name).__doc__, f"freeu.{name} has no docstring"
    assert set(freeu.ops.__all__) == {"filter_skip", "freeu", "reference", "scale_backbone", "structure_gain"}


def test_every_public_name_is_documented():
    docs = (SOURCE.parents[1] / "docs" / "api.md").read_text()
    for name in PUBLIC - {"__version__"}:
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


@pytest.mark.parametrize("part", ["analysis", "evaluate"])
def test_parts_are_light_and_documented(part):
    names, _ = loaded_by(f"import freeu; freeu.{part}; import freeu.{part}")
    assert not names & {"scipy", "diffusers", "transformers", "PIL", "matplotlib", "plotly"}
    docs = (SOURCE.parents[1] / "docs" / "api.md").read_text()
    module = getattr(freeu, part)
    for name in module.__all__:
        found = getattr(module, name)
        assert isinstance(found, (tuple, str)) or found.__doc__, f"freeu.{part}.{name} has no docstring"
        assert f"`{name}" in docs, f"docs/api.md does not mention freeu.{part}.{name}"
