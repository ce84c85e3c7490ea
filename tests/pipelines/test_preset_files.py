"""Preset files: read, refused where damaged, taken by ``--preset`` and from the folder of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli as run
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from tiny_pipelines import tiny_unet

import freeu
from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.models.sources.sources import fingerprint
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.presets.files import PresetFile, read_preset

FOUND = PresetFile("x-tuned", FreeUConfig(b=(1.1, 1.2), skip_gain=1.05), "x", "abc", 3.0, 20, "better", {"trials": 9})


def written(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(FOUND.to_dict() | changes))
    return path


def test_a_preset_file_comes_back(tmp_path: Path) -> None:
    assert read_preset(written(tmp_path / "preset.json")) == FOUND


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "x"}, "is not a preset of freeu"),
        ({"schema": 2}, "a newer freeu may read it"),
        ({"config": {"b": [99, 1]}}, "b1 must lie in 0 to 10"),
        ({"guidance": "much"}, "is damaged"),
        ({"model": "x"}, "is damaged"),
        ({"verdict": 3}, "its names must be texts"),
    ],
)
def test_damaged_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FreeUValueError, match=message):
        read_preset(written(tmp_path / "preset.json", **changes))


def test_the_command_line_takes_it(sd_dir: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "preset.json")
    words = ("generate", "a red fox", "--model", sd_dir, "--steps", 1, "--seeds", 0, "--threads", 1)
    code, _, err = run(*words, "--preset", path, "--output", tmp_path / "out")
    assert code == 0
    assert f"--preset {path} was found for x, whose files are others than those of tiny-sd" in err
    plan = json.loads((tmp_path / "out" / "manifest.json").read_text())["plan"]
    assert FreeUConfig.from_dict(plan["config"]) == FOUND.config
    none = written(tmp_path / "none.json", config=None, verdict="None is best here.")
    code, _, err = run(*words, "--preset", none, "--output", tmp_path / "none")
    assert (code, err) == (2, f"freeu: --preset {none} has no settings of FreeU: None is best here.\n")
    assert run(*words, "--preset", tmp_path / "absent.json", "--output", tmp_path / "none")[0] == 2


def put(path: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a model's folder with a preset of its own."""
    shutil.copytree(path, folder)
    written(folder / "freeu.json", **changes)
    return folder


def test_a_preset_in_the_folder_of_a_model_is_recommended(sd_dir: Path, tmp_path: Path) -> None:
    folder = put(sd_dir, tmp_path / "mine")
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    found = freeu.recommendation(pipe)
    assert (found.config, found.name, found.measured, found.helps) == (FOUND.config, "x-tuned", True, True)
    assert found.evidence == "measured on this model (20 steps, CFG scale 3): better"
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    assert freeu.recommend(pipe) == freeu.recommend(unet) == freeu.recommend(pipe.unet) == FOUND.config
    with freeu.enabled(pipe) as handle:
        assert handle.config == FOUND.config
    plain = freeu.recommendation(StableDiffusionPipeline.from_pretrained(sd_dir))
    assert (plain.name, plain.measured, plain.helps) == ("sd14", False, None)
    assert fingerprint(folder) == fingerprint(sd_dir)


def test_a_verdict_of_none_keeps_the_published_preset_and_says_so(sd_dir: Path, tmp_path: Path) -> None:
    folder = put(sd_dir, tmp_path / "mine", config=None, verdict="None is best here.")
    found = freeu.recommendation(StableDiffusionPipeline.from_pretrained(folder))
    assert (found.config, found.measured, found.helps) == (freeu.preset("sd14"), False, False)
    assert str(found).endswith("measured on this model (20 steps, CFG scale 3): None is best here.)")


def test_commands_tell_which_settings_nobody_gave(sd_dir: Path, tmp_path: Path) -> None:
    folder = put(sd_dir, tmp_path / "mine")
    words = ("compare", "a red fox", "--model", folder, "--steps", 1, "--seeds", 0, "--threads", 1, "--output")
    code, out, _ = run(*words, tmp_path / "out")
    assert code == 0
    assert f"FreeU {FOUND.config}" in out
    assert "these settings: measured on this model (20 steps, CFG scale 3): better\n" in out
    assert "these settings" not in run(*words, tmp_path / "given", "--preset", "sd14")[1]
    assert "x-tuned: b1=1.1" in run("inspect", folder)[1]
    (folder / "freeu.json").write_text("{")
    code, _, err = run(*words, tmp_path / "damaged")
    assert code == 2
    assert f"{folder / 'freeu.json'} is not JSON" in err


@pytest.mark.parametrize(
    ("width", "name", "family"),
    [
        (768, "sdxl", "Stable Diffusion XL"),
        (1024, "sd14-v1", "Stable Diffusion 1.4"),
        (2048, "sd21", "Stable Diffusion 2.1"),
        (768, "modelscope-v1", "ModelScope and Zeroscope text-to-video"),
        (768, "sd15-v1", None),
        (2048, "anime", None),
        (1024, "gentle", None),
        (32, "sdxl", None),  # of no family that is known
    ],
)
def test_a_preset_of_another_family_is_told(width: int, name: str, family: str | None) -> None:
    told = FreeUOptions(preset=name).made_for_another(tiny_unet(cross_attention_dim=width), "", "mine")
    assert told == (family and f"--preset {name} was published for {family}, and mine is of another family")
