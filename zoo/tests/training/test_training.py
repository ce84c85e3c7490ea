"""The machinery of training on a set-up so small that it learns nothing: schedule, resuming, clear errors."""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 (these imports need what is skipped for)
pytest.importorskip("diffusers")

from freeu_zoo import model_path, train
from freeu_zoo import recipe as recipes
from freeu_zoo.errors import ZooError
from freeu_zoo.training import control, diffusion, judge, text_lesson, unet
from freeu_zoo.training import reader as reader_training
from freeu_zoo.training.latents import Latents
from freeu_zoo.training.run import Run, rate
from freeu_zoo.world import layouts, scenes

from freeu import FreeUValueError
from freeu.personalize import Checkpoint, TrainingState


def quiet(line: str) -> None:
    """Says nothing."""


@pytest.fixture
def tiny() -> recipes.Recipe:
    return recipes.smoke(recipes.shipped("mini-sd"))


@pytest.fixture
def data(tiny) -> Latents:
    generator = torch.Generator().manual_seed(0)
    maker = scenes.SceneMaker(tiny.world)
    made = [maker.scene(number) for number in range(8)]
    latents = torch.randn(8, 4, 32, 32, generator=generator).half()
    return Latents(latents, made, latents[:2], made[:2])


def a_run(kind: str, tiny, data, home) -> Run:
    """A new run of that kind."""
    if kind == "unet":
        return unet.Trainer(tiny, data, home, quiet)
    if kind == "control":
        recipe = recipes.smoke(recipes.shipped("mini-canny"))
        recipe = dataclasses.replace(recipe, unet=dataclasses.replace(recipe.unet, batch=2))
        return control.Trainer(recipe, model_path("mini-sd"), home, quiet)
    trainers = {"judge": judge.Trainer, "reader": reader_training.Trainer}
    return trainers[kind](recipes.smoke(recipes.shipped(kind)), home, quiet)


@pytest.mark.parametrize("kind", ["unet", "control", "judge", "reader"])
def test_resumed_run_equals_an_unbroken_one(tiny, data, tmp_path, kind) -> None:
    whole = a_run(kind, tiny, data, tmp_path / "whole")
    losses = [whole.train_step() for _ in range(3)]
    first = a_run(kind, tiny, data, tmp_path / "broken")
    again = [first.train_step() for _ in range(2)]
    first.save()
    second = a_run(kind, tiny, data, tmp_path / "broken")
    assert second.resume()
    again.append(second.train_step())
    assert again == losses
    for name, value in whole.ema.items():
        torch.testing.assert_close(second.ema[name], value, rtol=0, atol=0)


def test_a_run_in_sittings_ends_after_its_samples(tiny, data, tmp_path) -> None:
    first = unet.Trainer(tiny, data, tmp_path, quiet)
    assert first.go(minutes=1e-9) is False  # one step, then the sitting is over
    assert first.step == 1
    second = unet.Trainer(tiny, data, tmp_path, quiet)
    assert second.resume()
    drawn = []
    assert second.go(now_and_then=lambda: drawn.append(second.step)) is True
    assert drawn == [second.step] == [tiny.unet.samples // tiny.unet.batch]
    weights, facts = unet.averaged(tiny, tmp_path)
    assert facts["step"] == second.step
    assert len(facts["curve"]) == 1
    assert set(weights) == {"unet", "text"}
    assert not any(name.startswith("probe") for part in weights.values() for name in part)


def test_ctrl_c_keeps_what_was_learnt(tiny, data, tmp_path, monkeypatch) -> None:
    run = unet.Trainer(tiny, data, tmp_path, quiet)
    run.train_step()

    def stop() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        run.go()
    again = unet.Trainer(tiny, data, tmp_path, quiet)
    assert again.resume()
    assert again.step == 1


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_that_the_same_command_continues(tmp_path, monkeypatch, capsys, kind) -> None:
    step = Run.train_step
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def stopped(run: Run) -> float:
        if run.step == 2:
            os.kill(os.getpid(), kind)
        return step(run)

    command = ["reader", "--smoke", "--work", str(tmp_path), "--threads", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train_step", stopped)
        assert train.main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert handlers == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert train.main(command) == 0
    said = capsys.readouterr().out
    assert "reader: resumed at step 3" in said  # the step in which it was stopped was ended
    assert "reader: checkpoint at step 4, 100%" in said


def test_a_controlnet_begins_as_nothing_and_leaves_its_model_alone(tiny, data, tmp_path) -> None:
    run = a_run("control", tiny, data, tmp_path)
    latent, words, edged, times, noise = run.batch(0)
    assert set(edged.unique().tolist()) == {0.0, 1.0}
    assert edged.shape == (2, 3, 128, 128)
    with torch.no_grad():
        context = run.encoder(words).last_hidden_state
        plain = run.unet(noise, times, context).sample
        down, middle = run.model(noise, times, context, edged, return_dict=False)
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        torch.testing.assert_close(run.unet(noise, times, context, **more).sample, plain, rtol=0, atol=0)
    before = {name: value.clone() for name, value in run.unet.state_dict().items()}
    run.train_step()
    assert all(torch.equal(value, before[name]) for name, value in run.unet.state_dict().items())
    assert not any(parameter.requires_grad for parameter in run.unet.parameters())
    assert torch.isfinite(run.loss(latent, words, edged, times, noise))


def test_the_probe_learns_what_lies_where(tiny, data, tmp_path) -> None:
    """Its loss falls, and the middle of the U-Net gets a gradient from it."""
    run = unet.Trainer(tiny, data, tmp_path, quiet)
    assert tiny.unet.layout_weight > 0
    times = torch.full((8,), 900)
    noise = torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    with_it = run.loss(data.train.float(), run.words[:, 0], times, noise, run.layouts)
    without = run.loss(data.train.float(), run.words[:, 0], times, noise)
    assert with_it.item() > without.item()
    (gradient,) = torch.autograd.grad(with_it - without, [next(run.parts["unet"].mid_block.parameters())])
    assert float(gradient.abs().max()) > 0


def test_layouts_follow_the_boxes() -> None:
    world = scenes.World(("fox", "cat"))
    fox, cat = scenes.Thing("fox", None, 0, 32, 48, 64), scenes.Thing("cat", None, 80, 32, 48, 64)
    grid = text_lesson.layout(scenes.Scene("3d", ("red",), "pair", (fox, cat), "left of"), world)
    assert grid.shape == (8, 8)
    assert grid[4, 1] == 1
    assert grid[4, 6] == 2
    assert grid[0].max() == grid[:, 3].max() == 0
    big = scenes.Thing("cat", None, 0, 0, 128, 128)
    small = scenes.Thing("fox", None, 48, 48, 32, 32)
    grid = text_lesson.layout(scenes.Scene("3d", ("red",), "pair", (small, big), "inside"), world)
    assert grid[4, 4] == 1
    assert grid[2, 2] == 2


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path) -> None:
    path = tmp_path / "x.ckpt"
    Checkpoint(path, {"width": "1"}).write(TrainingState(1, {"a": torch.ones(3)}))
    with pytest.raises(FreeUValueError, match=r"holds another training .*width: 1 there, 2 now"):
        Checkpoint(path, {"width": "2"}).read()
    tensors = path / "step-000001.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-2])
    with pytest.raises(FreeUValueError, match="is damaged"):
        Checkpoint(path, {"width": "1"}).read()
    (path / "state.json").write_text("{")
    with pytest.raises(FreeUValueError, match="is damaged"):
        Checkpoint(path, {"width": "1"}).read()
    assert Checkpoint(tmp_path / "none", {}).read() is None
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_refuses_a_checkpoint_of_another_recipe_in_one_line(tmp_path, capsys) -> None:
    recipe = recipes.smoke(recipes.shipped("reader"))
    settings = dataclasses.replace(recipe.reader, seed=recipe.reader.seed + 1)
    other = reader_training.identity(dataclasses.replace(recipe, reader=settings))
    folder = tmp_path / recipe.name / "reader.ckpt"
    Checkpoint(folder, other).write(TrainingState(1, {"a": torch.ones(3)}))
    for stage in ("train", "export"):
        assert train.main(["reader", "--smoke", "--stage", stage, "--work", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert f"{folder} holds another training (reader: seed: {settings.seed} there" in err
        assert len(err.strip().splitlines()) == 1


def test_the_curve_outlives_a_checkpoint(tiny, data, tmp_path) -> None:
    run = unet.Trainer(tiny, data, tmp_path, quiet)
    run.step, run.seconds = 2, 1.23456789
    for curve in ([], [[1, 0.5, 0.25, 0.125], [2, 1.23456789, 0.1, 0.2]]):
        run.curve = curve
        run.save()
        again = unet.Trainer(tiny, data, tmp_path, quiet)
        assert again.resume()
        assert again.curve == curve
        assert unet.averaged(tiny, tmp_path)[1] == {"step": 2, "seconds": 1.23456789, "curve": curve}


@pytest.mark.parametrize("relation", layouts.RELATIONS)
def test_the_reader_has_one_order_for_each_scene(relation) -> None:
    a, b = scenes.Thing("fox", None, 0, 0, 9, 9), scenes.Thing("cat", None, 9, 9, 9, 9)
    things, said = reader_training.canonical(scenes.Scene("3d", ("red",), "pair", (a, b), relation))
    assert (things, said) == {
        "right of": ((b, a), "left of"),
        "below": ((b, a), "above"),
    }.get(relation, ((a, b), relation))


def test_v_target_leads_back_to_the_latent() -> None:
    kept = diffusion.scheduler().alphas_cumprod[torch.tensor([0, 500, 999])].double()
    latent, noise = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    noisy, v = diffusion.noised(latent, noise, kept)
    signal, spread = kept.sqrt().view(-1, 1, 1, 1), (1 - kept).sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(signal * noisy - spread * v, latent)
    assert kept[-1].sqrt() < 0.02


def test_loss_weights_never_vanish_at_the_noisy_end() -> None:
    weight = diffusion.weights(diffusion.scheduler().alphas_cumprod, most=5.0)
    assert float(weight[-1]) == pytest.approx(1.0)
    assert float(weight.min()) > 0
    assert bool((weight.diff() >= 0).all())


def test_timesteps_cover_the_schedule() -> None:
    times = diffusion.spread_timesteps(10, torch.Generator().manual_seed(0))
    assert sorted(int(t) // 100 for t in times) == list(range(10))
    noisier = diffusion.spread_timesteps(1000, torch.Generator().manual_seed(0), exponent=0.5)
    assert float((noisier >= 500).float().mean()) == pytest.approx(0.75, abs=0.01)


def test_learning_rate_rises_stays_and_falls() -> None:
    level = {"warmup": 200, "level": 0.6}
    assert rate(0, 0.0, **level) < rate(200, 0.1, **level) == 1.0
    assert rate(1000, 0.6, **level) == 1.0
    assert rate(1000, 0.8, **level) == pytest.approx(0.5)
    assert rate(1000, 1.0, **level) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot read the recipe"),
        ('name = "x"\nworld = {nouns = ["fox"]}\ncolour = 1', "unknown: .*colour"),
        ('name = "x"\nworld = {nouns = ["zebu"]}', "no such nouns: zebu; known: fox"),
        ('name = "x"\nworld = {nouns = 9999}', "nouns must be a list or 1 to"),
        ('name = "x"\nworld = {nouns = ["fox"], styles = ["oil"]}', "no such styles: oil; known: 3d"),
        ('name = "x"\nworld = {nouns = ["fox"], layouts = {heap = 1}}', "layouts are single"),
        ('name = "x"\nkind = "vase"\nworld = {nouns = ["fox"]}', "kind must be .*, video, control, lcm, judge, reader"),
        ('name = "x"\nworld = {nouns = ["fox"]}\nunet = {witdhs = [1]}', "unknown witdhs; known: .*widths"),
    ],
)
def test_wrong_recipes_are_one_line(tmp_path, capsys, text, message) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ZooError, match=message):
        recipes.read(path)
    assert train.main([str(path), "--work", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which recipe"),
        (["nothing"], "cannot read the recipe"),
        (["judge", "--stage", "vae"], "--stage of a judge recipe is train, export or all"),
        (["mini-sd", "--device", "cuda"], "there is no such device"),
        (["judge", "--stage", "export"], "nothing trained in"),
        (["reader", "--stage", "export"], "nothing trained in"),
        (["mini-sd", "--stage", "export"], "nothing trained in"),
        (["mini-modelscope", "--stage", "export"], "nothing trained in"),
        (["mini-canny", "--stage", "export"], "nothing trained in"),
        (["mini-sd-24", "--stage", "unet"], "no autoencoder in"),
    ],
)
def test_wrong_commands_are_one_line(tmp_path, capsys, arguments, message) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is such a device here")
    assert train.main([*arguments, "--work", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
