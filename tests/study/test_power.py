"""Power: against the test itself, against published numbers, and against simulated studies."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from freeu.errors import FreeUValueError
from freeu.study.statistics.power import (
    PowerSettings,
    binomial_power,
    design_effect,
    detectable_effect,
    effective_votes,
    raters_needed,
    votes_needed,
)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("votes", [0, 1, 5, 6, 7, 20, 33, 100])
def test_power_is_that_of_scipys_test(votes, alpha):
    for effect in (0.0, 0.31, 0.5, 0.63, 1.0):
        rejected = [binomtest(k, votes, 0.5).pvalue <= alpha for k in range(votes + 1)] if votes else [False]
        expected = binom.pmf(range(votes + 1), votes, effect)[np.array(rejected)].sum()
        assert binomial_power(votes, effect, alpha) == pytest.approx(expected, abs=1e-12)


def test_size_is_at_most_the_level():
    assert max(binomial_power(votes, 0.5) for votes in range(1, 300)) <= 0.05


@pytest.mark.parametrize("effect", [0.55, 0.6, 0.75, 0.25, 1.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_votes_needed_reach_the_power_from_there_on(effect, power):
    votes = votes_needed(effect, power)
    assert binomial_power(votes - 1, effect) < power
    assert all(binomial_power(number, effect) >= power for number in range(votes, 2 * votes + 100))


def test_votes_needed_agrees_with_the_normal_approximation():
    # (1.96 * 0.5 + 0.8416 * sqrt(0.24))^2 / 0.1^2 = 194; the exact test asks for somewhat more.
    assert 194 <= votes_needed(0.6) <= 215
    assert votes_needed(0.6) == votes_needed(0.4)


def simulated_votes(rng, studies, raters, each, prompts, effect, rho, prompt_rho):
    """Shares of votes for one arm. Two votes of a rater have correlation rho, two about a prompt prompt_rho.

    A rater's preference lies above or below the effect by sqrt(rho p (1 - p)) with equal chance; so does a prompt's.
    """
    scale = np.sqrt(effect * (1 - effect))
    by_rater = rng.choice([-1, 1], (studies, raters, 1)) * scale * np.sqrt(rho)
    by_prompt = rng.choice([-1, 1], (studies, 1, prompts)) * scale * np.sqrt(prompt_rho)
    likely = effect + by_rater + by_prompt
    assert 0 <= likely.min() <= likely.max() <= 1
    # Rater i is asked about prompts i, i + 1, ... round the circle, so that prompts are asked equally often.
    asked = (np.arange(raters)[:, None] + np.arange(each)) % prompts
    chosen = np.take_along_axis(likely, np.broadcast_to(asked, (studies, raters, each)), axis=2)
    return (rng.random(chosen.shape) < chosen).mean(axis=(1, 2))


CLUSTERS = pytest.mark.parametrize(
    ("raters", "each", "prompts", "rho", "prompt_rho"),
    [(30, 10, 30, 0.0, 0.0), (40, 10, 40, 0.1, 0.0), (40, 10, 20, 0.0, 0.1), (30, 20, 30, 0.05, 0.05)],
)


@CLUSTERS
def test_design_effect_is_the_variance_of_simulated_studies(raters, each, prompts, rho, prompt_rho):
    studies = 4_000
    shares = simulated_votes(np.random.default_rng(1), studies, raters, each, prompts, 0.6, rho, prompt_rho)
    found = shares.var() / (0.24 / (raters * each))
    expected = design_effect(raters, each, prompts, rho, prompt_rho)
    # A variance estimated from 4,000 studies has a relative error of sqrt(2 / 4000) = 2.2 %: four of these.
    assert found == pytest.approx(expected, rel=0.09)


def test_design_effect_of_single_votes_is_one():
    assert design_effect(50, 1, 50, 0.3, 0.3) == 1.0
    assert design_effect(40, 10, 20, 0.05, 0.02) == pytest.approx(1 + 9 * 0.05 + 19 * 0.02)


@CLUSTERS
def test_power_is_that_of_simulated_studies(raters, each, prompts, rho, prompt_rho):
    studies = 4_000
    votes = int(effective_votes(raters, each, prompts, rho, prompt_rho))
    for effect in (
        0.5,
        detectable_effect(raters, PowerSettings(each, prompts, rho=rho, prompt_rho=prompt_rho)),
    ):
        shares = simulated_votes(np.random.default_rng(2), studies, raters, each, prompts, effect, rho, prompt_rho)
        # The test that the power is told of: as many votes as are independent, with the share that was found.
        few = binom.ppf(0.025, votes, 0.5) - 1
        few += binom.cdf(few + 1, votes, 0.5) <= 0.025
        rejected = (np.abs(shares - 0.5) * votes >= votes / 2 - few - 0.5).mean()
        predicted = binomial_power(votes, effect)
        assert rejected == pytest.approx(predicted, abs=0.03)
        assert predicted == pytest.approx(0.8, abs=1e-6) or (effect == 0.5 and predicted <= 0.05)


def test_raters_needed():
    for pairs, prompts, rho in ((20, 35, 0.05), (10, 100, 0.02), (20, 60, 0.0), (1, 50, 0.0)):
        settings = PowerSettings(pairs, prompts, rho=rho, prompt_rho=rho)
        raters = raters_needed(0.6, settings)
        assert effective_votes(raters, pairs, prompts, rho, rho) >= votes_needed(0.6)
        assert effective_votes(raters - 1, pairs, prompts, rho, rho) < votes_needed(0.6)
        assert detectable_effect(raters, settings) <= 0.6 + 1e-6
    assert raters_needed(0.6, PowerSettings(20, 60, rho=0.0, prompt_rho=0.0)) == -(-votes_needed(0.6) // 20)


def test_few_prompts_cannot_be_made_up_for():
    # At most 10 / 0.05 = 200 independent votes, and 210 are needed.
    assert raters_needed(0.6, PowerSettings(10, 10)) is None
    assert raters_needed(0.6, PowerSettings(10, 10, prompt_rho=0.0)) is not None
    assert effective_votes(10**6, 10, 10) == pytest.approx(200, rel=1e-3)


def test_more_arms_share_the_votes():
    two = raters_needed(0.6, PowerSettings(5, 50))
    four = raters_needed(0.6, PowerSettings(30, 50, arms=4))
    assert two == four


def test_a_study_too_small_to_find_anything():
    assert detectable_effect(1, PowerSettings(5, 5)) is None
    assert detectable_effect(1, PowerSettings(8, 8, rho=0.0, prompt_rho=0.0)) < 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: votes_needed(0.505), "effect must differ from 0.5 .no preference. by at least 0.01, got 0.505"),
        (lambda: votes_needed(1.2), "effect must lie in 0 to 1, got 1.2"),
        (lambda: votes_needed(0.6, 1.0), "power must lie between 0 and 1, got 1"),
        (lambda: votes_needed(0.6, 0.8, 0.0), "alpha must lie between 0 and 1, got 0"),
        (lambda: binomial_power(10, float("nan")), "effect must lie in 0 to 1, got nan"),
        (lambda: design_effect(0, 1, 1), "raters must be above 0, got 0"),
        (lambda: design_effect(1, 1, 0), "prompts must be above 0, got 0"),
        (lambda: design_effect(1, 1, 1, rho=-0.1), "rho must lie between 0 and 1, got -0.1"),
        (lambda: raters_needed(0.6, PowerSettings(5, 5, arms=1)), "at least 2 arms, got 1"),
        (lambda: detectable_effect(5, PowerSettings(5, 5, power=2.0)), "power must lie between 0 and 1"),
    ],
)
def test_bad_numbers(call, words):
    with pytest.raises(FreeUValueError, match=words):
        call()
