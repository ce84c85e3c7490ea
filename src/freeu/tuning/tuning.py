"""The whole of ``freeu tune``: two searches, a second look at the best, and the verdict on prompts that neither saw."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from freeu.adapters import adapter_for
from freeu.adapters.finding import unet_of
from freeu.errors import FreeUValueError
from freeu.evaluate.calibration.guidance import why_unguided
from freeu.evaluate.experiment.arms import BASELINE, EFFECTIVE, Arm
from freeu.evaluate.experiment.experiment import Experiment, run_experiment
from freeu.evaluate.experiment.measuring import Measurer, Pair
from freeu.evaluate.experiment.prompts import Prompt, negatives_of
from freeu.evaluate.experiment.scoring import Judges
from freeu.json_files import find_json
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.runs.executors import Executor, Progress
from freeu.pipelines.runs.manifest import as_json, claim, made_with
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.run import deterministic
from freeu.presets import preset
from freeu.presets.files import PresetFile
from freeu.presets.recommending import published_name
from freeu.tuning.gradients import SiteGradient, site_gradients
from freeu.tuning.search import Finalist, Search, identity_of, open_storage, sqlite_url
from freeu.tuning.settings import (
    DEFAULT_OBJECTIVE,
    VIDEO_OBJECTIVE,
    Objective,
    Split,
    TuneSettings,
    Values,
    divide_prompts,
)
from freeu.tuning.space import FreeUSpace, GuidanceSpace, Space, windows_of
from freeu.tuning.verdict import FREEU, GUIDANCE, PUBLISHED, Verdict, decide

KIND, SCHEMA = "freeu-tuning", 1
TUNING, PRESET, TRIALS, HELD_OUT = "tuning.json", "preset.json", "trials.db", "held-out"
GRADIENTS = "gradients.json"
GRADIENT_PROMPTS = 8
"""Prompts on which gradients are taken."""
STEP = 0.2
"""How far the largest factor of the settings up the gradient lies from 1."""
NOT_OF_TRIALS = ("held_out", "trials", "confirm_prompts", "finalists", "reference", "reference_matches", "environment")
"""What a trial does not depend on: searches that differ in these alone share their trials."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Args:
        verdict: of the held-out prompts.
        preset: of the best settings; its ``config`` is None if FreeU is not best.
        found: the best settings of each search by its name, as plain data.
        results: of the experiment on the held-out prompts, as ``results.json``.
        folder: everything on disk.
        tuning: what was searched.
    """

    verdict: Verdict
    preset: PresetFile
    found: Mapping[str, Any]
    results: Mapping[str, Any]
    folder: Path
    tuning: Tuning = field(repr=False)


@dataclass
class Tuning:
    """A model, prompts and what scores them.

    Args:
        prepared: the pipeline and the plan: steps, CFG scale, seeds (of which the search takes the first), size.
        prompts: all of them; they are divided at random between the search, the second look and the verdict, unless
            ``held_out`` are others.
        judges: what scores.
        judged_by: their names, for the record.
        settings: the objective, and how long.
        storage: URL of Optuna's storage; None is a file in the folder.
        held_out: prompts of the verdict alone.
        references: real images for FID and KID on the held-out prompts.
        matches: whether the i-th of them shows the i-th held-out prompt.
    """

    prepared: Prepared
    prompts: tuple[Prompt, ...]
    judges: Judges
    judged_by: dict[str, str | None]
    settings: TuneSettings
    storage: str | None = None
    held_out: tuple[Prompt, ...] = ()
    references: Sequence[Path] = ()
    matches: bool = False

    def split(self) -> Split:
        """The parts of ``prompts``, in a random order that the seed decides.

        Raises:
            FreeUValueError: too few prompts.
        """
        settings = self.settings
        amounts = settings.search_prompts, settings.confirm_prompts, settings.seed
        return divide_prompts(len(self.prompts), bool(self.held_out), *amounts)


def run_tuning(
    tuning: Tuning,
    folder: Path,
    *,
    search_only: bool = False,
    progress: Progress | None = None,
    say: Say = lambda _: None,
    report: Callable[[int, int], None] = lambda done, total: None,
    executor: Executor | None = None,
) -> Outcome | None:
    """Search, and compare what was found with plain sampling; an interrupted run goes on in the same folder.

    Args:
        folder: new, or that of the same run.
        search_only: end after the searches: what a worker does that helps another one by the same storage.
        progress: told of the steps of the images of the verdict.
        say: told what is being done.
        report: told how many trials are done, and of how many.
        executor: where images are generated; None is this process. Gradients, calibration and scoring are done here.

    Returns:
        what came out; None with ``search_only``.

    Raises:
        FreeUValueError: the folder belongs to another run; too few prompts; a measure that no image has.
        FreeURuntimeError: the storage does not answer, or the disk is full.
    """
    output = OutputFolder(folder)
    split = tuning.split()
    record = _record(tuning)
    claim(output, record, "search")
    found: dict[str, list[Finalist]] = {}
    say("plain sampling")
    with searches(tuning, folder, executor) as todo:
        for search in todo:
            say(f"searching {search.space.name}")
            found[search.space.name] = search.run(report)
    if search_only:
        return None
    say("looking at the best again")
    best = _confirmed(tuning, split, found, output, executor)
    results = _verdict_run(tuning, split, best, folder / HELD_OUT, progress, say, report, executor)
    verdict = decide(results["pictures"], tuning.settings.objective, tuning.settings.guards)
    preset = _preset(tuning, verdict, best, results)
    plain_found = {name: _plain_data(one) for name, one in best.items()}
    output.write(PRESET, as_json(preset.to_dict()))
    output.write(
        TUNING,
        as_json(
            record
            | {"split": asdict(split), "found": plain_found, "verdict": verdict.to_dict(), "preset": preset.to_dict()}
        ),
    )
    return Outcome(verdict, preset, plain_found, results, folder, tuning)


def spaces(tuning: Tuning, gradients: Sequence[Mapping[str, Any]] = ()) -> list[Space]:
    """What is searched: FreeU, and guidance where the model has any.

    Args:
        gradients: what ``site_gradients`` found, as plain data, strongest site first.
    """
    pipe, plan = tuning.prepared.loaded.pipe, tuning.prepared.plan
    ranked = [SiteGradient(**one) for one in gradients]
    stages = {site.path: site.stage for site in adapter_for(unet_of(pipe)).find_sites(unet_of(pipe))}
    alone = tuple((one.path, stages[one.path]) for one in ranked[: tuning.settings.sites])
    found: list[Space] = [FreeUSpace(published_name(pipe), windows_of(plan.steps), alone, _uphill(ranked, stages))]
    if why_unguided(pipe, plan.guidance) is None:
        found.append(GuidanceSpace(plan.guidance))
    return found


def _uphill(
    ranked: Sequence[SiteGradient], stages: Mapping[str, int | None]
) -> tuple[tuple[tuple[str, float], ...], ...]:
    """Factors of the stages a step up the gradient, the largest by ``STEP``, as settings to try first."""
    sums: dict[str, float] = {}
    for one in ranked:
        if stages[one.path] in (1, 2):
            for factor in "bs":
                name = f"{factor}{stages[one.path]}"
                sums[name] = sums.get(name, 0.0) + getattr(one, factor)
    largest = max(map(abs, sums.values()), default=0.0)
    if largest == 0.0:
        return ()
    return (tuple((name, round(1.0 + STEP * value / largest, 2)) for name, value in sums.items()),)


def _gradients(tuning: Tuning, split: Split, output: OutputFolder) -> list[dict[str, Any]]:
    """Gradients of the sites on a few prompts of the search, from an earlier run if there was one.

    Empty where there is nothing to take them of: no CLIP, no guidance, or no images.
    """
    plan, pipe = tuning.prepared.plan, tuning.prepared.loaded.pipe
    if tuning.judges.clip is None or plan.frames is not None or why_unguided(pipe, plan.guidance) is not None:
        return []
    kept = find_json(output.path / GRADIENTS)
    if kept is None:
        prompts = [tuning.prompts[number].text for number in split.search[:GRADIENT_PROMPTS]]
        with quiet(), deterministic(plan.device, plan.threads):
            found = site_gradients(
                pipe,
                tuning.judges.clip,
                prompts,
                steps=plan.steps,
                guidance=plan.guidance,
                seeds=[plan.seeds[0]] * len(prompts),
                negatives=[_negative(tuning, number) for number in split.search[:GRADIENT_PROMPTS]],
                width=plan.width,
                height=plan.height,
            )
        kept = {"prompts": len(prompts), "sites": [asdict(one) for one in found]}
        output.write(GRADIENTS, as_json(kept))
    return list(kept["sites"])


def _negative(tuning: Tuning, number: int) -> str:
    """The negative prompt of a prompt of the search."""
    own = tuning.prompts[number].negative
    return tuning.prepared.plan.negative_prompt if own is None else own


@contextlib.contextmanager
def searches(tuning: Tuning, folder: Path, executor: Executor | None = None) -> Iterator[list[Search]]:
    """The searches of a run, with their trials so far, while the storage is open.

    Args:
        tuning: the run.
        folder: of the run.
        executor: where the images of further trials are generated; None is this process.

    Raises:
        FreeUValueError: too few prompts, or a storage of an unknown kind.
        FreeURuntimeError: the storage does not answer.
    """
    output = OutputFolder(folder)
    split = tuning.split()
    seed = tuning.prepared.plan.seeds[0]
    pairs = [(number, seed) for number in split.search]
    measurer = Measurer(tuning.prepared, tuning.prompts, tuning.judges, executor)
    same = {name: value for name, value in _record(tuning).items() if name not in NOT_OF_TRIALS}
    folder.mkdir(parents=True, exist_ok=True)
    with open_storage(tuning.storage or sqlite_url(folder / TRIALS)) as storage:
        plain = _plain(measurer, pairs, output, "plain.json")
        yield [
            Search(
                measurer,
                space,
                tuning.settings,
                pairs,
                plain,
                storage,
                identity_of(same | space.to_dict()),
                shared=tuning.storage is not None,
            )
            for space in spaces(tuning, _gradients(tuning, split, output))
        ]


def _record(tuning: Tuning) -> dict[str, Any]:
    plan, settings = tuning.prepared.plan, tuning.settings
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "plan": plan.to_dict(),
        "prompts": [prompt.to_dict() for prompt in tuning.prompts],
        "held_out": [prompt.to_dict() for prompt in tuning.held_out],
        "judges": tuning.judged_by,
        "objective": str(settings.objective),
        "guards": {guard.measure: guard.most for guard in settings.guards},
        "trials": settings.trials,
        "search_prompts": settings.search_prompts,
        "confirm_prompts": settings.confirm_prompts,
        "finalists": settings.finalists,
        "sites": settings.sites,
        "seed": settings.seed,
        "reference": len(tuning.references),
        "reference_matches": tuning.matches,
        "environment": made_with(plan),
    }


def _plain(measurer: Measurer, pairs: Sequence[Pair], output: OutputFolder, name: str) -> dict[Pair, Values]:
    """Values of plain sampling, from an earlier run if there was one."""
    kept = find_json(output.path / name)
    if kept is not None:
        return {(row["prompt"], row["seed"]): row["values"] for row in kept["images"]}
    with measurer.computing():
        values = measurer.values(Arm(BASELINE), pairs)
    rows = [{"prompt": number, "seed": seed, "values": row} for (number, seed), row in values.items()]
    output.write(name, as_json({"images": rows}))
    return dict(values)


def _confirmed(
    tuning: Tuning,
    split: Split,
    found: Mapping[str, Sequence[Finalist]],
    output: OutputFolder,
    executor: Executor | None,
) -> dict[str, Finalist]:
    """Of each search's best few, the one that is best on prompts that the search did not see."""
    objective = tuning.settings.objective
    measurer = Measurer(tuning.prepared, tuning.prompts, tuning.judges, executor)
    pairs = [(number, tuning.prepared.plan.seeds[0]) for number in split.confirm]
    plain = _plain(measurer, pairs, output, "plain-again.json")
    spreads = objective.spreads([*plain.values()])
    best: dict[str, Finalist] = {}
    with measurer.computing():
        for name, finalists in found.items():
            measured = []
            for one in finalists:
                values = measurer.values(one.arm, pairs)
                gains = [objective.gain(values[pair], plain[pair], spreads) for pair in pairs]
                measured.append(replace(one, confirmed=statistics.fmean(filter(math.isfinite, gains))))
            if measured:
                best[name] = max(measured, key=lambda one: one.confirmed or 0.0)
    return best


def _verdict_run(
    tuning: Tuning,
    split: Split,
    best: Mapping[str, Finalist],
    folder: Path,
    progress: Progress | None,
    say: Say,
    report: Callable[[int, int], None],
    executor: Executor | None,
) -> dict[str, Any]:
    """``freeu evaluate`` on the held-out prompts: none, the family's preset, what was found, and its rivals."""
    prompts = tuning.held_out or tuple(tuning.prompts[number] for number in split.held_out)
    plan = tuning.prepared.plan
    plan = replace(
        plan,
        prompts=tuple(prompt.text for prompt in prompts),
        negatives=negatives_of(prompts, plan.negative_prompt),
    )
    arms = [Arm(BASELINE)]
    guided = why_unguided(tuning.prepared.loaded.pipe, plan.guidance) is None
    if FREEU_SPACE in best:
        arms.append(replace(best[FREEU_SPACE].arm, name=FREEU))
        if guided:
            arms.append(Arm(f"{EFFECTIVE}:{FREEU}", calibrates=FREEU, how=EFFECTIVE))
    if GUIDANCE in best:
        arms.append(replace(best[GUIDANCE].arm, name=GUIDANCE))
    arms.append(Arm(PUBLISHED, config=preset(published_name(tuning.prepared.loaded.pipe))))
    experiment = Experiment(
        prompts, tuple(arms), plan, tuning.judges, tuning.judged_by, [*tuning.references], tuning.matches
    )
    return run_experiment(tuning.prepared.loaded, experiment, folder, progress, say, report, executor)


FREEU_SPACE = FreeUSpace.name
"""The name of the search of FreeU's settings."""


def _preset(tuning: Tuning, verdict: Verdict, best: Mapping[str, Finalist], results: Mapping[str, Any]) -> PresetFile:
    plan = tuning.prepared.plan
    config = best[FREEU_SPACE].arm.config if verdict.best == "freeu" else None
    guidance = best[GUIDANCE].arm.guidance if verdict.best == "guidance" else None
    provenance = {
        "objective": str(tuning.settings.objective),
        "trials": tuning.settings.trials,
        "seed": tuning.settings.seed,
        "prompts": len(tuning.prompts),
        "held_out_prompts": len(results["prompts"]),
        "found": {name: _plain_data(one) for name, one in best.items()},
        "level": verdict.level,
        "differences": verdict.to_dict()["differences"],
        "judges": tuning.judged_by,
        "environment": results["environment"],
    }
    return PresetFile(
        f"{plan.model.name}-tuned",
        config,
        plan.model.name,
        plan.model.fingerprint,
        plan.guidance if guidance is None else guidance,
        plan.steps,
        verdict.text,
        provenance,
    )


def _plain_data(one: Finalist) -> dict[str, Any]:
    arm = one.arm
    return {
        "config": arm.config.to_dict() if arm.config is not None else None,
        "guidance": arm.guidance,
        "guiding": arm.guiding.to_dict() if arm.guiding is not None else None,
        "parameters": dict(one.parameters),
        "gain": one.gain,
        "confirmed": one.confirmed,
        "trial": one.trial,
    }


def default_objective(judges: Judges, videos: bool = False) -> Objective:
    """The measures of ``DEFAULT_OBJECTIVE``, or of ``VIDEO_OBJECTIVE``, that these judges give.

    Raises:
        FreeUValueError: none of them.
    """
    known = {"clip_score": judges.clip is not None}
    measures = VIDEO_OBJECTIVE if videos else DEFAULT_OBJECTIVE
    terms = tuple((name, 1.0) for name in measures if known.get(name, judges.reader is not None))
    if not terms:
        raise FreeUValueError(
            "a search needs something that scores: a CLIP (--judge DIR), prompts with what they ask for, or --objective"
        )
    return Objective(terms)
