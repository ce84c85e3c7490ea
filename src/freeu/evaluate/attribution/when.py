"""When does re-weighting help? Every cell of a grid measured in memory, and compared with plain sampling beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.attribution.explain import clear
from freeu.evaluate.attribution.grid import Cell, Grid
from freeu.evaluate.experiment.arms import BASELINE
from freeu.evaluate.experiment.measuring import Measurer, Pair
from freeu.evaluate.experiment.scoring import Values
from freeu.intervals import LEVEL, mean_interval, paired_interval
from freeu.json_files import find_json
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.runs.manifest import as_json, claim, made_with
from freeu.pipelines.runs.prepare import Prepared

WHEN, CELLS = "when.json", "cells"
KIND, CELL_KIND = "freeu-when", "freeu-when-cell"
SCHEMA = 1
MEASURES = ("all_asked", "noun", "clip_score", "saturation", "sharpness", "high_frequency")
"""What the cells are compared by, as far as it was measured."""

_Rows = dict[Pair, Values]


def check_when(prepared: Prepared) -> None:
    """Refuse models that the grid says nothing of.

    Raises:
        FreeUValueError: a model that generates videos, or takes no CFG scale.
    """
    import inspect

    if prepared.plan.frames is not None:
        raise FreeUValueError("--when measures images, and this model generates videos: leave --when out")
    if "guidance_scale" not in inspect.signature(prepared.loaded.pipe.__call__).parameters:
        raise FreeUValueError(f"--when: {type(prepared.loaded.pipe).__name__} takes no CFG scale: leave --when out")


def run_when(
    measurer: Measurer,
    judged_by: Mapping[str, str | None],
    grid: Grid,
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure what is missing, a file for each cell, compare, and write ``when.json``.

    Args:
        measurer: of the prompts, with the plan whose steps, CFG scale and settings the cells replace.
        judged_by: names of the judges, for the record.
        grid: what is compared.
        folder: new, or that of the same grid.
        say: called with what is being done.
        report: called with how many images are measured, and of how many.

    Returns:
        what ``when.json`` holds.

    Raises:
        FreeUValueError: the folder belongs to something else, or the file of a cell is damaged.
    """
    output = OutputFolder(folder)
    plan = measurer.prepared.plan
    record = {
        "kind": KIND,
        "schema": SCHEMA,
        "plan": plan.to_dict(),
        "grid": grid.to_dict(),
        "prompts": [prompt.to_dict() for prompt in measurer.prompts],
        "judges": dict(judged_by),
        "environment": made_with(plan),
    }
    claim(output, record, "grid", beside={"used": used_parts(measurer.prepared.loaded.pipe)})
    pairs = [(number, seed) for number in range(len(measurer.prompts)) for seed in plan.seeds]
    cells = list(grid.cells())
    total = len(cells) * len(pairs)
    store = OutputFolder(folder / CELLS)
    measured: list[tuple[Cell, _Rows]] = []
    prepared = measurer.prepared
    try:
        for cell in cells:
            done = len(measured) * len(pairs)
            rows = _kept(store.path / cell.file, cell, pairs)
            if rows is None:
                say(cell.text)
                measurer.prepared = replace(prepared, plan=replace(plan, steps=cell.steps, guidance=cell.guidance))
                rows = _measured(measurer, cell, pairs, lambda count, done=done: report(done + count, total))  # type: ignore[misc]
                store.write(cell.file, as_json(_as_data(cell, rows)))
            measured.append((cell, rows))
            report(done + len(pairs), total)
    finally:
        measurer.prepared = prepared
    results = {**record, **compare(measured)}
    output.write(WHEN, as_json(results))
    return results


def _measured(measurer: Measurer, cell: Cell, pairs: Sequence[Pair], report: Callable[[int], None]) -> _Rows:
    rows: _Rows = {}
    with measurer.computing():
        for block in measurer.blocks(cell.arm, pairs):
            rows |= dict(block)
            report(len(rows))
    return rows


def _as_data(cell: Cell, rows: _Rows) -> dict[str, Any]:
    return {
        "kind": CELL_KIND,
        "schema": SCHEMA,
        "cell": cell.text,
        "images": [
            {"prompt": number, "seed": seed, "values": values} for (number, seed), values in sorted(rows.items())
        ],
    }


def _kept(path: Path, cell: Cell, pairs: Sequence[Pair]) -> _Rows | None:
    """What an earlier run measured, or None.

    Raises:
        FreeUValueError: the file is not that of this cell.
    """
    data = find_json(path)
    if data is None:
        return None
    try:
        rows = {(one["prompt"], one["seed"]): one["values"] for one in data["images"]}
        fine = data["cell"] == cell.text and set(rows) == set(pairs) and all(map(_values, rows.values()))
    except (KeyError, TypeError):
        fine = False
    if not fine:
        raise FreeUValueError(f"{path} does not hold the cell of {cell.text}: delete it, and it is measured again")
    return rows


def _values(values: Any) -> bool:
    return isinstance(values, dict) and all(
        value is None or (isinstance(value, (int, float)) and math.isfinite(value)) for value in values.values()
    )


def compare(measured: Sequence[tuple[Cell, Mapping[Pair, Values]]]) -> dict[str, Any]:
    """Each cell against plain sampling with the same steps, CFG scale, prompts and seeds.

    Args:
        measured: each cell with the values of its images; those of plain sampling before those compared to them.

    Returns:
        "measures", "baselines", "cells" and "multiplicity", as ``when.json`` holds them.
    """
    plain = {(cell.steps, cell.guidance): rows for cell, rows in measured if cell.factor == BASELINE}
    values = {
        name for rows in plain.values() for row in rows.values() for name, value in row.items() if value is not None
    }
    measures = [name for name in MEASURES if name in values]
    baselines: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    for cell, rows in measured:
        base = plain[(cell.steps, cell.guidance)]
        found: dict[str, dict[str, Any]] = {}
        for measure in measures:
            both = [
                (number, mine, theirs)
                for (number, seed), row in rows.items()
                if (mine := row.get(measure)) is not None and (theirs := base[(number, seed)].get(measure)) is not None
            ]
            if not both:
                continue
            numbers, mine_of, theirs_of = (list(column) for column in zip(*both, strict=True))
            if cell.factor == BASELINE:
                found[measure] = asdict(mean_interval(theirs_of, numbers))
            else:
                found[measure] = asdict(paired_interval(mine_of, theirs_of, numbers)) | {
                    "p": _p(numbers, [a - b for a, b in zip(mine_of, theirs_of, strict=True)])
                }
        row: dict[str, Any] = {"steps": cell.steps, "guidance": cell.guidance}
        if cell.factor == BASELINE:
            baselines.append(row | {"measures": found})
        else:
            config = cell.arm.config
            what = {"factor": cell.factor, "window": cell.window, "config": str(config), "acting_steps": cell.acting}
            cells.append(row | what | {"measures": found})
    tests = [one for row in cells for one in row["measures"].values()]
    for one, adjusted in zip(tests, holm([one["p"] for one in tests]), strict=True):
        one["adjusted"] = adjusted
    return {
        "measures": measures,
        "baselines": baselines,
        "cells": cells,
        "multiplicity": {
            measure: _multiplicity([row["measures"][measure] for row in cells if measure in row["measures"]])
            for measure in measures
        },
    }


def _p(prompts: Sequence[int], differences: Sequence[float]) -> float | None:
    """Of no mean difference, by Student's test over the means of the prompts; None for a single prompt."""
    from scipy.stats import t

    by_prompt: dict[int, list[float]] = {}
    for prompt, difference in zip(prompts, differences, strict=True):
        by_prompt.setdefault(prompt, []).append(difference)
    means = np.array([np.mean(own) for own in by_prompt.values()])
    if len(means) < 2:
        return None
    mean, spread = float(means.mean()), float(means.std(ddof=1)) / math.sqrt(len(means))
    if spread <= 1e-14 * abs(mean):
        return 1.0 if mean == 0.0 else 0.0
    return float(2.0 * t.sf(abs(mean) / spread, len(means) - 1))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for their number (Holm 1979): below a level, at most that share of families has a false one.

    Args:
        values: 0..1; None stays None and counts for nothing.

    >>> holm([0.01, 0.04, None, 0.5])
    [0.03, 0.08, None, 0.5]
    """
    order = sorted((value, place) for place, value in enumerate(values) if value is not None)
    found: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        found[place] = highest
    return found


def significant(found: Mapping[str, Any]) -> bool:
    """Whether a difference is clear though so many were looked at."""
    return clear(found) and found["adjusted"] is not None and found["adjusted"] < 1.0 - LEVEL


def _multiplicity(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many intervals leave out 0, how many would by chance, and how many differences stay after adjustment."""
    # Cells in which nothing changed, such as a score that is 0 everywhere, are no chance of a false one.
    with_interval = [one for one in found if one["low"] is not None and one["low"] < one["high"]]
    return {
        "cells": len(with_interval),
        "by_chance": (1.0 - LEVEL) * len(with_interval),
        "clear": sum(map(clear, with_interval)),
        "above": sum(clear(one) and one["value"] > 0.0 for one in with_interval),
        "adjusted": sum(map(significant, with_interval)),
    }
