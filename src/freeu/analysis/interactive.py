"""The figures from Python, for a pipeline that is in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

import freeu
from freeu.adapters.finding import unet_of
from freeu.analysis.analyze import Analysis, check_analysis, figures_of
from freeu.analysis.figures.figures import figures_for
from freeu.analysis.measurement.content import Figure
from freeu.analysis.measurement.variants import FULL, LIGHT
from freeu.config import FreeUConfig
from freeu.pipelines.models.loading import describe_pipeline
from freeu.pipelines.models.sources.families import TEXT_TO_VIDEO_PIPELINES
from freeu.pipelines.models.sources.sources import ModelSource
from freeu.pipelines.runs.plan import ModelReference, Plan


def make_figures(
    pipe: Any,
    prompts: Sequence[str],
    numbers: Iterable[int] = (),
    *,
    seeds: Sequence[int] = (0,),
    config: FreeUConfig | None = None,
    full: bool = False,
    form: str = "radial",
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str = "",
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    report: Callable[[], None] = lambda: None,
) -> tuple[Figure, ...]:
    """Make figures of the paper as ``freeu analyze`` does; nothing is kept on disk.

    Within ``random_unet(pipe)`` it makes the random baseline, and ``compare_verdicts`` compares the two.

    Args:
        pipe: a text-to-image or text-to-video pipeline of diffusers; it is not changed.
        prompts: verdicts need at least five.
        numbers: of the figures; empty means all that are available.
        seeds: every prompt is generated with each.
        config: FreeU's settings; None is ``freeu.recommend(pipe)``.
        full: wider sweeps.
        form: of the spectra, "radial" or "diagonal".
        steps, guidance, width, height, frames: None is the pipeline's default; sides in pixels.
        negative_prompt: of every image.
        report: called after each image.

    Raises:
        NoSitesError: the model has no known skip concatenation.
        FreeUValueError: no such figure, settings that have no effect or that the pipeline refuses, too few steps.

    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> (figure,) = make_figures(pipe, ["a 3d fox on a blue background"], [4], steps=2, width=64, height=64)
    >>> figure.number, figure.title
    (4, 'Relative log amplitude of the latents, step by step')
    """
    name = type(pipe).__name__
    source = ModelSource("directory", name, None, name)
    loaded = describe_pipeline(pipe, source, "video" if name in TEXT_TO_VIDEO_PIPELINES else "text")
    parameter = next(unet_of(pipe).parameters())
    examined = freeu.recommend(pipe) if config is None else config
    plan = Plan(
        command="generate",
        prompts=tuple(prompts),
        negative_prompt=negative_prompt,
        seeds=tuple(seeds),
        arms=("freeu",),
        config=examined,
        model=ModelReference(source.kind, source.reference, name, name, ""),
        task=loaded.task,
        steps=loaded.steps if steps is None else steps,
        guidance=loaded.guidance if guidance is None else guidance,
        scheduler=None,
        width=width or loaded.native,
        height=height or loaded.native,
        image_sha=None,
        mask_sha=None,
        image_strength=None,
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(parameter.device),
        threads=torch.get_num_threads(),
        frames=frames or loaded.frames,
    )
    analysis = Analysis(plan, examined, figures_for(plan.frames, numbers), FULL if full else LIGHT, form)
    check_analysis(loaded, analysis)
    bars = dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.set_progress_bar_config(**{**bars, "disable": True})
    try:
        with tempfile.TemporaryDirectory() as folder:
            return figures_of(loaded, analysis, Path(folder), {}, lambda _: None, report)
    finally:
        pipe.set_progress_bar_config(**bars)
