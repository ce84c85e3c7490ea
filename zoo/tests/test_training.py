"""The machinery of training on a set-up so small that it learns nothing: schedule, resuming, clear errors."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 (these imports need what is skipped for)
pytest.importorskip("diffusers")

from freeu_zoo import diffusion, scenes, sprites, train, unet
from freeu_zoo import recipe as recipes
from freeu_zoo.checkpoint import Checkpoint
from freeu_zoo.errors import ZooError
from freeu_zoo.latents import Latents

RECIPE = Path(train.__file__).parent / "recipes" / "mini-sd.toml"


def quiet(line: str) -> None:
    """Says nothing."""


@pytest.fixture
def tiny() -> recipes.Recipe:
    return recipes.smoke(recipes.read(RECIPE))


@pytest.fixture
def data() -> Latents:
    generator = torch.Generator().manual_seed(0)
    made = [scenes.Scene("fox", "3d", "blue", 90, 10, 10)] * 8
    latents = torch.randn(8, 4, 32, 32, generator=generator).half()
    return Latents(latents, made, latents[:2], made[:2])


def test_resumed_run_equals_an_unbroken_one(tiny, data, tmp_path) -> None:
    whole = unet.Trainer(tiny, data, tmp_path / "whole", quiet)
    losses = [whole.train_step() for _ in range(3)]
    first = unet.Trainer(tiny, data, tmp_path / "broken", quiet)
    again = [first.train_step() for _ in range(2)]
    first.save()
    second = unet.Trainer(tiny, data, tmp_path / "broken", quiet)
    assert second.resume()
    again.append(second.train_step())
    assert again == losses
    for name, value in whole.ema.items():
        torch.testing.assert_close(second.ema[name], value, rtol=0, atol=0)


def test_whole_run_ends_after_its_steps(tiny, data, tmp_path) -> None:
    unet.train(tiny, data, tmp_path, quiet)
    state = Checkpoint(tmp_path / "unet.ckpt.pt", unet.identity(tiny)).read()
    assert state is not None
    assert state["step"] == tiny.unet.steps
    assert len(state["curve"]) == 1


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ZooError, match="is damaged"):
        Checkpoint(path, {}).read()
    Checkpoint(path, {"width": "1"}).write({"step": 1})
    with pytest.raises(ZooError, match="belongs to another recipe"):
        Checkpoint(path, {"width": "2"}).read()
    assert Checkpoint(tmp_path / "none.pt", {}).read() is None
    assert list(tmp_path.iterdir()) == [path]


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


def test_learning_rate_rises_stays_and_falls(tiny) -> None:
    settings = tiny.unet
    assert unet.rate(settings, 0, 0.0) < unet.rate(settings, settings.warmup, 0.1) == 1.0
    assert unet.rate(settings, 100, settings.level) == 1.0
    assert unet.rate(settings, 100, (1 + settings.level) / 2) == pytest.approx(0.5)
    assert unet.rate(settings, 100, 1.0) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot read the recipe"),
        ('name = "x"\nworld = {nouns = ["fox"]}\ncolour = 1', "unknown: .*colour"),
        ('name = "x"\nworld = {nouns = ["unicorn"]}', "no sprite for .*unicorn"),
        ('name = "x"\nworld = {nouns = ["fox"]}\nunet = {witdhs = [1]}', "unknown witdhs; known: .*widths"),
    ],
)
def test_wrong_recipes_are_one_line(tmp_path, capsys, text, message) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ZooError, match=message):
        recipes.read(path)
    assert train.main([str(path), "--work", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_missing_npm_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ZooError, match="npm was not found"):
        sprites.fetch(tmp_path)


def test_damaged_archive_is_said(tmp_path) -> None:
    for archive in sprites.table().archives.values():
        (tmp_path / archive.file).write_bytes(b"half a download")
    with pytest.raises(ZooError, match="is damaged or another version"):
        sprites.fetch(tmp_path)
