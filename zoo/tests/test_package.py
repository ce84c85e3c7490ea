from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import freeu_zoo
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_import_is_light() -> None:
    heavy = ("torch", "diffusers", "transformers", "PIL", "numpy")
    code = f"import sys, freeu_zoo; freeu_zoo.models(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no model 'sdxl' in the zoo; known: .*"):
        freeu_zoo.model_path("sdxl")


def test_every_model_says_what_it_can_do() -> None:
    for name, folder in freeu_zoo.models().items():
        facts = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))
        assert facts["name"] == name
        assert facts["native_size"] == 128
        assert facts["default_steps"] > 0
        assert facts["default_guidance_scale"] > 1
        assert len(facts["nouns"]) >= 48
        assert facts["styles"] == ["3d", "flat", "line"]
        assert len(facts["colours"]) == 10
        assert facts["training"]["samples"] > 0
        if facts.get("kind") == "video":
            assert set(facts["motions"]) >= {"left", "right", "up", "down", "growing", "shrinking", "still"}
            assert facts["default_frames"] == facts["default_fps"] == 8
        else:
            assert facts["relations"]
            assert facts["alignment"]["scores"]["noun"]["real"]["value"] > 0.9


@pytest.mark.parametrize(("name", "most"), [(freeu_zoo.DEFAULT_MODEL, 40e6), (freeu_zoo.DEFAULT_VIDEO_MODEL, 60e6)])
def test_the_default_models_are_there_and_small(name, most) -> None:
    folder = freeu_zoo.model_path(name)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= most
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}")


def test_the_version_has_one_source() -> None:
    """The distribution takes it from the package, as setuptools reads it: a literal, without importing anything."""
    project = Path(freeu_zoo.__file__).parents[2] / "pyproject.toml"
    if not project.exists():
        pytest.skip("this is no checkout")
    said = tomllib.loads(project.read_text(encoding="utf-8"))
    assert "version" not in said["project"]
    assert said["project"]["dynamic"] == ["version"]
    assert said["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "freeu_zoo.__version__"}
    body = ast.parse(Path(freeu_zoo.__file__).read_text(encoding="utf-8")).body
    values = [node.value for node in body if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"]
    assert [ast.literal_eval(value) for value in values] == [freeu_zoo.__version__]


def test_what_is_shipped_goes_into_the_package() -> None:
    """Every file of the models is named by a pattern, so that an installation that is not editable has it too."""
    package = Path(freeu_zoo.__file__).parent
    project = package.parents[1] / "pyproject.toml"
    if not project.exists():
        pytest.skip("this is no checkout")
    patterns = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["freeu_zoo"]
    named = {path for pattern in patterns for path in package.glob(pattern)}
    shipped = {path for path in (package / "models").rglob("*") if path.is_file()}
    assert shipped
    assert not shipped - named
