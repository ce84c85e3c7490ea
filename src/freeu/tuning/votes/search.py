"""The session of a person who votes between two images: which pair comes next, and what follows from the votes.

No page and no image is made here: a page, a notebook or a studio shows the pairs and hands in the votes.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.study.statistics.ballots import Ballots as Shares
from freeu.study.statistics.proportions import Proportion, proportion
from freeu.tuning.votes.ballots import BROKEN, CHOICES, DONE, FINAL, SEARCH, UNDO, Ballots, Pair
from freeu.tuning.votes.choosing import Chooser
from freeu.tuning.votes.space import NONE, Settings, VoteSpace

LEVEL = 0.95
"""Coverage of the interval that decides."""
LEAST_FINAL = 10
"""Votes of the verdict; with fewer no interval means anything."""


@dataclass(frozen=True)
class VoteResult:
    """What the votes say.

    Args:
        best: "freeu" or "none".
        text: the same in a sentence.
        settings: that the search ended with, the best other than none.
        search_votes: votes of the search.
        expected: utility of the settings over plain sampling by the votes of the search, in logits, with its standard
            deviation; flattered, since the settings were chosen for it.
        final_votes: votes of the verdict that were given, of ``planned``.
        share: of the votes of the verdict for the settings, a vote for neither as half a vote, with its intervals.
        wins, losses, ties: of the settings in the verdict.
    """

    best: str
    text: str
    settings: Settings
    search_votes: int
    expected: tuple[float, float]
    final_votes: int
    planned: int
    share: Proportion
    wins: int
    losses: int
    ties: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"settings": dict(self.settings), "share": self.share.to_dict()}


class VoteSearch:
    """A search for the settings that a person prefers; safe to use from several threads.

    First come pairs of the search: the best settings so far against those that may exceed them by most.
    Plain sampling is one of the settings. Then come the pairs of the verdict: the best settings against plain sampling,
    each on a prompt of its own that the search did not show.

    Args:
        space: what may be tried.
        ballots: where pairs and votes are kept; those that are there are gone on with.
        prompts: numbers of the prompts of the search.
        final_prompts: numbers of other prompts, one for each vote of the verdict.
        seeds: of the noise.
        votes: of the search.
        seed: of everything that is drawn.
        earlier: pairs with votes from elsewhere, whose numbers are below 0: the search knows what they say, but they
            are none of its votes.

    Raises:
        FreeUValueError: no prompt, a prompt in both parts, or fewer than ``LEAST_FINAL`` votes for the verdict.
    """

    def __init__(
        self,
        space: VoteSpace,
        ballots: Ballots,
        *,
        prompts: Sequence[int],
        final_prompts: Sequence[int],
        seeds: Sequence[int] = (0,),
        votes: int = 60,
        seed: int = 0,
        earlier: Sequence[Pair] = (),
    ) -> None:
        if not prompts or not seeds or set(prompts) & set(final_prompts):
            raise FreeUValueError("a search by votes needs prompts and seeds, and other prompts for its verdict")
        if len(set(final_prompts)) < LEAST_FINAL:
            raise FreeUValueError(
                f"the verdict of a search by votes needs {LEAST_FINAL} prompts or more, got {len(set(final_prompts))}"
            )
        self.space, self.votes, self.earlier = space, votes, tuple(earlier)
        self._prompts, self._final, self._seeds = tuple(prompts), tuple(dict.fromkeys(final_prompts)), tuple(seeds)
        self._seed, self._chooser = seed, Chooser(space, seed)
        self._ballots = ballots
        self._lock = threading.RLock()
        self._pairs = {one.id: one for one in ballots.pairs()}
        self._stages = ballots.stages()
        self._move_on()

    @property
    def stage(self) -> str:
        """SEARCH, FINAL or DONE."""
        return DONE if DONE in self._stages else FINAL if FINAL in self._stages else SEARCH

    @property
    def progress(self) -> tuple[int, int]:
        """Votes of this stage, and how many it has."""
        with self._lock:
            stage = FINAL if self.stage == DONE else self.stage
            return len(self._voted(stage)), self.votes if stage == SEARCH else len(self._final)

    @property
    def pairs(self) -> list[Pair]:
        """All pairs so far, in the order in which they were chosen."""
        with self._lock:
            return list(self._pairs.values())

    def next_pair(self) -> Pair | None:
        """The pair that waits for a vote; None at the end."""
        found = self.ahead(1)
        return found[0] if found else None

    def ahead(self, count: int) -> list[Pair]:
        """The next pairs, so that their images can be made in time; fewer near the end of a stage.

        The more votes a pair of the search waits for, the less its choice knows.
        """
        with self._lock:
            stage = self.stage
            if stage == DONE:
                return []
            waiting = [one for one in self._of(stage) if one.choice is None]
            left = self.votes - len(self._voted(SEARCH)) if stage == SEARCH else 0
            while stage == SEARCH and len(waiting) < min(count, left):
                waiting.append(self._chosen(waiting))
            return waiting[:count]

    def vote(self, pair: int, choice: str, seconds: float = 0.0, revision: int | None = None) -> bool:
        """Take a vote. When this returns it is on the disk.

        Args:
            pair: its id.
            choice: "left", "right" or "tie".
            seconds: that it took.
            revision: of the pair as it was shown; None takes it as it is.

        Returns:
            False if the pair has a vote already or was shown in another state: nothing is changed then.

        Raises:
            FreeUValueError: no such pair, choice or time.
            StoreError: it could not be written; it does not count.
        """
        if choice not in CHOICES:
            raise FreeUValueError(f"a vote must be {', '.join(CHOICES)}, got {choice!r}")
        if not (math.isfinite(seconds) and seconds >= 0.0):
            raise FreeUValueError(f"the seconds of a vote must be 0 or more, got {seconds}")
        with self._lock:
            found = self._pairs.get(pair)
            if found is None:
                raise FreeUValueError(f"there is no pair {pair}")
            if found.stage != self.stage or found.choice is not None or revision not in (None, found.revision):
                return False
            self._record(found, choice, seconds)
            self._move_on()
            return True

    def undo(self) -> bool:
        """Take the last vote of this stage back; its pair is the next one again. False if there is none."""
        with self._lock:
            voted = self._voted(self.stage)
            if not voted:
                return False
            self._record(voted[-1], UNDO, 0.0)
            return True

    @property
    def can_undo(self) -> bool:
        """Whether this stage has a vote."""
        with self._lock:
            return bool(self._voted(self.stage))

    def drop(self, pair: int) -> None:
        """Leave a pair of the search out: one of its settings breaks the model. Neither is shown again."""
        with self._lock:
            found = self._pairs[pair]
            if found.choice is None:
                self._record(found, BROKEN, 0.0)

    def finish(self) -> None:
        """End this stage early: the search, or the verdict, which is then none."""
        with self._lock:
            if self.stage == SEARCH:
                self._begin_final()
            elif self.stage == FINAL:
                self._reach(DONE, self.settings)

    @property
    def settings(self) -> Settings:
        """The best settings other than none: those of the verdict, or by the votes so far."""
        with self._lock:
            return self._stages[FINAL] if FINAL in self._stages else self._chooser.best_settings(self._known())

    def result(self) -> VoteResult:
        """What the votes say so far; before the verdict has all its votes it says that none was shown to be better."""
        with self._lock:
            settings = self.settings
            expected = self._chooser.over_none(self._known(), settings)
            votes = self._voted(FINAL)
            shares = Shares(  # which count for the second of two arms: here the settings
                np.array([one.outcome for one in votes], dtype=np.float64),
                np.zeros(len(votes), dtype=np.int64),
                np.array([one.prompt for one in votes], dtype=np.int64),
                np.array([one.first_left for one in votes], dtype=np.bool_),
            )
            share = proportion(shares, level=LEVEL)
            whole = len(votes) >= len(self._final)
            better = whole and share.clustered is not None and share.clustered[0] > 0.5
            return VoteResult(
                "freeu" if better else "none",
                _sentence(share, shares, len(self._final), better),
                settings,
                len(self._voted(SEARCH)),
                expected,
                len(votes),
                len(self._final),
                share,
                shares.wins,
                shares.losses,
                shares.ties,
            )

    def _voted(self, stage: str) -> list[Pair]:
        return [one for one in self._of(stage) if one.voted]

    def _known(self) -> list[Pair]:
        """What the choice of settings knows."""
        return [*self.earlier, *self._of(SEARCH)]

    def _of(self, stage: str) -> list[Pair]:
        return [one for one in self._pairs.values() if one.stage == stage]

    def _record(self, pair: Pair, choice: str, seconds: float) -> None:
        self._ballots.record(pair.id, pair.revision, choice, seconds)
        kept = None if choice == UNDO else choice
        self._pairs[pair.id] = replace(
            pair, choice=kept, revision=pair.revision + 1, seconds=0.0 if kept is None else seconds
        )

    def _move_on(self) -> None:
        """To the next stage where this one has all its votes, also those of a run that was killed before it went on."""
        if self.stage == SEARCH and len(self._voted(SEARCH)) >= self.votes:
            self._begin_final()
        if self.stage == FINAL and len(self._voted(FINAL)) >= len(self._final):
            self._reach(DONE, self.settings)

    def _reach(self, stage: str, settings: Settings) -> None:
        self._ballots.reach(stage, settings)
        self._stages[stage] = dict(settings)

    def _begin_final(self) -> None:
        """Every prompt of the verdict once, the settings on the left in half of them."""
        settings = self._chooser.best_settings(self._known())
        draw = random.Random(f"{self._seed}/final")
        sides = [number % 2 == 0 for number in range(len(self._final))]
        draw.shuffle(sides)
        # Pairs before the stage: killed in between, the same pairs are found and not added twice.
        there = {one.prompt for one in self._pairs.values() if one.stage == FINAL}
        for prompt, first_left in zip(self._final, sides, strict=True):
            if prompt not in there:
                self._add(Pair(len(self._pairs), FINAL, settings, NONE, prompt, draw.choice(self._seeds), first_left))
        self._reach(FINAL, settings)

    def _add(self, pair: Pair) -> Pair:
        self._ballots.add(pair)
        self._pairs[pair.id] = pair
        return pair

    def _chosen(self, waiting: Sequence[Pair]) -> Pair:
        """The pair that is shown next, with a prompt and a seed."""
        number = len(self._pairs)
        draw = random.Random(f"{self._seed}/{number}")
        own = self._of(SEARCH)
        best, other = self._chooser.next_settings(self._known(), waiting, number)
        cycle = random.Random(f"{self._seed}/prompts/{len(own) // len(self._prompts)}")
        prompt = cycle.sample(self._prompts, len(self._prompts))[len(own) % len(self._prompts)]
        return self._add(Pair(number, SEARCH, best, other, prompt, draw.choice(self._seeds), draw.random() < 0.5))


def _sentence(share: Proportion, votes: Shares, planned: int, better: bool) -> str:
    given = len(votes)
    if given < planned:
        return f"No verdict: {given} of the {planned} final votes were given. Nothing was shown to be better than none."
    assert share.share is not None
    assert share.clustered is not None
    low, high = share.clustered
    counted = f"{votes.wins} votes for it, {votes.losses} against, {votes.ties} for neither"
    text = f"{100 * share.share:.0f} % [{100 * low:.0f} %, {100 * high:.0f} %] of the final votes ({counted})"
    if better:
        return (
            f"This person prefers the tuned FreeU to plain sampling: {text}, on prompts that the search did not show."
        )
    return (
        f"None is best here: on prompts that the search did not show, the tuned FreeU got {text}, "
        "which does not show a preference for it."
    )
