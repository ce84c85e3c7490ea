"""Model cards, written from the numbers of ``freeu-zoo.json`` so that the two cannot disagree.

    python -m freeu_zoo.card MODEL RESULTS

puts into a model's card what ``freeu evaluate`` found for its first arm.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from freeu_zoo.errors import ZooError
from freeu_zoo.files import write_atomically, write_json

_LICENCE = """## Licence

MIT, weights included. The images it learned from are Copyright (c) Microsoft Corporation, MIT.
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
    if kind == "video":
        return _template("video").format(**common, **_of_video(facts))
    if kind == "control":
        return _template("control").format(**common, **_of_control(facts))
    if kind == "lcm":
        return _template("lcm").format(**common, **_of_lcm(facts))
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
        "alignment": _alignment(facts.get("alignment")),
        "scored_prompts": facts.get("alignment", {}).get("prompts", 500),
        "notes": facts["notes"],
        "vae_minutes": training["vae"]["minutes"],
        "vae_crops": f"{training['vae']['crops']:,}",
        "psnr": training["vae"]["psnr_db"],
        "speed": training["samples_per_second"],
        "held_out": training["curve"][-1]["held_out"] if training["curve"] else "not measured",
    }


def _of_video(facts: dict[str, Any]) -> dict[str, Any]:
    parts = [f"| {p['part']} | `{p['class']}` | {p['parameters']:,} | {p['notes']} |" for p in facts["parts"]]
    training = facts["training"]
    return {
        "steps": facts["default_steps"],
        "guidance": facts["default_guidance_scale"],
        "frames": facts["default_frames"],
        "fps": facts["default_fps"],
        "parent": facts["parent"],
        "nouns": ", ".join(facts["nouns"]),
        "styles": ", ".join(facts["styles"]),
        "colours": ", ".join(facts["colours"]),
        "motions": "; ".join(f"{name} ({', '.join(phrases)})" for name, phrases in facts["motions"].items()),
        "prompt": facts["prompt"],
        "sample_prompts": _list(facts["sheets"]["samples"]),
        "parts": "\n".join(parts),
        "alignment": _alignment(facts.get("alignment")),
        "scored_prompts": facts.get("alignment", {}).get("prompts", 28),
        "notes": facts["notes"],
        "speed": training["samples_per_second"],
        "held_out": training["curve"][-1]["held_out"] if training["curve"] else "not measured",
    }


def _of_control(facts: dict[str, Any]) -> dict[str, Any]:
    found, training, prompts = facts.get("edge_agreement"), facts["training"], facts["sheets"]["samples"]
    names = {"with": "with the edges", "without": "without", "coded": "the scenes, through the autoencoder"}
    return {
        "parent": facts["parent"],
        "steps": facts["default_steps"],
        "guidance": facts["default_guidance_scale"],
        "seeds": "0, 1, 2",
        "shown": len(prompts),
        "sample_prompts": _list(prompts),
        "thresholds": " and ".join(map(str, facts["thresholds"])),
        "measured": found["scenes"] if found else 0,
        "agreement": "\n".join(f"| {text} | {found[name]:.3f} |" for name, text in names.items()) if found else "",
        "parameters": f"{facts['parameters']:,}",
        "notes": facts["notes"],
        "speed": training["samples_per_second"],
        "held_out": training["curve"][-1]["held_out"] if training["curve"] else "not measured",
    }


def _of_lcm(facts: dict[str, Any]) -> dict[str, Any]:
    training, (low, high) = facts["training"], facts["distilled_guidance"]
    whole = facts["form"] == "unet"
    return {
        "parent": facts["parent"],
        "steps": facts["default_steps"],
        "guidance": facts["default_guidance_scale"],
        "parent_steps": facts["parent_steps"],
        "parent_guidance": facts["parent_guidance"],
        "form": "a U-Net that takes the CFG scale as an input"
        if whole
        else f"a LoRA of rank {facts['rank']} for the U-Net",
        "meaning": "is an input of the U-Net, which is called once a step at any scale"
        if whole
        else "is 1, which means no guidance while sampling: that of the teacher is in the weights",
        "teacher_guidance": f"{low:g}" if low == high else f"{low:g} to {high:g}",
        "solver_steps": facts["solver_steps"],
        "skipped": 1000 // facts["solver_steps"],
        "sample_prompts": _list(facts["sheets"]["samples"]),
        "alignment": _alignment(facts.get("alignment")),
        "scored_prompts": facts.get("alignment", {}).get("prompts", 500),
        "parameters": f"{facts['parameters']:,}",
        "notes": facts["notes"],
        "speed": training["samples_per_second"],
        "distance": training["curve"][-1]["held_out"] if training["curve"] else "not measured",
    }


def alignment(results: dict[str, Any]) -> dict[str, Any]:
    """What of ``results.json`` a card shows: the scores of the first arm, of real scenes and of shuffled prompts.

    Raises:
        ZooError: it is not the record of an evaluation with matching real scenes.
    """
    try:
        arm, plan = results["arms"][0]["name"], results["plan"]
        rows = {
            "model": results["summary"][arm],
            "real": results["ceiling"]["summary"],
            "shuffled": results["floor"]["summary"],
            "share": results["share_of_ceiling"][arm],
        }
        return {
            "arm": arm,
            "prompts": len(plan["prompts"]),
            "seeds": list(plan["seeds"]),
            "steps": plan["steps"],
            "guidance": plan["guidance"],
            "scores": {
                aspect: {row: _estimate(found.get(aspect)) for row, found in rows.items()} for aspect in rows["share"]
            },
        }
    except (KeyError, IndexError, TypeError) as error:
        raise ZooError(
            "these are no results of `freeu evaluate MODEL --reference DIR --reference-matches` with prompts that say "
            f"what they ask for: {type(error).__name__} {error}"
        ) from None


def _estimate(found: dict[str, Any] | None) -> dict[str, float] | None:
    """None where nothing could be scored, such as the relation of things that chance never put together."""
    return None if found is None else {key: found[key] for key in ("value", "low", "high")}


def add_alignment(folder: Path, results: Path) -> None:
    """Write the scores in ``results`` into the ``freeu-zoo.json`` and the card of the model in ``folder``.

    Raises:
        ZooError: one of the files is not what it should be.
    """
    try:
        facts = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))
        found = json.loads(results.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ZooError(f"cannot read {folder / 'freeu-zoo.json'} or {results}: {error}") from None
    facts["alignment"] = alignment(found)
    card = text(facts)
    write_json(folder / "freeu-zoo.json", facts)
    write_atomically(folder / "README.md", lambda path: path.write_text(card, encoding="utf-8"))


def _alignment(found: dict[str, Any] | None) -> str:
    if found is None:
        return "Not measured yet."
    rows = [
        [
            aspect.replace("_", " "),
            *(_interval(scores[row]) for row in ("model", "real", "shuffled", "share")),
        ]
        for aspect, scores in found["scores"].items()
    ]
    seeds = ", ".join(map(str, found["seeds"]))
    return (
        f"{found['prompts']} prompts, seed {seeds}, {found['steps']} steps, CFG scale {found['guidance']:g}; percent, "
        "with 95 % bootstrap intervals over prompts:\n\n"
        + _table(("Right", "This model", "Real scenes", "Shuffled prompts", "Share of real scenes"), rows)
    )


def _interval(of: dict[str, float] | None) -> str:
    if of is None:
        return "-"
    value, low, high = (100 * of[key] for key in ("value", "low", "high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _list(prompts: list[str]) -> str:
    return "\n".join(f"{number}. {prompt}" for number, prompt in enumerate(prompts))


def _table(head: tuple[str, ...], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status (2 after a one-line error)."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.card", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, help="a model directory with its freeu-zoo.json")
    parser.add_argument("results", type=Path, help="results.json of freeu evaluate")
    options = parser.parse_args(arguments)
    try:
        add_alignment(options.model, options.results)
    except (ZooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
