"""``compare.html``: every pair under a slider, in one file that opens from disk and asks nothing of any network."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freeu.pipelines.models.addons.add_ons import Lora
from freeu.pipelines.models.sources.tasks import TASK_NAMES
from freeu.pipelines.models.used import sampler_text
from freeu.pipelines.pages.rendering import render
from freeu.pipelines.runs.manifest import Manifest
from freeu.pipelines.runs.plan import INPUT_CONTROL, INPUT_IMAGE, INPUT_MASK, INPUT_REGION, Plan
from freeu.wording import counted

MAX_EXACT = 24 << 20  # bytes of PNG up to which the page holds the very files


@dataclass(frozen=True)
class Measures:
    """What was measured of the images of a run.

    Args:
        values: of each file, its numbers by the name of the measure; the same measures for every file.
        text: what they are and what measured them, for people.
    """

    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    text: str = ""


def make_page(folder: Path, manifest: Manifest, note: str = "", measures: Measures = Measures()) -> str:
    """Render the page of a complete run that compares.

    Args:
        folder: where the images are.
        manifest: of the run; its plan has both arms.
        note: one line on the model, such as that it is the embedded one.
        measures: shown under each pair with their differences.

    Returns:
        HTML with every image inside: the very PNG files or, if those take more than 24 MiB, WebP of high quality (the
        page says so).
    """
    plan = manifest.plan
    total = sum((folder / name).stat().st_size for name in manifest.images)
    embed = _exact if total <= MAX_EXACT else _webp
    names = {(p.index, p.seed, p.arm): p.file for p in plan.images()}

    def side(index: int, seed: int, arm: str) -> dict[str, Any]:
        name = names[index, seed, arm]
        record = manifest.images[name]
        return {"src": embed(folder / name), "file": name, "flagged": record.flagged}

    prompts = [
        {
            "text": prompt,
            "pairs": [
                {
                    "seed": seed,
                    "off": side(index, seed, "baseline"),
                    "on": side(index, seed, "freeu"),
                    "measures": _measure_rows(measures, *(names[index, seed, arm] for arm in ("baseline", "freeu"))),
                }
                for seed in plan.seeds
            ],
        }
        for index, prompt in enumerate(plan.prompts)
    ]
    return render(
        "freeu.pipelines.pages",
        "compare.html",
        plan=plan,
        prompts=prompts,
        note=note,
        exact=embed is _exact,
        source=_exact(folder / INPUT_IMAGE) if plan.image_sha else None,
        mask=_exact(folder / INPUT_MASK) if plan.mask_sha else None,
        control=_exact(folder / INPUT_CONTROL) if plan.control else None,
        region=_exact(folder / INPUT_REGION) if plan.region_sha else None,
        measured=measures.text,
        settings=settings_rows(plan, manifest.used),
        environment=manifest.environment,
        texts={
            "command": plan.command_line(),
            **({"where": " (in this folder)"} if plan.reads_folder else {}),
            "python": python_lines(plan),
            "json": plan.config.to_json(indent=2) if plan.config else "{}",
        },
        zoom=first_zoom(plan.width, plan.height),
    )


def _measure_rows(measures: Measures, off: str, on: str) -> list[dict[str, str]]:
    """Each measure of a pair without and with FreeU, and the difference."""
    found = []
    for name, without in measures.values.get(off, {}).items():
        value = measures.values[on][name]
        places = max(0, 2 - math.floor(math.log10(max(abs(without), abs(value), 1e-6))))
        numbers = (f"{without:.{places}f}", f"{value:.{places}f}", f"{value - without:+.{places}f}")
        found.append({"name": name, **dict(zip(("off", "on", "by"), numbers, strict=True))})
    return found


def settings_rows(plan: Plan, used: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """The settings as (name, value), for people; ``used`` is that of a manifest."""
    rows = [
        ("FreeU", str(plan.config)),
        ("profile", plan.config.profile if plan.config else "none"),
        ("model", plan.model.name),
        ("model fingerprint", plan.model.fingerprint),
        *(("LoRA, fused" if plan.fuse_loras else "LoRA", _lora_row(lora)) for lora in plan.loras),
        *(("embedding", f"{one.token} (from {one.name})") for one in plan.embeddings),
        ("task", TASK_NAMES[plan.task]),
        ("steps", str(plan.steps)),
        ("CFG scale", f"{plan.guidance:g}"),
        ("sampler", _sampler_row(plan.scheduler, used or {})),
        ("size", f"{plan.width} x {plan.height}"),
        ("arithmetic", f"{plan.dtype} on {plan.device}, {counted(plan.threads, 'thread')}"),
    ]
    if plan.negatives:
        rows.insert([name for name, _ in rows].index("steps"), ("negative prompts", "one for each prompt"))
    elif plan.negative_prompt:
        rows.insert([name for name, _ in rows].index("steps"), ("negative prompt", plan.negative_prompt))
    if plan.image_strength is not None:
        rows.append(("denoising strength", f"{plan.image_strength:g}"))
    if plan.control is not None:
        rows.append(("ControlNet", plan.control.text.removeprefix("ControlNet ")))
    if plan.scalecrafter is not None:
        rows.append(("ScaleCrafter", plan.scalecrafter.text.removeprefix("ScaleCrafter ")))
    rows += guiding_rows(plan)
    if plan.region_sha is not None:
        rows.append(("region", f"{INPUT_REGION}, white where FreeU acts"))
    if plan.reader is not None:
        rows.append(("change seen by", f"{plan.reader} alone"))
    return rows


def guiding_rows(plan: Plan) -> list[tuple[str, str]]:
    """The settings of guidance beside its scale, where there are any."""
    rows = [("guidance", plan.guiding.text)] if plan.guiding is not None else []
    return rows + ([("guidance rescale", f"{plan.guidance_rescale:g}")] if plan.guidance_rescale is not None else [])


def _sampler_row(name: str | None, used: Mapping[str, Any]) -> str:
    own, cls = name or "the model's own", sampler_text(used)
    return f"{own} ({cls})" if cls else own


def _lora_row(lora: Lora) -> str:
    return f"{lora.name}, weight {lora.weight:g}"


def python_lines(plan: Plan) -> str:
    """The lines of Python that put the same on a pipeline."""
    return "\n".join([*add_on_lines(plan), *freeu_lines(plan), "    image = pipe(prompt).images[0]"])


def freeu_lines(plan: Plan) -> list[str]:
    """Lines of Python that begin a block with the plan's FreeU."""
    config = f"freeu.FreeUConfig.parse({json.dumps(str(plan.config), ensure_ascii=False)})"
    if plan.region_sha is None:
        return [f"with freeu.enabled(pipe, {config}):"]
    return [f'region = PIL.Image.open("{INPUT_REGION}")', f"with freeu.enabled(pipe, {config}, region=region):"]


def add_on_lines(plan: Plan) -> list[str]:
    """Lines of Python that add to a pipeline what was added to this model."""
    lines = []
    for number, lora in enumerate(plan.loras):
        lines.append(f'pipe.load_lora_weights({_quoted(lora.name)}, adapter_name="lora_{number}")')
    if plan.loras:
        names = [f"lora_{number}" for number in range(len(plan.loras))]
        lines.append(f"pipe.set_adapters({json.dumps(names)}, {[lora.weight for lora in plan.loras]})")
    if plan.fuse_loras:
        lines += ["pipe.fuse_lora()", "pipe.unload_lora_weights()"]
    for one in plan.embeddings:
        file, token = _quoted(one.name), f"token={_quoted(one.token)}"
        if "XL" in plan.model.class_name:  # a tensor for each of its text encoders
            lines.append(f"both = safetensors.torch.load_file({file})")
            lines.append(f'pipe.load_textual_inversion(both["clip_l"], {token})')
            places = "tokenizer=pipe.tokenizer_2, text_encoder=pipe.text_encoder_2"
            lines.append(f'pipe.load_textual_inversion(both["clip_g"], {token}, {places})')
        else:
            lines.append(f"pipe.load_textual_inversion({file}, {token})")
    return lines


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def first_zoom(width: int, height: int) -> float:
    """How many screen pixels one pixel takes at first: small images can be seen, big ones fit in pairs."""
    side = max(width, height)
    return max(1, round(400 / side)) if side <= 600 else 0.5


def zooms(first: float) -> list[float]:
    """The steps of the zoom, from one screen pixel per pixel (or less) to four times the first."""
    return sorted({min(first, 1), first, 2 * first, 4 * first})


def _exact(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _webp(path: Path) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, format="WEBP", quality=92)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
