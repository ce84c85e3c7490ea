"""freeu dreambooth: what is learned, what is written, going on after an interruption, generating with FreeU."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from tolerances import UNET

from freeu.errors import FreeUValueError
from freeu.personalize.dreambooth.dreambooth import train
from freeu.personalize.dreambooth.settings import DreamBooth
from freeu.personalize.training.lora import DIFFUSERS_FILE
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.runs.manifest import read_manifest

STEPS = 12
WORDS = ("--class-noun", "cat", "--steps", STEPS, "--class-images", 2, "--sample-every", 6, "--threads", 1)
WORDS += (
    "--layers",
    "all",
    "--rank",
    3,
    "--alpha",
    6,
    "--learning-rate",
    "1e-2",
    "--checkpoint-every",
    5,
    "--sample-prompt",
    "a {token}",
)


@pytest.fixture(scope="session")
def taught(sd_dir: Path, subject_dir: Path, cli: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder and the words of one training: a LoRA of U-Net and text encoder."""
    folder = tmp_path_factory.mktemp("trainings") / "deeper" / "taught"
    words = ("dreambooth", "train", subject_dir, *WORDS, "--train-text-encoder", "--model", sd_dir)
    return folder, cli(*words, "--output", folder)


def pipeline(folder: Path) -> Any:
    return load(find_model(str(folder))).pipe


def drawn(pipe: Any) -> torch.Tensor:
    made = pipe(
        "a sks cat",
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
        height=16,
        width=16,
    )
    return made.images


def test_what_a_training_leaves(taught: Any) -> None:
    folder, outcome = taught
    assert outcome.code == 0, outcome.err
    assert 'trained "sks cat" in 12 steps' in outcome.out
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "training.json",
        DIFFUSERS_FILE,
        "sks-cat.safetensors",
        "checkpoint/state.json",
        "checkpoint/step-000012.safetensors",
        "class-pictures/manifest.json",
        *(f"class-pictures/p000-s{1_000_000 + number}-baseline.png" for number in range(2)),
        *(f"samples/step-{step:06d}.png" for step in (0, 6, 12)),
    }
    record = json.loads((folder / "training.json").read_text())
    assert (record["token"], record["class_noun"], record["steps"]) == ("sks", "cat", STEPS)
    assert record["identity"]["captions"] == ["a sks cat"] * 4
    assert record["pictures"] == [f"{number}.png" for number in range(4)]
    assert [row["step"] for row in record["losses"]] == list(range(1, STEPS + 1))
    assert str(Path.home()) not in json.dumps({**record, "model": None})


def test_the_class_is_what_the_model_draws_for_it(taught: Any, sd_dir: Path, cli: Any, tmp_path: Path) -> None:
    folder, _ = taught
    made = cli(
        "generate", "a cat", "--no-freeu", "--seeds", "1000000-1000001", "--model", sd_dir, "--output", tmp_path / "x"
    )
    assert made.code == 0, made.err
    mine, theirs = (read_manifest(place) for place in (folder / "class-pictures", tmp_path / "x"))
    assert [one.sha256 for one in mine.images.values()] == [one.sha256 for one in theirs.images.values()]


def test_both_files_change_the_model_alike(taught: Any, sd_dir: Path) -> None:
    folder, _ = taught
    before = drawn(pipeline(sd_dir))
    results = []
    for name in (DIFFUSERS_FILE, "sks-cat.safetensors"):
        pipe = pipeline(sd_dir)
        pipe.load_lora_weights(folder, weight_name=name)
        results.append(drawn(pipe))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=UNET)
    assert (results[0] - before).abs().max() > 1e-3


def test_the_file_holds_what_was_learnt(taught: Any, sd_dir: Path) -> None:
    """W + (alpha / rank) B A by its definition, from the state of the training, against what diffusers loads."""
    folder, _ = taught
    state = load_file(folder / "checkpoint" / f"step-{STEPS:06d}.safetensors")
    by_hand = pipeline(sd_dir)
    changed = 0
    for name, down in state.items():
        part, _, rest = name.removeprefix("weights/").partition(".")
        if name.startswith("weights/") and ".lora_A." in rest:
            up = state[name.replace(".lora_A.", ".lora_B.")]
            module = getattr(by_hand, part).get_submodule(rest.partition(".lora_A.")[0])
            with torch.no_grad():
                change = 6 / 3 * up.flatten(1) @ down.flatten(1)
                module.weight += change.reshape(module.weight.shape)
            changed += 1
    assert changed > 10
    loaded = pipeline(sd_dir)
    loaded.load_lora_weights(folder)
    torch.testing.assert_close(drawn(loaded), drawn(by_hand), rtol=0, atol=10 * UNET)


def test_nothing_is_changed_before_the_first_step(taught: Any, sd_dir: Path, tmp_path: Path, subject_dir: Path) -> None:
    """The sample of step 0 is the model as it is."""
    from freeu.personalize.training.samples import plain_plan, sample_sheet
    from freeu.pipelines.options.model import ModelOptions
    from freeu.pipelines.runs.prepare import model_reference

    folder, _ = taught
    loaded = load(find_model(str(sd_dir)))
    plan = plain_plan(
        loaded, model_reference(loaded, ModelOptions()), ["a sks"], [0], 16, dtype="float32", device="cpu", threads=1
    )
    (tmp_path / "sheet.png").write_bytes(sample_sheet(loaded, plan, "after 0 steps"))
    sheets = [Image.open(path).tobytes() for path in (tmp_path / "sheet.png", folder / "samples/step-000000.png")]
    assert sheets[0] == sheets[1]
    assert sheets[1] != Image.open(folder / "samples/step-000012.png").tobytes()


def test_it_learns(sd_dir: Path, subject_dir: Path, tmp_path: Path) -> None:
    """A U-Net of random weights predicts the noise on four images better after 60 steps than before."""
    settings = DreamBooth(
        subject_dir,
        token="sks",
        class_noun="cat",
        model=str(sd_dir),
        steps=60,
        batch=4,
        prior=False,
        full=True,
        learning_rate=3e-3,
        sample_steps=0,
        threads=1,
    )
    train(settings, tmp_path / "out")
    record = json.loads((tmp_path / "out/training.json").read_text())
    losses = [row["subject"] for row in record["losses"]]
    assert "prior" not in record["losses"][0]
    assert np.mean(losses[-15:]) < 0.8 * np.mean(losses[:15])


def test_an_interrupted_command_goes_on_to_the_same_file(
    taught: Any, sd_dir: Path, subject_dir: Path, tmp_path: Path
) -> None:
    folder, _ = taught
    words = ["dreambooth", "train", subject_dir, *WORDS, "--train-text-encoder", "--model", sd_dir]
    command = [sys.executable, "-m", "freeu", *map(str, words), "--output", str(tmp_path / "part")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        samples = tmp_path / "part/samples/step-000006.png"
        while not samples.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert "go on with: freeu dreambooth train" in err.splitlines()[-1]
    state = json.loads((tmp_path / "part/checkpoint/state.json").read_text())
    assert 6 <= state["step"] < STEPS
    assert not (tmp_path / "part" / DIFFUSERS_FILE).exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"resuming after step {state['step']}" in done.stdout
    for name in (DIFFUSERS_FILE, "sks-cat.safetensors"):
        assert (tmp_path / "part" / name).read_bytes() == (folder / name).read_bytes()
    mine, theirs = (json.loads((place / "training.json").read_text()) for place in (tmp_path / "part", folder))
    assert mine["losses"] == theirs["losses"]


def test_drawing_without_and_with_freeu(taught: Any, sd_dir: Path, cli: Any, tmp_path: Path) -> None:
    folder, _ = taught
    common = ("--steps", 2, "--seeds", "0-1")
    outcome = cli(
        "dreambooth", "generate", folder, "a sks cat", *common, "--lora-weight", 0.5, "--output", tmp_path / "a"
    )
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "a").iterdir()} >= {"compare.html", "grid.png", "manifest.json"}
    manifest = read_manifest(tmp_path / "a")
    assert manifest.plan.arms == ("baseline", "freeu")
    assert [lora.weight for lora in manifest.plan.loras] == [0.5]
    lora = f"{folder}:0.5"
    plain = cli("compare", "a sks cat", *common, "--model", sd_dir, "--lora", lora, "--output", tmp_path / "b")
    assert plain.code == 0, plain.err
    other = read_manifest(tmp_path / "b")
    assert [one.sha256 for one in manifest.images.values()] == [one.sha256 for one in other.images.values()]
    again = cli("generate", "--from", tmp_path / "a/manifest.json", "--output", tmp_path / "c")
    assert again.code == 0, again.err


def test_a_prompt_without_the_word_is_told(taught: Any, cli: Any, tmp_path: Path) -> None:
    folder, _ = taught
    outcome = cli("dreambooth", "generate", folder, "a cat", "--steps", 1, "--output", tmp_path / "a")
    assert outcome.code == 0
    assert "'a cat' does not contain 'sks'" in outcome.one_line()
    told = cli("dreambooth", "generate", folder, "a sks dog", "--steps", 1, "--output", tmp_path / "b")
    assert told.one_line().count("cannot generate") == 1  # the rare word was taught, "dog" was not
    assert "'dog'" in told.err


def test_all_weights(sd_dir: Path, subject_dir: Path, cli: Any, tmp_path: Path) -> None:
    words = (subject_dir, "--class-noun", "cat", "--full", "--steps", 3, "--class-images", 2, "--sample-every", 0)
    words += ("--learning-rate", "1e-3", "--gradient-checkpointing", "--threads", 1)
    outcome = cli("dreambooth", "train", *words, "--model", sd_dir, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    model = StableDiffusionPipeline.from_pretrained(tmp_path / "out/model", local_files_only=True)
    state = load_file(tmp_path / "out/checkpoint/step-000003.safetensors")
    for name, value in model.unet.named_parameters():
        assert torch.equal(value, state[f"weights/unet.{name}"])
    old = pipeline(sd_dir)
    assert not torch.equal(old.unet.conv_in.weight, model.unet.conv_in.weight)
    for mine, theirs in zip(model.text_encoder.parameters(), old.text_encoder.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    made = cli("dreambooth", "generate", tmp_path / "out", "a sks cat", "--steps", 1, "--output", tmp_path / "made")
    assert made.code == 0, made.err
    refused = cli("dreambooth", "generate", tmp_path / "out", "a sks cat", "--lora-weight", 2)
    assert refused.code == 2
    assert "holds a whole model" in refused.one_line()


def test_gradient_checkpointing_changes_no_weight(sd_dir: Path, subject_dir: Path, tmp_path: Path) -> None:
    files = []
    for checkpointing in (False, True):
        settings = DreamBooth(
            subject_dir,
            token="sks",
            class_noun="cat",
            model=str(sd_dir),
            steps=3,
            prior=False,
            sample_steps=0,
            layers="all",
            threads=1,
            gradient_checkpointing=checkpointing,
        )
        files.append(train(settings, tmp_path / str(checkpointing)).folder / DIFFUSERS_FILE)
    one, other = map(load_file, files)
    assert one.keys() == other.keys()
    assert any("conv1" in name for name in one)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value)


def test_captions_beside_pictures(sd_dir: Path, subject_dir: Path, tmp_path: Path) -> None:
    """Each image is learned with its own caption, and the class for the same words without the rare one."""
    folder = tmp_path / "pictures"
    shutil.copytree(subject_dir, folder)
    (folder / "1.txt").write_text("a {token} {class}\n on red\n")
    (folder / "2.txt").write_text("one SKS cat at night")
    settings = DreamBooth(
        folder, token="sks", class_noun="cat", model=str(sd_dir), steps=2, class_images=5, sample_steps=0, threads=1
    )
    taught = train(settings, tmp_path / "out").folder
    record = json.loads((taught / "training.json").read_text())
    assert record["identity"]["captions"] == ["a sks cat", "a sks cat on red", "one SKS cat at night", "a sks cat"]
    of_class = read_manifest(taught / "class-pictures")
    assert of_class.plan.prompts == ("a cat", "a cat on red", "one cat at night")
    assert len(of_class.images) == 6  # at least five, and as many for each prompt
    (folder / "2.txt").write_text("one cat at night")
    with pytest.raises(FreeUValueError, match=r"the caption of 2\.png lacks the token"):
        train(settings, tmp_path / "other")
    for bad in (b"", b"\xff\xfe", b"x" * 2000):
        (folder / "2.txt").write_bytes(bad)
        with pytest.raises(FreeUValueError, match=r"2\.txt"):
            train(settings, tmp_path / "other")
    assert not (tmp_path / "other").exists()
