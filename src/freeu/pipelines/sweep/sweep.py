"""A sweep: every combination of the values of up to three axes, each different image made once; it resumes."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.metadata import png_bytes
from freeu.pipelines.io.inputs import pixel_sha
from freeu.pipelines.io.journal import Note, journaled, read_journal
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.runs.executors import settings_of
from freeu.pipelines.runs.generate import generate_image
from freeu.pipelines.runs.interval import acts
from freeu.pipelines.runs.manifest import as_json, claim, made_with
from freeu.pipelines.runs.plan import Plan, PlannedImage
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.request import Request, check_request
from freeu.pipelines.runs.run import deterministic
from freeu.pipelines.sweep.axes import Axis, Settings, canonical

KIND, SCHEMA = "freeu-sweep", 1
MAX_CELLS = 5_000
DIRECTIONS = ("x", "y", "z")


@dataclass(frozen=True)
class Cell:
    """One place of the grid: indices on the axes, and what they mean."""

    place: tuple[int, ...]
    settings: Settings


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Args:
        request: what stays the same; its prompts and seeds are those of cells without such an axis.
        axes: one to three: columns, rows, pages.
    """

    request: Request
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        if len({canonical(name) for name in names}) < len(names):
            raise FreeUValueError(f"two axes sweep the same: {', '.join(names)}")
        if self.count > MAX_CELLS:
            raise FreeUValueError(f"a sweep of {self.count} places is too large: at most {MAX_CELLS}")

    @property
    def count(self) -> int:
        """How many places the grid has."""
        count = 1
        for axis in self.axes:
            count *= len(axis.values)
        return count

    def cells(self) -> Iterator[Cell]:
        """Every place, the first axis fastest."""
        for place in itertools.product(*(range(len(axis.values)) for axis in reversed(self.axes))):
            indices = place[::-1]
            settings = Settings()
            # Whole settings come before their single fields, in whatever order the axes were given.
            order = sorted(
                zip(self.axes, indices, strict=True), key=lambda one: one[0].name not in ("preset", "config")
            )
            for axis, index in order:
                settings = settings.with_value(axis.name, axis.values[index])
            yield Cell(indices, settings)


def check_sweep(sweep: Sweep, output: Path) -> None:
    """Everything that can be wrong without loading a model; nothing is written.

    Raises:
        FreeUValueError: the first thing that is wrong.
    """
    check_request(sweep.request, output)
    for model in {cell.settings.model for cell in sweep.cells()} - {None}:
        assert model is not None
        if not find_model(model).whole:
            raise FreeUValueError(f"{model} is a U-Net alone: give the directory of its whole pipeline")
    base = sweep.request.freeu.base() if sweep.request.freeu else None
    stand_in = base or FreeUConfig(b=(1.1, 1.1), s=(0.9, 0.9))
    for cell in sweep.cells():
        cell.settings.freeu(stand_in)


def run_sweep(
    sweep: Sweep,
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
    report: Callable[[], None] = lambda: None,
    loaded: Callable[[Prepared], None] = lambda prepared: None,
) -> dict[str, Any]:
    """Make every different image of the grid that is not there yet, and keep the manifest up to date.

    Args:
        folder: new, or that of the same sweep.
        say: told which model is loaded.
        report: told of each place that is ready.
        loaded: told of each model, once it is loaded and before it generates.

    Returns:
        what ``manifest.json`` holds: axes, settings of each place, and the file that shows it.

    Raises:
        FreeUValueError: the folder belongs to something else; a model cannot do what a place asks for.
    """
    output = OutputFolder(folder)
    cells = list(sweep.cells())
    record: dict[str, Any] | None = None
    shown: dict[tuple[int, ...], str] = {}
    # One model in memory at a time.
    for (model, scheduler), group in _grouped(cells):
        options, sampling = sweep.request.model, sweep.request.sampling
        options = replace(options, model=model or options.model)
        sampling = replace(sampling, scheduler=scheduler or sampling.scheduler)
        say(f"loading {options.model or 'the embedded model'}")
        request = replace(sweep.request, model=options, sampling=sampling)
        prepared = prepare(request, check_request(request, folder))
        versions = made_with(prepared.plan)
        if record is None:
            record = claim(output, _record(sweep, prepared, versions), "sweep", kept=("pictures",))
            record["pictures"] |= {str(one.pop("file", "")): one for one in read_journal(folder)}
        loaded(prepared)
        say("generating")
        with (
            quiet(),
            deterministic(prepared.plan.device, prepared.plan.threads),
            journaled(output, partial(as_json, record)) as note,
        ):
            for cell in group:
                shown[cell.place] = _make(prepared, cell, output, record, versions, note)
                report()
    assert record is not None, "a sweep has a place"
    record["cells"] = [{"place": list(cell.place), "file": shown[cell.place]} for cell in cells]
    output.write(MANIFEST, as_json(record))
    return record


def _grouped(cells: list[Cell]) -> Iterator[tuple[tuple[str | None, str | None], list[Cell]]]:
    groups: dict[tuple[str | None, str | None], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.settings.model, cell.settings.scheduler), []).append(cell)
    yield from groups.items()


def _record(sweep: Sweep, prepared: Prepared, versions: dict[str, str]) -> dict[str, Any]:
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "axes": [
            {"name": axis.name, "values": list(axis.values), "labels": [axis.label(value) for value in axis.values]}
            for axis in sweep.axes
        ],
        "plan": prepared.plan.to_dict(),
        "environment": versions,
        "pictures": {},
    }


def _make(
    prepared: Prepared, cell: Cell, output: OutputFolder, record: dict[str, Any], versions: Any, note: Note
) -> str:
    """The file of a place; made only if no other place, or earlier run, made the same image."""
    plan = plan_of(prepared.plan, cell.settings)
    key = _key(plan)
    file = f"{key[:20]}.png"
    known = record["pictures"].get(file)
    if known is None or not _intact(output.path / file, known["sha256"]):
        planned: PlannedImage = next(plan.images())
        image, flagged = generate_image(prepared.loaded.pipe, plan, planned, prepared.image, prepared.mask)
        output.write(file, png_bytes(image, settings_of(plan, planned, versions)))
        record["pictures"][file] = {
            "sha256": pixel_sha(image),
            "prompt": planned.prompt,
            "seed": planned.seed,
            "config": str(plan.config) if plan.config else None,
            "steps": plan.steps,
            "guidance": plan.guidance,
            "scheduler": plan.scheduler,
            "model": plan.model.name,
            "flagged": flagged,
        }
        note({"file": file, **record["pictures"][file]})
    return file


def plan_of(base: Plan, settings: Settings) -> Plan:
    """The plan of one image."""
    config, steps = settings.freeu(base.config), settings.steps or base.steps
    if config is not None and (config.identity or not acts(config, steps, base.image_strength)):
        config = None  # the same image
    return replace(
        base,
        command="generate",
        prompts=(settings.prompt or base.prompts[0],),
        seeds=(base.seeds[0] if settings.seed is None else settings.seed,),
        negative_prompt=base.negative_prompt if settings.negative_prompt is None else settings.negative_prompt,
        steps=steps,
        guidance=base.guidance if settings.guidance is None else settings.guidance,
        arms=("baseline" if config is None else "freeu",),
        config=config,
    )


def _key(plan: Plan) -> str:
    """The same for plans that make the same image."""
    return hashlib.sha256(json.dumps(plan.to_dict(), sort_keys=True).encode()).hexdigest()


def _intact(path: Path, sha: str) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return pixel_sha(image.convert("RGB")) == sha
    except (OSError, SyntaxError, ValueError):
        return False
