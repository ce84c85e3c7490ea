"""A sweep: every combination of the values of up to three axes, each different image made once; it resumes."""

from __future__ import annotations

import itertools
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
from freeu.pipelines.models.addons.add_ons import AddOns
from freeu.pipelines.models.addons.attaching import set_weights
from freeu.pipelines.models.infotext import infotext
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.runs.executors import settings_of
from freeu.pipelines.runs.generate import generate_image
from freeu.pipelines.runs.manifest import as_json, claim, made_with
from freeu.pipelines.runs.plan import Plan, PlannedImage
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.request import Request, Sources, check_request
from freeu.pipelines.runs.run import ImageMaker, deterministic
from freeu.pipelines.sweep.axes import Axis, Settings, canonical
from freeu.pipelines.sweep.cells import Cell, Names, plan_of

KIND, SCHEMA = "freeu-sweep", 1
MAX_CELLS = 5_000
DIRECTIONS = ("x", "y", "z")


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


def check_sweep(sweep: Sweep, output: Path) -> Sources:
    """Everything that can be wrong without loading a model; nothing is written.

    Returns:
        the networks of the request.

    Raises:
        FreeUValueError: the first thing that is wrong.
    """
    found = check_request(sweep.request, output)
    for model in {cell.settings.model for cell in sweep.cells()} - {None}:
        assert model is not None
        if not find_model(model).whole:
            raise FreeUValueError(f"{model} is a U-Net alone: give the directory of its whole pipeline")
    _check_needs(sweep)
    base = sweep.request.freeu.base() if sweep.request.freeu else None
    stand_in = base or FreeUConfig(b=(1.1, 1.1), s=(0.9, 0.9))
    for cell in sweep.cells():
        cell.settings.freeu(stand_in)
    return found


def _check_needs(sweep: Sweep) -> None:
    """That there is what an axis changes."""
    request, axes = sweep.request, {canonical(axis.name): axis for axis in sweep.axes}
    for name, there, missing in (
        ("denoising-strength", request.image.image is not None, "an image to start from: give --image FILE too"),
        ("lora-weight", bool(request.add_ons.loras), "a LoRA: give --lora FILE too"),
        ("controlnet-weight", request.control.control is not None, "a ControlNet: give --controlnet too"),
    ):
        if name in axes and not there:
            raise FreeUValueError(f"the axis {axes[name].name} needs {missing}")
    if "prompt-sr" in axes:
        sought = axes["prompt-sr"].values[0][0]
        prompts = [str(value) for value in axes["prompt"].values] if "prompt" in axes else list(request.prompts)
        for prompt in prompts:
            if sought not in prompt and sought not in request.sampling.negative_prompt:
                raise FreeUValueError(
                    f"the axis prompt-sr replaces its first value, {sought!r}: it is not in {prompt!r}"
                )


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
    named = Names(sweep.axes)
    record: dict[str, Any] | None = None
    shown: dict[tuple[int, ...], str] = {}
    # One model in memory at a time.
    for (model, scheduler, fused), group in _grouped(cells, sweep.request.add_ons.fuse_loras):
        options, sampling = sweep.request.model, sweep.request.sampling
        options = replace(options, model=model or options.model)
        sampling = replace(sampling, scheduler=scheduler or sampling.scheduler)
        say(f"loading {options.model or 'the embedded model'}")
        request = replace(sweep.request, model=options, sampling=sampling)
        if fused is not None:
            request = replace(request, add_ons=_weighted(request.add_ons, fused))
        found = check_request(request, folder)
        prepared = prepare(request, found)
        sizes = {
            size: _sized(request, found, prepared, size) for size in dict.fromkeys(cell.settings.size for cell in group)
        }
        jobs = [
            (cell, sizes[cell.settings.size], plan_of(sizes[cell.settings.size].plan, cell.settings)) for cell in group
        ]
        versions = made_with(prepared.plan)
        if record is None:
            record = claim(output, _record(sweep, prepared, versions), "sweep", kept=("pictures",))
            record["pictures"] |= {str(one.pop("file", "")): one for one in read_journal(folder)}
        parts = {"model": prepared.plan.model.name, "scheduler": scheduler, **used_parts(prepared.loaded.pipe)}
        record["used"] = [one for one in record.get("used", []) if one != parts] + [parts]
        loaded(prepared)
        say("generating")
        with (
            quiet(),
            deterministic(prepared.plan.device, prepared.plan.threads),
            journaled(output, partial(as_json, record)) as note,
        ):
            for name, data in ImageMaker().inputs(prepared):
                output.write(name, data)
            for cell, job, plan in jobs:
                file = named(cell, plan, record["pictures"])
                _make(job, plan, file, output, record, versions, parts, note)
                shown[cell.place] = file
                report()
    assert record is not None, "a sweep has a place"
    record["cells"] = [{"place": list(cell.place), "file": shown[cell.place]} for cell in cells]
    output.write(MANIFEST, as_json(record))
    return record


Group = tuple[str | None, str | None, float | None]
"""What cells must share to be generated by one loaded pipeline: model, sampler, and the weight of fused LoRAs."""


def _grouped(cells: list[Cell], fuse: bool) -> Iterator[tuple[Group, list[Cell]]]:
    groups: dict[Group, list[Cell]] = {}
    for cell in cells:
        one = cell.settings
        groups.setdefault((one.model, one.scheduler, one.lora_weight if fuse else None), []).append(cell)
    yield from groups.items()


def _weighted(add_ons: AddOns, weight: float) -> AddOns:
    return replace(add_ons, loras=tuple(replace(lora, weight=weight) for lora in add_ons.loras))


def _sized(request: Request, found: Sources, base: Prepared, size: tuple[int, int] | None) -> Prepared:
    """What was prepared, with its inputs at another size."""
    if size is None or size == (base.plan.width, base.plan.height):
        return base
    sampling = replace(request.sampling, width=size[0], height=size[1])
    inputs = replace(request, sampling=sampling).read_inputs(base.loaded, found, base.plan.steps)
    plan = replace(base.plan, width=size[0], height=size[1], **inputs.plan)
    own = {name: getattr(inputs, name) for name in ("image", "mask", "control_image", "region")}
    return replace(base, plan=plan, **own)


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
    prepared: Prepared,
    plan: Plan,
    file: str,
    output: OutputFolder,
    record: dict[str, Any],
    versions: dict[str, str],
    used: dict[str, Any],
    note: Note,
) -> None:
    """Make the file of a cell, unless another cell or an earlier run has made the same image."""
    known = record["pictures"].get(file)
    if known is not None and _intact(output.path / file, known["sha256"]):
        return
    planned: PlannedImage = next(plan.images())
    pipe = prepared.loaded.pipe
    if plan.loras and not plan.fuse_loras:
        set_weights(pipe, plan.loras)
    images = (prepared.image, prepared.mask)
    control, region = prepared.control_image, prepared.region
    image, flagged = generate_image(pipe, plan, planned, *images, control_image=control, region=region)
    inside = settings_of(plan, planned, versions, {name: one for name, one in used.items() if isinstance(one, dict)})
    output.write(file, png_bytes(image, inside, parameters=infotext(inside)))
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
    beside = {
        "size": f"{plan.width}x{plan.height}",
        "denoising strength": plan.image_strength,
        "LoRA weight": plan.loras[0].weight if plan.loras else None,
        "ControlNet weight": plan.control.scale if plan.control else None,
    }
    record["pictures"][file] |= {name: value for name, value in beside.items() if value is not None}
    note({"file": file, **record["pictures"][file]})


def _intact(path: Path, sha: str) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return pixel_sha(image.convert("RGB")) == sha
    except (OSError, SyntaxError, ValueError):
        return False
