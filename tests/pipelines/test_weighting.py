"""Prompts in A1111's syntax: what the signs mean, what the embeddings are, and that runs are reproduced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run_cli
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.models.weighting import (
    check_encoders,
    check_weighting,
    embeddings,
    has_syntax,
    is_weighted,
    parse,
    plain_text,
)

WEIGHTED = "a (red fox:1.5) in [old] snow"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a fox", [[("a fox", 1.0)]]),
        ("(a)", [[("a", 1.1)]]),
        ("((a))", [[("a", 1.21)]]),
        ("(a (b:1.5) c:2)", [[("a ", 2.0), ("b", 3.0), (" c", 2.0)]]),
        ("[a]", [[("a", 1 / 1.1)]]),
        ("([a])", [[("a", 1.0)]]),
        (r"a \(b\) \[c\]", [[("a (b) [c]", 1.0)]]),
        ("(a:.5)", [[("a", 0.5)]]),
        ("a: b", [[("a: b", 1.0)]]),
        ("(unclosed", [[("unclosed", 1.1)]]),
        ("closed)", [[("closed)", 1.0)]]),
        ("a BREAK b", [[("a", 1.0)], [("b", 1.0)]]),
        ("BREAKFAST", [[("BREAKFAST", 1.0)]]),
        ("", [[("", 1.0)]]),
        ("a [ ] b", [[("a   b", 1.0)]]),
    ],
)
def test_what_the_signs_mean(text: str, expected: Any) -> None:
    found = parse(text)
    assert [[fragment for fragment, _ in chunk] for chunk in found] == [[one for one, _ in chunk] for chunk in expected]
    weights = [weight for chunk in found for _, weight in chunk]
    assert weights == pytest.approx([weight for chunk in expected for _, weight in chunk])


def test_what_is_syntax() -> None:
    assert plain_text(r"a (red:1.2) \(fox\) BREAK [b]") == "a red (fox) b"
    assert [has_syntax(text) for text in ("a fox", "a (fox)", r"\(", "a BREAK b")] == [False, True, True, True]
    # Parentheses without a number may be words.
    assert [is_weighted(text) for text in ("a (fox)", "(a:1.2)", "a BREAK b", "f(x): 2")] == [False, True, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a [fox:dog:0.4]", "prompt editing, '[fox:dog:0.4]', is not done here"),
        ("a [fox|dog]", "alternating words"),
        ("a <lora:style:0.8>", "give --lora FILE:WEIGHT"),
        ("a fox AND a dog", "composition with 'AND'"),
        ("a (fox:40)", "weights lie in 0 to 10, got 40 for 'fox'"),
        ("a (fox:-1)", "weights lie in 0 to 10, got -1 for 'fox'"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("compel")
    check_weighting(None, [text])  # as words it is fine
    outcome = run_cli("generate", text, "--weighting", "a1111", "--output", tmp_path / "out")
    assert (outcome.code, outcome.loading) == (2, ())
    assert message in outcome.one_line()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FreeUValueError, match="compel is not installed: pip install compel"):
        check_weighting("a1111", ["a fox"])


@pytest.fixture(scope="module")
def sd(sd_dir: Path) -> Any:
    pytest.importorskip("compel")
    return load(find_model(str(sd_dir))).pipe


@pytest.fixture
def xl(make_pipeline: Callable[..., Path], parts: Any) -> Any:
    pytest.importorskip("compel")
    cls = "StableDiffusionXLPipeline"
    unet = parts.unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )
    more = {
        "unet": unet,
        "text_encoder": parts.text_encoder(),
        "text_encoder_2": parts.text_encoder("CLIPTextModelWithProjection", projection_dim=16),
        "tokenizer_2": parts.tokenizer(),
    }
    return load(find_model(str(make_pipeline("tiny-xl", cls, **more)))).pipe


def test_words_alone_are_left_to_the_pipeline(sd: Any, xl: Any) -> None:
    assert embeddings(sd, ["a fox"], [""]) == {}
    assert embeddings(xl, ["a fox", "b"], ["red", "red"]) == {}


def test_a_weight_of_1_is_what_the_pipeline_computes(sd: Any) -> None:
    found = embeddings(sd, ["a (fox:1.0) (b)"], ["red"])
    positive, negative = sd.encode_prompt("a fox b", "cpu", 1, True, negative_prompt="red")
    torch.testing.assert_close(found["negative_prompt_embeds"], negative)
    assert not torch.allclose(found["prompt_embeds"], positive)  # the weight of b
    plain = embeddings(sd, [r"a \(fox"], [""])["prompt_embeds"]
    torch.testing.assert_close(plain, sd.encode_prompt("a (fox", "cpu", 1, False)[0])


def test_long_prompts_are_read_to_their_end(sd: Any) -> None:
    # The tiny tokenizer spells: a letter is a token, and 75 of them are a chunk.
    long = ", ".join(["abcdefgh"] * 20)
    found = embeddings(sd, [long, "a fox"], ["", "red"])
    chunks = found["prompt_embeds"].shape[1] // 77
    assert chunks >= 3
    assert found["negative_prompt_embeds"].shape == found["prompt_embeds"].shape
    other = embeddings(sd, [long[:-1] + "z", "a fox"], ["", "red"])
    assert not torch.equal(found["prompt_embeds"][0], other["prompt_embeds"][0])
    assert embeddings(sd, ["a BREAK b"], [""])["prompt_embeds"].shape[1] == 2 * 77
    less = embeddings(sd, [f"[{long}] a (fox) in [ ] [old] (snow:0.3)"], [""])["prompt_embeds"]
    assert less.shape[1] >= 3 * 77
    assert less.isfinite().all()


def test_both_encoders_of_sdxl(xl: Any) -> None:
    found = embeddings(xl, ["a (fox:1.0) b BREAK c"], [""])
    assert found["prompt_embeds"].shape == (1, 154, 32)
    assert found["pooled_prompt_embeds"].shape == (1, 16)
    assert not found["negative_prompt_embeds"].any()  # as the pipeline does where there is no negative prompt
    plain = embeddings(xl, [r"a \(fox"], ["red"])
    expected = xl.encode_prompt("a (fox", negative_prompt="red", do_classifier_free_guidance=True)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    for name, value in zip(names, expected, strict=True):
        torch.testing.assert_close(plain[name], value)


def test_encoders_that_cannot_be_weighted(sd: Any) -> None:
    check_encoders(sd, None)
    with pytest.raises(FreeUValueError, match="--weighting needs text encoders in memory"):
        check_encoders(sd, "sequential")

    class Other:
        text_encoder = torch.nn.Linear(1, 1)

        def __call__(self, prompt_embeds: Any) -> None: ...

    with pytest.raises(FreeUValueError, match="Other reads prompts with Linear: leave it out"):
        check_encoders(Other(), None)


def _pixels(path: Path) -> Any:
    return np.asarray(Image.open(path))


def test_runs_are_recorded_and_reproduced(sd_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("compel")
    common = ("--model", sd_dir, "--steps", "2", "--threads", "1")
    words = ("generate", WEIGHTED, "a red fox", "--neg", "(old:1.2)", *common)
    outcome = run_cli(*words, "--weighting", "a1111", "--output", tmp_path / "one")
    assert (outcome.code, outcome.err) == (0, "")
    again = run_cli("generate", "--from", tmp_path / "one", "--output", tmp_path / "two")
    assert "2 of 2 images are bit-identical" in again.out
    png = tmp_path / "one" / "p000-s0000-freeu.png"
    image = run_cli("generate", "--from", png, "--model", sd_dir, "--output", tmp_path / "three")
    assert "1 of 1 image is bit-identical" in image.out
    as_words = run_cli(*words, "--output", tmp_path / "words")
    assert f"the weights in '{WEIGHTED}' are read as words: --weighting a1111 applies them" in as_words.err
    first = "p000-s0000-freeu.png"
    assert not np.array_equal(_pixels(tmp_path / "one" / first), _pixels(tmp_path / "words" / first))


def test_a_plain_prompt_gives_the_same_image(sd_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("compel")
    words = ("generate", "a red fox", "--model", sd_dir, "--steps", "2", "--threads", "1")
    for name, more in (("plain", ()), ("weighted", ("--weighting", "a1111"))):
        assert run_cli(*words, *more, "--output", tmp_path / name).code == 0
    first = "p000-s0000-freeu.png"
    assert np.array_equal(_pixels(tmp_path / "plain" / first), _pixels(tmp_path / "weighted" / first))


def test_negative_prompts_of_lines(sd_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a fox", "negative_prompt": "red"}\n{"prompt": "a fox"}\n{"prompt": "a fox"}\n')
    words = ("compare", "--prompts", file, "--model", sd_dir, "--steps", "2", "--threads", "1")
    assert run_cli(*words, "--output", tmp_path / "one").code == 0
    images = [_pixels(tmp_path / "one" / f"p{number:03d}-s0000-freeu.png") for number in range(3)]
    assert not np.array_equal(images[0], images[1])
    assert np.array_equal(images[1], images[2])
    again = run_cli("generate", "--from", tmp_path / "one", "--output", tmp_path / "two")
    assert "6 of 6 images are bit-identical" in again.out
    words = ("generate", "a fox", "--neg", "red", "--model", sd_dir, "--steps", "2", "--threads", "1")
    alone = run_cli(*words, "--output", tmp_path / "three")
    assert alone.code == 0
    assert np.array_equal(images[0], _pixels(tmp_path / "three" / "p000-s0000-freeu.png"))
    assert "freeu generate --from manifest.json" in (tmp_path / "one" / "compare.html").read_text(encoding="utf-8")
