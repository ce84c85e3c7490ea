"""Model cards, written from the numbers of ``freeu-zoo.json`` so that the two cannot disagree."""

from __future__ import annotations

from importlib import resources
from typing import Any

_LICENCE = """## Licence

MIT, weights included. The pictures it learnt from are Copyright (c) Microsoft Corporation, MIT.
"""


def text(facts: dict[str, Any]) -> str:
    """The card as Markdown."""
    training = facts["training"]
    common = {
        **{name: facts[name] for name in ("name", "description", "recipe")},
        "nouns_count": len(facts["nouns"]),
        "samples": f"{training['samples']:,}",
        "minutes": training["minutes"],
        "curve": _table(("Step", "Minutes", "Loss", "Held out"), [list(p.values()) for p in training["curve"]]),
        "licence": _LICENCE,
    }
    kind = facts.get("kind", "diffusion")
    if kind == "judge":
        found = facts["retrieval_of_500_held_out"]
        return _template("judge").format(**common, retrieval=found, parameters=facts["parameters"])
    if kind == "reader":
        scores = facts["accuracy_on_1000_held_out"]
        rows = [[aspect, *(f"{scores[kind][aspect]:.1%}" for kind in scores)] for aspect in scores["clean"]]
        accuracy = _table(("Right", *(kind.capitalize() for kind in scores)), rows)
        return _template("reader").format(**common, accuracy=accuracy, parameters=facts["parameters"])
    return _template("diffusion").format(**common, **_of_diffusion(facts))


def _template(kind: str) -> str:
    return resources.files("freeu_zoo").joinpath(f"templates/{kind}.md").read_text("utf-8")


def _of_diffusion(facts: dict[str, Any]) -> dict[str, Any]:
    training, sheets = facts["training"], facts["sheets"]
    shares = {name: share for name, share in facts["layouts"].items() if share}
    whole = sum(shares.values())
    parts = [f"| {p['part']} | `{p['class']}` | {p['parameters']:,} | {p['notes']} |" for p in facts["parts"]]
    return {
        "steps": facts["default_steps"],
        "guidance": facts["default_guidance_scale"],
        "nouns": ", ".join(facts["nouns"]),
        "styles": ", ".join(facts["styles"]),
        "colours": ", ".join(facts["colours"]),
        "layouts": ", ".join(f"{name} ({share / whole:.0%})" for name, share in shares.items())
        + (f"; relations: {', '.join(facts['relations'])}" if facts["relations"] else ""),
        "prompt": facts["prompt"],
        "count_seeds": len(sheets["seeds"]),
        "seed_prompts": _list(sheets["seeds"]),
        "guidance_prompts": _list(sheets["guidance"]),
        "parts": "\n".join(parts),
        "notes": facts["notes"],
        "vae_minutes": training["vae"]["minutes"],
        "vae_crops": f"{training['vae']['crops']:,}",
        "psnr": training["vae"]["psnr_db"],
        "speed": training["samples_per_second"],
        "held_out": training["curve"][-1]["held_out"] if training["curve"] else "not measured",
    }


def _list(prompts: list[str]) -> str:
    return "\n".join(f"{number}. {prompt}" for number, prompt in enumerate(prompts))


def _table(head: tuple[str, ...], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
