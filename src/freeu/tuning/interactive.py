"""``freeu.tune``: the search from Python, for a pipeline that is in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.evaluate.embedded import judge_path, load_reader
from freeu.evaluate.experiment.prompts import Prompt, negatives_of
from freeu.evaluate.experiment.scoring import Judges
from freeu.evaluate.metrics.clip import CLIP
from freeu.extras import need
from freeu.pipelines.runs.in_memory import in_memory, without_bars
from freeu.pipelines.runs.prepare import Prepared, default_batch
from freeu.tuning.report import write_report
from freeu.tuning.settings import DEFAULT_GUARD, Objective, TuneSettings, parse_guards
from freeu.tuning.tuning import Outcome, Tuning, default_objective, run_tuning


class Tuned(Outcome):
    """What ``freeu.tune`` found: ``verdict``, ``preset`` (its ``config`` is None if FreeU is not best), and a page."""

    def report(self, path: str | Path | None = None) -> Path:
        """Write the page, as ``freeu.tuning.report.write_report``; returns where."""
        return write_report(self, None if path is None else Path(path))


def tune(
    pipe: Any,
    prompts: Sequence[str | Prompt],
    *,
    output: str | Path,
    objective: str | None = None,
    guard: str = DEFAULT_GUARD,
    trials: int = 60,
    minutes: float | None = None,
    storage: str | None = None,
    judge: str | Path | None = None,
    held_out: Sequence[str | Prompt] = (),
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str = "",
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    batch: int | None = None,
    search_prompts: int = 64,
    confirm_prompts: int = 96,
    sites: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Tuned:
    """Search the settings of FreeU that suit a pipeline, and compare them with none on prompts that no search saw.

    Guidance is searched with the same budget, as a rival. An interrupted search goes on in the same folder.

    Args:
        pipe: a text-to-image or text-to-video pipeline of diffusers; it is not changed.
        prompts: texts, or ``Prompt`` with what they ask for, which alignment needs; some are searched on, others
            decide.
        output: a folder, new or that of the same search.
        objective: measures that are to rise, as ``Objective.parse`` reads them; None is the default.
        guard: measures that must not change much, as ``parse_guards`` reads them.
        trials: settings that are tried, of FreeU and of guidance each.
        minutes: after which each of the two searches ends; None is no limit.
        storage: URL of Optuna's storage; None is a file in the folder.
        judge: a CLIP in a directory; None is that of ``freeu-zoo``.
        held_out: other prompts that decide; empty takes the rest of ``prompts``.
        seed: of the search and of the noise.
        steps, guidance, width, height: None is the pipeline's default; sides in pixels.
        frames: of each video; None is the pipeline's default.
        negative_prompt: of every image whose ``Prompt`` has none of its own.
        batch: images that one call generates; None goes by their size.
        search_prompts, confirm_prompts: how many prompts a trial has, and the second look at the best.
        sites: how many sites get factors of their own.
        report: told how many trials are done, and of how many.

    Returns:
        ``preset`` (its ``config`` is None if FreeU is not best), ``verdict``, and where everything lies.

    Raises:
        FreeUValueError: too few prompts, an unknown measure, a pipeline that needs more than a text.
        FreeURuntimeError: the storage does not answer, or the disk is full.

    >>> import tempfile
    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> prompts = [f"a 3d fox number {number}" for number in range(40)]
    >>> few = {"trials": 1, "search_prompts": 8, "confirm_prompts": 8}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tuned = freeu.tune(pipe, prompts, output=folder, steps=1, width=64, height=64, **few)
    >>> tuned.verdict.best in ("freeu", "guidance", "none")
    True
    """
    need("tune", "optuna", "matplotlib")
    asked = [one if isinstance(one, Prompt) else Prompt(one) for one in prompts]
    decide = [one if isinstance(one, Prompt) else Prompt(one) for one in held_out]
    loaded, plan = in_memory(
        pipe,
        [one.text for one in asked],
        (seed,),
        None,
        steps=steps,
        guidance=guidance,
        negative_prompt=negative_prompt,
        width=width,
        height=height,
        frames=frames,
    )
    if plan.frames is not None:
        need("video", "cv2")
    if batch is not None and batch > 1 and not plan.batchable:
        raise FreeUValueError(f"batch {batch}: only text-to-image generates several at once: leave it out")
    negatives = negatives_of(asked, negative_prompt)
    usual = default_batch(plan) if plan.batchable else 1
    plan = replace(plan, negatives=negatives, batch=usual if batch is None else batch)
    with_spec = any(one.spec is not None for one in (*asked, *decide))
    judges = Judges(load_reader(plan.device) if with_spec else None, CLIP(judge or judge_path(), device=plan.device))
    settings = TuneSettings(
        objective=default_objective(judges, plan.frames is not None)
        if objective is None
        else Objective.parse(objective),
        guards=parse_guards(guard),
        trials=trials,
        minutes=math.inf if minutes is None else minutes,
        search_prompts=search_prompts,
        confirm_prompts=confirm_prompts,
        sites=sites,
        seed=seed,
    )
    names = {"clip": judges.clip.name if judges.clip else None, "reader": "freeu-zoo" if judges.reader else None}
    tuning = Tuning(Prepared(plan, loaded), tuple(asked), judges, names, settings, storage, tuple(decide))
    with without_bars(pipe):
        tuned = run_tuning(tuning, Path(output), report=report)
    assert tuned is not None
    return Tuned(**vars(tuned))
