"""Prompts from files of lines, lines of JSON, captions of COCO and data sets; parts of large ones; bad lines."""

from __future__ import annotations

import io
import itertools
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli as run

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.prompts import read_prompts
from freeu.pipelines.io import prompt_sources
from freeu.pipelines.io.prompt_sources import Row, choose_rows
from freeu.pipelines.io.prompts import PAPER_PROMPTS, collect_prompts


def written(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def hundred(tmp_path: Path) -> str:
    return written(tmp_path / "hundred.txt", *(f"prompt {number}" for number in range(100)))


# -- parts ----------------------------------------------------------------------------------------------------------


def test_the_first_ones(hundred: str) -> None:
    assert collect_prompts((), hundred, limit=2) == ("prompt 0", "prompt 1")
    assert collect_prompts(["own"], hundred, limit=1) == ("own", "prompt 0")
    assert len(collect_prompts((), hundred, limit=1000)) == 100
    assert collect_prompts((), "paper", limit=3) == PAPER_PROMPTS[:3]


def test_a_limit_reads_no_further() -> None:
    endless = (Row(str(number), "x", "line", number) for number in itertools.count())
    assert [row.text for row in choose_rows("x", endless, limit=3)] == ["0", "1", "2"]
    assert next(endless).text == "3"


def test_a_sample_keeps_the_order_and_follows_its_seed(hundred: str) -> None:
    found = collect_prompts((), hundred, sample=10)
    numbers = [int(text.split()[1]) for text in found]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 10
    assert found == collect_prompts((), hundred, sample=10)
    assert found != collect_prompts((), hundred, sample=10, seed=1)
    assert len(collect_prompts((), hundred, sample=1000)) == 100


def test_every_row_has_the_same_chance() -> None:
    rows = [Row(str(number), "x", "line", number) for number in range(20)]
    counts = dict.fromkeys((row.text for row in rows), 0)
    for seed in range(2000):
        for row in choose_rows("x", rows, sample=5, seed=seed):
            counts[row.text] += 1
    # 500 each on average, with a standard deviation of 19.
    assert all(400 < count < 600 for count in counts.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit must lie in 1 to 100000, got 0"),
        ({"sample": 200_000}, "--sample must lie in 1 to 100000, got 200000"),
        ({"limit": 1, "sample": 1}, "leave one of them out"),
    ],
)
def test_bad_parts(options: dict[str, int], message: str, hundred: str) -> None:
    with pytest.raises(FreeUValueError, match=message):
        collect_prompts((), hundred, **options)
    with pytest.raises(FreeUValueError, match="choose among the prompts of a file: give --prompts too"):
        collect_prompts(["a fox"], None, limit=1)


def test_too_many_are_counted_and_refused(hundred: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_sources, "MAX_PROMPTS", 30)
    with pytest.raises(FreeUValueError, match=r"holds 100 prompts, more than the 30 of a run: give --limit N"):
        collect_prompts((), hundred)
    assert len(collect_prompts((), hundred, sample=30)) == 30


def test_a_large_file_costs_the_memory_of_its_part(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("a 3d fox on a blue background, highly detailed\n" * 50_000 + "the end\n")
    for options in ({"limit": 100}, {"sample": 100}):
        tracemalloc.start()
        assert len(collect_prompts((), str(path), **options)) == 100
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 500_000, options  # the file has 2.4 MB


# -- lines ----------------------------------------------------------------------------------------------------------


def test_lines_of_json_give_their_prompts(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"prompt": " a fox ", "layout": "single"}', "", '{"prompt": "a car"}')
    assert collect_prompts((), path) == ("a fox", "a car")
    assert [prompt.layout for prompt in read_prompts(path)] == ["single", None]
    assert [prompt.text for prompt in read_prompts(path, limit=1)] == ["a fox"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a fox\n\n# no\na car\na fox\n", "t.txt, line 5 repeats the prompt 'a fox' of t.txt, line 1, so .* twice"),
        (b"a fox\n\xff\xfe car\n", r"are not UTF-8 text \(line 2\): save the file as UTF-8"),
        (b"a fox\n" + b"x" * (1 << 20) + b"y\n", "t.txt, line 2 is longer than 1048576 bytes"),
        (b"# only\n\n", "holds no prompt"),
    ],
)
def test_bad_lines_are_named(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(data)
    with pytest.raises(FreeUValueError, match=message):
        read_prompts(str(tmp_path / "t.txt"))


def test_bad_lines_of_json_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", '{"prompt": "a"}', "", '{"text": "b"}')
    for read in (read_prompts, lambda source: collect_prompts((), source)):
        with pytest.raises(FreeUValueError, match=r"t.jsonl, line 3 must be an object like"):
            read(path)
    path = written(tmp_path / "t.jsonl", '{"prompt": "a"}', '{"prompt": "a", "layout": "x"}')
    with pytest.raises(FreeUValueError, match=r"t.jsonl, line 2 repeats the prompt 'a' of t.jsonl, line 1"):
        read_prompts(path)


def test_line_ends_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mac.txt").write_bytes("\ufeffa fox\ra car\r\n狐狸".encode())
    assert collect_prompts((), str(tmp_path / "mac.txt")) == ("a fox", "a car", "狐狸")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a fox\na car\n")))
    assert collect_prompts((), "-", limit=1) == ("a fox",)


# -- COCO -----------------------------------------------------------------------------------------------------------


def captions(path: Path, *annotations: Any) -> str:
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": list(annotations)}))
    return str(path)


def caption(image: int, number: int, text: str) -> dict[str, Any]:
    return {"image_id": image, "id": number, "caption": text}


def test_one_caption_of_each_image_by_id(tmp_path: Path) -> None:
    path = captions(
        tmp_path / "captions_val.json",
        caption(9, 5, "A man rides a wave."),
        caption(2, 7, "A fox.\n"),
        caption(2, 3, "A  red fox. "),
        caption(4, 8, "A red fox."),
        caption(4, 9, "Another fox."),
    )
    want = ("A red fox.", "Another fox.", "A man rides a wave.")  # image 4: its first is that of image 2
    assert collect_prompts((), path) == want
    assert tuple(prompt.text for prompt in read_prompts(path)) == want
    assert collect_prompts((), path, limit=2) == want[:2]


def test_images_without_a_caption_of_their_own_are_told(tmp_path: Path) -> None:
    path = captions(tmp_path / "c.json", caption(1, 1, "A fox."), caption(2, 2, "A fox."), caption(3, 3, " "))
    with pytest.warns(UserWarning, match="left out 2 images: earlier images have the same captions"):
        assert collect_prompts((), path) == ("A fox.",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a fox", "c.json is not JSON"),
        ("[]", "holds no captions of COCO"),
        ('{"annotations": [{"id": 1, "image_id": 2}]}', "c.json, annotation 0 is no caption"),
        ('{"annotations": [{"id": true, "image_id": 2, "caption": "a"}]}', "annotation 0 is no caption"),
    ],
)
def test_other_json_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(FreeUValueError, match=message):
        collect_prompts((), str(tmp_path / "c.json"))
    with pytest.raises(FreeUValueError, match="cannot read the prompts in"):
        collect_prompts((), str(tmp_path / "none.json"))


# -- data sets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two splits with a column that is none of prompts, and a repeated prompt."""
    place = tmp_path / "set"
    (place / "data").mkdir(parents=True)
    for split, texts in (("train", ["a fox", "a car", "a fox", " ", "a dog"]), ("test", ["a cat"])):
        lines = [json.dumps({"id": number, "caption": text, "note": "n"}) for number, text in enumerate(texts)]
        (place / "data" / f"{split}.jsonl").write_text("\n".join(lines))
    return place


@pytest.fixture
def _library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_library")
def test_a_folder_is_streamed(folder: Path) -> None:
    source = f"hf:{folder}:train"
    assert collect_prompts((), source, limit=2) == ("a fox", "a car")
    with pytest.warns(UserWarning, match="left out 1 prompt: earlier ones are the same"):
        assert collect_prompts((), source) == ("a fox", "a car", "a dog")
    assert collect_prompts((), f"hf:{folder}:test:caption") == ("a cat",)
    assert [prompt.text for prompt in read_prompts(f"hf:{folder}:test")] == ["a cat"]


@pytest.mark.usefixtures("_library")
def test_a_set_that_was_saved(folder: Path, tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["one", "two"]}).save_to_disk(tmp_path / "one")
    assert collect_prompts((), f"hf:{tmp_path / 'one'}") == ("one", "two")
    both = datasets.DatasetDict({"a": datasets.Dataset.from_dict({"prompt": ["three"], "n": [1]})})
    both.save_to_disk(tmp_path / "both")
    assert collect_prompts((), f"hf:{tmp_path / 'both'}:a") == ("three",)


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("", "has the splits train, test: name one of them"),
        (":validation", "has the splits train, test"),
        (":train:prompts", "has no column 'prompts': name one of id, caption, note"),
        (":train:id", "row 0 holds a int in 'id', and no text"),
        (":train:caption:more", "a data set is named hf:ID"),
    ],
)
def test_bad_names_of_data_sets(tail: str, message: str, folder: Path) -> None:
    with pytest.raises(FreeUValueError, match=message):
        collect_prompts((), f"hf:{folder}{tail}")


@pytest.mark.usefixtures("_library")
def test_a_hub_out_of_reach_is_one_line() -> None:
    with pytest.raises(FreeUValueError, match="cannot read the prompts in hf:someone/prompts: ") as caught:
        collect_prompts((), "hf:someone/prompts")
    assert "\n" not in str(caught.value)


def test_without_the_library_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FreeUValueError, match="datasets is not installed: pip install datasets"):
        collect_prompts((), "hf:someone/prompts")


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 4 it ran the script of a data set."""
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.__version__", "3.6.0")
    with pytest.raises(FreeUValueError, match=r"datasets 3.6.0 may run code of a data set"):
        collect_prompts((), "hf:someone/prompts")


# -- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "--prompts", "hundred.txt", "--limit", "0"), "--limit must lie in 1 to 100000"),
        (("evaluate", "--prompts", "hundred.txt", "--sample", "3", "--limit", "3"), "leave one of them out"),
        (("generate", "a fox", "--sample", "3"), "give --prompts too"),
        (("analyze", "--limit", "3"), "give --prompts too"),
        (("evaluate", "--prompts", "hundred.txt", "--sample", "3", "--sample-seed", "-1"), "--sample-seed must lie"),
    ],
)
@pytest.mark.usefixtures("hundred")
def test_bad_parts_are_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(*words)
    assert outcome.code == 2
    assert message in outcome.one_line()
