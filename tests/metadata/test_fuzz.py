"""Damaged settings of every tool: read, or refused in one line; ``scripts/fuzz_files.py`` reads 10,000 of them."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from foreign_texts import GRAPH, LINE, WORKFLOW, png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freeu.errors import FreeUError
from freeu.metadata import read

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fuzz_files

ONCE = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANY = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))


def quiet(path: Path) -> None:
    """A file is read, or refused in one line."""
    told = ""
    try:
        read(path)
    except FreeUError as error:
        told = str(error)
    assert len(told) < 2000
    assert "\n" not in told


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return fuzz_files.sound("settings", tmp_path_factory.mktemp("sound"))


@ONCE
@given(seed=st.integers(0, 2**32))
def test_damaged_files(tmp_path: Path, files: list[bytes], seed: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(fuzz_files.case("settings", files, random.Random(seed)))
    quiet(path)


@ONCE
@given(data=st.data())
def test_values_of_any_kind_anywhere(tmp_path: Path, data: st.DataObject) -> None:
    """One value of a graph, a workflow or another tool's JSON is replaced by anything."""
    sound: list[Any] = [
        *(GRAPH, WORKFLOW, {"prompt": GRAPH}),
        {"stage_infos": [{"backbone_factor": 1.2}], "start_ratio": 0.0, "version": "2"},
        {"alwayson_scripts": {"freeu": {"args": [{"stage_infos": [{}]}]}}, "prompt": "a"},
        {"prompt": "a", "freeu": [1, 1, 1, 1], "resolution": "(1, 2)"},
        {"positive_prompt": "a", "model": {"name": "m"}, "graph": {"nodes": {"a": {"type": "freeu"}}, "edges": []}},
        {"kind": "freeu-preset", "config": {"b": [1, 1]}},
        {"schema": 1, "prompt": "a", "config": {"b": [1, 1]}},
    ]
    root = json.loads(json.dumps(data.draw(st.sampled_from(sound))))
    place = root
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = data.draw(ANY)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(root), encoding="utf-8")
    quiet(path)


@ONCE
@given(text=st.text(), name=st.sampled_from(["FreeU", "FreeU Stages", "FreeU Schedule", "freeu_b1", "Size", "Seed"]))
def test_fields_of_any_text(tmp_path: Path, text: str, name: str) -> None:
    line = f"{LINE}, freeu_enabled: True, {name}: {json.dumps(text)}"
    quiet(png(tmp_path / "x.png", {"parameters": f"a fox\n{line}"}))
