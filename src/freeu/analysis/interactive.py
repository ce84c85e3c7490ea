"""The figures from Python, for a pipeline that is in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import freeu
from freeu.analysis.analyze import Analysis, check_analysis, figures_of
from freeu.analysis.figures.figures import figures_for
from freeu.analysis.measurement.content import Figure
from freeu.analysis.measurement.variants import FULL, LIGHT
from freeu.config import FreeUConfig
from freeu.pipelines.runs.in_memory import in_memory, without_bars


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
    examined = freeu.recommend(pipe) if config is None else config
    loaded, plan = in_memory(
        pipe,
        prompts,
        seeds,
        examined,
        steps=steps,
        guidance=guidance,
        negative_prompt=negative_prompt,
        width=width,
        height=height,
        frames=frames,
    )
    analysis = Analysis(plan, examined, figures_for(plan.frames, numbers), FULL if full else LIGHT, form)
    check_analysis(loaded, analysis)
    with without_bars(pipe), tempfile.TemporaryDirectory() as folder:
        return figures_of(loaded, analysis, Path(folder), {}, lambda _: None, report)
