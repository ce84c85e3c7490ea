"""Score images and videos that exist already: folders of freeu's commands, or plain folders; no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.results import KIND, RESULTS, SCHEMA, TABLE, as_markdown
from freeu.evaluate.experiment.scoring import Judges, Sample, images_in
from freeu.evaluate.experiment.summary import score_everything
from freeu.evaluate.experiment.video_files import are_videos
from freeu.pipelines.io.inputs import short_names
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.runs.manifest import as_json, environment, read_manifest
from freeu.wording import counted


@dataclass(frozen=True)
class Existing:
    """The images or videos of one arm that exist already.

    Args:
        name: of the folder; for ``freeu compare`` followed by "baseline" or "freeu".
        samples: sorted by prompt, then by seed.
        config: FreeU's settings as plain data, or None.
        guidance: the CFG scale that they were generated with; None if unknown.
    """

    name: str
    samples: tuple[Sample, ...]
    config: dict[str, Any] | None = None
    guidance: float | None = None


def read_existing(folders: Sequence[Path], prompts: Sequence[Prompt]) -> tuple[Existing, ...]:
    """Read the arms from folders; the first is the baseline.

    In a folder with a manifest (of ``freeu compare``, ``generate`` or ``video``, or of an arm of ``freeu evaluate``)
    the manifest says which image belongs to which prompt. In any other folder the i-th image by name shows the i-th
    prompt.

    Args:
        folders: at least one.
        prompts: what all of them show.

    Raises:
        FreeUValueError: a folder that is missing, incomplete, given twice or shows other prompts; arms that differ in
            their seeds or in how many images a prompt has.
    """
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise FreeUValueError(f"--images {folder} is given twice")
    found: list[Existing] = []
    for folder, name in zip(folders, short_names(places), strict=True):
        if (folder / MANIFEST).is_file():
            found += _of_manifest(folder, name, prompts)
        else:
            found.append(_plain(folder, name, prompts))
    first = found[0]
    for arm in found[1:]:
        if [one.prompt for one in arm.samples] != [one.prompt for one in first.samples]:
            raise FreeUValueError(
                f"--images {arm.name} and {first.name} must hold the same number of images of each prompt, "
                f"got {len(arm.samples)} and {len(first.samples)} of {counted(len(prompts), 'prompt')}"
            )
        pairs = [(a.seed, b.seed) for a, b in zip(arm.samples, first.samples, strict=True)]
        if any(a is not None and b is not None and a != b for a, b in pairs):
            raise FreeUValueError(f"--images {arm.name} and {first.name} have different seeds: they cannot be paired")
    return tuple(found)


def check_kinds(arms: Sequence[Existing], reference: Sequence[Path]) -> bool:
    """Whether arms and reference hold videos; a mixture of images and videos is refused.

    Raises:
        FreeUValueError: one folder holds videos and another images; the message names both.
    """
    kinds = {f"--images {arm.name}": are_videos(one.path for one in arm.samples) for arm in arms}
    if reference:
        kinds["--reference"] = are_videos(reference)
    if len(set(kinds.values())) > 1:
        videos, images = (next(name for name, kind in kinds.items() if kind is wanted) for wanted in (True, False))
        raise FreeUValueError(f"{videos} holds videos and {images} holds images: they have no measures in common")
    return next(iter(kinds.values()))


def _plain(folder: Path, name: str, prompts: Sequence[Prompt]) -> Existing:
    paths = images_in(folder, "--images")
    if len(paths) != len(prompts):
        raise FreeUValueError(
            f"--images {folder} has no manifest, so its i-th image must show the i-th prompt, "
            f"got {counted(len(paths), 'image')} and {counted(len(prompts), 'prompt')}"
        )
    return Existing(name, tuple(Sample(path, number) for number, path in enumerate(paths)))


def _of_manifest(folder: Path, name: str, prompts: Sequence[Prompt]) -> list[Existing]:
    manifest = read_manifest(folder)
    plan = manifest.plan
    numbers = {prompt.text: number for number, prompt in enumerate(prompts)}
    for text in plan.prompts:
        if text not in numbers:
            raise FreeUValueError(f"--images {folder} shows the prompt {text!r}, which is not in --prompts")
    if len(set(plan.prompts)) < len(plan.prompts):
        raise FreeUValueError(f"--images {folder} shows a prompt twice: its images cannot be paired")
    if len(plan.prompts) < len(prompts):
        missing = next(text for text in numbers if text not in plan.prompts)
        raise FreeUValueError(
            f"--images {folder} shows {len(plan.prompts)} of the {len(prompts)} prompts of --prompts: "
            f"remove those that it lacks from --prompts, such as {missing!r}"
        )
    made = [planned for planned in plan.images() if (folder / planned.file).is_file()]
    if len(made) < plan.count or not manifest.complete:
        raise FreeUValueError(
            f"--images {folder} holds {len(made)} of its {counted(plan.count, 'image')}: complete the run first"
        )
    arms = []
    for arm in plan.arms:
        own = [Sample(folder / p.file, numbers[p.prompt], p.seed) for p in made if p.arm == arm]
        own.sort(key=lambda one: (one.prompt, one.seed or 0))
        config = plan.config.to_dict() if plan.config is not None and arm == "freeu" else None
        arms.append(
            Existing(f"{name}/{arm}" if len(plan.arms) > 1 else name, tuple(own), config=config, guidance=plan.guidance)
        )
    return arms


def score_existing(
    arms: Sequence[Existing],
    prompts: Sequence[Prompt],
    judges: Judges,
    judged_by: dict[str, str | None],
    reference: Sequence[Path],
    matches: bool,
    folder: Path,
    *,
    videos: bool = False,
    device: str,
    say: Callable[[str], None] = lambda _: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Score images that exist already, and write ``results.json`` and ``table.md``.

    Args:
        arms: see ``read_existing``.
        videos: see ``check_kinds``.
        prompts, judges, reference, matches, say, report: as in ``score_everything``.
        judged_by: names of the judges, for the record.
        folder: where to write.
        device: that of the judges, for the record.

    Returns:
        what ``results.json`` holds: as for an experiment, with "plan" None.

    Raises:
        FreeUValueError: an image that cannot be read.
    """
    found = score_everything(
        {arm.name: arm.samples for arm in arms},
        prompts,
        judges,
        reference,
        matches,
        videos=videos,
        names=lambda path: "/".join(path.absolute().parts[-2:]),
        say=say,
        report=report,
    )
    results = {
        "kind": KIND,
        "schema": SCHEMA,
        "plan": None,
        "prompts": [prompt.to_dict() for prompt in prompts],
        "arms": [{"name": arm.name, "config": arm.config} for arm in arms],
        "judges": judged_by,
        "reference": len(reference),
        "reference_matches": matches,
        "environment": environment(device),
        "calibration": {},
        "guidance": {arm.name: arm.guidance for arm in arms},
        "equal_arms": {},
        **found,
    }
    output = OutputFolder(folder)
    output.write(RESULTS, as_json(results))
    output.write(TABLE, as_markdown(results))
    return results
