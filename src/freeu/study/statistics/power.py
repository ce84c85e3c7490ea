"""Power analysis: the number of raters a study needs, for the exact two-sided binomial test of correlated votes.

Votes of one rater are correlated, and so are votes on one prompt. If two votes of a rater have correlation r, two votes
on a prompt have correlation q, and a rater sees each prompt once, the variance of the share of n votes is

    p (1 - p) / n * (1 + (m - 1) r + (l - 1) q)

with m votes per rater and l votes per prompt. This is Kish's design effect 1 + (m - 1) rho (L. Kish, Survey Sampling,
1965, 5.4 and 8.2), with one term for each of the two crossed clusterings. n divided by this factor is the effective
sample size. l grows with the number of raters, so no number of raters makes up for too few prompts.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freeu.errors import FreeUValueError
from freeu.extras import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RHO = 0.05
"""With a mean preference of 60 %, raters (or prompts) then differ with a standard deviation of 11 percentage points."""
MAX_RATERS = 100_000
LEAST_EFFECT = 0.01


@dataclass(frozen=True)
class PowerSettings:
    """A study and its test, as the power analysis needs them.

    Args:
        pairs_per_rater: shown to each rater; with more than 2 arms they are spread over all pairs of arms.
        prompts, arms: of the study.
        power, alpha: of the test, as in ``votes_needed``.
        rho, prompt_rho: correlations, as in ``design_effect``.
    """

    pairs_per_rater: int
    prompts: int
    arms: int = 2
    power: float = 0.8
    alpha: float = 0.05
    rho: float = RHO
    prompt_rho: float = RHO

    @property
    def votes_per_rater(self) -> float:
        """Votes of a rater on one question and one pair of arms.

        Raises:
            FreeUValueError: fewer than 2 arms.
        """
        if self.arms < 2:
            raise FreeUValueError(f"a study compares at least 2 arms, got {self.arms}")
        return self.pairs_per_rater / math.comb(self.arms, 2)

    def design_effect(self, raters: int) -> float:
        """``design_effect`` with this number of raters."""
        return design_effect(raters, self.votes_per_rater, self.prompts, self.rho, self.prompt_rho)

    def effective_votes(self, raters: int) -> int:
        """The effective sample size with this number of raters, rounded down."""
        return int(effective_votes(raters, self.votes_per_rater, self.prompts, self.rho, self.prompt_rho))


def binomial_power(votes: int, effect: float, alpha: float = 0.05) -> float:
    """Power of the exact two-sided binomial test of "no preference".

    Args:
        votes: number of independent votes, ties excluded; at least 0.
        effect: the true preference for one arm, 0..1.
        alpha: significance level, above 0 and below 1.

    Raises:
        FreeUValueError: an argument outside its range.
    """
    import numpy as np

    _share("effect", effect, closed=True)
    _share("alpha", alpha)
    return float(_powers(np.array([votes]), effect, alpha)[0])


def _powers(votes: NDArray[np.int64], effect: float, alpha: float) -> NDArray[np.float64]:
    need("study", "scipy")
    import numpy as np
    from scipy.stats import binom

    # The largest significantly small number of votes for one arm; under the null hypothesis both tails are equal.
    few = binom.ppf(alpha / 2.0, votes, 0.5)
    few -= binom.cdf(few, votes, 0.5) > alpha / 2.0
    both = binom.cdf(few, votes, effect) + binom.sf(votes - few - 1, votes, effect)
    return np.where(few >= 0, both, 0.0)


def design_effect(
    raters: int, votes_per_rater: float, prompts: int, rho: float = RHO, prompt_rho: float = RHO
) -> float:
    """The variance of a share relative to that of independent votes (see the module docstring).

    Args:
        raters: at least 1.
        votes_per_rater: on one question and one pair of arms.
        prompts: number of prompts, over which the votes are spread equally.
        rho: correlation of two votes of one rater, 0..1.
        prompt_rho: correlation of two votes on one prompt, 0..1; 0 restricts the conclusion to these prompts.

    Raises:
        FreeUValueError: an argument outside its range.
    """
    for name, value in (("raters", raters), ("votes per rater", votes_per_rater), ("prompts", prompts)):
        if not value > 0:
            raise FreeUValueError(f"{name} must be above 0, got {value:g}")
    for name, value in (("rho", rho), ("prompt rho", prompt_rho)):
        if not 0.0 <= value <= 1.0:
            raise FreeUValueError(f"{name} must lie between 0 and 1, got {value:g}")
    per_prompt = raters * votes_per_rater / prompts
    return 1.0 + max(0.0, votes_per_rater - 1.0) * rho + max(0.0, per_prompt - 1.0) * prompt_rho


def effective_votes(
    raters: int, votes_per_rater: float, prompts: int, rho: float = RHO, prompt_rho: float = RHO
) -> float:
    """Effective sample size: the number of votes divided by the design effect. Arguments as in ``design_effect``."""
    return raters * votes_per_rater / design_effect(raters, votes_per_rater, prompts, rho, prompt_rho)


def votes_needed(effect: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """The number of independent votes from which on ``binomial_power`` stays at or above ``power``.

    The power of an exact test is not monotonic in the number of votes, so the first number that reaches it can be too
    small.

    Args:
        effect: the true preference for one arm, 0..1, at least 0.01 away from 0.5.
        power, alpha: above 0 and below 1.

    Raises:
        FreeUValueError: an argument outside its range.
    """
    import numpy as np
    from scipy.stats import norm

    _share("effect", effect, closed=True)
    _share("power", power)
    _share("alpha", alpha)
    if abs(effect - 0.5) < LEAST_EFFECT:
        raise FreeUValueError(f"effect must differ from 0.5 (no preference) by at least {LEAST_EFFECT}, got {effect:g}")
    width = norm.isf(alpha / 2.0) * 0.5 + norm.isf(1.0 - power) * math.sqrt(effect * (1.0 - effect))
    about = (max(0.0, width) / (effect - 0.5)) ** 2  # normal approximation; the exact number is close to it
    votes = np.arange(max(1, int(0.8 * about) - 50), int(1.2 * about) + 200)
    below = votes[_powers(votes, effect, alpha) < power]
    return int(below[-1]) + 1 if below.size else int(votes[0])


def raters_needed(effect: float, settings: PowerSettings) -> int | None:
    """The smallest number of raters with which a preference is found with the power.

    Args:
        effect: the true preference of one arm over another, as in ``votes_needed``.
        settings: of the study and the test.

    Returns:
        None if no number of raters (up to 100,000) is enough, because there are too few prompts.

    Raises:
        FreeUValueError: an argument outside its range.
    """
    votes = votes_needed(effect, settings.power, settings.alpha)
    numbers = range(1, MAX_RATERS + 1)
    index = bisect.bisect_left(numbers, votes, key=settings.effective_votes)
    return numbers[index] if index < len(numbers) else None


def detectable_effect(raters: int, settings: PowerSettings) -> float | None:
    """The smallest preference (above 0.5) that a study finds with the power.

    Args:
        raters: at least 1.
        settings: of the study and the test.

    Returns:
        None if not even a unanimous vote would be significant.

    Raises:
        FreeUValueError: an argument outside its range.
    """
    from scipy.optimize import brentq

    power, alpha = settings.power, settings.alpha
    _share("power", power)
    votes = settings.effective_votes(raters)
    if binomial_power(votes, 1.0, alpha) < power:
        return None
    if power <= alpha:
        return 0.5
    return float(brentq(lambda effect: binomial_power(votes, effect, alpha) - power, 0.5, 1.0))


def _share(name: str, value: float, closed: bool = False) -> None:
    """Refuse a value outside 0..1; ``closed`` allows 0 and 1 themselves."""
    if not (0.0 <= value <= 1.0 if closed else 0.0 < value < 1.0):
        raise FreeUValueError(f"{name} must lie {'in 0 to 1' if closed else 'between 0 and 1'}, got {value:g}")
