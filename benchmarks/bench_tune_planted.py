"""``freeu tune`` on a model with a fault that FreeU can undo: the skips of mini-sd carry low frequencies added to them.

    python benchmarks/bench_tune_planted.py FOLDER [--trials 60] [--steps 6] [--drift 0.5] [--seeds 0 1]

Every skip of the embedded model gets ``drift`` times its own low-pass (means of quarters, interpolated) added before
the decoder takes it: another filter than FreeU's, so no setting undoes it exactly, and s < 1 takes most of it away.
The search knows nothing of that. It must find smaller s, and its gain must hold on prompts that it did not see. Beside
it stands what the drift costs: images of the sound model against those of the faulty one. An interrupted run goes on
in FOLDER. Writes results/tune-planted.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import freeu_zoo
import torch
from common import conditions, save
from diffusers import StableDiffusionPipeline
from freeu_zoo.prompts import write
from freeu_zoo.recipe import shipped
from torch.nn import functional

import freeu
from freeu.evaluate.experiment.arms import BASELINE, Arm
from freeu.evaluate.experiment.measuring import Measurer
from freeu.evaluate.experiment.prompts import read_prompts
from freeu.intervals import paired_interval
from freeu.tuning.interactive import Tuned

PROMPTS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--drift", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the search, one search each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(shipped("mini-sd"), Path(folder) / "prompts.jsonl", PROMPTS, None)
        prompts = read_prompts(str(Path(folder) / "prompts.jsonl"))
    searches = []
    for seed in options.seeds:
        pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
        sound = drift(pipe, options.drift)
        tuned = freeu.tune(
            pipe,
            prompts,
            output=options.folder / f"seed-{seed}",
            trials=options.trials,
            steps=options.steps,
            seed=seed,
        )
        sound()
        searches.append({"seed": seed, **told(tuned), "cost_of_the_drift": cost(tuned)})
        print(seed, searches[-1]["config"], tuned.verdict.text, searches[-1]["cost_of_the_drift"])
    asked = {name: getattr(options, name) for name in ("trials", "steps", "drift")}
    print(save("tune-planted", {"conditions": conditions(), **asked, "prompts": PROMPTS, "searches": searches}))


def told(tuned: Tuned) -> dict[str, Any]:
    """What a search found, and the verdict on prompts that it did not see."""
    found = tuned.found["freeu"]
    verdict = tuned.verdict
    differences = {
        arm: {measure: asdict(one) for measure, one in measures.items()}
        for arm, measures in verdict.differences.items()
    }
    return {
        "config": str(freeu.FreeUConfig.from_dict(found["config"])),
        "best": verdict.best,
        "verdict": verdict.text,
        "level": verdict.level,
        "held_out_prompts": len(tuned.results["prompts"]),
        "differences": differences,
    }


def cost(tuned: Tuned) -> dict[str, Any]:
    """What plain images of the faulty model lost against those of the sound one, which the pipeline must be again."""
    tuning = tuned.tuning
    faulty = {row["prompt"]: row["values"] for row in tuned.results["pictures"] if row["arm"] == BASELINE}
    numbers = tuning.split().held_out
    measurer = Measurer(tuning.prepared, tuning.prompts, tuning.judges)
    with measurer.computing():
        found = measurer.values(Arm(BASELINE), [(number, tuning.prepared.plan.seeds[0]) for number in numbers])
    plain = [row for _, row in sorted(((numbers.index(number), row) for (number, _), row in found.items()))]
    lost = {}
    for name, _ in tuning.settings.objective.terms:
        before, after = ([row.get(name) for row in rows] for rows in (plain, [faulty[i] for i in range(len(plain))]))
        lost[name] = asdict(paired_interval(after, before))
    return lost


def drift(pipe: Any, amount: float) -> Callable[[], None]:
    """Add low frequencies to every skip that the down blocks hand to the decoder; call the result to end that."""

    def added(_: torch.nn.Module, __: Any, output: tuple[torch.Tensor, tuple[torch.Tensor, ...]]) -> Any:
        hidden, skips = output
        return hidden, tuple(skip + amount * low_pass(skip) for skip in skips)

    hooks = [block.register_forward_hook(added) for block in pipe.unet.down_blocks]
    return lambda: [hook.remove() for hook in hooks] and None


def low_pass(features: torch.Tensor) -> torch.Tensor:
    """Means of the quarters of each map, interpolated to its size."""
    return functional.interpolate(
        functional.adaptive_avg_pool2d(features, 2), features.shape[-2:], mode="bilinear", align_corners=False
    )


if __name__ == "__main__":
    main()
