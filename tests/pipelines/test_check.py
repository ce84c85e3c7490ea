"""``freeu check`` and ``freeu inspect`` on real classes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import freeu
from freeu.config import FreeUConfig
from freeu.pipelines.check import check as checks
from freeu.pipelines.models.describe import describe
from freeu.pipelines.models.loading import Loaded, load
from freeu.pipelines.models.memory import Memory
from freeu.pipelines.models.sources.sources import find_model


@pytest.fixture(scope="module")
def loaded(sd_dir: Path) -> Loaded:
    return load(find_model(str(sd_dir)))


def test_check_passes_and_writes_its_report(
    sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a model this small the hooks' fixed price shows; the limits themselves are tested below.
    monkeypatch.setattr(checks, "MAX_SHARE", 1.0)
    outcome = cli("check", sd_dir, "--pairs", "3", "--threads", "1", "--output", tmp_path / "report")
    assert (outcome.code, outcome.err) == (0, "")
    names = [line.split()[1] for line in outcome.out.splitlines() if line.startswith("pass")]
    assert names == ["sites:", "parity:", "restore:", "overhead:"]
    assert "6 concatenations; touched: official 5, diffusers 4, comfyui 5, a1111 5" in outcome.out
    assert "bit-identical after removal" in outcome.out

    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert data["passed"] is True
    assert data["checks"][1]["worst"] <= 2e-6
    assert data["model"]["block_out_channels"] == [8, 16, 32]
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.startswith("# FreeU on tiny-sd: passed\n")
    assert "| up_blocks.0.resnets.0 | CrossAttnUpBlock2D | 32 | 32 | 1 |" in text
    assert str(sd_dir.parent) not in text + json.dumps(data), "a report that is passed on tells no path"

    outcome = cli("check", sd_dir, "--output", tmp_path / "report")
    assert outcome.code == 2
    assert "holds other files already" in outcome.one_line()


def test_networks_that_do_not_compute_may_wait_elsewhere(sd_dir: Path) -> None:
    saving = load(find_model(str(sd_dir)), memory=Memory("model", attention_slicing=True))
    _, verdicts = checks.check_model(saving, FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2)), "a fox", 3, lambda _: None)
    assert [one.name for one in verdicts if one.passed][:3] == ["sites", "parity", "restore"]


def test_a_wrong_operator_fails_parity(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    config = FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))
    step = checks.capture_step(loaded, "a fox")
    with torch.no_grad():
        assert checks.check_parity(loaded.pipe.unet, config, step).passed
        published = checks._published
        monkeypatch.setattr(
            checks,
            "_published",
            lambda site, x, config, at, high: published(site, x, config, dataclasses.replace(at, s=0.99 * at.s), high),
        )
        verdict = checks.check_parity(loaded.pipe.unet, config, step)
    assert not verdict.passed
    assert verdict.data["worst"] > 1e-4


@pytest.mark.parametrize(
    "fields",
    [
        {"profile": "a1111"},
        {"channels": "even"},
        {"channels": (0.25, 0.75), "version": 1},
        {"strength": 0.5, "high_gain": 1.4},
        {"mask": "gaussian", "channels": "all", "strength": 0.3},
        {"dc": "keep", "skip_gain": 0.8, "high_gain": 1.1, "strength": 0.5},
        {"dc": "only", "skip_gain_ends": (0.5, 1.0)},
        {"profile": "a1111", "version": 2, "b": (1.3, 1.4, 1.2), "s": (0.9, 0.2, 0.5)},
    ],
)
def test_parity_knows_every_field(loaded: Loaded, fields: dict[str, Any]) -> None:
    import torch

    config = FreeUConfig(**({"b": (1.3, 1.4), "s": (0.9, 0.2)} | fields))
    with torch.no_grad():
        verdict = checks.check_parity(loaded.pipe.unet, config, checks.capture_step(loaded, "a fox"))
    assert verdict.passed, verdict.text


def test_what_depends_on_the_pipeline_is_left_aside(loaded: Loaded) -> None:
    config = FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2), start=0.5, guidance="conditional")
    _, verdicts = checks.check_model(loaded, config, "a fox", 1, lambda verdict: None)
    assert {verdict.name: verdict.passed for verdict in verdicts if verdict.name != "overhead"} == {
        "sites": True,
        "parity": True,
        "restore": True,
    }


def test_leftovers_fail_the_restoration(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    step = checks.capture_step(loaded, "a fox")
    removed = freeu.Handle.remove

    def forgetful(handle: Any) -> None:
        removed(handle)
        weight = handle.model.conv_out.weight
        weight.data = weight.data + 1e-3

    monkeypatch.setattr(freeu.Handle, "remove", forgetful)
    kept = loaded.pipe.unet.conv_out.weight.data
    try:
        with torch.no_grad():
            verdict = checks.check_restore(loaded.pipe.unet, FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2)), step)
    finally:
        loaded.pipe.unet.conv_out.weight.data = kept
    assert not verdict.passed
    assert "NOT equal" in verdict.text


def test_slow_hooks_fail_the_overhead(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(checks, "MAX_RATIO", 0.0)
    monkeypatch.setattr(checks, "MAX_SHARE", 0.0)
    step = checks.capture_step(loaded, "a fox")
    with torch.no_grad():
        verdict = checks.check_overhead(loaded.pipe.unet, FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2)), step, 3)
    assert not verdict.passed
    assert verdict.data["pairs"] == 3
    low, high = verdict.data["hooks_share_interval"]
    assert 0 < low <= high
    assert f"[{low:.2%}, {high:.2%}] of a step" in verdict.text
    assert "in 3 pairs, whose intervals cover 75%" in verdict.text


def test_intervals_of_few_pairs_say_what_they_cover() -> None:
    import random

    draw = random.Random(1).gauss
    for count in (3, 5, 12):
        hits = 0
        for _ in range(2000):
            low, high = checks.bootstrap_interval([draw(0, 1) for _ in range(count)], draws=200)
            hits += low <= 0 <= high
        assert abs(hits / 2000 - checks.coverage(count)) < 0.035, count
    assert checks.bootstrap_interval([2.0, 1.0, 3.0]) == (1.0, 3.0)
    assert (checks.coverage(5), checks.coverage(6)) == (0.9375, 0.95)


def test_a_failed_check_ends_with_code_1_and_still_reports(
    sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(checks, "check_parity", broken)
    monkeypatch.setattr(checks, "MAX_SHARE", 1.0)
    outcome = cli("check", sd_dir, "--pairs", "3", "--output", tmp_path / "r")
    assert outcome.code == 1
    assert "failed: parity" in outcome.one_line()
    assert "FAIL  parity: RuntimeError: two lines" in outcome.out
    assert "**FAIL**" in (tmp_path / "r" / "report.md").read_text()


def test_the_bootstrap_interval_holds_the_median() -> None:
    low, high = checks.bootstrap_interval([1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98])
    assert 0.9 <= low <= 1.0 <= high <= 1.1
    assert checks.bootstrap_interval([2.0]) == (2.0, 2.0)


# Base width, layers, blocks: the published shapes of Stable Diffusion 1.5 and XL, on torch's meta device.
_SHAPES = {
    "sd15": {
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "sample_size": 64,
    },
    "sdxl": {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "sample_size": 128,
    },
}


@pytest.mark.parametrize(("shape", "concatenations", "official", "diffusers"), [("sd15", 12, 10, 6), ("sdxl", 9, 7, 6)])
def test_inspect_counts_the_sites_of_published_shapes(
    shape: str, concatenations: int, official: int, diffusers: int, cli: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / shape
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel", **_SHAPES[shape]}))
    outcome = cli("inspect", folder, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    data = json.loads(outcome.out)
    assert data["concatenations"] == len(data["sites"]) == concatenations
    assert (data["touched"]["official"], data["touched"]["diffusers"]) == (official, diffusers)
    table = cli("inspect", folder, "--preset", "sdxl-v1").out
    assert "1: 1.1, 0.6" in table
    assert table.splitlines()[-1].split() == ["touched", *(str(count) for count in data["touched"].values())]


def test_inspect_reads_the_configuration_alone(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(sd_dir, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    assert cli("inspect", bare, "--json").code == 0
    assert cli("inspect", bare / "unet", "--json").code == 0
    data = json.loads((bare / "unet" / "config.json").read_text())
    (bare / "unet" / "config.json").write_text(json.dumps({**data, "_class_name": "UNetOfTomorrow"}))
    outcome = cli("inspect", bare)
    assert outcome.code == 2
    assert "knows no U-Net class 'UNetOfTomorrow'" in outcome.one_line()


def test_describe_tells_stage_and_factors(loaded: Loaded) -> None:
    data = describe(loaded.pipe, "tiny", FreeUConfig(b=(1.3, 1.4, 1.5), s=(0.9, 0.2, 0.1)))
    last = data["sites"][-1]["profiles"]
    assert last["official"] == {"stage": 3, "b": 1.5, "s": 0.1, "g": 1.0, "touched": True}
    assert last["diffusers"]["touched"] is False
