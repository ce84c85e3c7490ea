"""Simulated raters: seeded votes for tests, power simulations and demonstrations. Never evidence."""

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
            share 1 / (1 + exp(-d)) of the votes over all raters and prompts (``strengths_for_share``). Arms that are
            not named have 0.
        by_question: other strengths for a question.
        rater_spread, prompt_spread: standard deviation of a preference between raters and between prompts, in logits.
        left_bias: position bias, added to the logit of the left item.
        ties: probability of a tie, 0..1, where the plan offers ties.
        spammers: share of raters, 0..1, who choose at random.
        spammer_seconds: median response time of spammers, in seconds.
        attention: probability that a rater who is no spammer passes an attention check, 0..1.
        seconds: median response time, in seconds; response times are log-normal.
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
    """Strengths of two arms with which the second gets ``share`` (above 0, below 1) of all votes without ties."""
    if not 0.0 < share < 1.0:
        raise FreeUValueError(f"share must lie between 0 and 1, got {share:g}")
    return {first: 0.0, second: math.log(share / (1.0 - share))}


class SimulatedRaters:
    """Simulated raters for the slots of a plan. An answer depends on the seed, the slot and the task, not on the order.

    Args:
        plan: with the tasks.
        behaviour: of all raters.
        seed: equal seeds give equal answers.
    """

    def __init__(self, plan: StudyPlan, behaviour: Behaviour, seed: int = 0) -> None:
        need("study", "scipy")
        self.plan, self.behaviour, self.seed = plan, behaviour, seed
        generator = np.random.default_rng([seed, 1])
        self._arms = {arm.name: number for number, arm in enumerate(plan.arms)}
        self._questions = {question.name: number for number, question in enumerate(plan.questions)}
        # Divided by sqrt(2), so that the difference of two arms has the requested standard deviation.
        shape = (len(plan.prompts), len(self._questions), len(self._arms))
        self._prompts = generator.normal(0.0, behaviour.prompt_spread / math.sqrt(2.0), shape)
        number = round(behaviour.spammers * plan.raters)
        self.spammers = frozenset(generator.permutation(plan.raters)[:number].tolist())
        self._strengths = {question: self._logits(question) for question in self._questions}

    def _logits(self, question: str) -> Mapping[tuple[str, str], float]:
        """The logit of an average rater and prompt with which the share over all of them is as requested."""
        own = {**self.behaviour.strengths, **self.behaviour.by_question.get(question, {})}
        spread = math.hypot(self.behaviour.rater_spread, self.behaviour.prompt_spread)
        bias = self.behaviour.left_bias
        return {
            (one, other): _conditional_logit(own.get(one, 0.0) - own.get(other, 0.0), spread, bias)
            for one in self._arms
            for other in self._arms
        }

    def answer(self, slot: int) -> list[tuple[Task, str, float]]:
        """The tasks of a slot in order, each with its answer and response time in seconds."""
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
        is_spammer = slot in self.spammers
        median = behaviour.spammer_seconds if is_spammer else behaviour.seconds
        found = []
        for task, chance, tie, time in zip(tasks, chances, ties, times, strict=True):
            seconds = round(median * math.exp(behaviour.seconds_spread * float(time)), 3)
            if plan.ties and tie < behaviour.ties and (is_spammer or task.kind != "check"):
                found.append((task, "tie", seconds))
                continue
            first = chance < (0.5 if is_spammer else self._first_chance(task, rater))
            found.append((task, "left" if first == task.first_left else "right", seconds))
        return found

    def _first_chance(self, task: Task, rater: Floats) -> float:
        """Probability that an attentive rater chooses the pair's first item."""
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
        """Every vote of the first ``raters`` slots (default: the planned number of raters), one rater per slot."""
        found = []
        for slot in range(self.plan.raters if raters is None else raters):
            passed = 0.0
            for task, choice, seconds in self.answer(slot):
                passed += seconds
                time = (_START + timedelta(minutes=slot, seconds=passed)).isoformat(timespec="milliseconds")
                found.append(Vote(f"simulated-{slot}", task.id, choice, seconds, time, self.plan.sha256))
        return found


def simulate_votes(plan: StudyPlan, behaviour: Behaviour, seed: int = 0) -> list[Vote]:
    """All votes of ``SimulatedRaters``, without a server."""
    return SimulatedRaters(plan, behaviour, seed).votes()


def _conditional_logit(difference: float, spread: float, bias: float) -> float:
    """The mean m with which the average of logistic(m + spread * normal +- bias) is logistic(difference)."""
    if difference == 0.0 or (spread == 0.0 and bias == 0.0):
        return difference
    from scipy.optimize import brentq

    points, weights = np.polynomial.hermite_e.hermegauss(61)
    weights = weights / weights.sum()
    aim = 1.0 / (1.0 + math.exp(-difference))

    def excess(mean: float) -> float:
        logits = mean + spread * points[:, None] + np.array([-bias, bias])
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
    """A plan without images for simulations, with the same design as a real study.

    Args:
        raters, checks, repeats, seed: as in ``design.make_design``; there are no spare slots.
        prompts: number of prompts.
        arms: at least 2, named "arm 0", "arm 1" and so on.
        seeds: number of seeds per prompt.
        pairs_per_rater: None for every pair.
        ties: whether ties are offered.
        rules: exclusion rules.
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
                    f"{slot} {index}",
                    f"{'check' if trial.kind == 'check' else 'vote'} {trial.number}",
                    question,
                    trial.first_left,
                    trial.kind,
                )
                for index, (trial, question) in enumerate(asked)
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
