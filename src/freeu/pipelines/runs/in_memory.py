"""Runs of a pipeline that is in memory, for the Python functions that take one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from freeu.adapters.finding import unet_of
from freeu.config import FreeUConfig
from freeu.pipelines.models.loading import Loaded, describe_pipeline
from freeu.pipelines.models.sources.families import TEXT_TO_VIDEO_PIPELINES
from freeu.pipelines.models.sources.sources import ModelSource
from freeu.pipelines.runs.plan import ModelReference, Plan


def in_memory(
    pipe: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    config: FreeUConfig | None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str = "",
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
) -> tuple[Loaded, Plan]:
    """A text-to-image or text-to-video pipeline with what its settings mean by default, and a plan for it.

    Args:
        pipe: of diffusers; its class is its name, and no files are known.
        config: FreeU's settings; None plans images without FreeU.
        the others: as in ``Plan``; None is the pipeline's default.

    Raises:
        FreeUValueError: a setting outside its range.
    """
    import torch

    name = type(pipe).__name__
    source = ModelSource("directory", name, None, name)
    loaded = describe_pipeline(pipe, source, "video" if name in TEXT_TO_VIDEO_PIPELINES else "text")
    parameter = next(unet_of(pipe).parameters())
    plan = Plan(
        command="generate",
        prompts=tuple(prompts),
        negative_prompt=negative_prompt,
        seeds=tuple(seeds),
        arms=("baseline",) if config is None else ("freeu",),
        config=config,
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
    return loaded, plan


@contextlib.contextmanager
def without_bars(pipe: Any) -> Iterator[None]:
    """A pipeline without its own progress bars, for the length of a ``with`` block."""
    bars = dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.set_progress_bar_config(**{**bars, "disable": True})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**bars)
