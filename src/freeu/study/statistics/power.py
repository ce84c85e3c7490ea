"""How many raters a study needs, for the exact two-sided binomial test of votes that resemble each other.

Votes of one rater resemble each other, and so do votes about one prompt. If two votes of a rater have correlation r and
two about a prompt have correlation q, and a rater meets a prompt once, the variance of the share of n votes is

    p (1 - p) / n * (1 + (m - 1) r + (l - 1) q)

with m votes per rater and l votes per prompt: Kish's design effect 1 + (m - 1) rho (L. Kish, Survey Sampling, 1965,
5.4 and 8.2), with a term for each of the two crossed clusterings. n over this factor is the number of independent votes
that say as much. As raters come in, l grows with them: no number of raters makes up for few prompts.
"""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING

from freeu.errors import FreeUValueError
from freeu.extras import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RHO = 0.05
"""If the mean preference is 60 %, this lets single raters (or prompts) differ by a standard deviation of 11 %."""
MAX_RATERS = 100_000
LEAST_EFFECT = 0.01


def binomial_power(votes: int, effect: float, alpha: float = 0.05) -> float:
    """Probability that the exact two-sided binomial test of "no preference" rejects.

    Args:
        votes: independent ones, ties left out; at least 0.
        effect: the true preference for one arm, 0..1.
        alpha: level of the test, above 0 and below 1.

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

    # The largest number of votes for one arm that is significantly few; without preference both tails are equal.
    few = binom.ppf(alpha / 2.0, votes, 0.5)
    few -= binom.cdf(few, votes, 0.5) > alpha / 2.0
    both = binom.cdf(few, votes, effect) + binom.sf(votes - few - 1, votes, effect)
    return np.where(few >= 0, both, 0.0)


def design_effect(
    raters: int, votes_per_rater: float, prompts: int, rho: float = RHO, prompt_rho: float = RHO
) -> float:
    """By what factor the variance exceeds that of independent votes (see above).

    Args:
        raters: at least 1.
        votes_per_rater: about one question and one pair of arms.
        prompts: over which the votes spread equally.
        rho: correlation of two votes of one rater, 0..1.
        prompt_rho: correlation of two votes about one prompt, 0..1; 0 asks about these prompts only, not about others.

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
    """How many independent votes say as much; arguments as in ``design_effect``."""
    return raters * votes_per_rater / design_effect(raters, votes_per_rater, prompts, rho, prompt_rho)


def votes_needed(effect: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """The number of independent votes from which on ``binomial_power`` stays at or above ``power``.

    From one number to the next the power of an exact test can also fall a little, so the first is not enough.

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
    about = (max(0.0, width) / (effect - 0.5)) ** 2  # by the normal approximation; the exact number lies close to it
    votes = np.arange(max(1, int(0.8 * about) - 50), int(1.2 * about) + 200)
    below = votes[_powers(votes, effect, alpha) < power]
    return int(below[-1]) + 1 if below.size else int(votes[0])


def raters_needed(
    effect: float,
    *,
    pairs_per_rater: int,
    prompts: int,
    arms: int = 2,
    power: float = 0.8,
    alpha: float = 0.05,
    rho: float = RHO,
    prompt_rho: float = RHO,
) -> int | None:
    """The fewest raters with whom a preference is found with the power.

    Args:
        effect: the true preference of one arm over another, as in ``votes_needed``.
        pairs_per_rater: put to each; with more than 2 arms they spread over all pairs of arms.
        prompts, arms: of the study.
        power, alpha: as in ``votes_needed``.
        rho, prompt_rho: as in ``design_effect``.

    Returns:
        None if no number of raters (up to 100,000) is enough, because there are too few prompts.

    Raises:
        FreeUValueError: an argument outside its range.
    """
    votes = votes_needed(effect, power, alpha)
    each = _votes_each(pairs_per_rater, arms)
    numbers = range(1, MAX_RATERS + 1)
    place = bisect.bisect_left(
        numbers, votes, key=lambda raters: int(effective_votes(raters, each, prompts, rho, prompt_rho))
    )
    return numbers[place] if place < len(numbers) else None


def detectable_effect(
    raters: int,
    *,
    pairs_per_rater: int,
    prompts: int,
    arms: int = 2,
    power: float = 0.8,
    alpha: float = 0.05,
    rho: float = RHO,
    prompt_rho: float = RHO,
) -> float | None:
    """The smallest preference (above 0.5) that a study finds with the power; arguments as in ``raters_needed``.

    Returns:
        None if not even a unanimous vote would be significant.
    """
    from scipy.optimize import brentq

    _share("power", power)
    each = _votes_each(pairs_per_rater, arms)
    votes = int(effective_votes(raters, each, prompts, rho, prompt_rho))
    if binomial_power(votes, 1.0, alpha) < power:
        return None
    if power <= alpha:
        return 0.5
    return float(brentq(lambda effect: binomial_power(votes, effect, alpha) - power, 0.5, 1.0))


def _votes_each(pairs_per_rater: int, arms: int) -> float:
    """Votes of a rater about one question and one pair of arms."""
    if arms < 2:
        raise FreeUValueError(f"a study compares at least 2 arms, got {arms}")
    return pairs_per_rater / math.comb(arms, 2)


def _share(name: str, value: float, closed: bool = False) -> None:
    """Refuse what is no share; ``closed`` allows 0 and 1 themselves."""
    if not (0.0 <= value <= 1.0 if closed else 0.0 < value < 1.0):
        raise FreeUValueError(f"{name} must lie {'in 0 to 1' if closed else 'between 0 and 1'}, got {value:g}")
