"""The notebook of the documentation runs from top to bottom, and what it prints is what is kept in it."""

from __future__ import annotations

import re

import docs_notebook as made
import pytest

pytest.importorskip("freeu_zoo")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
nbformat = pytest.importorskip("nbformat")

NUMBER = re.compile(r"[-+]?\d+\.\d*")
"""Whole numbers are names, such as that of a figure, and must be equal."""


def test_what_is_kept_is_what_it_prints(tmp_path):
    kept = nbformat.read(made.NOTEBOOK, as_version=4)
    nbformat.validate(kept)
    again = made.run(tmp_path)
    lines, expected = made.printed(again), made.printed(kept)
    assert "upper half of frequencies" in "\n".join(expected)
    renew = "make notebook keeps the new outputs"
    assert [NUMBER.sub("#", line) for line in lines] == [NUMBER.sub("#", line) for line in expected], renew
    for line, before in zip(lines, expected, strict=True):
        # Numbers are printed with two decimals, and another processor rounds otherwise.
        assert list(map(float, NUMBER.findall(line))) == pytest.approx(
            list(map(float, NUMBER.findall(before))), rel=0.02, abs=0.02
        ), f"{before!r} is kept, {line!r} is printed now: {renew}"
    assert len(made.images(again)) == len(made.images(kept))


def test_outputs_are_small_and_tell_nothing_of_the_machine():
    kept = nbformat.read(made.NOTEBOOK, as_version=4)
    images = made.images(kept)
    assert len(images) == 6
    assert sum(map(len, images)) < 400_000
    assert made.NOTEBOOK.stat().st_size < 560_000  # base64 takes a third more
    outputs = [output for cell in kept.cells for output in cell.get("outputs", ())]
    assert all(output.get("name") != "stderr" and output["output_type"] != "error" for output in outputs)
    assert not re.search(r"/(home|usr|work|tmp)/", "\n".join(made.printed(kept)))
