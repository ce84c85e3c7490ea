"""Runs the contract of every adapter on every real U-Net class, and writes what it finds into docs/unets.md.

    python scripts/coverage_of_unets.py                          # minutes: each class is compiled
    python scripts/coverage_of_unets.py "diffusers UNet2DModel"  # this row; the others stay

The classes are those of tests/unet_classes.py, the checks those of tests/unet_contract.py. A class whose package is not
installed keeps its row, and says so. Exit code 1 if a check fails: its cell holds the error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import pretrained_unet
from foreign_unets import Foreign
from unet_classes import CLASSES
from unet_contract import CHECKS

import freeu

PAGE = Path(__file__).resolve().parents[1] / "docs" / "unets.md"
_BLOCK = r"(<!-- {0}: begin -->\n).*?(<!-- {0}: end -->)"
HEAD = ("class", "package", *CHECKS)


def package_of(row: Foreign) -> str:
    """The distribution that a class is from, with its version; how it is called where it is not installed."""
    root = row.module.split(".")[0]
    names = importlib.metadata.packages_distributions().get(root)
    if names:
        return f"{names[0]} {importlib.metadata.version(names[0])}"
    try:
        from comfyui_version import __version__
    except ImportError:
        return root
    return f"ComfyUI {__version__}" if root == "comfy" else root


def cells(row: Foreign, names: tuple[str, ...] = tuple(CHECKS)) -> list[str]:
    """What the checks of one class return, or the first line of what they raise."""
    try:
        model = row.build()
    except ImportError as error:
        return [f"not installed ({error.name})", *[""] * (len(names) - 1)]
    found = []
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the packages' own
                found.append(CHECKS[name](row, model))
        except Exception as error:  # every failure is a cell of the table
            found.append(f"**no**: {type(error).__name__} {str(error).splitlines()[0] if str(error) else ''}".strip())
    return found


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells in Markdown, under their head."""
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def trained() -> str:
    """What FreeU does to the trained U-Net of no known family, in Markdown."""
    model = pretrained_unet.load()
    image, pupil = pretrained_unet.eye()
    with torch.no_grad():
        before = model(image)
        with freeu.enabled(model, **pretrained_unet.FACTORS, example_args=(image,)) as handle:
            during = model(image)
            changes = handle.verify()
        after = model(image)
    found = [pretrained_unet.overlap(output, pupil) for output in (before, during, after)]
    moved = int(((before > 0) != (during > 0)).sum())
    lines = [
        "```text",
        str(freeu.inspect(model)),
        f"verify(): {changes}",
        "overlap with the drawn pupil (intersection over union): "
        f"{found[0]:.3f} without FreeU, {found[1]:.3f} with it, {found[2]:.3f} after it",
        f"pixels of the mask that differ with FreeU: {moved} of {before.numel()}",
        f"output restored to the bit: {'yes' if torch.equal(before, after) else 'no'}",
        "```",
    ]
    return "\n".join(lines) + "\n"


def rows_of(page: str) -> list[list[str]]:
    """The cells of the table as it stands in the page, without its head."""
    block = re.search(_BLOCK.format("coverage"), page, re.DOTALL)
    assert block is not None, "docs/unets.md has lost its marks"
    lines = [line for line in block.group(0).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def write(blocks: Mapping[str, str]) -> None:
    """Put text between marks of the page."""
    page = PAGE.read_text()
    for name, text in blocks.items():
        page = re.sub(_BLOCK.format(name), lambda found, text=text: found[1] + text + found[2], page, flags=re.DOTALL)
    new = PAGE.with_suffix(".md.new")
    new.write_text(page)
    new.replace(PAGE)


def main() -> int:
    """Fill the page row by row; 1 if a check failed."""
    parser = argparse.ArgumentParser(description="Fill the table of docs/unets.md.")
    parser.add_argument("classes", nargs="*", help="as the first column names them; default: all")
    wanted = parser.parse_args().classes or [*CLASSES]
    for name in set(wanted) - CLASSES.keys():
        parser.error(f"no class {name!r}: {', '.join(CLASSES)}")
    torch.set_num_threads(1)
    rows = {row[0]: row for row in rows_of(PAGE.read_text())}
    for name in wanted:
        rows[name] = [name, package_of(CLASSES[name]), *cells(CLASSES[name])]
        print(" | ".join(rows[name]), flush=True)
        write({"coverage": table(rows[one] for one in CLASSES if one in rows)})
    write({"trained": trained()})
    return int(any("**no**" in cell for row in rows.values() for cell in row))


if __name__ == "__main__":
    sys.exit(main())
