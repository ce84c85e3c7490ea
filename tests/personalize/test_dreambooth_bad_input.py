"""freeu dreambooth: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import CLIPTokenizer

from freeu.errors import FreeUValueError
from freeu.personalize.dreambooth.identifier import check_rare

Run = Callable[..., Any]


@pytest.fixture
def run(cli: Run, sd_dir: Path, subject_dir: Path, tmp_path: Path) -> Run:
    """One step with some words changed; the folder is ``tmp_path / "out"``."""

    def run(*words: object, pictures: Path = subject_dir, noun: str = "cat", output: Path | None = None) -> Any:
        few = ("--steps", 1, "--class-images", 1, "--sample-every", 0, "--threads", 1, "--model", sd_dir)
        place = ("--output", output or tmp_path / "out")
        return cli("dreambooth", "train", pictures, "--class-noun", noun, *few, *place, *words)

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--token", "two words"), "--token must be one word without spaces, such as sks, got 'two words'"),
        (("--token", ""), "--token must be one word"),
        (("--token", "CAT"), "--token 'CAT' is the class noun too"),
        (("--token", "s"), "--token 's' is in the model's vocabulary already"),
        (("--token", "unbelievable"), "is split into 12 tokens"),
        (("--prompt", "a {class}"), "--prompt must contain {token}"),
        (("--prompt", "{token}"), "has only the token"),
        (("--sample-prompt", " "), "--sample-prompt is empty"),
        (("--steps", "0"), "--steps must lie in 1 to 1e+06, got 0"),
        (("--batch", "65"), "--batch must lie in 1 to 64"),
        (("--learning-rate", "nan"), "--learning-rate must lie in 1e-09 to 1, got nan"),
        (("--learning-rate", "0"), "--learning-rate must lie"),
        (("--rank", "0"), "--rank must lie in 1 to 512, got 0"),
        (("--alpha", "-1"), "--alpha must be above 0, got -1"),
        (("--layers", "some"), "--layers must be attention or all, got 'some'"),
        (("--class-images", "0"), "--class-images must lie in 1 to 10000"),
        (("--prior-weight", "inf"), "--prior-weight must lie in 0 to 100, got inf"),
        (("--snr-gamma", "0"), "--snr-gamma must lie in 0.1 to 1000"),
        (("--size", "20"), "multiple of 8"),
        (("--seed", "-1"), "--seed must lie"),
        (("--dtype", "float16"), "--dtype must be auto, float32 or bfloat16, got 'float16'"),
        (("--device", "cuda:99"), "device 'cuda:99' is not on this machine"),
        (("--model", "nowhere"), "no model 'nowhere'"),
    ],
)
def test_settings(run: Run, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    outcome = run(*words)
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_pictures(run: Run, subject_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(subject_dir, folder)
    for name in ("2.png", "3.png"):
        (folder / name).unlink()
    assert "holds 2 images" in run(pictures=folder).one_line()
    for bad in (b"no image", pickle.dumps([1])):
        (folder / "2.jpg").write_bytes(bad)
        outcome = run(pictures=folder)
        assert outcome.code == 2
        assert "2.jpg is not an image" in outcome.one_line()
    assert "does not exist" in run(pictures=tmp_path / "nowhere").one_line()
    assert not (tmp_path / "out").exists()


def test_words_that_mean_something() -> None:
    """A vocabulary numbered by frequency, as CLIP's: early words are refused, late ones and spelled ones are not."""
    letters = [chr(code) for code in range(97, 123)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "ca", "cat</w>", "sk", "sks</w>"]
    merges = [("c", "a"), ("ca", "t</w>"), ("s", "k"), ("sk", "s</w>")]
    numbers = {token: place for place, token in enumerate(tokens)} | {"sks</w>": 48_136}
    numbers |= {"<|startoftext|>": 49_406, "<|endoftext|>": 49_407}
    tokenizer = CLIPTokenizer(vocab=numbers, merges=merges)
    check_rare("sks", [tokenizer])
    check_rare("zwx", [tokenizer])
    with pytest.raises(FreeUValueError, match=r"'cat' is in the model's vocabulary already \(number 53\)"):
        check_rare("cat", [tokenizer])
    tokenizer.add_tokens("zwx")
    with pytest.raises(FreeUValueError, match="'zwx' is in the model's vocabulary already"):
        check_rare("zwx", [tokenizer])


def test_the_embedded_model_spells_rare_words_and_refuses_its_nouns() -> None:
    freeu_zoo = pytest.importorskip("freeu_zoo")
    tokenizer = CLIPTokenizer.from_pretrained(freeu_zoo.model_path() / "tokenizer")
    check_rare("sks", [tokenizer])
    check_rare("ohwx", [tokenizer])
    for word in ("fox", "giraffe", "red"):
        with pytest.raises(FreeUValueError, match="vocabulary already"):
            check_rare(word, [tokenizer])


def test_folders_of_something_else(run: Run, cli: Run, sd_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    assert "holds other files already" in run().one_line()
    assert [path.name for path in out.iterdir()] == ["letter.txt"]
    (out / "training.json").write_text(json.dumps({"kind": "freeu-reversion", "schema": 1}))
    assert "holds a training of kind 'freeu-reversion'" in run().one_line()
    (out / "training.json").write_bytes(pickle.dumps({"kind": "freeu-dreambooth"}))
    assert "training.json is not JSON" in run().one_line()
    (out / "training.json").write_text('{"kind": "freeu-dreambooth", "schema": 2}')
    assert "a newer freeu may read it" in run().one_line()
    (tmp_path / "file").write_text("")
    assert "is a file" in run(output=tmp_path / "file").one_line()


def test_a_folder_of_another_training(run: Run, subject_dir: Path, tmp_path: Path) -> None:
    assert run().code == 0
    for words, message in (
        (("--prompt", "a photo of {token} {class}"), "captions:"),
        (("--rank", "2"), "learns:"),
        (("--full",), "learns:"),
        (("--no-prior",), "prior:"),
        (("--seed", "1"), "seed: 0 there, 1 now"),
        (("--learning-rate", "0.1"), "learning rate:"),
    ):
        outcome = run(*words)
        assert outcome.code == 2, words
        assert message in outcome.err.splitlines()[-1]
    folder = tmp_path / "pictures"
    shutil.copytree(subject_dir, folder)
    Image.open(folder / "0.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "0.png")
    assert "pictures:" in run(pictures=folder).one_line()
    assert run().code == 0


class _Planted:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch planted",)


def test_planted_files_run_no_code(run: Run, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run().code == 0
    out = tmp_path / "out"
    for name in ("pytorch_lora_weights.safetensors", "training.json"):
        (out / name).write_bytes(pickle.dumps(_Planted()))
        outcome = cli("dreambooth", "generate", out, "a sks cat", "--output", tmp_path / "made")
        assert outcome.code == 2
        assert name in outcome.one_line()
    assert not (tmp_path / "planted").exists()
    assert not (tmp_path / "made").exists()


def test_drawing_from_what_is_no_training(cli: Run, tmp_path: Path) -> None:
    assert "holds no training" in cli("dreambooth", "generate", tmp_path, "a sks cat").one_line()
    assert "holds no training" in cli("dreambooth", "generate", tmp_path / "nowhere", "a sks cat").one_line()
    record = {"kind": "freeu-dreambooth", "schema": 1, "identity": {}, "model": {}}
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert "is damaged: token" in cli("dreambooth", "generate", tmp_path, "a sks cat").one_line()
    record |= {"token": "sks", "class_noun": "cat", "model": {"fingerprint": "x", "reference": "mini-sd"}}
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert "is not finished" in cli("dreambooth", "generate", tmp_path, "a sks cat").one_line()
