"""Tables in a terminal of 80 columns: nothing is broken or cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import freeu
from freeu.cli.tables import needed, turned_table


@pytest.fixture(params=[80, 200])
def columns(request: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    for module in ("presets", "inspect"):
        monkeypatch.setattr(f"freeu.cli.commands.{module}.wide_console", lambda: Console(width=request.param))
    return int(request.param)


def test_presets_fit(cli: Callable[..., Any], columns: int) -> None:
    out = cli("presets").out
    assert max(map(len, out.splitlines())) <= columns
    assert "..." not in out
    assert "…" not in out
    for name, preset in freeu.presets().items():
        line = next(line for line in out.splitlines() if line.split()[:1] == [name])
        assert f"{preset.config.b[0]:g}, {preset.config.b[1]:g}" in line
    assert ("source" in out.splitlines()[0]) == (columns == 200)


def test_one_preset(cli: Callable[..., Any], columns: int) -> None:
    out = cli("presets", "sdxl-v1").out
    preset = freeu.presets()["sdxl-v1"]
    assert str(preset.config) in out
    assert " ".join(preset.source.split()) in " ".join(out.split())
    assert preset.evidence in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= columns
    assert json.loads(cli("presets", "sdxl-v1", "--json").out).keys() == {"sdxl-v1"}
    outcome = cli("presets", "sdxl-v9")
    assert outcome.code == 2
    assert "did you mean sdxl-v1" in outcome.one_line()


def test_sites_fit(cli: Callable[..., Any], columns: int, tmp_path: Path) -> None:
    from tiny_pipelines import save_pipeline, tiny_unet

    folder = save_pipeline(tmp_path / "tiny", unet=tiny_unet())
    out = cli("inspect", folder).out
    assert "…" not in out
    rows = [line for line in out.splitlines() if line.startswith("up_blocks")]
    assert all(len(line.rstrip()) <= columns for line in rows)
    table = json.loads(cli("inspect", folder, "--json").out)
    assert len(rows) == len(table["sites"]) * (2 if columns == 80 else 1)
    assert [line.split()[0] for line in rows[: len(table["sites"])]] == [site["path"] for site in table["sites"]]
    heads = [word for line in out.splitlines() if line.startswith("site") for word in line.split()]
    assert [word for word in heads if word in table["touched"]] == list(table["touched"])


def test_rows_become_columns_in_as_many_tables_as_it_takes() -> None:
    heads, rows = ["arm", "clip_score", "kid"], [[f"arm-{n}", f"{n}.0 ± 0.1", "-"] for n in range(8)]
    (whole,) = turned_table(heads, rows, 200)
    assert (len(whole.columns), whole.row_count) == (9, 2)
    parts = turned_table(heads, rows, 60)
    assert all(needed(part) <= 60 for part in parts)
    assert sum(len(part.columns) - 1 for part in parts) == 8
    assert len(turned_table(heads, rows, 5)) == 8
