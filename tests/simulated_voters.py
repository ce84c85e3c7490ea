"""People who vote between settings by a known preference, for tests and the benchmark of the search by votes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from freeu.tuning.votes.ballots import SEARCH, Pair, open_ballots
from freeu.tuning.votes.search import VoteResult, VoteSearch
from freeu.tuning.votes.space import NONE, RANGES, Settings, VoteSpace, point, settings_at

STEEP = 8.0
"""Utility that is lost by one range of distance, in logits: the whole of a factor's range away from the optimum."""


@dataclass(frozen=True)
class Voters:
    """Raters whose optima lie around a planted one; they take turns.

    A rater chooses a over b with probability 1 / (1 + exp(u(b) - u(a))), where u falls with the squared distance from
    the rater's optimum, and votes for neither with up to ``ties`` where the two are equally good.
    """

    planted: NDArray[np.float64]
    optima: NDArray[np.float64]
    steep: float = STEEP
    ties: float = 0.2

    @classmethod
    def of(cls, seed: int, raters: int = 35, spread: float = 0.05, gain: tuple[float, float] = (1.5, 4.0)) -> Voters:
        """Raters around an optimum that is better than plain sampling by so many logits."""
        generator = np.random.default_rng(seed)
        while True:
            planted = generator.uniform(0.1, 0.9, len(RANGES))
            if gain[0] < STEEP * float(((point(NONE) - planted) ** 2).sum()) < gain[1]:
                return cls(planted, planted + generator.normal(0.0, spread, (raters, len(RANGES))))

    @classmethod
    def of_none(cls, seed: int, raters: int = 35, spread: float = 0.02) -> Voters:
        """Raters who like plain sampling best."""
        generator = np.random.default_rng(seed)
        planted = point(NONE)
        return cls(planted, planted + generator.normal(0.0, spread, (raters, len(RANGES))))

    def utility(self, settings: Settings, optimum: NDArray[np.float64] | None = None) -> float:
        best = self.planted if optimum is None else optimum
        return -self.steep * float(((point(settings) - best) ** 2).sum())

    def choice(self, pair: Pair, number: int, generator: np.random.Generator) -> str:
        optimum = self.optima[number % len(self.optima)]
        left = 1.0 / (1.0 + math.exp(self.utility(pair.right, optimum) - self.utility(pair.left, optimum)))
        if generator.random() < 4.0 * self.ties * left * (1.0 - left):
            return "tie"
        return "left" if generator.random() < left else "right"

    def regret(self, settings: Settings) -> float:
        """The probability that the planted optimum is chosen over these settings: 0.5 at the optimum."""
        optimum = self.utility(settings_at(self.planted))
        return 1.0 / (1.0 + math.exp(self.utility(settings) - optimum))

    def distance(self, settings: Settings) -> float:
        """Root mean square distance from the planted optimum over the factors, in ranges."""
        return float(np.sqrt(((point(settings) - self.planted) ** 2).mean()))


def new_search(ballots, votes: int, seed: int, final_votes: int = 30) -> VoteSearch:
    """A search over 64 prompts, with others for its verdict."""
    prompts = {"prompts": range(64), "final_prompts": range(100, 100 + final_votes)}
    return VoteSearch(VoteSpace(), ballots, **prompts, votes=votes, seed=seed)


def vote_on(search: VoteSearch, voters: Voters, generator: np.random.Generator, count: int | None = None) -> None:
    """Give votes until the search is over, or so many."""
    given = 0
    while (pair := search.next_pair()) is not None and (count is None or given < count):
        assert search.vote(pair.id, voters.choice(pair, given, generator), 1.0)
        given += 1


def voted(
    path: Path, voters: Voters, seed: int, votes: int = 200
) -> tuple[VoteSearch, VoteResult, dict[int, Settings]]:
    """A whole search; and the settings that it would have ended with after every 10 votes."""
    found: dict[int, Settings] = {}
    generator = np.random.default_rng([seed, 1])
    with open_ballots(path, str(seed)) as ballots:
        search = new_search(ballots, votes, seed)
        while search.stage == SEARCH:
            vote_on(search, voters, generator, min(10, votes - search.progress[0]))
            count = len([one for one in search.pairs if one.stage == SEARCH and one.voted])
            found[count] = search.settings
        vote_on(search, voters, generator)
        return search, search.result(), found
