"""Files of weights and of JSON that others wrote to do harm: one line, at once, and nothing in them runs."""

from __future__ import annotations

import json
import struct
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from freeu.errors import FreeUValueError
from freeu.json_files import read_json
from freeu.pipelines.io.reading import read_header, read_numbers, read_pickled, readable
from freeu.pipelines.models.addons.embedding_files import read_embedding_header


@pytest.fixture(autouse=True)
def _at_once() -> Any:
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < 5


def header(path: Path, data: Any, tail: bytes = b"") -> Path:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tail)
    return path


class TestPickles:
    def test_a_dictionary_that_holds_itself(self, tmp_path):
        data: dict[str, Any] = {}
        data["state_dict"] = data
        torch.save(data, tmp_path / "a.ckpt")
        with pytest.raises(FreeUValueError, match="holds no weights by name"):
            read_pickled(tmp_path / "a.ckpt")

    def test_weights_a_few_dictionaries_down(self, tmp_path):
        torch.save({"state_dict": {"state_dict": {"w": torch.ones(1)}}}, tmp_path / "a.ckpt")
        assert list(read_pickled(tmp_path / "a.ckpt")) == ["w"]

    def test_an_archive_that_unpacks_to_more_than_it_is(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", bytes(50_000_000))
        with pytest.raises(FreeUValueError, match="is compressed"):
            read_pickled(tmp_path / "a.ckpt")

    @pytest.mark.parametrize("packed", [True, False])
    def test_both_layouts_are_read(self, tmp_path, packed):
        torch.save({"w": torch.arange(3.0)}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=packed)
        assert read_pickled(tmp_path / "a.ckpt")["w"].tolist() == [0.0, 1.0, 2.0]

    @pytest.mark.parametrize("packed", [True, False])
    def test_a_name_of_a_million_letters(self, tmp_path, packed):
        data = b"\x80\x02c" + b"m" * 1_000_000 + b"\nf\n)R."
        if packed:
            with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
                archive.writestr("a/data.pkl", data)
                archive.writestr("a/version", "3\n")
        else:
            (tmp_path / "a.ckpt").write_bytes(data)
        with pytest.raises(FreeUValueError, match="it holds more than weights"), readable("a.ckpt"):
            read_pickled(tmp_path / "a.ckpt")

    def test_archives_of_the_first_torch(self, tmp_path):
        with tarfile.open(tmp_path / "a.pt", "w") as archive:
            archive.addfile(tarfile.TarInfo("pickle"))
        with pytest.raises(FreeUValueError, match="convert it to"):
            read_pickled(tmp_path / "a.pt")

    @pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x02}q\x00.", b"PK\3\4", b"\x80\x02" + b"(" * 100_000])
    def test_pieces(self, tmp_path, data):
        (tmp_path / "a.pt").write_bytes(data)
        with pytest.raises(FreeUValueError):
            read_embedding_header(tmp_path / "a.pt")

    def test_a_word_as_wide_as_the_world(self, tmp_path):
        torch.save({"<R>": torch.zeros(1).expand(75, 2**40)}, tmp_path / "a.pt")
        with pytest.raises(FreeUValueError, match="is no embedding"):
            read_embedding_header(tmp_path / "a.pt")


class TestHeaders:
    @pytest.mark.parametrize(
        "data",
        [
            b"[" * 1_000_000,
            b'{"a":' * 200_000,
            b"[1]",
            {"a": 1},
            {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
            {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**30]}},
            {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
            {"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}},
            {"a": {"dtype": 3, "shape": [1], "data_offsets": [0, 4]}},
            {"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}},
            {"__metadata__": {"x": 1}},
            {"__metadata__": [1]},
        ],
        ids=str,
    )
    def test_what_is_no_header(self, tmp_path, data):
        with pytest.raises(FreeUValueError, match="is no safetensors file, or only part of one"):
            read_header(header(tmp_path / "a.safetensors", data, bytes(8)))

    def test_a_header_larger_than_any(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 90_000_000) + bytes(1000))
        with pytest.raises(FreeUValueError, match="a header of 90000000 bytes"):
            read_header(tmp_path / "a.safetensors")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
    def test_numbers(self, tmp_path, dtype):
        save_file({"a": torch.tensor(3).to(dtype), "b": torch.ones(5, dtype=dtype)}, tmp_path / "a.safetensors")
        assert read_numbers(tmp_path / "a.safetensors", ["a"]) == {"a": 3.0}
        with pytest.raises(FreeUValueError, match="'b' is no single number"):
            read_numbers(tmp_path / "a.safetensors", ["b"])


class TestJson:
    def test_a_file_larger_than_any(self, tmp_path):
        with (tmp_path / "a.json").open("wb") as file:
            file.truncate(3 << 30)
        with pytest.raises(FreeUValueError, match="is too large"):
            read_json(tmp_path / "a.json")

    def test_a_file_of_many_values(self, tmp_path):
        (tmp_path / "a.json").write_bytes(b'{"a": [' + b"[]," * 3_000_000 + b"1]}")
        with pytest.raises(FreeUValueError, match="is too large"):
            read_json(tmp_path / "a.json")

    def test_halves_of_characters(self, tmp_path):
        (tmp_path / "a.json").write_text(r'{"a": "\ud83e"}')
        with pytest.raises(FreeUValueError, match="is not JSON"):
            read_json(tmp_path / "a.json")
        (tmp_path / "a.json").write_text(r'{"a": "\ud83e\udd8a"}')
        assert read_json(tmp_path / "a.json") == {"a": "🦊"}
