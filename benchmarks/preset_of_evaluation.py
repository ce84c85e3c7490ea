"""A preset file from ``freeu evaluate``: settings chosen before, measured once, judged by the rule of ``freeu tune``.

    freeu evaluate mini-sd --prompts prompts.jsonl --seeds 0 --arms "none, mild: ..., effective:mild" --output FOLDER
    python benchmarks/preset_of_evaluation.py FOLDER mild --output freeu.json

For settings that other prompts suggested: the prompts of the evaluation must have had no part in choosing them. The
verdict is that of ``freeu tune`` on held-out prompts (objective, guards, Bonferroni), with nothing else searched. The
preset has settings only if they are better than none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import freeu
from freeu.json_files import read_json
from freeu.pipelines.runs.manifest import as_json
from freeu.presets.files import PresetFile
from freeu.tuning.settings import DEFAULT_GUARD, DEFAULT_OBJECTIVE, Objective, parse_guards
from freeu.tuning.verdict import FREEU, OVERALL, decide, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of freeu evaluate, with results.json and manifest.json")
    parser.add_argument("arm", help="its name there")
    parser.add_argument("--output", type=Path, default=Path("freeu.json"))
    options = parser.parse_args()
    results = read_json(options.folder / "results.json")
    plan = read_json(options.folder / "manifest.json")["plan"]
    configs = {arm["name"]: arm["config"] for arm in results["arms"]}
    rows = [row | {"arm": FREEU if row["arm"] == options.arm else row["arm"]} for row in results["pictures"]]
    objective = Objective.parse(",".join(DEFAULT_OBJECTIVE))
    verdict = decide([row for row in rows if row["arm"] in (FREEU, "none")], objective, parse_guards(DEFAULT_GUARD))
    better = verdict.best == "freeu"
    change = verdict.differences[FREEU][OVERALL]
    settings = freeu.FreeUConfig.from_dict(configs[options.arm])
    text = (
        f"{options.arm} ({settings}) is {'' if better else 'not '}better than plain sampling on "
        f"{len(results['prompts'])} prompts (objective {shown(change)})"
    )
    preset = PresetFile(
        name=f"{plan['model']['name']}-{options.arm}",
        config=settings if better else None,
        model=plan["model"]["name"],
        fingerprint=plan["model"]["fingerprint"],
        guidance=plan["guidance"],
        steps=plan["steps"],
        verdict=text,
        provenance={
            "settings": configs[options.arm],
            "objective": str(objective),
            "held_out_prompts": len(results["prompts"]),
            "level": verdict.level,
            "differences": verdict.to_dict()["differences"],
            "environment": results["environment"],
        },
    )
    options.output.write_text(as_json(preset.to_dict()) + "\n")
    print(text)


if __name__ == "__main__":
    main()
