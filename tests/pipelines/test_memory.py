"""Large models on small machines: the same images and FreeU under offloading, tiles, slices and batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from command_line import run_cli

import freeu
from freeu.config import FreeUConfig
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.memory import Memory, what_to_try
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.runs.generate import generate_images
from freeu.pipelines.runs.in_memory import in_memory

FACTORS = FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))


def _images(pipe: Any) -> tuple[Any, Any, Any]:
    """One image without, with, and again without FreeU."""

    def draw() -> Any:
        image = pipe("a fox", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
        return np.asarray(image).astype(int)

    before = draw()
    with freeu.enabled(pipe, FACTORS) as handle:
        changed = draw()
        handle.verify()
    return before, changed, draw()


@pytest.fixture(scope="module")
def plain(sd_dir: Path) -> Any:
    return _images(load(find_model(str(sd_dir))).pipe)


@pytest.mark.parametrize(
    ("memory", "most"),
    [
        (Memory("model"), 0),
        (Memory(vae_tiling=True), 0),  # images of 16x16 are one tile
        (Memory(attention_slicing=True), 1),  # a grey value, by another order of sums
    ],
)
def test_the_same_images_and_freeu(sd_dir: Path, plain: Any, memory: Memory, most: int) -> None:
    pipe = load(find_model(str(sd_dir)), memory=memory).pipe
    before, changed, after = _images(pipe)
    assert np.abs(before - plain[0]).max() <= most
    assert np.abs(changed - plain[1]).max() <= most
    assert np.abs(changed - before).max() > 1
    assert np.array_equal(before, after)
    assert (memory.offload is None) == (not hasattr(pipe.unet, "_hf_hook"))
    assert pipe.vae.use_tiling == memory.vae_tiling


def test_the_hooks_of_sequential_offloading(sd_dir: Path, plain: Any) -> None:
    pipe = load(find_model(str(sd_dir))).pipe
    accelerate.cpu_offload(pipe.unet, torch.device("cpu"))
    assert next(pipe.unet.parameters()).is_meta
    for found, expected in zip(_images(pipe), plain, strict=True):
        assert np.array_equal(found, expected)


def test_what_cannot_be_done_is_one_line(sd_dir: Path, tmp_path: Path) -> None:
    words = ("generate", "a fox", "--model", sd_dir, "--device", "cpu", "--output", tmp_path / "out")
    outcome = run_cli(*words, "--offload", "sequential")
    assert outcome.code == 2
    assert "--offload sequential needs an accelerator" in outcome.one_line()
    assert not (tmp_path / "out").exists()
    with pytest.raises(FreeUValueError, match="unknown --offload 'all'"):
        Memory("all")


def test_a_vae_whose_tiles_do_not_fit_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("freeu_zoo")
    outcome = run_cli("generate", "a fox", "--vae-tiling", "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "the VAE of mini-sd cannot decode in tiles: leave --vae-tiling out" in outcome.one_line()


def test_runs_are_recorded_printed_and_reproduced(sd_dir: Path, tmp_path: Path) -> None:
    saving = ("--batch", "2", "--offload", "model", "--vae-tiling", "--attention-slicing")
    words = ("compare", "a fox", "a car", "-n", "2", "--steps", "2", "--threads", "1", "--device", "cpu", *saving)
    outcome = run_cli(*words, "--model", sd_dir, "--json", "--output", tmp_path / "one")
    assert outcome.code == 0
    assert "--offload model saves nothing on the cpu" in outcome.one_line()
    assert outcome.loading == ("freeu: loading tiny-sd ...\n",)
    data = json.loads(outcome.out)
    assert data["folder"] == str(tmp_path / "one")
    assert [Path(one).name for one in data["files"]] == ["compare.html", "grid.png", "manifest.json"]
    assert [(one["seed"], one["arm"]) for one in data["images"][:4]] == [
        (0, "baseline"),
        (0, "freeu"),
        (1, "baseline"),
        (1, "freeu"),
    ]
    plan = json.loads((tmp_path / "one" / "manifest.json").read_text())["plan"]
    names = ("batch", "offload", "vae_tiling", "attention_slicing")
    assert [plan[name] for name in names] == [2, "model", True, True]
    page = (tmp_path / "one" / "compare.html").read_text(encoding="utf-8")
    assert "--offload model --vae-tiling --attention-slicing --batch 2" in page
    again = json.loads(run_cli("generate", "--from", tmp_path / "one", "--json", "--output", tmp_path / "two").out)
    assert len(again["bit_identical"]) == 8
    # Without anything that saves memory, the plan says nothing of it.
    plain = run_cli(*words[: -len(saving)], "--model", sd_dir, "--quiet", "--output", tmp_path / "three")
    assert (plain.code, plain.out, plain.err, plain.loading) == (0, "", "", ())
    assert not set(names) & json.loads((tmp_path / "three" / "manifest.json").read_text())["plan"].keys()


def test_a_batch_holds_one_arm(sd_dir: Path) -> None:
    pipe = load(find_model(str(sd_dir))).pipe
    _, plan = in_memory(pipe, ["a", "b", "c"], [0], FACTORS, steps=2)
    from dataclasses import replace

    both = replace(plan, arms=("baseline", "freeu"), batch=2)
    assert [[(one.index, one.arm) for one in batch] for batch in both.batches()] == [
        [(0, "baseline"), (1, "baseline")],
        [(0, "freeu"), (1, "freeu")],
        [(2, "baseline")],
        [(2, "freeu")],
    ]
    single = replace(both, batch=1)
    assert [one for batch in single.batches() for one in batch] == list(single.images())


def test_out_of_memory_names_what_to_try(sd_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(find_model(str(sd_dir)))
    _, plan = in_memory(loaded.pipe, ["a"], [0], FACTORS, steps=2)

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loaded.pipe.unet, "forward", fail)
    with pytest.raises(FreeURuntimeError, match=r"out of memory at 16x16 in float32: try --vae-tiling, --attention"):
        generate_images(loaded.pipe, plan, tuple(plan.images())[:1])
    assert what_to_try(Memory(), "cuda", 4, "float32", True).startswith(
        "a smaller --batch than 4, --dtype float16, --vae-tiling, --offload model, --attention-slicing"
    )
    assert "--offload sequential" in what_to_try(Memory("model", True, True), "cuda", 1, "float16", True)
    assert (
        what_to_try(Memory("sequential", True, True), "cuda", 1, "float16", True) == "a smaller --size or --device cpu"
    )
    assert what_to_try(Memory(vae_tiling=True, attention_slicing=True), "cpu", 1, "float32", True) == "a smaller --size"


def test_the_random_baseline_of_an_offloaded_model(sd_dir: Path, plain: Any) -> None:
    from functools import partial

    from freeu.analysis.analyze import random_unet
    from freeu.pipelines.models.memory import place

    memory = Memory("model", attention_slicing=True)
    pipe = load(find_model(str(sd_dir)), memory=memory).pipe
    trained = pipe.unet
    with random_unet(pipe, put=partial(place, device="cpu", memory=memory, label="tiny-sd")):
        assert pipe.unet is not trained
        assert hasattr(pipe.unet, "_hf_hook")
        assert np.abs(_images(pipe)[0] - plain[0]).max() > 1
    assert pipe.unet is trained
    assert np.abs(_images(pipe)[0] - plain[0]).max() <= 1
