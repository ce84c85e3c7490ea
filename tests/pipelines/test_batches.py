"""Several images by one call of the pipeline, and a U-Net computed in another format: the same images up to rounding,
resumed and reproduced to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run_cli as run
from PIL import Image

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.models.loading import load, pick_autocast
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.options.run import SpeedOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs.generate import autocast, channels_last, generate_images
from freeu.pipelines.runs.manifest import read_manifest
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.runs.prepare import default_batch, prepare
from freeu.pipelines.runs.request import Request, check_request

PROMPTS = ("a 3d fox on a blue background", "two flat cars on a red background", "a line star on a green background")


@pytest.fixture(scope="module")
def mini() -> Any:
    pytest.importorskip("freeu_zoo")
    return load(find_model(None))


def plan_of(mini: Any, tmp_path: Path, **changes: Any) -> Plan:
    sampling = SamplingOptions(seeds="0-1", steps=2, width=64, height=64)
    request = Request("generate", PROMPTS, sampling, speed=SpeedOptions(changes.pop("batch", None)))
    plan = prepare(request, check_request(request, tmp_path / "new")).plan
    return replace(plan, **changes)


@pytest.mark.parametrize("config", [None, FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2), start=0.5)])
@pytest.mark.parametrize("negative", ["", "a flat dog"])
def test_a_batch_is_its_images_one_by_one(mini: Any, tmp_path: Path, config: Any, negative: str) -> None:
    arms = ("baseline",) if config is None else ("freeu",)
    plan = plan_of(mini, tmp_path, config=config, arms=arms, negative_prompt=negative, batch=4, autocast=None)
    (first, second) = plan.batches()
    assert (len(first), len(second)) == (4, 2)
    assert (*first, *second) == tuple(plan.images())
    for batch in (first, second):
        together = generate_images(mini.pipe, plan, batch)
        for planned, (image, _) in zip(batch, together, strict=True):
            ((alone, _),) = generate_images(mini.pipe, plan, (planned,))
            # 8-bit images of sums in another order: a grey value at most.
            assert np.abs(np.asarray(image, int) - np.asarray(alone, int)).max() <= 1


def test_the_memory_format_of_a_batch_is_that_of_its_calls_alone(mini: Any, tmp_path: Path) -> None:
    unet = mini.pipe.unet
    kernels = [value for value in unet.parameters() if value.dim() == 4]
    before = [(value.clone(), value.stride()) for value in kernels]
    seen: list[bool] = []

    def look(*_: Any) -> None:
        seen.append(all(value.is_contiguous(memory_format=torch.channels_last) for value in kernels))

    hook = unet.register_forward_pre_hook(look)
    try:
        for size, expected in ((4, True), (1, False)):
            plan = plan_of(mini, tmp_path, batch=size, autocast=None)
            generate_images(mini.pipe, plan, next(iter(plan.batches())))
            assert set(seen) == {expected}
            seen.clear()
    finally:
        hook.remove()
    with pytest.raises(ZeroDivisionError), channels_last(unet, True):
        raise ZeroDivisionError
    for value, (old, stride) in zip(kernels, before, strict=True):
        assert torch.equal(value, old)
        assert value.stride() == stride


def test_the_format_of_the_unet_is_that_of_its_calls_alone(mini: Any) -> None:
    unet = mini.pipe.unet
    x, t, c = torch.randn(2, 4, 16, 16), torch.tensor(500), torch.randn(2, 32, 128)
    seen: list[torch.dtype] = []
    watch = unet.conv_in.register_forward_hook(lambda _module, _args, output: seen.append(output.dtype))
    with torch.no_grad():
        before = unet(x, t, c).sample
        with autocast(unet, "bfloat16"):
            for found in (unet(x, t, c).sample, unet(x, t, c, return_dict=False)[0]):
                assert found.dtype == torch.float32
                assert 0.0 < float((found - before).abs().max()) < 0.05 * float(before.abs().max())
            assert not torch.is_autocast_enabled("cpu")
            with pytest.raises(RuntimeError):
                unet(x[:, :3], t, c)
            assert not torch.is_autocast_enabled("cpu")
        assert torch.equal(unet(x, t, c).sample, before)
    watch.remove()
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float32]
    assert not unet._forward_hooks
    assert not unet._forward_pre_hooks


def test_what_auto_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert pick_autocast("auto", "cpu") == "bfloat16"
    assert pick_autocast("float32", "cpu") is None
    assert pick_autocast("auto", "cuda") is None
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert pick_autocast("auto", "cpu") is None
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):  # of torch versions that do not tell
        monkeypatch.delattr(torch.cpu, name)
    assert pick_autocast("auto", "cpu") is None


def test_the_size_of_a_batch(mini: Any, tmp_path: Path) -> None:
    plan = plan_of(mini, tmp_path)
    assert plan.batch == 32  # as many of 64x64 as one may be
    assert default_batch(replace(plan, width=512, height=512)) == 1
    assert default_batch(replace(plan, width=1024, height=1024, device="cuda")) == 2
    assert Plan.from_dict(plan.to_dict()) == plan
    assert "batch" not in replace(plan, batch=1, autocast=None).to_dict()
    with pytest.raises(FreeUValueError, match="batch is not usable: 4"):
        replace(plan, batch=4, task="image")


def test_arms_of_an_evaluation_are_resumed_and_reproduced_to_the_bit(tmp_path: Path) -> None:
    pytest.importorskip("freeu_zoo")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    folder = tmp_path / "out"
    words = ("evaluate", "--prompts", prompts, "--arms", "none,sd14", "--seeds", "0-1", "--steps", 1, "--threads", 1)
    words += ("--width", 64, "--height", 64, "--judge", "none", "--batch", 4, "--output", folder)
    assert run(*words)[0] == 0
    arm = folder / "arm-1-sd14"
    made = read_manifest(arm)
    assert (made.plan.batch, len(made.images)) == (4, 6)
    lost = sorted(arm.glob("*.png"))[-1]
    pixels = Image.open(lost).tobytes()
    kept = {path: path.stat().st_mtime_ns for path in arm.glob("*.png")}
    lost.unlink()
    (folder / "results.json").unlink()
    assert run(*words)[0] == 0
    assert Image.open(lost).tobytes() == pixels
    # Of the first batch nothing was missing.
    assert sum(path.stat().st_mtime_ns == before for path, before in kept.items() if path.exists()) >= 4
    again = tmp_path / "again"
    code, said, err = run("generate", "--from", arm / "manifest.json", "--output", again)
    assert (code, err) == (0, "")
    assert "identical" in said
    code, _, err = run("generate", "--from", lost, "--output", tmp_path / "one")
    assert code == 2
    assert "give the manifest.json beside it" in err


def test_several_at_once_are_refused_where_they_cannot_be(tmp_path: Path) -> None:
    pytest.importorskip("freeu_zoo")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a 3d rocket flying up on a blue background")
    words = ("evaluate", "mini-modelscope", "--prompts", prompts, "--arms", "none", "--frames", 2, "--steps", 1)
    code, _, err = run(*words, "--judge", "none", "--batch", 2, "--output", tmp_path / "out")
    assert (code, err) == (2, "freeu: --batch 2: only text-to-image generates several at once: leave it out\n")
    assert run("evaluate", "--prompts", prompts, "--batch", 0, "--output", tmp_path / "out")[0] == 2
