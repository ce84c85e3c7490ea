"""Who is asked what, in which order and on which side: a seeded balanced incomplete design.

Everything is a function of the seed. For every beginning of the list of slots, so that it holds however many raters
come: two pairs of the same arms are asked equally often up to 1, and a pair stands as often this way round as the
other up to 1. Within a slot: no pair twice (but for repeats), prompts and pairs of arms spread, as many left as right
up to 1.
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

SPARE, LEAST_SPARE = 0.2, 2
GAP = 4
"""At least so many pairs stand between one and its repeat."""
CHECK_POOL = 4
"""So many times as many different checks are made as a rater is given."""


@dataclass(frozen=True)
class DesignPair:
    """Two arms compared in one group (one prompt and seed), by number; ``first < second``."""

    group: int
    first: int
    second: int


@dataclass(frozen=True)
class DesignCheck:
    """An image to be compared with its own noised copy: the group and the arm, by number."""

    group: int
    arm: int


@dataclass(frozen=True)
class Trial:
    """A pair as one rater meets it; every question is asked about it.

    Args:
        number: of the pair, or of the check.
        first_left: whether the first of the pair (in a check, the clean one) stands on the left.
        kind: "vote", "check" or "repeat".
    """

    number: int
    first_left: bool
    kind: TaskKind


@dataclass(frozen=True)
class Design:
    """The pairs and checks that are asked, and for each slot its trials in order."""

    pairs: tuple[DesignPair, ...]
    checks: tuple[DesignCheck, ...]
    slots: tuple[tuple[Trial, ...], ...]


def spare_slots(raters: int) -> int:
    """Slots beyond the planned raters: a fifth, at least 2. They stand in for raters who give up."""
    return max(LEAST_SPARE, -int(-raters * SPARE // 1))


def make_design(
    prompts: Sequence[int],
    arms: int,
    *,
    raters: int,
    pairs_per_rater: int,
    checks: int = 4,
    repeats: int = 2,
    spare: int | None = None,
    seed: int = 0,
) -> Design:
    """The design of a study.

    Args:
        prompts: the prompt of each group (one prompt and seed), by number.
        arms: how many are compared in each group, at least 2. Every two are a pair.
        raters: planned, at least 1.
        pairs_per_rater: different pairs put to each; at least ``arms - 1``, so that each rater's pairs connect all
            arms, and at most ``len(prompts) * arms * (arms - 1) / 2``.
        checks: attention checks in each slot.
        repeats: pairs in each slot that come again with sides exchanged.
        spare: slots beyond ``raters``; None takes ``spare_slots(raters)``.
        seed: of everything that is random here.

    Raises:
        FreeUValueError: a number outside its range.
    """
    spare = spare_slots(raters) if spare is None else spare
    pairs = [DesignPair(group, *two) for group in range(len(prompts)) for two in itertools.combinations(range(arms), 2)]
    _check(len(prompts), arms, raters, spare, pairs_per_rater, len(pairs), checks, repeats)
    rng = random.Random(seed)
    chosen = _assign(pairs, prompts, arms, raters + spare, pairs_per_rater, rng)
    sides = balance_sides(chosen, [(pair.first, pair.second) for pair in pairs], rng)
    pool = _check_pool(prompts, arms, checks, rng)
    uses: Counter[int] = Counter()
    slots = []
    for number, numbers in enumerate(chosen):
        order = _order(numbers, pairs, prompts, rng)
        votes = [Trial(pair, sides[number, pair], "vote") for pair in order]
        trials = _with_repeats(votes, repeats, rng)
        slots.append(_with_checks(trials, checks, len(pool), uses, rng))
    return _only_asked(pairs, pool, slots)


def _check(
    groups: int, arms: int, raters: int, spare: int, per_rater: int, pairs: int, checks: int, repeats: int
) -> None:
    rules = (
        (groups >= 1, f"a study needs at least one prompt, got {groups}"),
        (arms >= 2, f"a study compares at least 2 arms, got {arms}"),
        (raters >= 1, f"raters must be at least 1, got {raters}"),
        (spare >= 0, f"spare slots must be at least 0, got {spare}"),
        (checks >= 0, f"checks must be at least 0, got {checks}"),
        (repeats >= 0, f"repeats must be at least 0, got {repeats}"),
        (
            arms - 1 <= per_rater,
            f"pairs per rater must be at least {arms - 1}, so that they connect all {arms} arms, got {per_rater}",
        ),
        (
            per_rater <= pairs,
            f"pairs per rater must be at most {pairs}, since there are no more and none is put twice, got {per_rater}",
        ),
        (
            repeats <= _repeatable(per_rater),
            f"repeats must be at most {_repeatable(per_rater)} with {per_rater} pairs per rater (each comes {GAP} "
            f"pairs later or more), got {repeats}",
        ),
        (
            checks <= per_rater + repeats,
            f"checks must be at most {per_rater + repeats}, the pairs between which they stand, got {checks}",
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
    """The pairs of each slot: those that were asked least, and among them those of prompts that are rare so far."""
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
    """The pair that is due and whose prompt, then group, was seen least in this slot.

    Prompts come in proportion to how many of their pairs are due (Sainte-Lague): of one that was put off, nothing but
    its pairs would be left for the last slots.
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
    """How often each pair of arms comes in a slot: equally often up to 1, the rarest first, all arms connected.

    Where not every pair of arms fits, a spanning tree of the rarest ones comes first (Kruskal), then the rarest others.
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
    """A random order in which every prompt comes once before any comes again."""
    turns: Counter[int] = Counter()
    keys = {}
    for pair in rng.sample(numbers, len(numbers)):
        prompt = prompts[pairs[pair].group]
        keys[pair] = turns[prompt], rng.random()
        turns[prompt] += 1
    return sorted(numbers, key=keys.__getitem__)


def _repeatable(pairs: int) -> int:
    """How many pairs can come again: those of the first half that have enough others behind them."""
    return max(0, min((pairs + 1) // 2, pairs - GAP))


def _with_repeats(votes: list[Trial], repeats: int, rng: random.Random) -> list[Trial]:
    trials = list(votes)
    for vote in rng.sample(votes[: _repeatable(len(votes))], repeats):
        place = rng.randint(trials.index(vote) + GAP + 1, len(trials))
        trials.insert(place, Trial(vote.number, not vote.first_left, "repeat"))
    return trials


def _check_pool(prompts: Sequence[int], arms: int, checks: int, rng: random.Random) -> list[DesignCheck]:
    """Different images for checks, of different prompts as far as there are any."""
    found = [DesignCheck(group, arm) for group in range(len(prompts)) for arm in range(arms)]
    rng.shuffle(found)
    turns: Counter[int] = Counter()
    keys = {}
    for check in found:
        keys[check] = turns[prompts[check.group]]
        turns[prompts[check.group]] += 1
    return sorted(found, key=keys.__getitem__)[: CHECK_POOL * checks]


def _with_checks(trials: list[Trial], checks: int, pool: int, uses: Counter[int], rng: random.Random) -> list[Trial]:
    """Checks spread over the slot: one within each equal part of it, never at its beginning."""
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
        place = rng.randrange(bounds[part], max(bounds[part] + 1, bounds[part + 1]))
        found.insert(place, Trial(numbers[part], lefts[part], "check"))
    return found


def _only_asked(pairs: list[DesignPair], pool: list[DesignCheck], slots: list[list[Trial]]) -> Design:
    """The design without what nobody is asked."""
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
