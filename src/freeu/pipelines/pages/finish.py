"""What follows the images: the grid, the page, and the lines that say what was made."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.addons.add_ons import added_text
from freeu.pipelines.models.sources.tasks import TASK_NAMES
from freeu.pipelines.pages.grid import make_grid
from freeu.pipelines.pages.page import Measures, make_page
from freeu.pipelines.runs.manifest import Manifest
from freeu.pipelines.runs.plan import Plan
from freeu.wording import counted

GRID, PAGE = "grid.png", "compare.html"
Measure = Callable[[Path, Manifest], Measures]
"""Measures the images of a run, which are in a folder."""


def finish(
    output: OutputFolder,
    manifest: Manifest,
    world: Mapping[str, Any],
    say: Callable[[str], None] = lambda what: None,
    measure: Measure | None = None,
) -> list[tuple[str, str]]:
    """Write the grid and, for a comparison, the page.

    Args:
        measure: what measures the images for the page.

    Returns:
        the files worth opening with what each is for.
    """
    plan = manifest.plan
    say("grid and page")
    buffer = io.BytesIO()
    title = f"{plan.model_text}, {TASK_NAMES[plan.task]}, {counted(plan.steps, 'step')}, CFG scale {plan.guidance:g}"
    make_grid(output.path, manifest, title).save(buffer, format="PNG")
    output.write(GRID, buffer.getvalue())
    written = [(GRID, "all images with labels")]
    if plan.command == "compare":
        if measure is not None:
            say("measuring")
        measures = measure(output.path, manifest) if measure is not None else Measures()
        output.write(PAGE, make_page(output.path, manifest, embedded_note(plan, world), measures))
        written.insert(0, (PAGE, "open it in a browser: every pair under a slider"))
    written.append((MANIFEST, f"makes it all again: freeu generate --from {output.path / MANIFEST} --output DIR"))
    return written


def embedded_note(plan: Plan, world: Mapping[str, Any]) -> str:
    """One line that says that a miniature made the images; empty for a user's own model."""
    if plan.model.kind != "embedded":
        return ""
    about = str(world.get("description", "")).strip().rstrip(".")
    about = f" ({about})" if about else ""
    return f"Made by the embedded miniature model {plan.model.name}{about}; --model takes your own."


def headline(plan: Plan, world: Mapping[str, Any]) -> list[str]:
    """What is about to be made, for the terminal."""
    model = embedded_note(plan, world) or f"model {plan.model.name}"
    if plan.motion_adapter is not None:
        model += f" with the motion adapter {plan.motion_adapter.name}"
    made = f"{counted(plan.count, plan.noun)}: {TASK_NAMES[plan.task]}"
    made += f", {counted(plan.frames, 'frame')} at {plan.fps} fps" if plan.frames is not None else ""
    size = f"{plan.width}x{plan.height}, {counted(plan.steps, 'step')}, CFG scale {plan.guidance:g}"
    arithmetic = f"{plan.arithmetic} on {plan.device}, {counted(plan.threads, 'thread')}"
    added = added_text(plan.add_ons())
    lines = [model, *([f"with {added}"] if added else [])]
    lines.append(f"FreeU {plan.config} (profile {plan.config.profile})" if plan.config else "without FreeU")
    lines.append(f"{made}, {size}, {arithmetic}")
    beside = (plan.control, plan.scalecrafter, plan.guiding)
    lines += [f"with {one.text}" for one in beside if one is not None]
    if plan.guidance_rescale is not None:
        lines.append(f"with guidance rescale {plan.guidance_rescale:g}")
    if plan.region_sha is not None:
        lines.append("FreeU acts in the region alone")
    if plan.reader is not None:
        lines.append(f"what FreeU changes is seen by {plan.reader} alone")
    return lines
