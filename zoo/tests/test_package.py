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


def package_of(name: str) -> str:
    """The package of a model that is installed by itself."""
    return freeu_zoo.DISTRIBUTIONS[name].replace("-", "_")


@pytest.mark.parametrize("name", freeu_zoo.DISTRIBUTIONS)
def test_a_model_that_is_installed_by_itself_is_found_or_named(name, monkeypatch) -> None:
    other = pytest.importorskip(package_of(name))
    assert freeu_zoo.models()[name] == freeu_zoo.model_path(name)
    assert freeu_zoo.model_path(name).is_relative_to(Path(other.__file__).parent)
    monkeypatch.setitem(sys.modules, package_of(name), None)
    assert name not in freeu_zoo.models()
    assert freeu_zoo.DEFAULT_MODEL in freeu_zoo.models()
    with pytest.raises(ValueError, match=rf"^{name} is not installed: pip install {freeu_zoo.DISTRIBUTIONS[name]}$"):
        freeu_zoo.model_path(name)


def test_every_model_says_what_it_can_do() -> None:
    for name, folder in freeu_zoo.models().items():
        facts = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))
        assert facts["name"] == name
        assert facts["native_size"] == 128
        assert facts["default_steps"] > 0
        # A distilled model of the form "lora" has guidance in its weights.
        assert facts["default_guidance_scale"] > 1 or facts["form"] == "lora"
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
    if name in freeu_zoo.DISTRIBUTIONS:
        pytest.importorskip(package_of(name))
    folder = freeu_zoo.model_path(name)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= most
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}")


@pytest.fixture(params=["freeu_zoo", *map(package_of, freeu_zoo.DISTRIBUTIONS)])
def package(request) -> Path:
    """The folder of each package of the zoo, in a checkout."""
    folder = Path(pytest.importorskip(request.param).__file__).parent
    if not (folder.parents[1] / "pyproject.toml").exists():
        pytest.skip("this is no checkout")
    return folder


def project_of(package: Path) -> dict:
    return tomllib.loads((package.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_has_one_source(package) -> None:
    """The distribution takes it from the package, as setuptools reads it: a literal, without importing anything."""
    said = project_of(package)
    assert "version" not in said["project"]
    assert said["project"]["dynamic"] == ["version"]
    assert said["tool"]["setuptools"]["dynamic"]["version"] == {"attr": f"{package.name}.__version__"}
    body = ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body
    values = [node.value for node in body if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"]
    assert [ast.literal_eval(value) for value in values] == [freeu_zoo.__version__]


def test_what_is_shipped_goes_into_the_package(package) -> None:
    """Every file that is no code is named by a pattern, so that an installation that is not editable has it too."""
    patterns = project_of(package)["tool"]["setuptools"]["package-data"][package.name]
    named = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    shipped = {path for path in files if path.suffix != ".py"}
    assert {path for path in shipped if path.is_relative_to(package / "models")}
    assert not shipped - named


def test_a_wheel_stays_below_100_megabytes(package) -> None:
    """Package indexes refuse larger files; a wheel compresses, so the sum of the files bounds it."""
    assert sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) < 95e6


def test_licence_and_attribution_go_with_it(package) -> None:
    root = package.parents[1]
    assert project_of(package)["project"]["license-files"] == ["LICENSE", "ATTRIBUTION.md"]
    own = Path(freeu_zoo.__file__).parents[2]
    assert (root / "LICENSE").read_bytes() == (own / "LICENSE").read_bytes()
    texts = [(folder / "ATTRIBUTION.md").read_text(encoding="utf-8") for folder in (root, own)]
    licences = {text[text.index("## MIT License") :] for text in texts}
    assert len(licences) == 1
    assert all("Microsoft Corporation, Fluent Emoji" in text for text in texts)
