"""What follows the videos: the videos side by side, the strip, the page, and the lines that say what was made."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.sources.tasks import TASK_NAMES
from freeu.pipelines.pages.finish import embedded_note
from freeu.pipelines.pages.strip import make_side_by_side, make_strip
from freeu.pipelines.pages.video_page import make_video_page
from freeu.pipelines.runs.manifest import Manifest
from freeu.wording import counted

STRIP, PAGE = "strip.png", "video.html"
TOGETHER = "side-by-side.mp4"


def finish_video(
    output: OutputFolder,
    manifest: Manifest,
    world: Mapping[str, Any],
    say: Callable[[str], None] = lambda what: None,
) -> list[tuple[str, str]]:
    """Write everything that shows both arms at once.

    Returns:
        the files worth opening with what each is for.
    """
    plan = manifest.plan
    say("side by side")
    for index in range(len(plan.prompts)):
        for seed in plan.seeds:
            off, on = (p for p in plan.images() if (p.index, p.seed) == (index, seed))
            with output.file(f"{off.pair}-{TOGETHER}") as part:
                make_side_by_side(output.path, (off.file, on.file), plan, part)
    say("strip and page")
    title = f"{plan.model_text}, {TASK_NAMES[plan.task]}, {counted(plan.steps, 'step')}, guidance {plan.guidance:g}"
    buffer = io.BytesIO()
    make_strip(output.path, manifest, title).save(buffer, format="PNG")
    output.write(STRIP, buffer.getvalue())
    output.write(PAGE, make_video_page(output.path, manifest, embedded_note(plan, world)))
    return [
        (PAGE, "open it in a browser: every pair in step, side by side or under a slider"),
        (STRIP, "frames of all videos with labels"),
        (f"*-{TOGETHER}", "each pair as one video"),
        (MANIFEST, f"makes it all again: freeu video --from {output.path / MANIFEST} --output DIR"),
    ]
