"""``freeu reversion``: from a folder of images to images with the learned word; bad input is one line."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run_cli
from made_exemplars import save_exemplars, save_pictures, save_sd
from PIL import Image
from safetensors.torch import load_file, save_file

from freeu.pipelines.runs.manifest import read_manifest

TRAIN = ("--steps", "3", "--batch", "2", "--threads", "1", "--positives", "2", "--leave-out", "in, on")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def exemplars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_exemplars(tmp_path_factory.mktemp("e") / "exemplars")


@pytest.fixture(scope="module")
def learnt(model: Path, exemplars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one training wrote."""
    folder = tmp_path_factory.mktemp("runs") / "deeper" / "learnt"
    words = ("--model", model, "--sample-every", "2", "--sample-prompt", "cow <R> box", "--output", folder)
    code, out, err = run_cli("reversion", "train", exemplars, *TRAIN, *words)
    assert (code, err) == (0, "")
    assert f"wrote <R> to {folder}" in out
    return folder


def test_training_writes_the_word_its_record_and_samples(learnt: Path, exemplars: Path) -> None:
    assert sorted(path.name for path in learnt.iterdir()) == [
        "checkpoint",
        "learned_embeds.safetensors",
        "samples",
        "training.json",
    ]
    record = json.loads((learnt / "training.json").read_text(encoding="utf-8"))
    assert record["complete"]
    assert record["token"] == "<R>"
    assert record["samples"] == ["cow <R> box"]
    assert record["settings"]["left_out"] == ["in", "on"]
    assert len(record["losses"]) == 3
    assert str(exemplars) not in json.dumps({name: value for name, value in record.items() if name != "model"})
    names = sorted(path.name for path in (learnt / "samples").iterdir())
    assert names == ["step-000000.png", "step-000002.png", "step-000003.png"]
    for name in names:
        with Image.open(learnt / "samples" / name) as picture:
            picture.verify()


def test_the_learning_rate_follows_the_embedding(learnt: Path, model: Path) -> None:
    from freeu.pipelines.models.loading import load
    from freeu.pipelines.models.sources.sources import find_model

    pipe = load(find_model(str(model))).pipe
    tokens = pipe.tokenizer("and", add_special_tokens=False).input_ids
    start = pipe.text_encoder.get_input_embeddings().weight[tokens].mean(0)
    record = json.loads((learnt / "training.json").read_text(encoding="utf-8"))
    wanted = 0.05 * start.square().mean().sqrt().item()
    assert record["settings"]["learning_rate"] == pytest.approx(wanted, rel=5e-3)


def test_the_same_command_again_trains_no_more(learnt: Path, model: Path, exemplars: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(learnt, folder)
    words = ("--model", model, "--sample-every", "2", "--sample-prompt", "cow <R> box", "--output", folder)
    code, _, err = run_cli("reversion", "train", exemplars, *TRAIN, *words)
    assert code == 0
    assert "resuming after 3 steps" in err
    for name in ("learned_embeds.safetensors", "checkpoint/step-000003.safetensors"):
        assert (folder / name).read_bytes() == (learnt / name).read_bytes()


def test_generate_compares_with_the_word_attached(learnt: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    words = ("--b", "1.5,1.6", "--s", "0.9,0.2", "--steps", "2", "--threads", "1", "--output", folder)
    code, _, err = run_cli("reversion", "generate", learnt, "cow <R> van", *words)
    assert (code, err) == (0, "")
    plan = read_manifest(folder).plan
    assert plan.arms == ("baseline", "freeu")
    assert [one.token for one in plan.embeddings] == ["<R>"]
    assert plan.model.reference == str(model.resolve())
    assert (folder / "compare.html").exists()
    compared = tmp_path / "compared"
    code, _, err = run_cli(*("compare", "cow <R> van", "--model", model, "--embedding", learnt, *words[:-1], compared))
    assert (code, err) == (0, "")
    for name in ("p000-s0000-baseline.png", "p000-s0000-freeu.png"):
        with Image.open(folder / name) as ours, Image.open(compared / name) as theirs:
            assert ours.tobytes() == theirs.tobytes()
    again = tmp_path / "again"
    code, out, err = run_cli("generate", "--from", folder / "manifest.json", "--output", again)
    assert (code, err) == (0, "")
    assert "bit-identical" in out


def test_the_word_is_what_was_learnt(learnt: Path, model: Path, tmp_path: Path) -> None:
    """Another vector under the same word generates another image."""
    other = tmp_path / "other"
    shutil.copytree(learnt, other)
    vector = load_file(learnt / "learned_embeds.safetensors")["<R>"]
    save_file({"<R>": -3 * vector}, other / "learned_embeds.safetensors")
    shas = []
    for name, folder in (("a", learnt), ("b", other)):
        words = ("--steps", "2", "--threads", "1", "--b", "1.2,1.2", "--output", tmp_path / name)
        assert run_cli("reversion", "generate", folder, "cow <R> van", *words)[0] == 0
        shas.append(read_manifest(tmp_path / name).images["p000-s0000-baseline.png"].sha256)
    assert shas[0] != shas[1]


def _no_captions(folder: Path) -> str:
    save_pictures(folder)
    return "1.png has no caption"


def _one_without(folder: Path) -> str:
    save_exemplars(folder)
    save_pictures(folder, ("1.png", "2.png", "3.png", "new.png"))
    return "new.png has no caption"


def _no_word(folder: Path) -> str:
    save_exemplars(folder, "short names")
    (folder / "2.txt").write_text("a dog in a car\n", encoding="utf-8")
    return "'a dog in a car' of 2.png lacks the token '<R>'"


def _few(folder: Path) -> str:
    save_exemplars(folder)
    for name in ("2.png", "3.png"):
        (folder / name).unlink()
    return "holds 1 image"


def _unreadable(folder: Path) -> str:
    save_exemplars(folder)
    (folder / "2.png").write_bytes(b"no image")
    return "2.png is not an image"


def _not_json(folder: Path) -> str:
    save_exemplars(folder)
    (folder / "captions.jsonl").write_text('{"file": "1.png"', encoding="utf-8")
    return "captions.jsonl, line 1 is not JSON"


def _no_object(folder: Path) -> str:
    save_exemplars(folder)
    (folder / "captions.jsonl").write_text('["1.png"]\n', encoding="utf-8")
    return "line 1 must be an object"


def _not_text(folder: Path) -> str:
    save_exemplars(folder)
    (folder / "captions.jsonl").write_text('{"file": "1.png", "caption": 3}\n', encoding="utf-8")
    return "a caption must be a text, got 3"


def _no_such_picture(folder: Path) -> str:
    save_exemplars(folder)
    with (folder / "captions.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"file": "../1.png", "caption": "cat <R> box"}\n')
    return "has a caption for '../1.png', but there is no such image"


def _two_ways(folder: Path) -> str:
    save_exemplars(folder)
    save_exemplars(folder, "text.json")
    return "holds captions.jsonl and text.json"


def _no_list(folder: Path) -> str:
    save_exemplars(folder, "text.json")
    (folder / "text.json").write_text("[]", encoding="utf-8")
    return "text.json must be an object"


def _not_utf8(folder: Path) -> str:
    save_exemplars(folder)
    (folder / "captions.jsonl").write_bytes(b"\xff\xfe\x00")
    return "are not UTF-8 text"


def _too_long(folder: Path) -> str:
    save_exemplars(folder, "short names")
    (folder / "2.txt").write_text("a long long caption of a dog <R> car\n", encoding="utf-8")
    return "is not among the 16 tokens"


def _nowhere(folder: Path) -> str:
    return "does not exist"


BAD_FOLDERS = [
    *(_no_captions, _one_without, _no_word, _few, _unreadable, _not_json, _no_object, _not_text, _no_such_picture),
    *(_two_ways, _no_list, _not_utf8, _too_long, _nowhere),
]


@pytest.mark.parametrize("spoil", BAD_FOLDERS)
def test_bad_exemplars_are_one_line_and_write_nothing(
    tmp_path: Path, model: Path, spoil: Callable[[Path], str]
) -> None:
    wanted = spoil(tmp_path / "e")
    words = ("reversion", "train", tmp_path / "e", *TRAIN, "--model", model, "--output", tmp_path / "out")
    code, _, err = run_cli(*words)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert wanted in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--token", "in"), "'<R>'"),  # the captions are looked at first
        (("--token", "two words"), "no blanks"),
        (("--token", ""), "1 to 100 letters"),
        (("--steps", "0"), "--steps must lie in 1"),
        (("--batch", "0"), "--batch must lie in 1"),
        (("--learning-rate", "0"), "--learning-rate must lie in"),
        (("--learning-rate", "nan"), "--learning-rate must lie in"),
        (("--steering-weight", "-1"), "--steering-weight must lie in 0"),
        (("--importance", "1.5"), "--importance must lie in 0 to 1"),
        (("--positives", "9"), "--positives 9 exceeds the 5 prepositions"),
        (("--leave-out", "fox"), "'fox' is no preposition that this model has as one token"),
        (("--plain",), "--plain leaves steering"),
        (("--dtype", "float16"), "--dtype must be float32 or bfloat16"),
        (("--start-word", " "), "--start-word must not be empty"),
        (("--sample-every", "-1"), "--sample-every must lie in 0"),
        (("--threads", "0"), "--threads must lie in 1"),
        (("--seed", "-1"), "--seed must lie in 0"),
        (("--model", "nothing-of-this-name"), "nothing-of-this-name"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(
    tmp_path: Path, model: Path, exemplars: Path, words: tuple[str, ...], wanted: str
) -> None:
    given = ("reversion", "train", exemplars, *TRAIN, "--model", model, "--output", tmp_path / "out", *words)
    code, _, err = run_cli(*given)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert wanted.replace("'<R>'", "lacks the token 'in'") in err
    assert not (tmp_path / "out").exists()


def test_a_word_that_the_model_knows_is_refused(tmp_path: Path, model: Path) -> None:
    folder = save_exemplars(tmp_path / "e", "text.json")
    for token in ("on", "x"):
        words = ("reversion", "train", folder, "--token", token, *TRAIN, "--model", model)
        code, _, err = run_cli(*words, "--output", tmp_path / "out")
        assert (code, len(err.splitlines())) == (2, 1)
        assert f"the token {token!r} is in the model's vocabulary already" in err
        assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_knows_no_prepositions_learns_without_steering(tmp_path: Path, exemplars: Path) -> None:
    from tiny_pipelines import save_pipeline

    spelling = save_pipeline(tmp_path / "spelling")
    words = ("reversion", "train", exemplars, "--steps", "1", "--threads", "1", "--sample-every", "0")
    words = (*words, "--model", spelling, "--output", tmp_path / "out")
    code, _, err = run_cli(*words)
    assert code == 2
    assert "--steering-weight 0" in err
    assert not (tmp_path / "out").exists()
    assert run_cli(*words, "--plain")[0] == 0
    assert not (tmp_path / "out" / "samples").exists()


def test_folders_that_hold_something_else(tmp_path: Path, model: Path, exemplars: Path, learnt: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "training.json").write_text('{"kind": "freeu-dreambooth"}', encoding="utf-8")
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    other = tmp_path / "other"
    shutil.copytree(learnt, other)
    for name, wanted in (
        ("full", "holds other files already"),
        ("foreign", "holds a training of kind 'freeu-dreambooth'"),
        ("file", "is a file"),
        ("other", "holds another training"),
    ):
        words = ("--model", model, "--seed", "5", "--output", tmp_path / name)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        code, _, err = run_cli("reversion", "train", exemplars, *TRAIN, *words)
        assert (code, len(err.splitlines())) == (2, 1)
        assert wanted in err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def _record(folder: Path, **changes: Any) -> None:
    path = folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def _halved(folder: Path) -> str:
    _record(folder, complete=False)
    return "is not finished"


def _no_model(folder: Path) -> str:
    _record(folder, model=None)
    return "identity or model are missing"


def _no_token(folder: Path) -> str:
    _record(folder, token=None)
    return "token or model are missing"


def _no_record(folder: Path) -> str:
    (folder / "training.json").unlink()
    return "holds no training.json"


def _lost(folder: Path) -> str:
    (folder / "learned_embeds.safetensors").unlink()
    return "there is no such file"


def _pickled(folder: Path) -> str:
    (folder / "learned_embeds.safetensors").write_bytes(pickle.dumps({"<R>": torch.zeros(1, 16)}))
    return "is damaged"


def _narrow(folder: Path) -> str:
    save_file({"<R>": torch.zeros(1, 8)}, folder / "learned_embeds.safetensors")
    return "has the width 8, and the text encoder of tiny 16"


@pytest.mark.parametrize("spoil", [_halved, _no_model, _no_token, _no_record, _lost, _pickled, _narrow])
def test_generate_from_a_damaged_folder_is_one_line(tmp_path: Path, learnt: Path, spoil: Callable[[Path], str]) -> None:
    folder = tmp_path / "learnt"
    shutil.copytree(learnt, folder)
    wanted = spoil(folder)
    code, _, err = run_cli("reversion", "generate", folder, "cow <R> van", "--output", tmp_path / "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert wanted in err
    assert not (tmp_path / "out").exists()


def test_a_prompt_without_the_word_is_refused(tmp_path: Path, learnt: Path) -> None:
    for words in (("cow in van",), ()):
        code, _, err = run_cli("reversion", "generate", learnt, *words, "--output", tmp_path / "out")
        assert (code, len(err.splitlines())) == (2, 1)
        assert ("lacks the token <R>" if words else "no prompt") in err
