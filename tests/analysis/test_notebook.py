"""The notebook of the documentation runs from top to bottom."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "analyze.ipynb"


def test_the_notebook_runs(tmp_path, monkeypatch):
    pytest.importorskip("freeu_zoo")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept: they would age"
    (first,) = (cell for cell in notebook.cells if "steps = 10" in cell.source)
    first.source = first.source.replace("steps = 10", "steps = 4")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads that wait for busy cores cost many times what they bring
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()) if output)
    assert "skip minus backbone: +" in said
    assert said.count("this minus random") == 5
    assert "Fig. 4: High frequencies fall. -" in said
