"""``video.html``: every pair of clips in step, side by side or under a wiping slider, from disk and without network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from freeu.pipelines.manifest import Manifest
from freeu.pipelines.page import add_on_lines, first_zoom, settings_rows, zooms
from freeu.pipelines.plan import INPUT_IMAGE, INPUT_VIDEO, Plan
from freeu.pipelines.rendering import render

MAX_INSIDE = 24 << 20
"""Bytes of MP4 up to which the page holds the clips itself; beyond, it plays the files beside it."""


def make_video_page(folder: Path, manifest: Manifest, note: str = "") -> str:
    """Render the page of a complete run of ``freeu video``.

    Args:
        folder: where the clips are.
        manifest: of the run.
        note: one line on the model, such as that it is the embedded one.

    Returns:
        HTML with every MP4 inside or, if those take more than 24 MiB, that plays the files in its folder.
    """
    plan = manifest.plan
    inside = sum((folder / name).stat().st_size for name in manifest.pictures) <= MAX_INSIDE
    names = {(p.index, p.seed, p.arm): p.file for p in plan.pictures()}

    def source(index: int, seed: int, arm: str) -> str:
        name = names[index, seed, arm]
        return _data(folder / name, "video/mp4") if inside else name

    prompts: list[dict[str, Any]] = [
        {
            "text": prompt,
            "pairs": [
                {"seed": seed, "off": source(index, seed, "baseline"), "on": source(index, seed, "freeu")}
                for seed in plan.seeds
            ],
        }
        for index, prompt in enumerate(plan.prompts)
    ]
    given = folder / (INPUT_VIDEO if plan.video_sha else INPUT_IMAGE)
    return render(
        "freeu.pipelines",
        "video.html",
        plan=plan,
        prompts=prompts,
        note=note,
        inside=inside,
        given=_given(given, inside) if plan.video_sha or plan.image_sha else None,
        settings=[*settings_rows(plan), *_rows(plan)],
        environment=manifest.environment,
        texts={
            "command": plan.command_line(),
            "python": _python(plan),
            "json": plan.config.to_json(indent=2) if plan.config else "{}",
        },
        zoom=first_zoom(plan.width, plan.height),
        zooms=zooms(first_zoom(plan.width, plan.height)),
    )


def _rows(plan: Plan) -> list[tuple[str, str]]:
    rows = [("frames", f"{plan.frames} at {plan.fps} a second"), ("decoded at once", f"{plan.decode_chunk} frames")]
    if plan.motion_adapter is not None:
        rows.append(("motion adapter", plan.motion_adapter.name))
    if plan.video_strength is not None:
        rows.append(("video strength", f"{plan.video_strength:g}"))
    return rows


def _python(plan: Plan) -> str:
    import json

    text = json.dumps(str(plan.config), ensure_ascii=False)
    enabled = f"with freeu.enabled(pipe, freeu.FreeUConfig.parse({text})):\n    frames = pipe(...).frames[0]"
    return "\n".join([*add_on_lines(plan), enabled])


def _given(path: Path, inside: bool) -> str:
    """What the clips begin with: an animated PNG plays as it is."""
    return _data(path, "image/png") if inside and path.stat().st_size <= MAX_INSIDE else path.name


def _data(path: Path, kind: str) -> str:
    return f"data:{kind};base64," + base64.b64encode(path.read_bytes()).decode()
