"""Learning a word for a relation: its losses, that nothing else is learned, that it is the same when interrupted."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_exemplars import CAPTIONS, PREPOSITIONS, save_exemplars, save_sd, save_sdxl, wordy_tokenizer
from safetensors.torch import load_file
from tolerances import GRADIENT, relative_error

from freeu.errors import FreeUValueError
from freeu.personalize.reversion.exemplars import Exemplar, read_exemplars
from freeu.personalize.reversion.losses import (
    FocalDenoiser,
    basis_words,
    content_words,
    focal_weights,
    steering_loss,
    tokens_of,
)
from freeu.personalize.reversion.placeholder import PlaceholderToken
from freeu.personalize.reversion.reversion import EMBEDDING, KIND, Inversion
from freeu.personalize.reversion.settings import Settings
from freeu.personalize.training.denoising import Denoiser
from freeu.personalize.training.record import read_record
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs.prepare import prepare
from freeu.pipelines.runs.request import Request, Sources

SETTINGS = Settings(steps=6, batch=2, learning_rate=3e-2, start_word="by", positives=3, left_out=("in",))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def exemplars(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exemplar, ...]:
    return read_exemplars(save_exemplars(tmp_path_factory.mktemp("exemplars")), "<R>")


def opened(folder: Path) -> Any:
    return load(find_model(str(folder))).pipe


def inversion(
    model: Path, exemplars: tuple[Exemplar, ...], folder: Path, settings: Settings = SETTINGS, sample_every: int = 0
) -> Inversion:
    request = Request(
        "generate",
        ("cat <R> box",),
        SamplingOptions(steps=2),
        ModelOptions(str(model)),
        RunOptions(threads=1),
    )
    prepared = prepare(request, Sources(find_model(str(model))))
    return Inversion(prepared.loaded, prepared.plan, exemplars, settings, folder, sample_every)


def recorded(folder: Path) -> dict[str, Any]:
    found = read_record(folder, KIND)
    assert found is not None
    return found


def test_steering_is_the_published_loss() -> None:
    torch.manual_seed(1)
    relation = torch.randn(7, dtype=torch.float64, requires_grad=True)
    positives = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    negatives = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)

    def closeness(word: torch.Tensor) -> torch.Tensor:
        return ((relation @ word) / (relation.norm() * word.norm()) / 0.07).exp()

    near, far = (sum(closeness(word) for word in words) for words in (positives, negatives))
    wanted = -torch.log(near / (near + far))
    found = steering_loss(relation, positives, negatives)
    assert relative_error(found.detach(), wanted.detach()) < GRADIENT
    (gradient,) = torch.autograd.grad(wanted, relation)
    found.backward()
    assert relation.grad is not None
    assert relative_error(relation.grad, gradient) < GRADIENT
    assert positives.grad is None
    assert negatives.grad is None


def test_steering_falls_towards_prepositions_and_is_0_without_other_words() -> None:
    torch.manual_seed(2)
    positives, negatives = torch.randn(3, 16, dtype=torch.float64), torch.randn(4, 16, dtype=torch.float64)
    away, near = negatives.mean(0), positives.mean(0)
    values = [float(steering_loss(away + part * (near - away), positives, negatives)) for part in (0, 0.5, 1)]
    assert values[0] > values[1] > values[2] > 0
    assert float(steering_loss(away, positives, negatives[:0])) == 0
    assert float(steering_loss(5 * near, positives, negatives)) == pytest.approx(values[2], rel=1e-9)


@pytest.mark.parametrize("importance", [0.0, 0.5, 1.0])
def test_focal_timesteps_come_up_as_published(model: Path, importance: float) -> None:
    weights = focal_weights(1000, importance)
    assert weights.sum().item() == pytest.approx(1.0)
    for step in (0, 250, 500, 999):
        published = (1 - importance * math.cos(math.pi * step / 1000)) / 1000
        assert weights[step].item() == pytest.approx(published, rel=2e-3)
    denoiser = FocalDenoiser(opened(model), importance)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([denoiser.timesteps(5, generator) for _ in range(4000)])
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) <= 999
    for low in range(0, 1000, 100):
        share = ((drawn >= low) & (drawn < low + 100)).double().mean().item()
        # One from each fifth, so the spread is below that of 20,000 free generates: 4 standard deviations of these.
        wanted = weights[low : low + 100].sum().item()
        assert abs(share - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / len(drawn))


def test_without_importance_the_timesteps_are_those_of_textual_inversion(model: Path) -> None:
    pipe = opened(model)
    plain, focal = Denoiser(pipe), FocalDenoiser(pipe, 0.0)
    for seed in range(50):
        pair = [each.timesteps(4, torch.Generator().manual_seed(seed)) for each in (plain, focal)]
        assert torch.equal(*pair)


def test_words_of_captions_and_prepositions() -> None:
    tokenizer = wordy_tokenizer()
    assert set(basis_words(tokenizer)) == set(PREPOSITIONS)
    assert set(basis_words(tokenizer, ("in", "at"))) == set(PREPOSITIONS) - {"in", "at"}
    assert content_words("A cat, <R> (on) the 3d BOX!", "<R>") == ["cat", "3d", "box"]
    assert content_words("<inside> in, on a", "<inside>") == []
    # "at" is a preposition, and the end of "cat" too.
    assert tokenizer.decode(tokens_of(tokenizer, ["cat", "box"])).replace(" ", "") == "catbox"


def test_the_gradient_reaches_the_word_alone(model: Path) -> None:
    pipe = opened(model)
    before = pipe.text_encoder.get_input_embeddings().weight.clone()
    word = PlaceholderToken(pipe, "<R>", "by on")
    vector = word.slots[0].vector
    first = pipe.tokenizer("by on", add_special_tokens=False).input_ids
    assert torch.equal(vector.detach(), before[first].mean(0))
    denoiser = FocalDenoiser(pipe, 0.5)
    latents = torch.randn(2, 4, 8, 8)
    errors = denoiser.loss(latents, denoiser.encode_prompts(["cat <R> box", "dog"]), torch.Generator().manual_seed(0))
    (first_only,) = torch.autograd.grad(errors[0], vector, retain_graph=True)
    assert first_only.abs().sum() > 0
    assert torch.autograd.grad(errors[1], vector, retain_graph=True)[0].abs().sum() == 0
    errors.sum().backward()
    modules = (pipe.unet, pipe.vae, pipe.text_encoder)
    assert not [
        name for module in modules for name, p in module.named_parameters() if p.requires_grad or p.grad is not None
    ]
    word.remove()
    after = pipe.text_encoder.get_input_embeddings().weight
    assert torch.equal(after[: len(pipe.tokenizer) - 1], before[: len(pipe.tokenizer) - 1])


@pytest.mark.parametrize("save", [save_sd, save_sdxl])
def test_the_file_is_read_by_diffusers_and_means_what_was_learnt(tmp_path: Path, save: Any) -> None:
    folder = save(tmp_path / "model")
    pipe = opened(folder)
    word = PlaceholderToken(pipe, "<R>", "by")
    torch.manual_seed(3)
    with torch.no_grad():
        for place in word.slots:
            place.vector.copy_(torch.randn_like(place.vector))
    learnt = Denoiser(pipe).encode_prompts(["cat <R> box"])
    word.remove()
    kept = Denoiser(pipe).encode_prompts(["cat <R> box"])
    word.save(tmp_path / EMBEDDING)
    other = opened(folder)
    tensors = load_file(tmp_path / EMBEDDING)
    if len(word.slots) == 1:
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {"<R>": (1, 16)}
        other.load_textual_inversion(tmp_path, weight_name=EMBEDDING)
    else:
        for name, end in (("clip_l", ""), ("clip_g", "_2")):
            other.load_textual_inversion(
                tensors[name],
                token="<R>",
                tokenizer=getattr(other, f"tokenizer{end}"),
                text_encoder=getattr(other, f"text_encoder{end}"),
            )
    read = Denoiser(other).encode_prompts(["cat <R> box"])
    assert torch.equal(learnt.embeds, read.embeds)
    assert torch.equal(kept.embeds, read.embeds)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_an_interrupted_training_is_the_same(tmp_path: Path, exemplars: tuple[Exemplar, ...], prediction: str) -> None:
    import diffusers

    schedule = {"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
    model = save_sd(tmp_path / "model", scheduler=diffusers.DDIMScheduler(**schedule, prediction_type=prediction))
    inversion(model, exemplars, tmp_path / "whole").train()

    def stop(step: int, losses: object) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    part = inversion(model, exemplars, tmp_path / "part")
    with pytest.raises(KeyboardInterrupt):
        part.train(stop)
    assert not (tmp_path / "part" / EMBEDDING).exists()
    assert not recorded(tmp_path / "part")["complete"]
    rest = inversion(model, exemplars, tmp_path / "part")
    assert rest.resume()
    assert rest.step == 3
    rest.train()
    whole, resumed = (load_file(tmp_path / name / EMBEDDING)["<R>"] for name in ("whole", "part"))
    assert torch.equal(whole, resumed)
    records = [recorded(tmp_path / name) for name in ("whole", "part")]
    assert records[0]["losses"] == records[1]["losses"]
    assert {"denoising", "steering"} <= records[0]["losses"][0].keys()
    assert [set(words) for words in records[0]["positives"]] == [set(PREPOSITIONS) - {"in"}]


def test_more_steps_make_a_training_longer(model: Path, exemplars: tuple[Exemplar, ...], tmp_path: Path) -> None:
    for steps in (3, 6):
        run = inversion(model, exemplars, tmp_path / "grown", replace(SETTINGS, steps=steps))
        assert run.resume() == (steps == 6)
        run.train()
    with pytest.raises(FreeUValueError, match="holds 6 steps already, more than --steps 5"):
        inversion(model, exemplars, tmp_path / "grown", replace(SETTINGS, steps=5)).resume()
    inversion(model, exemplars, tmp_path / "whole").train()
    grown, whole = (load_file(tmp_path / name / EMBEDDING)["<R>"] for name in ("grown", "whole"))
    assert torch.equal(grown, whole)


def test_samples_are_drawn_and_change_nothing(model: Path, exemplars: tuple[Exemplar, ...], tmp_path: Path) -> None:
    inversion(model, exemplars, tmp_path / "without").train()
    inversion(model, exemplars, tmp_path / "with", sample_every=4).train()
    names = sorted(path.name for path in (tmp_path / "with" / "samples").iterdir())
    assert names == ["step-000000.png", "step-000004.png", "step-000006.png"]
    assert len({path.read_bytes() for path in (tmp_path / "with" / "samples").iterdir()}) == 3
    without, drawn = (load_file(tmp_path / name / EMBEDDING)["<R>"] for name in ("without", "with"))
    assert torch.equal(without, drawn)


def test_plain_is_textual_inversion_alone(model: Path, exemplars: tuple[Exemplar, ...], tmp_path: Path) -> None:
    settings = replace(SETTINGS, learning_rate=1e-2).plain()
    inversion(model, exemplars, tmp_path / "plain", settings).train()
    record = recorded(tmp_path / "plain")
    assert list(record["losses"][0]) == ["step", "denoising"]
    assert record["positives"] == []
    inversion(model, exemplars, tmp_path / "steered", replace(settings, steering_weight=0.01)).train()
    inversion(model, exemplars, tmp_path / "focal", replace(settings, importance=0.5)).train()
    found = [load_file(tmp_path / name / EMBEDDING)["<R>"] for name in ("plain", "steered", "focal")]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_training_lowers_what_it_is_to_lower(model: Path, exemplars: tuple[Exemplar, ...], tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=30, batch=3, learning_rate=5e-2, steering_weight=0.1)
    inversion(model, exemplars, tmp_path / "run", settings).train()
    pipe = opened(model)
    word = PlaceholderToken(pipe, "<R>", "by")
    denoiser = FocalDenoiser(pipe, 0.5)
    from freeu.personalize.training.examples import encode, squared

    latents = encode(pipe.vae, [squared(one.image, 16) for one in exemplars])
    captions = [one.captions[0] for one in exemplars]
    found = {}
    for name, vector in (("start", None), ("learnt", load_file(tmp_path / "run" / EMBEDDING)["<R>"][0])):
        with torch.no_grad():
            if vector is not None:
                word.slots[0].vector.copy_(vector)
            noise = torch.Generator().manual_seed(7)
            errors = [denoiser.loss(latents, denoiser.encode_prompts(captions), noise).mean() for _ in range(16)]
            weight = pipe.text_encoder.get_input_embeddings().weight
            tokenizer = pipe.tokenizer
            others = tokens_of(tokenizer, content_words(" ".join(captions), "<R>"))
            near = list(basis_words(tokenizer, ("in",)).values())
            steered = steering_loss(word.slots[0].vector, weight[near], weight[others])
        found[name] = (torch.stack(errors).mean().item(), steered.item())
    assert found["learnt"][0] < found["start"][0]
    assert found["learnt"][1] < found["start"][1]


def test_every_layout_of_captions_is_read_alike(tmp_path: Path) -> None:
    ways = ("captions.jsonl", "text.json", "short names", "full names")
    found = [read_exemplars(save_exemplars(tmp_path / way, way), "<R>") for way in ways]
    for exemplars in found:
        assert [(one.name, list(one.captions)) for one in exemplars] == list(CAPTIONS.items())
        assert all(one.image.size == (24, 20) for one in exemplars)


def test_other_words_for_the_relation(tmp_path: Path) -> None:
    folder = save_exemplars(tmp_path / "e", "text.json")
    assert read_exemplars(folder, "<inside>")[0].captions == ("cat <inside> box", "a cat <inside> a box")


def test_another_training_in_the_folder(model: Path, exemplars: tuple[Exemplar, ...], tmp_path: Path) -> None:
    inversion(model, exemplars, tmp_path / "run").train()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for settings, given in (
        (replace(SETTINGS, seed=1), exemplars),
        (replace(SETTINGS, importance=0.25), exemplars),
        (SETTINGS, exemplars[:2]),
        (SETTINGS, tuple(replace(one, captions=("cow <R> cow",)) for one in exemplars)),
    ):
        with pytest.raises(FreeUValueError, match="holds another training"):
            inversion(model, given, tmp_path / "run", settings)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_training_that_was_killed_before_its_first_checkpoint(
    model: Path, exemplars: tuple[Exemplar, ...], tmp_path: Path
) -> None:
    def crash(step: int, losses: object) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        inversion(model, exemplars, tmp_path / "run").train(crash)
    assert json.loads((tmp_path / "run" / "training.json").read_text())["complete"] is False
    with pytest.raises(FreeUValueError, match="holds another training"):
        inversion(model, exemplars, tmp_path / "run", replace(SETTINGS, seed=9)).train()
    again = inversion(model, exemplars, tmp_path / "run")
    assert not again.resume()
    again.train()
    inversion(model, exemplars, tmp_path / "whole").train()
    assert (tmp_path / "run" / EMBEDDING).read_bytes() == (tmp_path / "whole" / EMBEDDING).read_bytes()


def test_the_relation_transfers_to_other_nouns(tmp_path: Path) -> None:
    """The embedded model: the denoising error of scenes whose nouns no exemplar has, in few steps."""
    zoo = pytest.importorskip("freeu_zoo.relations")
    from freeu_zoo import recipe
    from freeu_zoo.world import captions, scenes

    world = recipe.shipped("mini-sd").world
    zoo.write(world, tmp_path / "on", "on", 6, 1)
    exemplars = read_exemplars(tmp_path / "on", "<R>")
    settings = Settings(steps=12, batch=4, learning_rate=2e-2, left_out=("on", "top"))
    request = Request("generate", ("a cat <R> a gift",), run=RunOptions(threads=torch.get_num_threads()))
    prepared = prepare(request, Sources(find_model(None)))
    run = Inversion(prepared.loaded, prepared.plan, exemplars, settings, tmp_path / "run")
    pipe = prepared.loaded.pipe
    from freeu.personalize.training.examples import encode

    shown, tested = zoo.divided(world, 9000)
    assert not set(shown.nouns) & set(tested.nouns)
    made = zoo.scenes_of(tested, "on", 8, 1, held_out=True)
    latents = encode(pipe.vae, [scenes.compose(scene) for scene in made])
    texts = [captions.plain_caption(scene, relation="<R>") for scene in made]
    denoiser = FocalDenoiser(pipe, 1.0)

    def error() -> float:
        with torch.no_grad():
            embeddings = denoiser.encode_prompts(texts)
            noise = torch.Generator().manual_seed(5)
            return sum(denoiser.loss(latents, embeddings, noise).mean().item() for _ in range(3))

    start = error()
    run.train()
    assert error() < 0.97 * start
