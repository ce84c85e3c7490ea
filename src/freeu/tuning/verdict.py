"""Whether tuned settings are better than none, on prompts that had no part in finding them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from freeu.evaluate.experiment.arms import BASELINE
from freeu.intervals import Estimate, paired_interval
from freeu.tuning.settings import Guard, Objective

LEVEL = 0.95
"""Joint coverage of the intervals that decide."""
OVERALL = "objective"
"""The name under which the objective itself stands beside its measures."""
FREEU, GUIDANCE = "tuned", "guidance"
"""The arms that searches found."""
PUBLISHED = "published"
"""The arm of the preset that was published for the model's family."""

Differences = Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class Verdict:
    """What the held-out prompts say.

    Args:
        best: "freeu", "guidance" or "none".
        text: the same in a sentence.
        level: coverage of each interval below; together they cover with 95 % or more (Bonferroni).
        differences: of each arm to plain sampling, by measure; "objective" is the objective itself, in the spreads
            of its measures.
        rival: of the tuned FreeU to the tuned guidance, by measure; empty if guidance was not searched.
    """

    best: str
    text: str
    level: float
    differences: Differences
    rival: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def decide(rows: Sequence[Mapping[str, Any]], objective: Objective, guards: Sequence[Guard]) -> Verdict:
    """Compare the arms of an experiment on held-out prompts.

    Settings are better than none if the interval of their objective lies above 0, while no measure of it lies below
    and no guard beyond its limit. They were chosen on other prompts, so choosing needs no allowance; that several
    measures of several arms decide does: each of the m intervals covers with 1 - 0.05 / m.

    Args:
        rows: "pictures" of the results; the first arm is plain sampling.
        objective: what was searched for.
        guards: what must not change much.
    """
    by_arm: dict[str, dict[tuple[int, int], Mapping[str, float | None]]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["prompt"], row["seed"]] = row["values"]
    plain = by_arm[BASELINE]
    spreads = objective.spreads([*plain.values()])
    measures = [name for name, _ in objective.terms] + [guard.measure for guard in guards]
    measures = list(dict.fromkeys(measures))
    searched = [name for name in (FREEU, GUIDANCE) if name in by_arm]
    level = 1.0 - (1.0 - LEVEL) / (max(1, len(searched)) * (1 + len(measures)))

    def between(mine: str, theirs: str) -> dict[str, Estimate]:
        pairs = [pair for pair in by_arm[mine] if pair in by_arm[theirs]]
        labels = [prompt for prompt, _ in pairs]
        found = {}
        gains = [objective.gain(by_arm[mine][pair], by_arm[theirs][pair], spreads) for pair in pairs]
        found[OVERALL] = paired_interval(gains, [0.0] * len(gains), labels, level=level, method="BCa")
        for name in measures:
            values, others = ([by_arm[arm][pair].get(name) for pair in pairs] for arm in (mine, theirs))
            if any(a is not None and b is not None for a, b in zip(values, others, strict=True)):
                found[name] = paired_interval(values, others, labels, level=level)
        return found

    differences = {name: between(name, BASELINE) for name in by_arm if name != BASELINE}
    rival = between(FREEU, GUIDANCE) if len(searched) == 2 else {}
    better = {name: _better(differences[name], objective, guards) for name in searched}
    best = _best(better, rival)
    return Verdict(best, _sentence(best, differences, rival, better), level, differences, rival)


def _better(found: Mapping[str, Estimate], objective: Objective, guards: Sequence[Guard]) -> bool:
    overall = found[OVERALL]
    if overall.low is None or not overall.low > 0.0:
        return False
    for name, sign in objective.terms:
        one = found.get(name)
        if one is not None and one.low is not None and one.high is not None:
            worst = one.high if sign > 0 else -one.low
            if worst < 0.0:
                return False
    for guard in guards:
        one = found.get(guard.measure)
        if one is None or one.low is None or one.high is None:
            continue
        if one.low > guard.most or one.high < -guard.most:
            return False
    return True


def _best(better: Mapping[str, bool], rival: Mapping[str, Estimate]) -> str:
    if better.get(FREEU):
        ahead = not better.get(GUIDANCE) or rival[OVERALL].value >= 0.0
        return "freeu" if ahead else "guidance"
    return "guidance" if better.get(GUIDANCE) else "none"


def _sentence(best: str, differences: Differences, rival: Mapping[str, Estimate], better: Mapping[str, bool]) -> str:
    if best == "none":
        if FREEU not in differences:
            return "None is best here: no settings that were tried keep the guards."
        tried = "neither the tuned FreeU nor tuned guidance is" if GUIDANCE in differences else "the tuned FreeU is not"
        return (
            f"None is best here: {tried} better than plain sampling on prompts that no search saw (objective of the "
            f"tuned FreeU {shown(differences[FREEU][OVERALL])})."
        )
    arm = FREEU if best == "freeu" else GUIDANCE
    what = "The tuned FreeU" if best == "freeu" else "Tuned guidance without FreeU"
    text = f"{what} is better than plain sampling (objective {shown(differences[arm][OVERALL])})"
    if best == "guidance" and better.get(FREEU):
        text += ", and than the tuned FreeU"
    elif rival:
        one = rival[OVERALL]
        apart = one.low is not None and one.high is not None and (one.low > 0.0 or one.high < 0.0)
        other = "tuned guidance" if best == "freeu" else "the tuned FreeU"
        text += f"; against {other} " + ("it is better too" if apart else "no difference could be shown")
    return text + "."


def shown(one: Estimate) -> str:
    """A difference with its interval, in one text."""
    if one.low is None or one.high is None:
        return f"{one.value:+.3g}"
    return f"{one.value:+.3g} [{one.low:+.3g}, {one.high:+.3g}]"
