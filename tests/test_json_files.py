"""Files in JSON that are damaged, or made to do harm: one line, wherever they are read."""

import os
import struct

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.prompts import read_prompts
from freeu.json_files import find_json, parse_json, read_json
from freeu.metadata import KEY, read_png
from freeu.personalize.reversion.exemplars import read_exemplars
from freeu.personalize.training.checkpoint import STATE, Checkpoint
from freeu.personalize.training.record import RECORD, read_record
from freeu.pipelines.io.reading import read_header
from freeu.pipelines.runs.manifest import read_manifest
from freeu.study.plan.folder import PLAN, StudyFolder

DEEP = '{"kind":' * 100_000


def test_objects_are_read(tmp_path):
    path = tmp_path / "one.json"
    assert find_json(path) is None
    assert find_json(path / "below.json") is None
    path.write_text('{"words": ["狐狸", 1.5, null]}', encoding="utf-8")
    assert read_json(path) == find_json(path) == {"words": ["狐狸", 1.5, None]}
    with pytest.raises(FreeUValueError, match=r"cannot read .*two\.json: no such file"):
        read_json(tmp_path / "two.json")
    with pytest.raises(FreeUValueError, match=r"cannot read .*: Is a directory"):
        find_json(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not JSON: Expecting value"),
        (b"\xff\xff", "is not JSON: .*utf-8"),
        (b"[1]", "does not hold a JSON object"),
        (b'{"n": ' + b"9" * 5000 + b"}", "is not JSON: .*digits"),
        (b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, text, words):
    path = tmp_path / "one.json"
    path.write_bytes(text)
    with pytest.raises(FreeUValueError, match=rf"one\.json.* {words}"):
        read_json(path)


def test_constants_can_be_refused():
    def refuse(name):
        raise ValueError(f"{name} is no number")

    assert parse_json("[Infinity]", "x") == [float("inf")]
    with pytest.raises(FreeUValueError, match=r"^x is not JSON: NaN is no number$"):
        parse_json("[NaN]", "x", refuse)


def _png(folder):
    info = PngInfo()
    info.add_itxt(KEY, DEEP)
    Image.new("RGB", (1, 1)).save(folder / "one.png", pnginfo=info)
    return read_png(folder / "one.png")


def _written(name, read):
    def run(folder):
        (folder / name).write_text(DEEP)
        return read(folder)

    return run


def _header(folder):
    (folder / "one.safetensors").write_bytes(struct.pack("<Q", len(DEEP)) + DEEP.encode())
    return read_header(folder / "one.safetensors")


def _exemplars(folder):
    for name in ("1.png", "2.png"):
        Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3)).save(folder / name)
    (folder / "captions.jsonl").write_text(DEEP)
    return read_exemplars(folder, "<R>")


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda _: FreeUConfig.from_json(DEEP), id="configuration"),
        pytest.param(_png, id="text of a PNG"),
        pytest.param(_header, id="header of safetensors"),
        pytest.param(_exemplars, id="captions"),
        pytest.param(_written("manifest.json", read_manifest), id="manifest"),
        pytest.param(_written(RECORD, lambda folder: read_record(folder, "freeu-dreambooth")), id="training"),
        pytest.param(_written(STATE, lambda folder: Checkpoint(folder, {}).check()), id="checkpoint"),
        pytest.param(_written("one.jsonl", lambda folder: read_prompts(str(folder / "one.jsonl"))), id="prompts"),
        pytest.param(_written(PLAN, StudyFolder.open), id="plan of a study"),
    ],
)
def test_deep_nesting_is_told_in_one_line(tmp_path, read):
    with pytest.raises(FreeUValueError) as caught:
        read(tmp_path)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
