"""Raters who are not there: seeded votes for tests, power by simulation and demonstrations. Never evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import numpy as np

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.study.plan.design import make_design
from freeu.study.plan.plan import CHECK_ARM, QUESTIONS, Arm, Item, Pair, Rules, StudyPlan, Task
from freeu.study.statistics.ballots import Floats
from freeu.study.store.votes import Vote

_START = datetime(2024, 1, 1, 9, 0, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Behaviour:
    """How simulated raters vote.

    Args:
        strengths: log-strength of each arm, for all questions; of two arms that differ by d, the stronger gets the
            share 1 / (1 + exp(-d)) of the votes over all raters and prompts (``strengths_for_share``). An arm that is
            not named has 0.
        by_question: other strengths for a question.
        rater_spread, prompt_spread: standard deviation, in logits, of a preference between raters, and between prompts.
        left_bias: added to the logit of the left one.
        ties: chance that a rater says tie, where the plan allows it.
        spammers: share of the raters, 0..1, who choose by chance.
        spammer_seconds: median of their answers' times.
        attention: chance that a rater who is no spammer gets a check right.
        seconds: median of an answer's time; times are log-normal.
        seconds_spread: standard deviation of their logarithm.
    """

    strengths: Mapping[str, float] = field(default_factory=dict)
    by_question: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rater_spread: float = 0.0
    prompt_spread: float = 0.0
    left_bias: float = 0.0
    ties: float = 0.0
    spammers: float = 0.0
    spammer_seconds: float = 0.5
    attention: float = 0.98
    seconds: float = 4.0
    seconds_spread: float = 0.5

    def __post_init__(self) -> None:
        for name in ("ties", "spammers", "attention"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise FreeUValueError(f"{name} must lie between 0 and 1, got {value:g}")
        for name in ("rater_spread", "prompt_spread", "seconds_spread", "seconds", "spammer_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise FreeUValueError(f"{name} must be finite and at least 0, got {value:g}")


def strengths_for_share(first: str, second: str, share: float) -> dict[str, float]:
    """Strengths of two arms under which the second gets ``share`` of all votes without ties, above 0 and below 1."""
    if not 0.0 < share < 1.0:
        raise FreeUValueError(f"a share that can be simulated lies between 0 and 1, got {share:g}")
    return {first: 0.0, second: math.log(share / (1.0 - share))}


class Crowd:
    """Simulated raters for the slots of a plan. An answer depends on the seed, the slot and the task, not on order.

    Args:
        plan: whose tasks they answer.
        behaviour: of all of them.
        seed: equal seeds give equal answers.
    """

    def __init__(self, plan: StudyPlan, behaviour: Behaviour, seed: int = 0) -> None:
        need("study", "scipy")
        self.plan, self.behaviour, self.seed = plan, behaviour, seed
        generator = np.random.default_rng([seed, 1])
        self._arms = {arm.name: number for number, arm in enumerate(plan.arms)}
        self._questions = {question.name: number for number, question in enumerate(plan.questions)}
        # A difference of two arms has the standard deviation that was asked for.
        shape = (len(plan.prompts), len(self._questions), len(self._arms))
        self._prompts = generator.normal(0.0, behaviour.prompt_spread / math.sqrt(2.0), shape)
        number = round(behaviour.spammers * plan.raters)
        self.spammers = frozenset(generator.permutation(plan.raters)[:number].tolist())
        self._strengths = {question: self._conditional(question) for question in self._questions}

    def _conditional(self, question: str) -> Mapping[tuple[str, str], float]:
        """The logit of a rater and prompt in the middle, for which the share over all of them is as asked."""
        own = {**self.behaviour.strengths, **self.behaviour.by_question.get(question, {})}
        spread = math.hypot(self.behaviour.rater_spread, self.behaviour.prompt_spread)
        bias = self.behaviour.left_bias
        return {
            (one, other): _middle(own.get(one, 0.0) - own.get(other, 0.0), spread, bias)
            for one in self._arms
            for other in self._arms
        }

    def answer(self, slot: int) -> list[tuple[Task, str, float]]:
        """What the rater of a slot answers to each of its tasks, in order, and after how many seconds."""
        behaviour, plan = self.behaviour, self.plan
        generator = np.random.default_rng([self.seed, 2, slot])
        tasks = plan.slots[slot]
        spread = behaviour.rater_spread / math.sqrt(2.0)
        rater = generator.normal(0.0, spread, (len(self._questions), len(self._arms)))
        chances, ties, times = (
            generator.random(len(tasks)),
            generator.random(len(tasks)),
            generator.normal(size=len(tasks)),
        )
        spams = slot in self.spammers
        median = behaviour.spammer_seconds if spams else behaviour.seconds
        found = []
        for task, chance, tie, time in zip(tasks, chances, ties, times, strict=True):
            seconds = round(median * math.exp(behaviour.seconds_spread * float(time)), 3)
            if plan.ties and tie < behaviour.ties and (spams or task.kind != "check"):
                found.append((task, "tie", seconds))
                continue
            first = chance < (0.5 if spams else self._first_chance(task, rater))
            found.append((task, "left" if first == task.first_left else "right", seconds))
        return found

    def _first_chance(self, task: Task, rater: Floats) -> float:
        """The chance that an attentive rater takes the pair's first item."""
        pair = self.plan.pair(task.pair)
        if pair.check:
            return self.behaviour.attention
        first, second = self.plan.item(pair.first).arm, self.plan.item(pair.second).arm
        question = self._questions[task.question]
        own = rater[question] + self._prompts[pair.prompt, question]
        logit = self._strengths[task.question][first, second] + own[self._arms[first]] - own[self._arms[second]]
        logit += self.behaviour.left_bias if task.first_left else -self.behaviour.left_bias
        return 1.0 / (1.0 + math.exp(-logit))

    def votes(self, raters: int | None = None) -> list[Vote]:
        """Every vote of the first ``raters`` slots (default: as many as the plan is made for), one rater a slot."""
        found = []
        for slot in range(self.plan.raters if raters is None else raters):
            passed = 0.0
            for task, choice, seconds in self.answer(slot):
                passed += seconds
                time = (_START + timedelta(minutes=slot, seconds=passed)).isoformat(timespec="milliseconds")
                found.append(Vote(f"simulated-{slot}", task.id, choice, seconds, time, self.plan.sha256))
        return found


def simulate_votes(plan: StudyPlan, behaviour: Behaviour, seed: int = 0) -> list[Vote]:
    """The votes of a whole crowd, without a server (see ``Crowd``)."""
    return Crowd(plan, behaviour, seed).votes()


def _middle(difference: float, spread: float, bias: float) -> float:
    """The mean m for which logistic(m + spread * normal, +-bias for the side) averages logistic(difference)."""
    if difference == 0.0 or (spread == 0.0 and bias == 0.0):
        return difference
    from scipy.optimize import brentq

    points, weights = np.polynomial.hermite_e.hermegauss(61)
    weights = weights / weights.sum()
    aim = 1.0 / (1.0 + math.exp(-difference))

    def excess(middle: float) -> float:
        logits = middle + spread * points[:, None] + np.array([-bias, bias])
        return float((weights[:, None] / (1.0 + np.exp(-logits))).sum() / 2.0) - aim

    return float(brentq(excess, -40.0, 40.0, xtol=1e-12))


def bare_plan(
    raters: int,
    prompts: int,
    arms: int = 2,
    *,
    seeds: int = 1,
    pairs_per_rater: int | None = None,
    checks: int = 0,
    repeats: int = 0,
    ties: bool = False,
    rules: Rules | None = None,
    seed: int = 0,
) -> StudyPlan:
    """A plan without pictures, for simulations, of the same design as a real one.

    Args:
        raters, checks, repeats, seed: as in ``design.make_design``; there are no spare slots.
        prompts: their number.
        arms: at least 2, called "arm 0", "arm 1" and so on.
        seeds: pairs of every two arms for each prompt.
        pairs_per_rater: None for every pair.
        ties: whether raters may say tie.
        rules: of exclusion.
    """
    groups = [prompt for prompt in range(prompts) for _ in range(seeds)]
    every = len(groups) * arms * (arms - 1) // 2
    design = make_design(
        groups,
        arms,
        raters=raters,
        pairs_per_rater=pairs_per_rater or every,
        checks=checks,
        repeats=repeats,
        spare=0,
        seed=seed,
    )
    names = [f"arm {number}" for number in range(arms)]

    def item(group: int, arm: str) -> Item:
        return Item(f"{group} {arm}", arm, groups[group], group, "image", 8, 8, "0" * 64)

    items = [item(group, name) for group in range(len(groups)) for name in names]
    pairs = [
        Pair(f"vote {number}", groups[one.group], f"{one.group} {names[one.first]}", f"{one.group} {names[one.second]}")
        for number, one in enumerate(design.pairs)
    ]
    for number, check in enumerate(design.checks):
        copy = replace(item(check.group, CHECK_ARM), id=f"check {number}")
        items.append(copy)
        clean = f"{check.group} {names[check.arm]}"
        pairs.append(Pair(f"check {number}", copy.prompt, clean, copy.id, check=True))
    slots = []
    for slot, trials in enumerate(design.slots):
        asked = [(trial, question.name) for trial in trials for question in QUESTIONS]
        slots.append(
            tuple(
                Task(
                    f"{slot} {place}",
                    f"{'check' if trial.kind == 'check' else 'vote'} {trial.number}",
                    question,
                    trial.first_left,
                    trial.kind,
                )
                for place, (trial, question) in enumerate(asked)
            )
        )
    return StudyPlan(
        title="A simulation",
        seed=seed,
        languages=("en",),
        ties=ties,
        questions=QUESTIONS,
        prompts=tuple(f"prompt {number}" for number in range(prompts)),
        arms=tuple(Arm(name, name) for name in names),
        items=tuple(items),
        pairs=tuple(pairs),
        slots=tuple(slots),
        raters=raters,
        rules=rules or Rules(),
        demonstration=True,
    )
