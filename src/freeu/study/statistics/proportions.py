"""The share of votes for an arm, with what is known about it: three intervals and two tests.

Which to believe: the *clustered* interval and test. They allow for raters who differ and for prompts that differ, and
in simulations of studies of the paper's size they keep what they promise, or a little more where all are alike
(``benchmarks/bench_study_statistics.py``).
The *bootstrap* interval allows for both as well and is wider than it need be where neither differs much. The *Wilson*
interval and the *exact* test are what most papers print; they take every vote as independent, which holds for one
vote a rater at most, and are here for comparison: with 20 votes of every rater they promise far too much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from freeu.extras import need
from freeu.intervals import DRAWS, LEVEL
from freeu.study.statistics.ballots import Ballots
from freeu.study.statistics.clustering import (
    Interval,
    clustered_interval,
    clustered_test,
    effective_votes,
    pigeonhole_interval,
    wilson_interval,
)

DEFAULT_TIES = "half"
"""A tie is half a vote for either. So every vote counts, and a preference that only a few see stays as small as it is:
one decisive vote among 99 ties is 50.5 %, and not 100 %. Where ties are not offered, both ways are the same."""


@dataclass(frozen=True)
class Proportion:
    """The share of the second of two arms.

    Args:
        share: 0..1; None without a vote.
        votes: that it was made from.
        ties: "half" or "without", how ties entered.
        raters, prompts: distinct ones among the votes.
        effective: independent votes that would be as precise (``effective_votes``); None where that is unknown.
        wilson, clustered, bootstrap: intervals; None where there are too few votes, and the bootstrap also where all
            votes are the same.
        p_exact: two-sided exact binomial test of one half on votes without ties (the sign test); takes votes as
            independent.
        p_clustered: the test that belongs to the clustered interval.
    """

    share: float | None
    votes: int
    ties: str
    raters: int
    prompts: int
    effective: float | None
    wilson: Interval | None
    clustered: Interval | None
    bootstrap: Interval | None
    p_exact: float | None
    p_clustered: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def proportion(
    ballots: Ballots,
    ties: str = DEFAULT_TIES,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Proportion:
    """The share of the second arm, with its intervals and tests; see the top of this file for which to believe.

    Args:
        ballots: votes between two arms.
        ties: "half" counts a tie as half a vote for either arm, "without" leaves ties out.
        level: coverage of the intervals, above 0 and below 1.
        draws: resamples of the bootstrap; 0 leaves it out.
        seed: of the bootstrap: equal votes give an equal interval.

    Raises:
        FreeUValueError: another word for ``ties``, or a level outside 0..1.
    """
    need("study", "scipy")
    from scipy.stats import binomtest, norm

    counted = ballots.with_ties(ties)
    outcome, raters, prompts = counted.outcome, counted.raters, counted.prompts
    numbers = len(set(raters.tolist())), len(set(prompts.tolist()))
    if not len(outcome):
        return Proportion(None, 0, ties, *numbers, None, None, None, None, None, None)
    share = float(outcome.mean())
    known = effective_votes(outcome, raters, prompts)
    decisive = counted.wins + counted.losses
    return Proportion(
        share,
        len(outcome),
        ties,
        *numbers,
        effective=known.votes if known else None,
        wilson=wilson_interval(share, len(outcome), float(norm.ppf(0.5 + level / 2.0))),
        clustered=clustered_interval(share, known, level) if known else None,
        bootstrap=pigeonhole_interval(outcome, raters, prompts, level=level, draws=draws, seed=seed) if draws else None,
        p_exact=float(binomtest(counted.wins, decisive).pvalue) if decisive else None,
        p_clustered=clustered_test(share, known) if known else None,
    )


def by_prompt(ballots: Ballots, ties: str = DEFAULT_TIES, *, level: float = LEVEL) -> dict[int, Proportion]:
    """The share on each prompt that has a vote, by number.

    Each is about that prompt alone, and its clustered interval allows for raters who voted on it more than once. No
    bootstrap: one prompt has no prompts to resample.
    """
    return {
        int(prompt): proportion(ballots.where(ballots.prompts == prompt), ties, level=level, draws=0)
        for prompt in sorted(set(ballots.prompts.tolist()))
    }


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """p-values adjusted for how many there are (Holm 1979): the chance that any true null is rejected stays below 5 %.

    Args:
        p_values: by name, each 0..1.
    """
    adjusted: dict[Any, float] = {}
    largest = 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda one: one[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * value))
        adjusted[name] = largest
    return adjusted
