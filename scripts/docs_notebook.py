"""Runs the notebook of the documentation and keeps its outputs in it: text, and images as PNG of at most 720 pixels.

    python scripts/docs_notebook.py

tests/analysis/test_notebook.py runs it too, and compares what it prints with what is kept.
"""

from __future__ import annotations

import base64
import io
import os
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "analyze.ipynb"
WIDEST = 720
"""Of the images that are kept, in pixels."""


def run(folder: Path) -> Any:
    """The notebook after a run in a folder, on one thread."""
    import nbclient
    import nbformat

    os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for busy cores cost many times what they bring
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.get("outputs", []).clear()
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def printed(notebook: Any) -> list[str]:
    """Lines of text that the cells print or show; of images none."""
    text = ""
    for output in _outputs(notebook):
        data = output.get("data", {})
        if output["output_type"] == "stream":  # one print may come in parts
            text += output["text"]
        elif "image/png" not in data:
            text += data.get("text/plain", "") + "\n"
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def images(notebook: Any) -> list[bytes]:
    """The PNG files of the outputs."""
    data = [output.get("data", {}) for output in _outputs(notebook)]
    return [base64.b64decode(one["image/png"]) for one in data if "image/png" in one]


def _outputs(notebook: Any) -> list[Any]:
    """The outputs of the cells. Warnings and progress bars of other packages are none: they hold paths and seconds."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output for output in found if output.get("name") != "stderr"]


def _smaller(png: bytes) -> str:
    """A PNG in full colour, no wider than ``WIDEST``, as base64."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDEST:
        size = (WIDEST, round(image.height * WIDEST / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    kept = io.BytesIO()
    image.save(kept, "PNG", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def keep(notebook: Any) -> None:
    """Write the notebook with its outputs, without what differs from run to run."""
    import nbformat

    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for output in _outputs(notebook):
        data = output.get("data", {})
        if "image/png" in data:
            output["data"] = {"image/png": _smaller(base64.b64decode(data["image/png"]))}
        elif data:
            output["data"] = {"text/plain": data["text/plain"]}
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    part = NOTEBOOK.with_suffix(".part")
    nbformat.write(notebook, part)
    part.replace(NOTEBOOK)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = run(Path(folder))
    keep(notebook)
    print(f"{NOTEBOOK.name}: {len(printed(notebook))} lines, {sum(map(len, images(notebook))) // 1000} kB of images")


if __name__ == "__main__":
    main()
