"""Coverage of the study's intervals, size of its tests, effect of its rules: simulated studies of the paper's kind.

    python benchmarks/bench_study_statistics.py [--studies 1000]

Coverage of each 95 % interval and size of each 5 % test, with and without differences between raters and prompts; a
simulated preference with spammers, before and after the rules; a simulated ranking. Every rate has its Monte-Carlo
standard error and is called "as promised" (nominal) within two of them, else liberal or conservative.
Writes results/study-statistics.json.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import conditions, save

from freeu.study.plan.plan import StudyPlan
from freeu.study.statistics.ballots import Ballots, select
from freeu.study.statistics.exclusion import summarize_raters
from freeu.study.statistics.proportions import proportion
from freeu.study.statistics.ranking import rank_arms
from freeu.study.statistics.simulate import Behaviour, SimulatedRaters, bare_plan, strengths_for_share
from freeu.study.store.votes import answers

QUESTION = "quality"
DRAWS = 1_000
APART = 100_000
"""Distance between the seeds of two rows."""
# Raters, prompts, pairs per rater.
DESIGNS = {"30 raters x 20 prompts": (30, 20, 20), "120 raters x 15 of 60 prompts": (120, 60, 15)}
# Standard deviations between raters and between prompts, in logits.
SPREADS = {"all alike": (0.0, 0.0), "raters and prompts differ": (0.6, 0.6), "prompts differ much": (0.2, 1.0)}
TRUTHS = (0.5, 0.85)


def rate(hits: list[bool], promised: float) -> dict[str, Any]:
    """A rate with its Monte-Carlo standard error, compared with the nominal rate.

    Args:
        hits: one per study.
        promised: the nominal rate: the size of a test, the coverage of an interval.
    """
    value = float(np.mean(hits))
    error = math.sqrt(promised * (1.0 - promised) / len(hits))
    misses = value if promised < 0.5 else 1.0 - value  # error rate
    allowed = promised if promised < 0.5 else 1.0 - promised
    word = "as promised"
    if abs(misses - allowed) > 2.0 * error:
        word = "liberal" if misses > allowed else "conservative"
    return {"rate": value, "standard_error": error, "promised": promised, "verdict": word}


def studies(plan: StudyPlan, behaviour: Behaviour, number: int, first: int) -> Iterator[Ballots]:
    """Simulated studies of one plan.

    All randomness is independent for each question, so that each of the two questions is a study of its own. Seeds
    begin at ``first``: rows with equal seeds would be correlated.
    """
    for seed in range(first, first + number // 2):
        given = answers(plan, SimulatedRaters(plan, behaviour, seed).votes())
        for question in plan.questions:
            yield select(given, question.name, "arm 0", "arm 1")


def coverage(number: int) -> list[dict[str, Any]]:
    """Coverage of the three intervals and, where the true share is 0.5, size of the two tests."""
    rows = []
    for design, (raters, prompts, per_rater) in DESIGNS.items():
        plan = bare_plan(raters, prompts, pairs_per_rater=per_rater)
        for spread, (of_raters, of_prompts) in SPREADS.items():
            for truth in TRUTHS:
                behaviour = Behaviour(
                    strengths_for_share("arm 0", "arm 1", truth), rater_spread=of_raters, prompt_spread=of_prompts
                )
                found = [
                    proportion(ballots, draws=DRAWS, seed=seed)
                    for seed, ballots in enumerate(studies(plan, behaviour, number, APART * len(rows)))
                ]
                row: dict[str, Any] = {"design": design, "spread": spread, "truth": truth, "studies": number}
                for name in ("wilson", "clustered", "bootstrap"):
                    ends = [getattr(one, name) for one in found]
                    row[name] = rate([low <= truth <= high for low, high in ends], 0.95)
                    row[name]["width"] = float(np.mean([high - low for low, high in ends]))
                if truth == 0.5:
                    row["p_exact"] = rate([one.p_exact <= 0.05 for one in found], 0.05)
                    row["p_clustered"] = rate([one.p_clustered <= 0.05 for one in found], 0.05)
                shares = [one.share for one in found]
                row["bias"] = float(np.mean(shares) - truth)
                row["bias_standard_error"] = float(np.std(shares, ddof=1) / math.sqrt(number))
                rows.append(row)
    return rows


def spammers(number: int, truth: float = 0.7) -> list[dict[str, Any]]:
    """The estimated share for a simulated preference, with a fifth of the raters choosing at random."""
    rows = []
    for checks in (2, 4, 5):
        plan = bare_plan(30, 20, checks=checks, repeats=2)
        for name, seconds in (("hasty spammers", 0.4), ("patient spammers", 4.0)):
            behaviour = Behaviour(
                strengths_for_share("arm 0", "arm 1", truth),
                rater_spread=0.6,
                prompt_spread=0.6,
                left_bias=0.2,
                spammers=0.2,
                spammer_seconds=seconds,
            )
            everyone, kept, hits, caught, innocent = [], [], [], [], []
            for seed in range(APART * (100 + len(rows)), APART * (100 + len(rows)) + number):
                crowd = SimulatedRaters(plan, behaviour, seed)
                votes = crowd.votes()
                excluded = {rater for rater, one in summarize_raters(plan, votes).items() if one.excluded}
                out = {int(rater.removeprefix("simulated-")) for rater in excluded}
                given = answers(plan, votes)
                counted = [answer for answer in given if answer.rater not in excluded]
                everyone.append(proportion(select(given, QUESTION, "arm 0", "arm 1"), draws=0).share)
                main = proportion(select(counted, QUESTION, "arm 0", "arm 1"), draws=0)
                assert main.clustered is not None
                kept.append(main.share)
                hits.append(main.clustered[0] <= truth <= main.clustered[1])
                caught.append(len(out & crowd.spammers) / len(crowd.spammers))
                innocent.append(len(out - crowd.spammers) / (plan.raters - len(crowd.spammers)))
            rows.append(
                {
                    "spammers": name,
                    "checks": checks * len(plan.questions),
                    "studies": number,
                    "truth": truth,
                    "share_with_everyone": mean(everyone),
                    "share_by_rule": mean(kept),
                    "coverage_by_rule": rate(hits, 0.95),
                    "spammers_left_out": mean(caught),
                    "others_left_out": mean(innocent),
                }
            )
    return rows


def ranking(number: int) -> dict[str, Any]:
    """A simulated ranking of four arms: bias of scores, coverage of their intervals, how often the best is found."""
    arms = [f"arm {n}" for n in range(4)]
    scores = np.array([-0.75, -0.25, 0.25, 0.75])
    plan = bare_plan(60, 20, 4, pairs_per_rater=20, ties=True)
    behaviour = Behaviour(dict(zip(arms, scores.tolist(), strict=True)), rater_spread=0.6, prompt_spread=0.6, ties=0.1)
    found = []
    for seed in range(APART * 200, APART * 200 + number // 2):
        given = answers(plan, SimulatedRaters(plan, behaviour, seed).votes())
        found += [rank_arms(given, question.name, arms, draws=200, seed=seed) for question in plan.questions]
    errors = np.array([one.scores for one in found]) - scores
    ends = np.array([one.intervals for one in found])
    hits = (ends[:, :, 0] <= scores) & (scores <= ends[:, :, 1])
    return {
        "design": "60 raters x 20 of 120 pairs of 4 arms on 20 prompts, ties",
        "studies": number,
        "scores": scores.tolist(),
        "bias": errors.mean(axis=0).tolist(),
        "bias_standard_error": (errors.std(axis=0, ddof=1) / math.sqrt(number)).tolist(),
        "coverage": [rate(column.tolist(), 0.95) for column in hits.T],
        "first_found": float(np.mean([one.scores[3] == max(one.scores) for one in found])),
    }


def mean(values: list[Any]) -> dict[str, float]:
    """A mean with its standard error."""
    return {"mean": float(np.mean(values)), "standard_error": float(np.std(values, ddof=1) / math.sqrt(len(values)))}


def show(data: dict[str, Any]) -> None:
    """Print a summary."""
    for row in data["coverage"]:
        cells = [
            f"{name} {row[name]['rate']:.3f} ({row[name]['verdict']})" for name in ("wilson", "clustered", "bootstrap")
        ]
        cells += [f"{n} {row[n]['rate']:.3f} ({row[n]['verdict']})" for n in ("p_exact", "p_clustered") if n in row]
        print(f"{row['design']}, {row['spread']}, truth {row['truth']}: {', '.join(cells)}")
    for row in data["spammers"]:
        print(
            f"{row['spammers']}, {row['checks']} checks: everyone {row['share_with_everyone']['mean']:.3f}, by rule "
            f"{row['share_by_rule']['mean']:.3f} of {row['truth']}; excluded {row['spammers_left_out']['mean']:.0%} of "
            f"them, {row['others_left_out']['mean']:.1%} of the others"
        )
    one = data["ranking"]
    print(f"ranking: bias {[round(b, 3) for b in one['bias']]}, coverage {[of['rate'] for of in one['coverage']]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1_000)
    options = parser.parse_args()
    start = time.perf_counter()
    data: dict[str, Any] = {
        "conditions": conditions(),
        "coverage": coverage(options.studies),
        "spammers": spammers(options.studies),
        "ranking": ranking(options.studies),
    }
    data["seconds"] = time.perf_counter() - start
    show(data)
    print(f"written to {save('study-statistics', data)}")


if __name__ == "__main__":
    main()
