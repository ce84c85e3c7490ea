"""The share of votes for an arm, with three confidence intervals and two tests.

Use the *clustered* interval and test. They account for differences between raters and between prompts. In simulated
studies of the paper's size they have their nominal coverage and level, and are slightly conservative where raters and
prompts do not differ (``benchmarks/bench_study_statistics.py``).
The *bootstrap* interval accounts for both too, and is conservative where neither differs much. The *Wilson* interval
and the *exact* binomial test are what most papers report. They assume independent votes, which requires at most one
vote per rater, and are given for comparison: with 20 votes per rater they are far too narrow and too liberal.
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
    effective_size,
    pigeonhole_interval,
    wilson_interval,
)

DEFAULT_TIES = "half"
"""A tie is half a vote for each arm. So every vote counts, and a preference of few raters stays small: one decisive
vote beside 99 ties gives 50.5 %, not 100 %. Without ties both methods give the same result."""


@dataclass(frozen=True)
class Proportion:
    """The share of votes for the second of two arms.

    Args:
        share: 0..1; None without a vote.
        votes: number of votes.
        ties: "half" or "without", how ties are counted.
        raters, prompts: number of different raters and prompts among the votes.
        effective: effective sample size (``effective_size``); None where it cannot be estimated.
        wilson, clustered, bootstrap: confidence intervals; None with too few votes, and the bootstrap also where all
            votes are equal.
        p_exact: two-sided exact binomial test of a share of 0.5, ties excluded (sign test); assumes independent votes.
        p_clustered: the test that corresponds to the clustered interval.
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
    """The share of votes for the second arm, with intervals and tests. The module docstring says which of them to use.

    Args:
        ballots: votes between two arms.
        ties: "half" counts a tie as half a vote for each arm, "without" excludes ties.
        level: confidence level of the intervals, above 0 and below 1.
        draws: number of bootstrap resamples; 0 skips the bootstrap.
        seed: of the bootstrap; equal votes and seeds give equal intervals.

    Raises:
        FreeUValueError: an unknown value of ``ties``, or ``level`` is not between 0 and 1.
    """
    need("study", "scipy")
    from scipy.stats import binomtest, norm

    counted = ballots.with_ties(ties)
    outcome, raters, prompts = counted.outcome, counted.raters, counted.prompts
    numbers = len(set(raters.tolist())), len(set(prompts.tolist()))
    if not len(outcome):
        return Proportion(None, 0, ties, *numbers, None, None, None, None, None, None)
    share = float(outcome.mean())
    size = effective_size(outcome, raters, prompts)
    decisive = counted.wins + counted.losses
    return Proportion(
        share,
        len(outcome),
        ties,
        *numbers,
        effective=size.votes if size else None,
        wilson=wilson_interval(share, len(outcome), float(norm.ppf(0.5 + level / 2.0))),
        clustered=clustered_interval(share, size, level) if size else None,
        bootstrap=pigeonhole_interval(outcome, raters, prompts, level=level, draws=draws, seed=seed) if draws else None,
        p_exact=float(binomtest(counted.wins, decisive).pvalue) if decisive else None,
        p_clustered=clustered_test(share, size) if size else None,
    )


def by_prompt(ballots: Ballots, ties: str = DEFAULT_TIES, *, level: float = LEVEL) -> dict[int, Proportion]:
    """The share for each prompt with at least one vote, by number.

    Each share holds for its prompt alone. Its clustered interval accounts for raters who voted on the prompt more than
    once. There is no bootstrap, since a single prompt cannot be resampled.
    """
    return {
        int(prompt): proportion(ballots.where(ballots.prompts == prompt), ties, level=level, draws=0)
        for prompt in sorted(set(ballots.prompts.tolist()))
    }


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """p-values adjusted for multiple comparisons (Holm 1979), which controls the family-wise error rate.

    Args:
        p_values: by name, each 0..1.
    """
    adjusted: dict[Any, float] = {}
    largest = 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda one: one[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * value))
        adjusted[name] = largest
    return adjusted
