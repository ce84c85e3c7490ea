"""A1111's text in our images, and ``compare --like``: what is written is read back, by us and by A1111's rules."""

from __future__ import annotations

import io
import json
import re
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import freeu
from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.foreign.parameters import MAX_CHARACTERS, Parameters, read_parameters, write_parameters
from freeu.metadata import read_parameters_of, read_png
from freeu.metadata.fields import freeu_fields
from freeu.pipelines.models.infotext import infotext, sampler_of
from freeu.pipelines.models.schedulers import SAMPLERS
from freeu.pipelines.options.like import read_image_settings
from freeu.pipelines.runs.manifest import read_manifest

# What stable-diffusion-webui finds settings by.
RE_PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
WEBUI = """portrait of a fox, (sharp:1.2), <lora:fur_v2:0.8>
second line
Negative prompt: blurry, bad: hands
and more
Steps: 24, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 965400086, Size: 512x768, \
Model hash: 45dee52b, Model: dreamshaper_8, Clip skip: 2, Lora hashes: "fur_v2: abc, x: y", Version: v1.9.3"""


def png(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize(
    "found",
    [
        Parameters("a fox", "", {"Steps": "20", "Sampler": "Euler a", "Size": "8x8"}),
        Parameters("a fox, red: one\nNegative", "no, more", {"Steps": "1", "Model": 'a, "b": \\c', "Seed": "3"}),
        Parameters("ein grüner Apfel 日本", "", {"Steps": "20", "CFG scale": "7", "Seed": "1", "FreeU": "b1=1.1 v=2"}),
    ],
)
def test_texts_come_back(found: Parameters) -> None:
    text = write_parameters(found)
    assert read_parameters(text) == found
    theirs = {
        name: json.loads(value) if value[:1] == '"' else value for name, value in RE_PARAM.findall(text.split("\n")[-1])
    }
    assert theirs == found.fields


def test_a_text_of_webui() -> None:
    found = read_parameters(WEBUI)
    assert found.prompt == "portrait of a fox, (sharp:1.2), <lora:fur_v2:0.8>\nsecond line"
    assert found.negative_prompt == "blurry, bad: hands\nand more"
    assert found.fields["Lora hashes"] == "fur_v2: abc, x: y"
    assert found.fields["Size"] == "512x768"
    alone = read_parameters("a fox: red, b: c")
    assert (alone.prompt, alone.fields) == ("a fox: red, b: c", {})


@pytest.mark.parametrize(
    "text", ["a" * 10**6, "a:," * 10**5, 'x: "' * 10**5, "\\" * 10**5, ": , " * 10**5, "\n" * 10**6]
)
def test_hostile_texts_are_read_in_no_time(text: str) -> None:
    began = time.perf_counter()
    found = read_parameters(text)
    assert time.perf_counter() - began < 5
    assert len(found.prompt) <= MAX_CHARACTERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_come_back(name: str) -> None:
    sampler = SAMPLERS[name]
    settings: dict[str, Any] = {"prompt": "a", "negative_prompt": "", "steps": 4, "guidance": 7.5, "seed": 1}
    settings |= {"width": 8, "height": 8, "model": {"name": "m"}, "scheduler": name, "config": None, "environment": {}}
    assert sampler_of(read_parameters(infotext(settings)).fields) == name
    # The same of a model whose own sampler it is.
    own = {"sampler": {"class": sampler.cls, "settings": {"use_karras_sigmas": False, **sampler.settings}}}
    assert sampler_of(read_parameters(infotext({**settings, "scheduler": None, "used": own})).fields) == name


def test_samplers_of_webui() -> None:
    assert sampler_of({"Sampler": "DPM++ 2M Karras"}) == "dpm++2m-karras"
    assert sampler_of({"Sampler": "DPM++ 2M", "Schedule type": "Automatic"}) == "dpm++2m-karras"
    assert sampler_of({"Sampler": "DPM++ 2M"}) == "dpm++2m"
    assert sampler_of({"Sampler": "Euler a", "Schedule type": "Automatic"}) == "euler-a"
    assert sampler_of({}) is None
    with pytest.raises(FreeUValueError):
        sampler_of({"Sampler": "Restart of the future"})


def test_freeu_in_the_words_of_the_extension() -> None:
    config = freeu.FreeUConfig(b=(1.2, 1.4), s=(0.9, 0.2), version=2, start=0.2, end=0.8)
    fields = freeu_fields(config)
    assert json.loads(fields["FreeU Stages"]) == [
        {"backbone_factor": 1.2, "skip_factor": 0.9},
        {"backbone_factor": 1.4, "skip_factor": 0.2},
    ]
    assert (fields["FreeU Schedule"], fields["FreeU Version"]) == ("0.2, 0.8, 0.0", "2")
    assert freeu.FreeUConfig.parse(fields["FreeU"]) == config
    half = json.loads(freeu_fields(config.replace(strength=0.5))["FreeU Stages"])
    assert half[1] == {"backbone_factor": 1.2, "skip_factor": 0.6}
    for other in ({"profile": "diffusers"}, {"threshold": 2}, {"dc": "keep"}, {"ramp": 0.1}, {"b_window": (0.0, 0.5)}):
        changed = config.replace(**other)
        assert freeu_fields(changed) == {"FreeU": str(changed)}, other


def test_images_carry_both_texts(compared: tuple[Path, Any]) -> None:
    folder, _ = compared
    on = read_parameters_of(folder / "p001-s0004-freeu.png")
    assert on is not None
    inside = read_png(folder / "p001-s0004-freeu.png")
    assert on.prompt == inside["prompt"] == "ein grüner Apfel <b>&</b> 日本"
    assert on.fields["Seed"] == "4"
    assert on.fields["Steps"] == "2"
    assert on.fields["Size"] == "16x16"
    assert on.fields["Model"] == "tiny-sd"
    assert "FreeU Stages" in on.fields
    off = read_parameters_of(folder / "p001-s0004-baseline.png")
    assert off is not None
    assert not [name for name in off.fields if name.startswith("FreeU")]
    assert inside["used"]["sampler"]["class"] == "DDIMScheduler"


def test_what_was_used_stands_in_the_manifest(compared: tuple[Path, Any]) -> None:
    manifest = read_manifest(compared[0])
    used = manifest.used
    assert used["sampler"]["class"] == "DDIMScheduler"
    assert used["sampler"]["settings"]["num_train_timesteps"] == 1000
    for part in ("vae", "text_encoder"):
        assert re.fullmatch("[0-9a-f]{32}", used[part]["weights"])
        assert used[part]["dtype"] == "float32"
    assert f"({used['sampler']['class']})" in (compared[0] / "compare.html").read_text(encoding="utf-8")


def test_another_vae_is_another_identity(parts: Any) -> None:
    import torch

    from freeu.pipelines.models.used import used_parts

    class Pipe:
        vae = parts.vae()

        class scheduler:  # noqa: N801
            config = types.MappingProxyType({"steps": 3, "_private": 1, "betas": float("inf")})

    before = used_parts(Pipe)
    json.dumps(before, allow_nan=False)
    assert "_private" not in before["sampler"]["settings"]
    with torch.no_grad():
        next(Pipe.vae.parameters()).add_(1e-3)
    assert used_parts(Pipe)["vae"]["weights"] != before["vae"]["weights"]


class TestLike:
    def test_our_own(self, compared: tuple[Path, Any], sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
        like = compared[0] / "p001-s0004-baseline.png"
        words = ("compare", "--like", like, "--model", sd_dir, "--threads", "1", "--output")
        outcome = cli(*words, tmp_path / "same")
        assert outcome.code == 0
        then, now = read_manifest(compared[0]), read_manifest(tmp_path / "same")
        record = now.images["p000-s0004-baseline.png"]
        assert record.prompt == then.plan.prompts[1]
        assert record.sha256 == then.images["p001-s0004-baseline.png"].sha256
        # The words of the command line win, also those that are the default.
        outcome = cli(*words, tmp_path / "other", "a cat", "--seed", "0", "--negative-prompt", "", "--steps", "3")
        plan = read_manifest(tmp_path / "other").plan
        assert (plan.prompts, plan.seeds, plan.steps) == (("a cat",), (0,), 3)

    def test_webui(self, sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
        like = png(
            tmp_path / "theirs.png", parameters=WEBUI.replace("512x768", "24x16").replace("Steps: 24", "Steps: 2")
        )
        outcome = cli("compare", "--like", like, "--model", sd_dir, "--threads", "1", "--output", tmp_path / "out")
        assert outcome.code == 0
        plan = read_manifest(tmp_path / "out").plan
        assert plan.prompts == ("portrait of a fox, (sharp:1.2),\nsecond line",)
        assert plan.negative_prompt == "blurry, bad: hands\nand more"
        assert (plan.seeds, plan.steps, plan.guidance) == ((965400086,), 2, 6.5)
        assert (plan.width, plan.height, plan.scheduler) == (24, 16, "dpm++2m-karras")
        told = outcome.err.splitlines()
        assert told[0] == f"freeu: of {like}, not taken: Clip skip 2, lora fur_v2 (--lora)"

    def test_freeu_of_our_own(
        self, compared: tuple[Path, Any], sd_dir: Path, cli: Callable[..., Any], tmp_path: Path
    ) -> None:
        like = compared[0] / "p001-s0004-freeu.png"
        words = ("generate", "--like", like, "--model", sd_dir, "--threads", "1", "--output")
        assert cli(*words, tmp_path / "same").code == 0
        then, now = read_manifest(compared[0]), read_manifest(tmp_path / "same")
        assert now.plan.config == then.plan.config
        assert now.images["p000-s0004-freeu.png"].sha256 == then.images["p001-s0004-freeu.png"].sha256
        # What is given wins: a field of it, all of it, or none.
        assert "end=0.5" in cli(*words, tmp_path / "x", "--end", "0.5", "--dry-run").out
        assert "FreeU: b1=1.2 b2=1.0" in cli(*words, tmp_path / "x", "--b", "1.2,1", "--dry-run").out
        off = cli(*words, tmp_path / "x", "--no-freeu", "--dry-run")
        assert (off.code, "FreeU: None" in off.out, off.err) == (0, False, "")
        # Without FreeU nothing is said of it, and the command does what it always does.
        without = cli("generate", "--like", compared[0] / "p001-s0004-baseline.png", "--model", sd_dir, "--dry-run")
        assert "as recommended for the model" in without.out

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            (
                'FreeU Stages: "[{\\"backbone_factor\\": 1.2, \\"skip_factor\\": 0.9}, '
                '{\\"backbone_factor\\": 1.4, \\"skip_factor\\": 0.2}]", '
                'FreeU Schedule: "0.0, 1.0, 0.0", FreeU Version: 2',
                "b1=1.2 b2=1.4 s1=0.9 s2=0.2 v=2 profile=a1111",
            ),
            (
                'FreeU Stages: "[{}, {}, {\\"skip_factor\\": 0.5}]", FreeU Schedule: "6, 0.75, 0.0", FreeU Version: 1',
                "b1=1.0 b2=1.0 b3=1.0 s1=1.0 s2=1.0 s3=0.5 v=1 profile=a1111 start=0.25 end=0.75",
            ),
            (
                "freeu_enabled: True, freeu_b1: 1.01, freeu_b2: 1.02, freeu_s1: 0.99, freeu_s2: 0.95",
                "b1=1.01 b2=1.02 s1=0.99 s2=0.95 v=2 profile=comfyui",
            ),
            (
                "freeu_enabled: True, freeu_b1: 1.3, freeu_b2: 1.4, freeu_s1: 0.9, freeu_s2: 0.2, freeu_end: 0.7",
                "b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 profile=comfyui end=0.7",
            ),
            ("freeu_enabled: False", None),
            ("Clip skip: 2", None),
        ],
    )
    def test_freeu_of_other_tools(self, tmp_path: Path, fields: str, expected: str | None) -> None:
        text = f"a fox\nSteps: 24, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, {fields}"
        found = read_image_settings(png(tmp_path / "a.png", parameters=text))
        assert found.freeu == (None if expected is None else str(FreeUConfig.parse(expected)))
        assert not [one for one in found.left if "FreeU" in one]

    @pytest.mark.parametrize(
        "fields",
        [
            'FreeU Stages: "[{\\"backbone_factor\\": 1.2, \\"backbone_width\\": 0.3}]"',
            'FreeU Stages: "[{\\"backbone_factor\\": \\"x\\"}]"',
            'FreeU Stages: "[{\\"skip_high_end_factor\\": 1.1}]"',
            'FreeU Stages: "[{}, {}]", FreeU Schedule: "0.0, 1.0, 0.5"',
            'FreeU Stages: "[{}, {}]", FreeU Version: 3',
            'FreeU Stages: "[[[[["',
            'FreeU: "b1=1.2 s@\\u001b[2J=3"',
            "freeu_enabled: True, freeu_b1: x",
        ],
    )
    def test_freeu_that_cannot_be_taken_is_named(self, tmp_path: Path, fields: str) -> None:
        text = f"a fox\nSteps: 24, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, {fields}"
        found = read_image_settings(png(tmp_path / "a.png", parameters=text))
        assert found.freeu is None
        assert found.left[0].startswith("FreeU (")
        assert "\x1b" not in "".join(found.left)

    def test_exactly_or_alike(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        outcome = cli("generate", "--from", tmp_path / "a.png", "--like", tmp_path / "a.png")
        assert outcome.code == 2
        assert "give one of them" in outcome.one_line()

    def test_what_is_left_is_one_line(self, tmp_path: Path) -> None:
        found = read_image_settings(png(tmp_path / "a.png", parameters=WEBUI))
        assert "Model dreamshaper_8 (--model)" in found.left
        odd = WEBUI.replace("Sampler: DPM++ 2M", "Sampler: Magic\x1b[2J")
        found = read_image_settings(png(tmp_path / "b.png", parameters=odd))
        assert found.sampling["scheduler"] is None
        assert "\x1b" not in "".join(found.left)
        many = "a\nSteps: 1, " + ", ".join(f"Field {number}: {number}" for number in range(500))
        assert len(read_image_settings(png(tmp_path / "c.png", parameters=many)).left) == 9

    @pytest.mark.parametrize(
        ("texts", "message"),
        [
            ({}, "holds no settings"),
            ({"parameters": "a\nSteps: x, Seed: 1, Size: 8x8"}, "its steps is no whole number from 1 to 1000: x"),
            ({"parameters": "a\nSteps: 2, Seed: -1, Size: 8x8"}, "its seed is no whole number"),
            ({"parameters": f"a\nSteps: 2, Seed: {'9' * 10000}, Size: 8x8"}, "its seed is no whole number"),
            ({"parameters": "a\nSteps: 2, Seed: 1, Size: 8x99999999"}, "its size is no whole number"),
            ({"parameters": "a\nSteps: 2, Seed: 1, CFG scale: nan"}, "its CFG scale is no number from 0 to 100"),
            ({"parameters": "a\nSteps: 2, Seed: 1, CFG scale: __import__('os')"}, "its CFG scale is no number"),
            ({"parameters": "Steps: 2, Seed: 1, Size: 8x8"}, "has no prompt: give one"),
            ({"parameters": "x" * 300_000}, "has more than 200000 characters"),
        ],
    )
    def test_bad_files_are_one_line(
        self, cli: Callable[..., Any], tmp_path: Path, texts: dict[str, str], message: str
    ) -> None:
        outcome = cli("compare", "--like", png(tmp_path / "a.png", **texts), "--output", tmp_path / "out")
        assert outcome.code == 2
        assert message in outcome.one_line()
        assert not (tmp_path / "out").exists()

    def test_our_own_damaged(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        from freeu.metadata import png_bytes

        for number, settings in enumerate(({"model": 3}, {"model": {"name": []}, "prompt": 1}, {"task": "video"})):
            path = tmp_path / f"{number}.png"
            path.write_bytes(png_bytes(Image.new("RGB", (8, 8)), settings))
            outcome = cli("compare", "--like", path, "--output", tmp_path / "out")
            assert outcome.code == 2
            assert str(path) in outcome.one_line()

    def test_hostile_parts_are_one_line(
        self, compared: tuple[Path, Any], cli: Callable[..., Any], tmp_path: Path
    ) -> None:
        from freeu.metadata import png_bytes

        inside = read_png(compared[0] / "p000-s0003-baseline.png")
        for number, used in enumerate(([1], {"sampler": 3}, "x")):
            path = tmp_path / f"{number}.png"
            path.write_bytes(png_bytes(Image.new("RGB", (16, 16)), {**inside, "used": used}))
            for words in (("generate", "--from", path), ("compare", "--like", path, "--model", "other")):
                outcome = cli(*words, "--output", tmp_path / "out")
                assert outcome.code == 2
                assert len(outcome.err.splitlines()) == 1
            assert not (tmp_path / "out").exists()

    def test_compressed_texts_are_read(self, tmp_path: Path) -> None:
        info = PngInfo()
        info.add_text("parameters", WEBUI, zip=True)
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, format="PNG", pnginfo=info)
        (tmp_path / "z.png").write_bytes(buffer.getvalue())
        assert b"zTXt" in buffer.getvalue()
        assert read_parameters_of(tmp_path / "z.png") == read_parameters(WEBUI)
