"""Latent consistency distillation: its mathematics against diffusers, its run, and what it leaves."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 (these imports need what is skipped for)
diffusers = pytest.importorskip("diffusers")

import freeu_zoo
from freeu_zoo import assemble, recipe, train
from freeu_zoo.errors import ZooError
from freeu_zoo.export import lcm as export
from freeu_zoo.training import diffusion
from freeu_zoo.training.distillation import consistency, lcm, lora
from freeu_zoo.training.latents import Latents
from freeu_zoo.training.precision import mixed
from freeu_zoo.world import scenes
from safetensors.torch import load_file

KEPT = diffusion.scheduler().alphas_cumprod
FORMS = ("mini-lcm", "mini-lcm-unet")


def quiet(line: str) -> None:
    """Says nothing."""


def latents(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


# -- mathematics ----------------------------------------------------------------------------------------------------


def test_at_timestep_0_the_consistency_function_is_the_identity() -> None:
    noisy, v = latents(3, 0), 100 * latents(3, 1)
    found = consistency.consistency(noisy, v, torch.zeros(3, dtype=torch.long), KEPT)
    torch.testing.assert_close(found, noisy, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [20, 50])
def test_the_sampler_computes_the_same_function(steps) -> None:
    """``LCMScheduler`` over the same timesteps: its ``denoised`` is the consistency function."""
    shipped = recipe.shipped("mini-lcm")
    shipped = dataclasses.replace(shipped, lcm=dataclasses.replace(shipped.lcm, solver_steps=steps))
    sampler = export.scheduler(shipped)
    sampler.set_timesteps(steps)
    assert sampler.timesteps.flip(0).tolist() == consistency.solver_times(steps).tolist()
    sampler.set_timesteps(4)
    assert set(sampler.timesteps.tolist()) <= set(consistency.solver_times(steps).tolist())
    noisy, v = latents(1, 0), latents(1, 1)
    for time in sampler.timesteps:
        wanted = sampler.step(v, time, noisy, generator=torch.Generator().manual_seed(0)).denoised
        torch.testing.assert_close(consistency.consistency(noisy, v, time[None], KEPT), wanted)


@pytest.mark.parametrize("steps", [20, 50])
def test_a_solver_step_is_that_of_ddim(steps) -> None:
    """Every step of ``DDIMScheduler`` with the teacher's settings, the last one included."""
    sampler = diffusion.scheduler()
    sampler.set_timesteps(steps)
    times = consistency.solver_times(steps)
    assert sampler.timesteps.tolist() == times.flip(0).tolist()
    ends = consistency.solver_ends(times, steps)
    assert ends[1:].tolist() == times[:-1].tolist()
    noisy, v = latents(steps, 0), latents(steps, 1)
    found = consistency.ddim(noisy, v, times, ends, KEPT)
    for place in range(steps):
        row = slice(place, place + 1)
        wanted = sampler.step(v[row], times[place], noisy[row]).prev_sample
        torch.testing.assert_close(found[row], wanted)


def test_the_embedding_of_guidance_is_that_of_diffusers() -> None:
    weight = torch.tensor([0.0, 1.0, 2.5, 7.0])
    wanted = diffusers.StableDiffusionPipeline.get_guidance_scale_embedding(None, weight, embedding_dim=64)
    torch.testing.assert_close(consistency.guidance_embedding(weight, 64), wanted, rtol=0, atol=0)


def test_pseudo_huber_is_smooth_at_zero_and_linear_beyond() -> None:
    at = torch.zeros(2, requires_grad=True)
    loss = consistency.pseudo_huber(at, torch.zeros(2), 0.01)
    loss.backward()
    assert loss.item() == 0
    assert at.grad.tolist() == [0, 0]
    far = consistency.pseudo_huber(torch.tensor([3.0]), torch.tensor([-2.0]), 0.01)
    assert float(far) == pytest.approx(5.0 - 0.01, abs=1e-4)


# -- the run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def parent(smoke_run) -> Path:
    """An image model that learned nothing; both forms were distilled from it."""
    return smoke_run / "models" / "mini-sd-smoke"


@pytest.fixture
def data() -> Latents:
    maker = scenes.SceneMaker(recipe.smoke(recipe.shipped("mini-lcm")).world)
    made = [maker.scene(number) for number in range(8)]
    encoded = torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(0)).half()
    return Latents(encoded, made, encoded[:4], made[:4])


def a_run(name: str, parent: Path, data: Latents, home: Path) -> lcm.Trainer:
    tiny = recipe.smoke(recipe.shipped(name))
    tiny = dataclasses.replace(tiny, unet=dataclasses.replace(tiny.unet, batch=2))
    return lcm.Trainer(tiny, parent, data, home, quiet)


@pytest.mark.parametrize("name", FORMS)
def test_resumed_run_equals_an_unbroken_one(parent, data, tmp_path, name) -> None:
    whole = a_run(name, parent, data, tmp_path / "whole")
    losses = [whole.train_step() for _ in range(3)]
    first = a_run(name, parent, data, tmp_path / "broken")
    again = [first.train_step() for _ in range(2)]
    first.save()
    second = a_run(name, parent, data, tmp_path / "broken")
    assert second.resume()
    again.append(second.train_step())
    assert again == losses
    for key, value in whole.ema.items():
        torch.testing.assert_close(second.ema[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", FORMS)
def test_a_student_begins_as_its_teacher_and_leaves_it_alone(parent, data, tmp_path, name) -> None:
    run = a_run(name, parent, data, tmp_path)
    times, weight = torch.tensor([249, 999]), torch.tensor([1.0, 4.0])
    noisy, context = data.train[:2].float(), run.context(run.words[:2, 0])
    with torch.no_grad(), mixed():
        v = run.teacher(noisy, times, context).sample.float()
    wanted = consistency.consistency(noisy, v, times, run.kept)
    with torch.no_grad():
        torch.testing.assert_close(run.answer(noisy, times, context, weight), wanted)
        torch.testing.assert_close(run.answer(noisy, times, context, weight, run.ema), wanted)
    before = {key: value.clone() for key, value in run.teacher.state_dict().items()}
    for _ in range(2):
        run.train_step()
    assert all(torch.equal(value, before[key]) for key, value in run.teacher.state_dict().items())
    with torch.no_grad():
        assert not torch.equal(run.answer(noisy, times, context, weight), wanted)


def test_guidance_moves_the_teacher_away_from_no_caption(parent, data, tmp_path) -> None:
    run = a_run("mini-lcm", parent, data, tmp_path)
    noisy, times = data.train[:2].float(), torch.tensor([499, 499])
    context = run.context(run.words[:2, 0])
    found = {w: run.guided(noisy, times, context, torch.tensor([w, w])) for w in (-1.0, 0.0, 2.0)}
    torch.testing.assert_close(found[2.0] - found[0.0], 2 * (found[0.0] - found[-1.0]))


def test_only_the_additions_of_a_lora_learn(parent, data, tmp_path) -> None:
    run = a_run("mini-lcm", parent, data, tmp_path)
    assert not any(parameter.requires_grad for parameter in run.student.parameters())
    assert all(name.startswith(("down.", "up.")) for name in run.ema)
    # Attention, feed-forward, convolutions and the timestep's projections, each with both halves.
    ends = {name.rpartition("/")[2] for name in run.learned.up}
    assert {"to_q", "0", "conv1", "conv_shortcut", "conv", "time_emb_proj", "proj_in", "2"} == ends - {
        *("to_k", "to_v", "proj", "proj_out", "conv2")
    }


def test_a_parent_must_say_what_it_can_generate(parent, tmp_path, capsys) -> None:
    own = shutil.copytree(parent, tmp_path / "parent")
    (own / "freeu-zoo.json").unlink()
    assert train.main(["mini-lcm", "--smoke", "--work", str(tmp_path), "--parent", str(own)]) == 2
    assert capsys.readouterr().err == f"error: --parent {own}: no image model there, freeu-zoo.json is missing\n"


def test_nothing_trained_is_one_line(tmp_path, capsys) -> None:
    assert train.main(["mini-lcm", "--smoke", "--stage", "export", "--work", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("run --stage lcm first\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('form = "dora"', 'form must be "lora" or "unet", got \'dora\''),
        ("guidance = [5.0, 3.0]", "guidance must be two CFG scales"),
        ("guidance = [5.0]", "guidance must be two CFG scales"),
        ("solver_steps = 0", "solver_steps must be 1 to 1000"),
        ("embedding = 5", "embedding must be even"),
        ("rank = 0", "rank must be at least 1"),
        ("huber = 0.0", "huber must be above 0"),
    ],
)
def test_wrong_settings_are_named(tmp_path, text, message) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "x"\nkind = "lcm"\nworld = {{nouns = ["fox"]}}\n[lcm]\n{text}\n')
    with pytest.raises(ZooError, match=message.replace("[", r"\[")):
        recipe.read(path)


# -- what it leaves -------------------------------------------------------------------------------------------------


@pytest.fixture(params=FORMS)
def shipped(smoke_run, request) -> Path:
    """What would be shipped."""
    return smoke_run / "models" / f"{request.param}-smoke"


@pytest.fixture
def assembled(parent, shipped, tmp_path) -> Path:
    assemble.assemble(parent, shipped, tmp_path / "model")
    return tmp_path / "model"


def test_an_addition_has_no_part_of_its_parent(shipped) -> None:
    parts = {path.name for path in shipped.iterdir()}
    own = assemble.LORA if shipped.name == "mini-lcm-smoke" else "unet"
    assert parts == {own, "scheduler", "freeu-zoo.json", "README.md", "samples.png"}
    card = (shipped / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {shipped.name}\n")
    assert "{" not in card


def test_an_assembled_model_is_a_pipeline_that_generates(assembled, shipped) -> None:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(assembled)
    assert type(pipe.scheduler).__name__ == "LCMScheduler"
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    facts = json.loads((assembled / "freeu-zoo.json").read_text(encoding="utf-8"))
    assert facts["name"] == shipped.name
    rows: list[int] = []
    pipe.unet.register_forward_pre_hook(lambda _unet, inputs: rows.append(len(inputs[0])))
    pipe.set_progress_bar_config(disable=True)
    pipe("a fox", num_inference_steps=2, guidance_scale=facts["default_guidance_scale"], output_type="latent")
    assert rows == [1, 1]  # guidance is in the weights, or an input: no halves


def test_an_assembled_model_is_the_average_that_was_trained(smoke_run, parent, assembled, shipped) -> None:
    """To float16's precision; the U-Net that a LoRA was merged into equals what diffusers makes of both."""
    name = shipped.name.removesuffix("-smoke")
    tiny = recipe.smoke(recipe.shipped(name))
    trained = export.pipeline(tiny, smoke_run / shipped.name, parent).unet.state_dict()
    written = load_file(assembled / assemble.WEIGHTS)
    assert written.keys() == trained.keys()
    for key, value in written.items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(value.float(), trained[key], rtol=2e-3, atol=1e-4)
    if tiny.lcm.form == "lora":
        pytest.importorskip("peft")
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(parent)
        pipe.load_lora_weights(shipped, weight_name=assemble.LORA)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        for key, value in pipe.unet.state_dict().items():
            torch.testing.assert_close(written[key].float(), value, rtol=1e-3, atol=1e-6)


def test_merged_additions_have_the_shape_of_their_weight() -> None:
    layer = torch.nn.Conv2d(6, 8, 3)
    holder = torch.nn.ModuleDict({"conv1": layer})
    part = lora.LowRank(holder, 2)
    part.load_state_dict({key: torch.randn_like(value) for key, value in part.state_dict().items()})
    image = torch.randn(1, 6, 9, 9)
    down, up = part.down["conv1"], part.up["conv1"]
    beside = layer(image) + torch.nn.functional.conv2d(torch.nn.functional.conv2d(image, down), up)
    whole = torch.nn.functional.conv2d(image, part.weights()["conv1.weight"], layer.bias)
    torch.testing.assert_close(whole, beside, rtol=1e-4, atol=1e-4)


def test_the_cache_is_filled_once_and_follows_what_is_in_it(parent, shipped, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(assemble.CACHE, str(tmp_path / "cache"))
    found = assemble.cached(parent, shipped)
    assert found.parent == tmp_path / "cache"
    before = (found / "model_index.json").stat().st_mtime_ns
    assert assemble.cached(parent, shipped) == found
    assert (found / "model_index.json").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [found.name]
    own = shutil.copytree(shipped, tmp_path / shipped.name)
    (own / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "LCMScheduler"}')
    assert assemble.cached(parent, own) != found
    monkeypatch.setenv(assemble.CACHE, str(found / "model_index.json"))
    with pytest.raises(ZooError, match=f"cannot put {shipped.name} together .* set FREEU_ZOO_CACHE"):
        assemble.cached(parent, shipped)


def test_an_addition_to_another_model_is_refused(parent, shipped, tmp_path) -> None:
    own = shutil.copytree(parent, tmp_path / "other")
    weights = own / assemble.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ZooError, match="belongs to another mini-sd"):
        assemble.cached(own, shipped)


def test_the_zoo_and_freeu_find_it_by_its_name(parent, shipped, tmp_path, monkeypatch) -> None:
    """A stand-in for the shipped folder of models."""
    from freeu.pipelines.models.sources.sources import find_model

    home = tmp_path / "models"
    shutil.copytree(parent, home / "mini-sd")
    shutil.copytree(shipped, home / "mini-lcm")
    monkeypatch.setattr(freeu_zoo, "_homes", lambda: [home])
    monkeypatch.setenv(assemble.CACHE, str(tmp_path / "cache"))
    assert freeu_zoo.models()["mini-lcm"] == home / "mini-lcm"
    path = freeu_zoo.model_path("mini-lcm")
    assert path.parent == tmp_path / "cache"
    source = find_model("mini-lcm")
    assert (source.kind, source.label, source.path) == ("embedded", "mini-lcm", path)
    assert source.class_name == "StableDiffusionPipeline"
    assert source.world["default_steps"] == 1
    monkeypatch.setenv(assemble.CACHE, str(path / "model_index.json"))
    with pytest.raises(ValueError, match="set FREEU_ZOO_CACHE"):
        freeu_zoo.model_path("mini-lcm")
