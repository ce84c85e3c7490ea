"""The table of docs/unets.md against the classes and the checks that fill it."""

from __future__ import annotations

import coverage_of_tools
import coverage_of_unets as coverage
import pytest
import torch
from unet_classes import CLASSES
from unet_contract import CHECKS

PAGE = coverage.PAGE.read_text()
ROWS = {row[0]: row for row in coverage.rows_of(PAGE)}
CHEAP = ("diffusers UNet2DModel", "diffusers StableCascadeUNet", "k-diffusion ImageDenoiserModelV1")


def test_every_class_has_its_row():
    assert [*ROWS] == [*CLASSES]
    for name, row in ROWS.items():
        assert len(row) == len(coverage.HEAD), name
        if not row[2].startswith("not installed"):
            assert row[2] == str(len(CLASSES[name].sites))
            assert all(row), f"{name} has an empty cell"
    assert "**no**" not in PAGE
    assert f"| {' | '.join(coverage.HEAD)} |" in PAGE


def test_the_table_is_as_wide_as_promised():
    filled = [row for row in ROWS.values() if not row[2].startswith("not installed")]
    assert len({row[0] for row in filled}) >= 18
    assert len({row[1] for row in filled}) >= 8


@pytest.mark.parametrize("name", CHEAP)
def test_cells_are_what_the_checks_return(name):
    wanted = tuple(check for check in CHECKS if check != "compile")
    found = coverage.cells(CLASSES[name], wanted)
    if found[0].startswith("not installed"):
        pytest.skip(f"{name}: {found[0]}")
    documented = dict(zip(coverage.HEAD, ROWS[name], strict=True))
    assert found == [documented[check] for check in wanted]


def test_a_failing_check_stands_in_its_cell(monkeypatch):
    def fails(_row, _model):
        raise ValueError("no such thing\nand more")

    monkeypatch.setitem(CHECKS, "v1", fails)
    assert coverage.cells(CLASSES[CHEAP[0]], ("v1", "sites")) == ["**no**: ValueError no such thing", "6"]


def test_the_trained_model_is_as_documented():
    try:
        found = coverage.trained()
    except ImportError as error:
        pytest.skip(f"mouse-pupil-analysis is not installed: {error}")
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("a pixel at the edge of the mask may fall otherwise on another processor")
    assert found in PAGE


def test_the_table_of_tools_is_what_convert_says():
    block = coverage_of_tools.BLOCK.search(coverage_of_tools.PAGE.read_text(encoding="utf-8"))
    assert block is not None
    assert block.group(0).splitlines()[1:-1] == [*coverage_of_tools.table()]
