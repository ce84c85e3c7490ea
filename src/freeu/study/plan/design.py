"""The design of a study: a seeded balanced incomplete design of pairs, sides and order for every rater.

Everything is a function of the seed. The following holds for the first n slots, for every n, so that it holds for any
number of raters: pairs of the same two arms are shown equally often up to 1, and each pair is shown equally often in
both orders up to 1. Within a slot no pair is shown twice (except repeats), prompts and pairs of arms are spread, and
the first arm is on the left as often as on the right up to 1.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from freeu.errors import FreeUValueError
from freeu.study.plan.plan import TaskKind
from freeu.study.plan.sides import balance_sides
from freeu.wording import counted

PAIRS, CHECKS, REPEATS = 20, 4, 2
"""Pairs, attention checks and repeats per rater, where the study has enough pairs."""
SPARE, LEAST_SPARE = 0.2, 2
GAP = 4
"""Minimum number of pairs between a pair and its repeat."""
CHECK_POOL = 4
"""Number of different checks in the study, as a multiple of the checks per rater."""


@dataclass(frozen=True)
class DesignPair:
    """Two arms of one group (one prompt and seed), by number; ``first < second``."""

    group: int
    first: int
    second: int


@dataclass(frozen=True)
class DesignCheck:
    """An image that is compared with its own noisy copy: group and arm, by number."""

    group: int
    arm: int


@dataclass(frozen=True)
class Trial:
    """A pair as one rater sees it; all questions are asked about it.

    Args:
        number: of the pair or of the check.
        first_left: whether the first item of the pair (in a check, the clean image) is on the left.
        kind: "vote", "check" or "repeat".
    """

    number: int
    first_left: bool
    kind: TaskKind


@dataclass(frozen=True)
class Design:
    """The pairs and checks in use, and the trials of each slot in order."""

    pairs: tuple[DesignPair, ...]
    checks: tuple[DesignCheck, ...]
    slots: tuple[tuple[Trial, ...], ...]


def spare_slots(raters: int) -> int:
    """Number of spare slots: a fifth of the planned raters, at least 2. They replace raters who drop out."""
    return max(LEAST_SPARE, -int(-raters * SPARE // 1))


@dataclass(frozen=True)
class Workload:
    """What each rater is shown: numbers of different pairs, attention checks and repeats."""

    pairs: int
    checks: int
    repeats: int


def workload(
    groups: int, arms: int, pairs: int | None = None, checks: int | None = None, repeats: int | None = None
) -> Workload:
    """Complete the numbers that are None by the defaults, reduced to what fits into a small study.

    Given numbers are returned as they are, also where ``make_design`` refuses them.

    Args:
        groups: number of prompts times seeds.
        arms: that are compared.
        pairs, checks, repeats: given numbers; None takes ``PAIRS``, ``CHECKS`` or ``REPEATS``, or fewer.
    """
    if pairs is None:
        pairs = min(max(PAIRS, arms - 1), groups * arms * (arms - 1) // 2)
    if repeats is None:
        repeats = min(REPEATS, _repeatable(pairs))
    if checks is None:
        checks = min(CHECKS, pairs + repeats, groups * arms)
    return Workload(pairs, checks, repeats)


def make_design(
    prompts: Sequence[int],
    arms: int,
    *,
    raters: int,
    pairs_per_rater: int | None = None,
    checks: int | None = None,
    repeats: int | None = None,
    spare: int | None = None,
    seed: int = 0,
) -> Design:
    """Make the design of a study.

    Args:
        prompts: the prompt of each group (one prompt and seed), by number.
        arms: number of arms in each group, at least 2. Every two arms of a group are a pair.
        raters: planned number of raters, at least 1.
        pairs_per_rater: different pairs shown to each rater; at least ``arms - 1``, so that the pairs of each rater
            connect all arms, and at most ``len(prompts) * arms * (arms - 1) / 2``.
        checks: attention checks in each slot.
        repeats: pairs in each slot that are shown a second time with left and right swapped.
        spare: slots beyond ``raters``; None takes ``spare_slots(raters)``.
        seed: of the design.

    ``pairs_per_rater``, ``checks`` and ``repeats`` that are None are chosen by ``workload``.

    Raises:
        FreeUValueError: a number outside its range.
    """
    spare = spare_slots(raters) if spare is None else spare
    load = workload(len(prompts), arms, pairs_per_rater, checks, repeats)
    pairs = [DesignPair(group, *two) for group in range(len(prompts)) for two in itertools.combinations(range(arms), 2)]
    _check(len(prompts), arms, raters, spare, load, len(pairs))
    rng = random.Random(seed)
    chosen = _assign(pairs, prompts, arms, raters + spare, load.pairs, rng)
    sides = balance_sides(chosen, [(pair.first, pair.second) for pair in pairs], rng)
    pool = _check_pool(prompts, arms, load.checks, rng)
    uses: Counter[int] = Counter()
    slots = []
    for number, numbers in enumerate(chosen):
        order = _order(numbers, pairs, prompts, rng)
        votes = [Trial(pair, sides[number, pair], "vote") for pair in order]
        trials = _with_repeats(votes, load.repeats, rng)
        slots.append(_with_checks(trials, load.checks, len(pool), uses, rng))
    return _only_asked(pairs, pool, slots)


def _check(groups: int, arms: int, raters: int, spare: int, load: Workload, pairs: int) -> None:
    per_rater, checks, repeats = load.pairs, load.checks, load.repeats
    rules = (
        (groups >= 1, f"a study needs at least one prompt, got {groups}"),
        (arms >= 2, f"a study compares at least 2 arms, got {arms}"),
        (raters >= 1, f"raters must be at least 1, got {raters}"),
        (spare >= 0, f"spare slots must be at least 0, got {spare}"),
        (checks >= 0, f"checks must be at least 0, got {checks}"),
        (repeats >= 0, f"repeats must be at least 0, got {repeats}"),
        (
            arms - 1 <= per_rater,
            f"pairs per rater must be at least {arms - 1} to connect all {arms} arms, got {per_rater}",
        ),
        (
            per_rater <= pairs,
            f"pairs per rater must be at most {pairs}, the number of pairs in the study, got {per_rater}",
        ),
        (
            repeats <= _repeatable(per_rater),
            f"repeats must be at most {_repeatable(per_rater)} with {counted(per_rater, 'pair')} per rater (at least "
            f"{GAP} pairs lie between a pair and its repeat), got {repeats}",
        ),
        (
            checks <= per_rater + repeats,
            f"checks must be at most {per_rater + repeats}, the number of pairs and repeats per rater, got {checks}",
        ),
    )
    for fine, message in rules:
        if not fine:
            raise FreeUValueError(message)


def _assign(
    pairs: list[DesignPair],
    prompts: Sequence[int],
    arms: int,
    slots: int,
    per_rater: int,
    rng: random.Random,
) -> list[list[int]]:
    """The pairs of each slot: those shown least often so far, and among them those of the rarest prompts."""
    kinds: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        kinds[pair.first, pair.second].append(number)
    groups = [pair.group for pair in pairs]
    asked: Counter[int] = Counter()
    asked_kinds: Counter[tuple[int, int]] = Counter()
    found = []
    for _ in range(slots):
        wanted = _arm_pairs(list(kinds), arms, per_rater, asked_kinds, rng)
        seen: Counter[int] = Counter()  # groups
        mine: list[int] = []
        for kind, number in wanted.items():
            left = set(kinds[kind])
            for _ in range(number):
                least = min(asked[pair] for pair in left)
                due = sorted(pair for pair in left if asked[pair] == least)
                rarest = _rarest(due, groups, prompts, seen, rng)
                left.remove(rarest)
                mine.append(rarest)
                seen[groups[rarest]] += 1
            asked_kinds[kind] += number
        asked.update(mine)
        found.append(mine)
    return found


def _rarest(
    due: list[int], groups: Sequence[int], prompts: Sequence[int], seen: Counter[int], rng: random.Random
) -> int:
    """The pair that is due and whose prompt, then group, was shown least in this slot.

    Prompts are chosen in proportion to the number of their pairs that are due (Sainte-Lague method). Otherwise the last
    slots would be left with the pairs of a few postponed prompts.
    """
    ready = Counter(prompts[groups[pair]] for pair in due)
    prompts_seen: Counter[int] = Counter()
    for group, times in seen.items():
        prompts_seen[prompts[group]] += times

    def key(pair: int) -> tuple[float, int, float]:
        prompt = prompts[groups[pair]]
        share = (prompts_seen[prompt] + 0.5) / (prompts_seen[prompt] + ready[prompt])
        return share, seen[groups[pair]], rng.random()

    return min(due, key=key)


def _arm_pairs(
    kinds: list[tuple[int, int]], arms: int, number: int, asked: Counter[tuple[int, int]], rng: random.Random
) -> dict[tuple[int, int], int]:
    """How often a slot shows each pair of arms: equally often up to 1, the rarest first, with all arms connected.

    If not every pair of arms fits, a spanning tree of the rarest ones is taken first (Kruskal), then the rarest others.
    """
    every, more = divmod(number, len(kinds))
    order = sorted(kinds, key=lambda kind: (asked[kind], rng.random()))
    if not every:
        tree, root = [], list(range(arms))
        for kind in order:
            one, other = root[kind[0]], root[kind[1]]
            if one != other:
                tree.append(kind)
                root = [one if value == other else value for value in root]
        order = tree + [kind for kind in order if kind not in tree]
    extra = set(order[:more])
    wanted = {kind: every + (kind in extra) for kind in kinds}
    return {kind: wanted[kind] for kind in rng.sample(kinds, len(kinds)) if wanted[kind]}


def _order(numbers: list[int], pairs: list[DesignPair], prompts: Sequence[int], rng: random.Random) -> list[int]:
    """A random order in which every prompt is shown once before any is shown again."""
    turns: Counter[int] = Counter()
    keys = {}
    for pair in rng.sample(numbers, len(numbers)):
        prompt = prompts[pairs[pair].group]
        keys[pair] = turns[prompt], rng.random()
        turns[prompt] += 1
    return sorted(numbers, key=keys.__getitem__)


def _repeatable(pairs: int) -> int:
    """Number of pairs that can be repeated: those in the first half with enough pairs after them."""
    return max(0, min((pairs + 1) // 2, pairs - GAP))


def _with_repeats(votes: list[Trial], repeats: int, rng: random.Random) -> list[Trial]:
    trials = list(votes)
    for vote in rng.sample(votes[: _repeatable(len(votes))], repeats):
        index = rng.randint(trials.index(vote) + GAP + 1, len(trials))
        trials.insert(index, Trial(vote.number, not vote.first_left, "repeat"))
    return trials


def _check_pool(prompts: Sequence[int], arms: int, checks: int, rng: random.Random) -> list[DesignCheck]:
    """Different images for checks, of different prompts as far as possible."""
    found = [DesignCheck(group, arm) for group in range(len(prompts)) for arm in range(arms)]
    rng.shuffle(found)
    turns: Counter[int] = Counter()
    keys = {}
    for check in found:
        keys[check] = turns[prompts[check.group]]
        turns[prompts[check.group]] += 1
    return sorted(found, key=keys.__getitem__)[: CHECK_POOL * checks]


def _with_checks(trials: list[Trial], checks: int, pool: int, uses: Counter[int], rng: random.Random) -> list[Trial]:
    """Spread the checks over the slot: one in each of equal parts, never as the first trial."""
    if checks > pool:
        raise FreeUValueError(f"checks must be at most {pool}, the number of images, got {checks}")
    numbers = sorted(range(pool), key=lambda number: (uses[number], rng.random()))[:checks]
    uses.update(numbers)
    start = rng.randrange(2)
    lefts = [(index + start) % 2 == 0 for index in range(checks)]
    rng.shuffle(lefts)
    found = list(trials)
    bounds = [1 + len(trials) * part // max(1, checks) for part in range(checks + 1)]
    for part in reversed(range(checks)):
        index = rng.randrange(bounds[part], max(bounds[part] + 1, bounds[part + 1]))
        found.insert(index, Trial(numbers[part], lefts[part], "check"))
    return found


def _only_asked(pairs: list[DesignPair], pool: list[DesignCheck], slots: list[list[Trial]]) -> Design:
    """The design without pairs and checks that no slot uses."""
    asked = sorted({trial.number for slot in slots for trial in slot if trial.kind != "check"})
    used = sorted({trial.number for slot in slots for trial in slot if trial.kind == "check"})
    renamed = {"check": {old: new for new, old in enumerate(used)}}
    renamed["vote"] = renamed["repeat"] = {old: new for new, old in enumerate(asked)}
    return Design(
        tuple(pairs[number] for number in asked),
        tuple(pool[number] for number in used),
        tuple(
            tuple(Trial(renamed[trial.kind][trial.number], trial.first_left, trial.kind) for trial in slot)
            for slot in slots
        ),
    )
