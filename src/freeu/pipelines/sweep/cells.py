"""The cells of a sweep: what each of them generates, and what its file is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from freeu.pipelines.options.sampling import effective_strength
from freeu.pipelines.runs.interval import acts
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.sweep.axes import Axis, Settings


@dataclass(frozen=True)
class Cell:
    """One place of the grid: indices on the axes, and what they mean."""

    place: tuple[int, ...]
    settings: Settings


class Names:
    """Names of files by the values on the axes; cells of one image share that of the first."""

    def __init__(self, axes: Sequence[Axis]) -> None:
        self._axes = axes
        self._of_key: dict[str, str] = {}
        self._taken: set[str] = set()

    def __call__(self, cell: Cell, plan: Plan, pictures: Mapping[str, Any]) -> str:
        key = _key(plan)
        old = f"{key[:20]}.png"  # of sweeps that were begun by version 0.1
        if old in pictures:
            return old
        if key not in self._of_key:
            words = [axis.file_word(place) for axis, place in zip(self._axes, cell.place, strict=True)]
            stem, number = "_".join(words), 2
            name = f"{stem}.png"
            while name.lower() in self._taken:
                name, number = f"{stem}-{number}.png", number + 1
            self._taken.add(name.lower())
            self._of_key[key] = name
        return self._of_key[key]


def plan_of(base: Plan, settings: Settings) -> Plan:
    """The plan of one image.

    Raises:
        FreeUValueError: settings that no image can have together.
    """
    config, steps = settings.freeu(base.config), settings.steps or base.steps
    strength = base.image_strength
    if strength is not None:
        strength = effective_strength(
            strength if settings.denoising_strength is None else settings.denoising_strength, steps
        )
    if config is not None and (config.identity or not acts(config, steps, strength)):
        config = None  # the same image
    prompt = settings.prompt or base.prompts[0]
    negative = base.negative_prompt if settings.negative_prompt is None else settings.negative_prompt
    if settings.prompt_sr is not None:
        prompt, negative = (text.replace(*settings.prompt_sr) for text in (prompt, negative))
    loras, control = base.loras, base.control
    if settings.lora_weight is not None:
        loras = tuple(replace(lora, weight=settings.lora_weight) for lora in loras)
    if control is not None and settings.controlnet_weight is not None:
        control = replace(control, scale=settings.controlnet_weight)
    return replace(
        base,
        command="generate",
        prompts=(prompt,),
        seeds=(base.seeds[0] if settings.seed is None else settings.seed,),
        negative_prompt=negative,
        steps=steps,
        guidance=base.guidance if settings.guidance is None else settings.guidance,
        arms=("baseline" if config is None else "freeu",),
        config=config,
        image_strength=strength,
        loras=loras,
        control=control,
    )


def _key(plan: Plan) -> str:
    """The same for plans that make the same image."""
    return hashlib.sha256(json.dumps(plan.to_dict(), sort_keys=True).encode()).hexdigest()
