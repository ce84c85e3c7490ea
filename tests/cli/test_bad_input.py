"""Bad input: exit code 2, one line on standard error that names what is wrong, and nothing written."""

from __future__ import annotations

import errno
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli as run
from PIL import Image


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory. Beside it: a model that is found but never loaded, and damaged files."""
    (tmp_path / "sd" / "vae").mkdir(parents=True)
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "sd" / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "sd" / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    (tmp_path / "sd" / "unet").mkdir()
    (tmp_path / "sd" / "unet" / "config.json").write_text('{"cross_attention_dim": 768}')
    net = {"_class_name": "ControlNetModel", "cross_attention_dim": 1024}
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text(json.dumps(net))
    Image.new("RGB", (16, 16), "grey").save(tmp_path / "grey.png")
    other = {"_class_name": "KandinskyPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "kandinsky").mkdir()
    (tmp_path / "kandinsky" / "model_index.json").write_text(json.dumps(other))
    (tmp_path / "dit").mkdir()
    (tmp_path / "dit" / "model_index.json").write_text('{"_class_name": "FluxPipeline", "transformer": ["a", "b"]}')
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa caf\xe9")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "broken.json").write_text('{"kind": "freeu-manifest"')
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "future.json").write_text('{"kind": "freeu-manifest", "schema": 99}')
    (tmp_path / "short.json").write_text('{"kind": "freeu-manifest", "schema": 1, "plan": {"command": "compare"}}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


FOX = ("compare", "a fox", "--model", "../sd")
STEERED = (*FOX, "--controlnet", "../net", "--control-image", "../grey.png")
CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown path": (("compare", "a fox", "--model", "../sdd"), "no model '../sdd': did you mean ../sd?"),
    "unknown file": (("compare", "a fox", "--model", "../x.safetensors"), "no model '../x.safetensors'"),
    "no checkpoint": (("compare", "a fox", "--model", "../empty.txt"), "empty.txt is no checkpoint"),
    "a dit": (("compare", "a fox", "--model", "../dit"), "diffusion transformer (DiT)"),
    "a vae": (("compare", "a fox", "--model", "../sd/vae"), "is a VAE"),
    "a bare unet": (("compare", "a fox", "--model", "../unet"), "is a U-Net alone: give the directory of its whole"),
    "inspect a dit": (("inspect", "../dit"), "Use a U-Net model"),
    "inspect a vae": (("inspect", "../sd/vae"), "this one belongs to"),
    "inspect nothing": (("inspect", "../sdd"), "did you mean ../sd?"),
    "check a vae": (("check", "../sd/vae"), "is a VAE"),
    "unknown preset": ((*FOX, "--preset", "sd155"), "unknown preset 'sd155': did you mean sd15"),
    "check unknown preset": (("check", "../sd", "--preset", "sdlx"), "did you mean sdxl"),
    "factor out of range": ((*FOX, "--b", "1.3,11"), "b2 must lie in 0 to 10, got 11"),
    "factor infinite": ((*FOX, "--s", "inf,1"), "s1 must be finite"),
    "no factor": ((*FOX, "--b", "big"), "--b must be numbers with commas, one per stage, such as 1.3,1.4; got 'big'"),
    "too many factors": ((*FOX, "--b", "1,1,1,1"), "2 or 3 factors"),
    "different stages": ((*FOX, "--b", "1,1,1", "--s", "1,1"), "got 3 b and 2 s"),
    "version": ((*FOX, "--freeu-version", "3"), "version must be 1 (constant) or 2"),
    "profile": ((*FOX, "--profile", "offical"), "did you mean official"),
    "start": ((*FOX, "--start", "0.9", "--end", "0.2"), "start must be smaller than end"),
    "strength": ((*FOX, "--freeu-strength", "2"), "strength must lie in 0 to 1, got 2"),
    "config": ((*FOX, "--config", "b1=1.3 q=2"), "unknown key 'q'"),
    "config file": ((*FOX, "--config", "nowhere.json"), "neither"),
    "config and preset": ((*FOX, "--config", "b1=1", "--preset", "sdxl"), "say the same thing twice"),
    "no prompt": (("compare", "--model", "../sd"), "no prompt: write one"),
    "empty prompt": (("compare", "", "--model", "../sd"), "a prompt is empty"),
    "no prompt file": ((*FOX, "--prompts", "nowhere.txt"), "cannot read the prompts in nowhere.txt"),
    "a folder of prompts": ((*FOX, "--prompts", ".."), "cannot read the prompts in .."),
    "empty prompt file": ((*FOX, "--prompts", "../empty.txt"), "empty.txt holds no prompt"),
    "prompt file not UTF-8": ((*FOX, "--prompts", "../latin.txt"), "not UTF-8"),
    "seeds": ((*FOX, "--seeds", "a"), "seeds must look like 1 or 0,3,5 or 0-7, or -1 for a random one, got 'a'"),
    "negative seed": ((*FOX, "--seeds", "-2"), "seeds must look like"),
    "falling seeds": ((*FOX, "--seeds", "7-3"), "write 3-7"),
    "huge seed": ((*FOX, "--seeds", "99999999999999999999"), "at most 18446744073709551615"),
    "many seeds": ((*FOX, "--seeds", "0-99999"), "more than 10000 seeds"),
    "steps": ((*FOX, "--steps", "0"), "--steps must lie in 1 to 1000, got 0"),
    "steps no number": ((*FOX, "--steps", "many"), "'many'"),
    "guidance": ((*FOX, "--guidance-scale", "nan"), "--guidance-scale must lie in 0 to 100"),
    "threads": ((*FOX, "--threads", "0"), "--threads must lie in"),
    "width": ((*FOX, "--width", "100"), "--width must be a multiple of 8 for this model, got 100: use 96 or 104"),
    "height": ((*FOX, "--height", "-8"), "--height must be a multiple of 8"),
    "scheduler": ((*FOX, "--scheduler", "eulr"), "did you mean euler"),
    "device": ((*FOX, "--device", "gpu"), "device 'gpu' is not on this machine"),
    "dtype": ((*FOX, "--dtype", "float8"), "dtype must be auto, float32, float16 or bfloat16, got 'float8'"),
    "image": ((*FOX, "--image", "../text.png"), "is not an image that Pillow can read"),
    "no image": ((*FOX, "--image", "nowhere.png"), "cannot read the image nowhere.png: No such file"),
    "mask alone": ((*FOX, "--mask", "../text.png"), "--mask needs the image it belongs to"),
    "image strength alone": ((*FOX, "--denoising-strength", "0.5"), "needs an image to start from"),
    "image strength": ((*FOX, "--denoising-strength", "1.5"), "--denoising-strength must lie in 0 to 1, got 1.5"),
    "control without its image": ((*FOX, "--controlnet", "../net"), "--controlnet needs a control image"),
    "control image alone": ((*FOX, "--control-image", "../text.png"), "--control-image needs a ControlNet: give"),
    "control order alone": ((*FOX, "--skip-filter-order", "before"), "--skip-filter-order needs a ControlNet: give"),
    "no control image": ((*STEERED, "--control-image", "no.png"), "cannot read the image no.png: No such file"),
    "control image": ((*STEERED, "--control-image", "../text.png"), "is not an image that Pillow can read"),
    "control scale": ((*STEERED, "--controlnet-weight", "2.1"), "--controlnet-weight must lie in 0 to 2, got 2.1"),
    "control scale no number": (
        (*STEERED, "--controlnet-weight", "nan"),
        "--controlnet-weight must lie in 0 to 2, got nan",
    ),
    "control start": ((*STEERED, "--controlnet-start", "-1"), "--controlnet-start must lie in 0 to 1, got -1"),
    "control end": (
        (*STEERED, "--controlnet-start", "0.5", "--controlnet-end", "0.5"),
        "must be smaller than --controlnet-end",
    ),
    "control preprocess": ((*STEERED, "--preprocessor", "cany"), "'cany': did you mean canny"),
    "control order": ((*STEERED, "--skip-filter-order", "befor"), "unknown control 'befor': did you mean before"),
    "no control": ((*STEERED, "--controlnet", "../nte"), "no ControlNet '../nte': "),
    "a model as control": ((*STEERED, "--controlnet", "../sd"), "is a whole pipeline, no ControlNet"),
    "a vae as control": ((*STEERED, "--controlnet", "../sd/vae"), "is of the class AutoencoderKL, no ControlNetModel"),
    "control for another": (STEERED, "has a text width of 1024, and the U-Net of sd 768: take one"),
    "control of another family": ((*STEERED, "--model", "../kandinsky"), "takes no ControlNet here"),
    "no-freeu and control order": (
        ("generate", "a", "--no-freeu", "--skip-filter-order", "before"),
        "leaves nothing for",
    ),
    "from and control image": (
        ("generate", "--from", "../short.json", "--control-image", "a"),
        "leave --control-image out",
    ),
    "foreign folder": ((*FOX, "--output", "../full"), "holds other files already: name a folder that does not exist"),
    "output is a file": ((*FOX, "--output", "../empty.txt"), "is a file"),
    "model config": ((*FOX, "--model-config", "../full"), "no model_index.json"),
    "no-freeu and preset": (("generate", "a", "--no-freeu", "--preset", "sdxl"), "leaves nothing for FreeU's own"),
    "no manifest": (("generate", "--from", "nowhere.json"), "cannot read nowhere.json: no such file"),
    "broken manifest": (("generate", "--from", "../broken.json"), "broken.json is not JSON"),
    "another JSON": (("generate", "--from", "../other.json"), "does not hold a JSON object"),
    "another object": (("generate", "--from", "../object.json"), "it lacks"),
    "future manifest": (("generate", "--from", "../future.json"), "a newer freeu may read it"),
    "short manifest": (("generate", "--from", "../short.json"), "is damaged: plan has no field 'arms'"),
    "from and more": (("generate", "--from", "../short.json", "--steps", "3"), "leave --steps out"),
    "from and a prompt": (("generate", "a fox", "--from", "../short.json"), "leave the prompt out"),
    "unknown option": ((*FOX, "--sedes", "1"), "No such option: --sedes"),
    "unknown command": (("comprae", "a fox"), "No such command 'comprae'"),
    "no argument": (("inspect",), "Missing argument 'MODEL'"),
    "pairs": (("check", "../sd", "--pairs", "1"), "--pairs must lie in 3 to 1000, got 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_clear_line_and_nothing_written(case: str, work: Path) -> None:
    words, expected = CASES[case]
    before = sorted(path.relative_to(work.parent) for path in work.parent.rglob("*"))
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("freeu: ")
    assert expected in err
    assert sorted(path.relative_to(work.parent) for path in work.parent.rglob("*")) == before


@pytest.mark.parametrize("command", ["compare", "inspect", "check"])
def test_missing_extras_name_the_pip_command(command: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    words = ("compare", "a fox", "--model", "../sd") if command == "compare" else (command, "../sd")
    code, _, err = run(*words)
    assert (code, err) == (2, "freeu: diffusers is not installed: pip install 'freeu[diffusers]'\n")
    assert list(work.iterdir()) == []


def test_a_missing_zoo_names_the_pip_command(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "freeu_zoo", None)
    code, _, err = run("compare", "a fox")
    assert (code, err) == (2, "freeu: freeu_zoo is not installed: pip install 'freeu[demo]'\n")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A hub whose answer a test decides; no request leaves the machine and its cache is empty."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def answer(act: Any) -> None:
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", act)

    return answer


@pytest.mark.parametrize("command", [("compare", "a fox", "--model"), ("inspect",), ("check",)])
def test_a_hub_that_cannot_be_reached(command: tuple[str, ...], hub: Any, work: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    hub(refuse)
    code, _, err = run(*command, "someone/model")
    assert code == 2
    assert err.count("\n") == 1
    assert "someone/model: the hub cannot be reached (ConnectionError): check the network" in err
    assert list(work.iterdir()) == []


def test_a_hub_that_does_not_answer_is_given_up(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from freeu.errors import FreeUValueError
    from freeu.pipelines.models.sources.sources import check_hub

    hub(lambda *_, **__: time.sleep(3))
    began = time.perf_counter()
    with pytest.raises(FreeUValueError, match=r"did not answer within 0\.05 seconds"):
        check_hub("someone/model", 0.05)
    assert time.perf_counter() - began < 2.0


def test_offline_mode_is_respected(hub: Any, monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    import huggingface_hub.constants

    asked: list[object] = []
    hub(lambda *words, **_: asked.append(words))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, _, err = run("compare", "a fox", "--model", "someone/model")
    assert code == 2
    assert "HF_HUB_OFFLINE is set" in err
    assert not asked


def test_a_full_disk_anywhere_is_one_line(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/file")

    monkeypatch.setattr("freeu.pipelines.models.sources.sources.find_model", full)
    code, _, err = run("inspect", "../sd")
    assert (code, err) == (2, "freeu: no space left on the disk (/cache/file): free some and try again\n")


def test_ctrl_c_before_the_first_picture(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("freeu.pipelines.models.sources.sources.find_model", stop)
    assert run("inspect", "../sd") == (130, "", "freeu: stopped\n")
