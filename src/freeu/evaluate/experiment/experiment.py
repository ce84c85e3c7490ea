"""An experiment: prompts and seeds generated under several arms and scored; an interrupted one resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from freeu.errors import FreeUError, FreeUValueError
from freeu.evaluate.calibration.effective import EffectiveScale, effective_scale, neutral_scale
from freeu.evaluate.calibration.guidance import calibrate_guidance
from freeu.evaluate.experiment.arms import CALIBRATED, EFFECTIVE, NEUTRAL, Arm
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.results import KIND, RESULTS, SCHEMA, TABLE, as_markdown
from freeu.evaluate.experiment.scoring import Judges, Sample
from freeu.evaluate.experiment.summary import score_everything
from freeu.evaluate.experiment.video_files import LosslessVideoMaker
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.runs.executors import Executor, Progress
from freeu.pipelines.runs.manifest import as_json, claim, made_with
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.run import ImageMaker, deterministic, make_run
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
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Generate what is missing, score everything, and write ``results.json`` and ``table.md``.

    Each arm has a folder of its own, with a manifest that ``freeu generate --from`` reads.

    Args:
        loaded: the pipeline of the plan.
        folder: new, or that of the same experiment.
        progress: called at every denoising step.
        say: called with what is being done.
        report: called with how many images are scored, and of how many.
        executor: where images are generated; None is this process. Calibration and scoring are done here.

    Returns:
        what ``results.json`` holds.

    Raises:
        FreeUValueError: the folder belongs to another experiment; guidance cannot be calibrated.
    """
    output = OutputFolder(folder)
    arms = _resolved(loaded, experiment)
    record = _claim(loaded, output, experiment, arms)
    by_name = {arm.name: arm for arm in arms}
    plans: dict[str, Plan] = {}
    for arm in arms:
        plan = arm_plan(loaded, experiment.plan, arm)
        if arm.calibrates is not None:
            matched = by_name[arm.calibrates]
            calibration = record["calibration"].get(arm.name)
            if calibration is None:
                say(f"calibrating guidance to {arm.calibrates}")
                calibration = _calibrate(loaded, experiment, arm.how, matched)
                record["calibration"][arm.name] = calibration
                output.write(MANIFEST, as_json(record))
            if arm.how == NEUTRAL:
                plan = arm_plan(loaded, experiment.plan, matched)
            # At 1 and below pipelines turn guidance off: 1 is the lowest scale that can be used.
            plan = replace(plan, guidance=max(1.0, float(calibration["matched"])))
        plans[arm.name] = plan
    samples: dict[str, list[Sample]] = {}
    pixels: dict[str, list[str]] = {}
    for number, (name, plan) in enumerate(plans.items()):
        say(f"generating {name}")
        place = folder / arms[number].folder(number)
        maker = ImageMaker() if plan.frames is None else LosslessVideoMaker()
        made = make_run(Prepared(plan, loaded), OutputFolder(place), maker, progress, executor)
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


def check_arms(loaded: Loaded, plan: Plan, arms: tuple[Arm, ...]) -> None:
    """Refuse arms that the model cannot generate, before anything is written.

    Raises:
        FreeUValueError: the pipeline has no two predictions to guide between, or no guidance rescale.
    """
    from freeu.guiding.hook import check_guiding, check_rescale

    for arm in arms:
        scale = plan.guidance if arm.guidance is None else arm.guidance
        try:
            if arm.guiding is not None:
                check_guiding(loaded.pipe, arm.guiding, scale, (plan.width, plan.height))
            if arm.rescale is not None:
                check_rescale(loaded.pipe, scale)
        except FreeUError as error:
            raise FreeUValueError(f"arm {arm.name!r}: {error}") from None


def arm_plan(loaded: Loaded, plan: Plan, arm: Arm) -> Plan:
    """The plan of an arm by its own settings."""
    if arm.config is not None:
        plan = replace(plan, arms=("freeu",), config=arm.config, reader=arm.reader)
    if arm.guidance is not None:
        plan = replace(plan, guidance=arm.guidance)
    if arm.scalecrafter:
        plan = replace(plan, scalecrafter=_scaled(loaded, plan))
    if arm.changes_guidance:
        plan = replace(plan, guiding=arm.guiding, guidance_rescale=arm.rescale)
    return plan


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
        "arms": [_recorded(loaded, experiment, arm) for arm in arms],
        "judges": experiment.judged_by,
        "reference": len(experiment.reference),
        "reference_matches": experiment.reference_matches,
        "calibration_prompts": experiment.calibration_prompts,
        "environment": made_with(experiment.plan),
        "calibration": {},
    }
    beside = {"used": used_parts(loaded.pipe)}
    return claim(output, record, "experiment", kept=("calibration",), beside=beside)


def _recorded(loaded: Loaded, experiment: Experiment, arm: Arm) -> dict[str, Any]:
    """An arm as plain data; results of arms are what they were before there was what they do not use."""
    found: dict[str, Any] = {"name": arm.name, "config": arm.config.to_dict() if arm.config else None}
    if arm.guidance is not None and "guidance=" not in arm.name:
        found["guidance"] = arm.guidance
    if arm.scalecrafter:
        found["scalecrafter"] = _scaled(loaded, experiment.plan).to_dict()
    if arm.guiding is not None:
        found["guiding"] = arm.guiding.to_dict()
    if arm.rescale is not None:
        found["guidance_rescale"] = arm.rescale
    if arm.reader is not None:
        found["reader"] = arm.reader
    return found


def _calibrate(loaded: Loaded, experiment: Experiment, how: str, matched: Arm) -> dict[str, Any]:
    """What decides the CFG scale of an arm that goes by another one, as plain data: "matched" is the scale."""
    plan = experiment.plan
    count = min(experiment.calibration_prompts, len(plan.prompts))
    chosen = np.linspace(0, len(plan.prompts) - 1, count).round().astype(int)
    prompts = [plan.prompts[index] for index in chosen]
    settings: dict[str, Any] = {
        "steps": plan.steps,
        "negative_prompt": [plan.negatives[index] for index in chosen] if plan.negatives else plan.negative_prompt,
        "seeds": [plan.seeds[0]] * count,
        "width": plan.width,
        "height": plan.height,
        "frames": plan.frames,
    }

    def measured(scale: float) -> EffectiveScale:
        method: dict[str, Any] = {"guiding": matched.guiding, "rescale": matched.rescale}
        return effective_scale(loaded.pipe, matched.config, prompts, guidance=scale, **method, **settings)

    with quiet(), deterministic(plan.device, plan.threads):
        if how == CALIBRATED:
            assert matched.config is not None
            return asdict(calibrate_guidance(loaded.pipe, matched.config, prompts, guidance=plan.guidance, **settings))
        if how == NEUTRAL:
            return {"how": NEUTRAL} | asdict(neutral_scale(measured, plan.guidance))
        found = asdict(measured(plan.guidance if matched.guidance is None else matched.guidance))
    return {"how": EFFECTIVE, "matched": found["effective"]} | found
