"""What distillation keeps and what FreeU adds to it: a distilled model in 4 and 2 steps beside mini-sd in 20, 4 and 2.

    python benchmarks/bench_lcm.py DIR [--count 200] [--work DIR]

DIR is a pipeline as ``freeu_zoo.assemble.assemble`` puts it together from mini-sd and what was trained to be added.

All generate the same prompts from ``freeu_zoo.prompts``, none of which training saw, with the same seed, by `freeu
evaluate` at the CFG scale of each model; the scene reader sees the images alone. FreeU: ``sd14`` (published),
``gentle``, and ``late``, the published factors in the second half of the steps. mini-sd with 20 steps is measured
without it here (see docs/does-it-help.md). Every step resumes; the images stay in --work. Writes results/lcm.json and
results/lcm.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import RESULTS, conditions, save

from freeu.intervals import Estimate, mean_interval, paired_interval

ARMS = "none,sd14,gentle,late: b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 start=0.5"
TEACHER = "mini-sd"
RUNS = ((TEACHER, 20, "none"), (TEACHER, 4, ARMS), (TEACHER, 2, ARMS), ("student", 4, ARMS), ("student", 2, ARMS))
"""Model, steps, arms; the student is the distilled model."""

MEASURES = ("noun_strict", "colour", "style", "count", "relation", "all_asked", "clip_score")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the distilled model's directory")
    parser.add_argument("--count", type=int, default=200, help="prompts (default: 200)")
    parser.add_argument("--work", type=Path, default=Path("lcm-benchmark"), help="where the images stay")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    prompts, real = options.work / "prompts.jsonl", options.work / "real"
    if not prompts.exists():
        call("freeu_zoo.prompts", str(prompts), "--count", str(options.count), "--scenes", str(real))
    found: dict[str, dict[str, Any]] = {}
    for model, steps, arms in RUNS:
        chosen = TEACHER if model == TEACHER else options.model
        name, out = f"{Path(chosen).name} in {steps}", options.work / f"{model}-{steps}"
        words = ("--arms", arms, "--steps", str(steps), "--seeds", "0", "--reference", str(real), "--reference-matches")
        call("freeu", "evaluate", chosen, "--prompts", str(prompts), *words, "--threads", "1", "--output", str(out))
        found[name] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    data = {"conditions": conditions(), "prompts": options.count, "rows": rows(found), "real": real_scenes(found)}
    save("lcm", data)
    (RESULTS / "lcm.md").write_text(table(data), encoding="utf-8")


def call(module: str, *words: str) -> None:
    """Run a command of the package; it says what is wrong by itself."""
    done = subprocess.run([sys.executable, "-m", module, *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def values(results: dict[str, Any], arm: str, measure: str) -> list[float | None]:
    """The values of an arm's images in the order of the prompts; one seed each."""
    return [one["values"].get(measure) for one in results["pictures"] if one["arm"] == arm]


def numbers(found: Estimate) -> list[float]:
    """The value and its interval; a single prompt has none."""
    low, high = (found.value if end is None else end for end in (found.low, found.high))
    return [round(number, 6) for number in (found.value, low, high)]


def rows(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each run and arm with its means, and its differences to the same run without FreeU and to 20 and 4 steps."""
    made = []
    for name, results in found.items():
        baselines = {"without FreeU": (results, "none")}
        for other in (f"{TEACHER} in 20", f"{TEACHER} in 4"):
            baselines[f"{other}, without FreeU"] = (found[other], "none")
        for arm in (arm["name"] for arm in results["arms"]):
            row: dict[str, Any] = {"run": name, "arm": arm, "guidance": results["guidance"][arm], "values": {}}
            for measure in MEASURES:
                own = values(results, arm, measure)
                if any(value is not None for value in own):
                    row["values"][measure] = numbers(mean_interval(own))
            row["differences"] = {
                label: {
                    measure: numbers(paired_interval(values(results, arm, measure), values(*base, measure)))
                    for measure in row["values"]
                }
                for label, base in baselines.items()
                if base != (results, arm)
            }
            made.append(row)
    return made


def real_scenes(found: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """What perfect images of the prompts would score."""
    scores = next(iter(found.values()))["ceiling"]["summary"]
    return {name: [scores[name][key] for key in ("value", "low", "high")] for name in MEASURES if name in scores}


def table(data: dict[str, Any]) -> str:
    """Markdown: the means, then the differences."""
    measures = list(data["rows"][0]["values"])
    head = [f"# {data['prompts']} held-out prompts, one seed; 95 % bootstrap intervals over prompts", ""]
    lines = [*head, *_head("model and steps", "FreeU", *measures)]
    for row in data["rows"]:
        lines.append(_line(row["run"], row["arm"], *(_text(row["values"].get(name), name) for name in measures)))
    lines.append(_line("*real scenes*", "", *(_text(data["real"].get(name), name) for name in measures)))
    for label in dict.fromkeys(label for row in data["rows"] for label in row["differences"]):
        which = "the same model and steps" if label == "without FreeU" else label.partition(",")[0]
        lines += ["", f"Difference to {which} without FreeU, same prompt and seed:", ""]
        lines += _head("model and steps", "FreeU", *measures)
        for row in data["rows"]:
            if label in row["differences"]:
                own = row["differences"][label]
                lines.append(_line(row["run"], row["arm"], *(_text(own.get(name), name, "+") for name in measures)))
    return "\n".join(lines) + "\n"


def _head(*names: str) -> list[str]:
    return [_line(*(name.replace("_", " ") for name in names)), _line(*["---"] * len(names))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _text(found: list[float] | None, measure: str, sign: str = "") -> str:
    """Shares in percent; the CLIP score as it is."""
    if found is None:
        return "-"
    value, low, high = (one if measure == "clip_score" else 100 * one for one in found)
    return f"{value:{sign}.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
