"""The report of ``freeu check``: Markdown to read and send, JSON to collect. No path of the machine is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from freeu.config import FreeUConfig
from freeu.pipelines.check.check import Step, Verdict
from freeu.pipelines.models.loading import Loaded
from freeu.wording import counted

SCHEMA = 1
_UNET_FIELDS = (
    "sample_size",
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "up_block_types",
    "cross_attention_dim",
)


def report_data(
    loaded: Loaded,
    config: FreeUConfig,
    step: Step,
    verdicts: Sequence[Verdict],
    machine: Mapping[str, str],
    *,
    fingerprint: str,
    dtype: str,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Everything that was found, as JSON data."""
    from freeu.adapters.finding import unet_of

    unet: Any = unet_of(loaded.pipe)
    latents = step.args[0] if step.args else step.kwargs.get("sample")
    return {
        "kind": "freeu-check",
        "schema": SCHEMA,
        "passed": all(verdict.passed for verdict in verdicts),
        "model": {
            "name": loaded.source.label,
            "pipeline": type(loaded.pipe).__name__,
            "unet": type(unet).__name__,
            "fingerprint": fingerprint,
            **{name: unet.config[name] for name in _UNET_FIELDS if name in unet.config},
        },
        "config": config.to_dict(),
        "step": {"number": step.number, "of": step.of, "latents": list(latents.shape) if latents is not None else None},
        "dtype": dtype,
        "device": device,
        "threads": threads,
        "environment": dict(machine),
        "checks": [{"name": v.name, "passed": v.passed, "text": v.text, **v.data} for v in verdicts],
    }


def as_json(data: Mapping[str, Any]) -> str:
    """The report as JSON text."""
    return json.dumps(data, indent=2) + "\n"


def as_markdown(data: Mapping[str, Any]) -> str:
    """The report for people."""
    model = data["model"]
    lines = [
        f"# FreeU on {model['name']}: {'passed' if data['passed'] else 'FAILED'}",
        "",
        f"`{FreeUConfig.from_dict(data['config'])}`, profile {data['config']['profile']}",
        "",
        "| check | result | what was found |",
        "|---|---|---|",
        *(f"| {c['name']} | {'pass' if c['passed'] else '**FAIL**'} | {c['text']} |" for c in data["checks"]),
        "",
        f"Features of step {data['step']['number']} of {data['step']['of']}, latents {data['step']['latents']}, "
        f"{data['dtype']} on {data['device']}, {counted(data['threads'], 'thread')}.",
        "",
        "## Model",
        "",
        *(f"- {name}: {value}" for name, value in model.items()),
        "",
        "## Machine",
        "",
        *(f"- {name}: {value}" for name, value in data["environment"].items()),
    ]
    sites: list[Any] = next((check["sites"] for check in data["checks"] if "sites" in check), [])
    errors: dict[str, float] = next((check["errors"] for check in data["checks"] if "errors" in check), {})
    if sites:
        lines += [
            "",
            "## Sites",
            "",
            "| site | block | backbone | skip | stage | relative error |",
            "|---|---|---|---|---|---|",
            *(
                f"| {s['path']} | {s['block']} | {s['backbone_channels']} | {s['skip_channels']} | "
                f"{s['stage'] or '-'} | {format(errors[s['path']], '.1e') if s['path'] in errors else '-'} |"
                for s in sites
            ),
        ]
    return "\n".join(lines) + "\n"
