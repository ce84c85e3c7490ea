"""``video.html``: every pair of videos in step, side by side or under a slider, from disk and without network."""

from __future__ import annotations

from pathlib import Path

from freeu.pipelines.pages.clip_page import Head, Pair, clip_page
from freeu.pipelines.pages.page import add_on_lines, freeu_lines, settings_rows
from freeu.pipelines.runs.manifest import Manifest
from freeu.pipelines.runs.plan import INPUT_IMAGE, INPUT_VIDEO, Plan
from freeu.wording import counted


def make_video_page(folder: Path, manifest: Manifest, note: str = "") -> str:
    """Render the page of a complete run of ``freeu video``.

    Args:
        folder: where the videos are.
        manifest: of the run.
        note: one line on the model, such as that it is the embedded one.

    Returns:
        HTML; see ``clip_page``.
    """
    plan = manifest.plan
    assert plan.frames is not None
    assert plan.fps is not None
    begins = "prompt" if plan.prompts[0] else "image"
    names = {(p.index, p.seed, p.arm): folder / p.file for p in plan.images()}
    groups = [
        (
            prompt or "From the input image",
            [
                Pair(
                    f"seed {seed}",
                    names[index, seed, "baseline"],
                    names[index, seed, "freeu"],
                    names=(
                        f"Without FreeU, seed {seed}: {prompt or 'from the input image'}",
                        f"With FreeU, seed {seed}: {prompt or 'from the input image'}",
                    ),
                )
                for seed in plan.seeds
            ],
        )
        for index, prompt in enumerate(plan.prompts)
    ]
    return clip_page(
        Head(
            f"Videos with and without FreeU: {plan.model_text}",
            "Without and with FreeU",
            f"The same {begins}, the same seed, the same model. Only FreeU differs:",
            str(plan.config),
            note,
            "freeu video --from manifest.json --output FOLDER",
        ),
        groups,
        (plan.width, plan.height),
        plan.frames,
        plan.fps,
        [*settings_rows(plan), *_rows(plan)],
        manifest.environment,
        {
            "command": plan.command_line(),
            **({"where": " (in this folder)"} if plan.reads_folder else {}),
            "python": _python(plan),
            "json": plan.config.to_json(indent=2) if plan.config else "{}",
        },
        _given(folder, plan),
    )


def _given(folder: Path, plan: Plan) -> tuple[str, str, Path] | None:
    """What the videos begin with: an animated PNG plays as it is."""
    if plan.video_sha:
        return "Input video", "Both videos of every pair begin with these frames.", folder / INPUT_VIDEO
    if plan.image_sha:
        return "Input image", "Both videos of every pair begin with this one.", folder / INPUT_IMAGE
    return None


def _rows(plan: Plan) -> list[tuple[str, str]]:
    assert plan.decode_chunk is not None
    rows = [
        ("frames", f"{plan.frames} at {plan.fps} a second"),
        ("decoded at once", counted(plan.decode_chunk, "frame")),
    ]
    if plan.motion_adapter is not None:
        rows.append(("motion adapter", plan.motion_adapter.name))
    if plan.video_strength is not None:
        rows.append(("video strength", f"{plan.video_strength:g}"))
    return rows


def _python(plan: Plan) -> str:
    return "\n".join([*add_on_lines(plan), *freeu_lines(plan), "    frames = pipe(...).frames[0]"])
