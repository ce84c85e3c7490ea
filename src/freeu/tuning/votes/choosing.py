"""What votes say of all settings, and which two settings are shown next. Nothing is kept here but a fitted model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

from freeu.tuning.votes.ballots import BROKEN, Pair
from freeu.tuning.votes.preference import Preference, as_compared
from freeu.tuning.votes.space import NONE, RANGES, Settings, VoteSpace, point, points, settings_at

SPREAD = 256
"""Points over the whole range that may be shown next; besides them, points near the best so far."""
NEAR = ((0.1, 96), (0.04, 32))
"""How far those lie from it, as a standard deviation in ranges, and how many there are."""
REFINED = (0.2, 0.1, 0.05, 0.02)
"""How far the settings with the highest expected utility are looked for, round after round."""
WIDE = 2.0
"""Standard deviations above its mean at which a setting that may be shown next is rated, so that none is overlooked
(upper confidence bound; Srinivas et al. 2010)."""


class Chooser:
    """Chooses by the votes that it is given. Not safe for threads.

    Args:
        space: what may be tried.
        seed: of everything that is drawn.
    """

    def __init__(self, space: VoteSpace, seed: int = 0) -> None:
        self.space, self._seed = space, seed
        self._fitted: tuple[tuple[tuple[int, float], ...], Preference] | None = None

    def over_none(self, pairs: Sequence[Pair], settings: Settings) -> tuple[float, float]:
        """Utility of settings over that of plain sampling, in logits, and its standard deviation.

        Args:
            pairs: of the search; those without a vote say nothing.
        """
        mean, deviation = self._preference(pairs).differences(points([settings]), point(NONE))
        return float(mean[0]), float(deviation[0])

    def next_settings(self, pairs: Sequence[Pair], waiting: Sequence[Pair], number: int) -> tuple[Settings, Settings]:
        """The two settings that are shown next: the best so far, and what may exceed it by most.

        Args:
            pairs: of the search, in the order in which they were chosen.
            waiting: those of them that wait for a vote; their settings are not chosen again.
            number: of the new pair.
        """
        first = self.space.first()
        if len(pairs) < len(first):
            return NONE, first[len(pairs)]
        best = self._best_shown(pairs)
        return best, self._challenger(best, pairs, waiting, number)

    def best_settings(self, pairs: Sequence[Pair]) -> Settings:
        """The settings other than none with the highest expected utility, also such as were never shown."""
        preference, none = self._preference(pairs), point(NONE)
        generator = np.random.default_rng([self._seed, 1 << 32])
        best = point(self._best_shown(pairs))
        for width in REFINED:
            near = np.clip(best + generator.normal(0.0, width, (SPREAD, len(RANGES))), 0.0, 1.0)
            candidates = np.vstack([best[None], near])
            best = candidates[preference.differences(candidates, none)[0].argmax()]
        taken = _broken(pairs) | {tuple(NONE.values())}
        near = np.clip(best + generator.normal(0.0, REFINED[-1], (SPREAD, len(RANGES))), 0.0, 1.0)
        whole = [one for one in map(settings_at, np.vstack([best[None], near])) if tuple(one.values()) not in taken]
        mean, _ = preference.differences(points(whole), none)
        return whole[int(mean.argmax())]

    def _preference(self, pairs: Sequence[Pair]) -> Preference:
        voted = [one for one in pairs if one.voted]
        key = tuple((one.id, one.outcome) for one in voted)
        if self._fitted is None or self._fitted[0] != key:
            rows = [(point(one.first), point(one.second), one.outcome) for one in voted]
            self._fitted = key, Preference(as_compared(rows, len(RANGES)))
        return self._fitted[1]

    def _best_shown(self, pairs: Sequence[Pair]) -> Settings:
        """Of the settings that were shown, none among them, the one with the highest expected utility."""
        broken = _broken(pairs)
        shown = {tuple(one.values()): one for pair in pairs if pair.voted for one in (pair.first, pair.second)}
        candidates = [NONE, *(one for one in shown.values() if tuple(one.values()) not in broken)]
        mean, _ = self._preference(pairs).differences(points(candidates), point(NONE))
        return candidates[int(mean.argmax())]

    def _challenger(self, best: Settings, pairs: Sequence[Pair], waiting: Sequence[Pair], number: int) -> Settings:
        generator = np.random.default_rng([self._seed, number])
        around = [
            np.clip(point(best) + generator.normal(0.0, width, (count, len(RANGES))), 0.0, 1.0) for width, count in NEAR
        ]
        spread = qmc.Sobol(len(RANGES), rng=generator).random(SPREAD)
        taken = {tuple(one.values()) for pair in waiting for one in (pair.first, pair.second)} | _broken(pairs)
        every = [settings_at(one) for one in np.vstack([spread, *around])] + [dict(NONE)]
        candidates = [one for one in every if tuple(one.values()) not in taken | {tuple(best.values())}]
        mean, deviation = self._preference(pairs).differences(points(candidates), point(best))
        return candidates[int((mean + WIDE * deviation).argmax())]


def _broken(pairs: Sequence[Pair]) -> set[tuple[float, ...]]:
    """Settings of pairs that were dropped, and that no vote was given on."""
    dropped = [one for one in pairs if one.choice == BROKEN]
    fine = {tuple(s.values()) for one in pairs if one.voted for s in (one.first, one.second)}
    return {tuple(s.values()) for one in dropped for s in (one.first, one.second)} - fine - {tuple(NONE.values())}
