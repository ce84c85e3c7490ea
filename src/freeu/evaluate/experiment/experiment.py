"""An experiment: prompts and seeds generated under several arms and scored; an interrupted one resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from freeu.evaluate.experiment.arms import Arm
from freeu.evaluate.experiment.guidance import Calibration, calibrate_guidance
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.results import KIND, RESULTS, SCHEMA, TABLE, as_markdown
from freeu.evaluate.experiment.scoring import Judges, Sample
from freeu.evaluate.experiment.summary import score_everything
from freeu.evaluate.experiment.video_files import LosslessVideoMaker
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.runs.manifest import as_json, claim, environment
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.run import ImageMaker, Progress, deterministic, make_run
from freeu.scalecrafter.settings import ScaleCrafter


@dataclass
class Experiment:
    """What is generated and how it is scored.

    Args:
        prompts: with what they ask for.
        arms: the first is the baseline.
        plan: prompts, seeds, model and settings, generated without FreeU.
        judges: what scores.
        judged_by: names of the judges, for the record.
        reference: files of real images, or of real videos for a video model; empty leaves distances out.
        reference_matches: whether the i-th of them shows the i-th prompt.
        calibration_prompts: on how many prompts, spread evenly, the CFG scale is calibrated.
    """

    prompts: tuple[Prompt, ...]
    arms: tuple[Arm, ...]
    plan: Plan
    judges: Judges
    judged_by: dict[str, str | None]
    reference: list[Path]
    reference_matches: bool = False
    calibration_prompts: int = 16


def run_experiment(
    loaded: Loaded,
    experiment: Experiment,
    folder: Path,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Generate what is missing, score everything, and write ``results.json`` and ``table.md``.

    Each arm has a folder of its own, with a manifest that ``freeu generate --from`` reads.

    Args:
        loaded: the pipeline of the plan.
        folder: new, or that of the same experiment.
        progress: called at every denoising step.
        say: called with what is being done.
        report: called with how many images are scored, and of how many.

    Returns:
        what ``results.json`` holds.

    Raises:
        FreeUValueError: the folder belongs to another experiment; guidance cannot be calibrated.
    """
    output = OutputFolder(folder)
    arms = _resolved(loaded, experiment)
    record = _claim(loaded, output, experiment, arms)
    plans: dict[str, Plan] = {}
    for arm in arms:
        plan = experiment.plan
        if arm.config is not None:
            plan = replace(plan, arms=("freeu",), config=arm.config)
        if arm.guidance is not None:
            plan = replace(plan, guidance=arm.guidance)
        if arm.scalecrafter:
            plan = replace(plan, scalecrafter=_scaled(loaded, plan))
        if arm.calibrates is not None:
            calibration = record["calibration"].get(arm.name)
            if calibration is None:
                say(f"calibrating guidance to {arm.calibrates}")
                config = next(other.config for other in arms if other.name == arm.calibrates)
                assert config is not None
                calibration = asdict(_calibrate(loaded, experiment, config))
                record["calibration"][arm.name] = calibration
                output.write(MANIFEST, as_json(record))
            # At 1 and below pipelines turn guidance off: 1 is the lowest scale that can be used.
            plan = replace(plan, guidance=max(1.0, float(calibration["matched"])))
        plans[arm.name] = plan
    samples: dict[str, list[Sample]] = {}
    pixels: dict[str, list[str]] = {}
    for number, (name, plan) in enumerate(plans.items()):
        say(f"generating {name}")
        place = folder / arms[number].folder(number)
        maker = ImageMaker() if plan.frames is None else LosslessVideoMaker()
        made = make_run(Prepared(plan, loaded), OutputFolder(place), maker, progress)
        pixels[name] = [made.images[planned.file].sha256 for planned in plan.images()]
        samples[name] = [Sample(place / planned.file, planned.index, planned.seed) for planned in plan.images()]
    with quiet(), deterministic(experiment.plan.device, experiment.plan.threads):
        found = score_everything(
            samples,
            experiment.prompts,
            experiment.judges,
            experiment.reference,
            experiment.reference_matches,
            videos=experiment.plan.frames is not None,
            names=lambda path: path.relative_to(folder).as_posix(),
            say=say,
            report=report,
        )
    guidance = {name: plan.guidance for name, plan in plans.items()}
    results = {**record, "guidance": guidance, "equal_arms": _equal(pixels), **found}
    output.write(RESULTS, as_json(results))
    output.write(TABLE, as_markdown(results))
    return results


def _equal(pixels: dict[str, list[str]]) -> dict[str, str]:
    """Arms whose outputs equal those of an earlier arm pixel by pixel: their settings have no effect on this model."""
    first: dict[tuple[str, ...], str] = {}
    found = {name: first.setdefault(tuple(shas), name) for name, shas in pixels.items()}
    return {name: other for name, other in found.items() if name != other}


def _resolved(loaded: Loaded, experiment: Experiment) -> tuple[Arm, ...]:
    import freeu

    return tuple(
        replace(arm, config=freeu.recommend(loaded.pipe)) if arm.recommended else arm for arm in experiment.arms
    )


def _scaled(loaded: Loaded, plan: Plan) -> ScaleCrafter:
    from freeu.scalecrafter.published import recommend

    return recommend(loaded.pipe, plan.width, plan.height, native=loaded.native)


def _claim(loaded: Loaded, output: OutputFolder, experiment: Experiment, arms: tuple[Arm, ...]) -> dict[str, Any]:
    """The record of this experiment, with the calibrations of an earlier run of it."""
    record: dict[str, Any] = {
        "kind": KIND,
        "schema": SCHEMA,
        "plan": experiment.plan.to_dict(),
        "prompts": [prompt.to_dict() for prompt in experiment.prompts],
        "arms": [
            {"name": arm.name, "config": arm.config.to_dict() if arm.config else None}
            # Results of arms without it are what they were before there was ScaleCrafter.
            | ({"scalecrafter": _scaled(loaded, experiment.plan).to_dict()} if arm.scalecrafter else {})
            for arm in arms
        ],
        "judges": experiment.judged_by,
        "reference": len(experiment.reference),
        "reference_matches": experiment.reference_matches,
        "calibration_prompts": experiment.calibration_prompts,
        "environment": environment(experiment.plan.device),
        "calibration": {},
    }
    return claim(output, record, "experiment", kept=("calibration",))


def _calibrate(loaded: Loaded, experiment: Experiment, config: Any) -> Calibration:
    plan = experiment.plan
    count = min(experiment.calibration_prompts, len(plan.prompts))
    chosen = np.linspace(0, len(plan.prompts) - 1, count).round().astype(int)
    with quiet(), deterministic(plan.device, plan.threads):
        return calibrate_guidance(
            loaded.pipe,
            config,
            [plan.prompts[index] for index in chosen],
            guidance=plan.guidance,
            steps=plan.steps,
            negative_prompt=plan.negative_prompt,
            seeds=[plan.seeds[0]] * count,
            width=plan.width,
            height=plan.height,
            frames=plan.frames,
        )
