"""What votes are to the studio: pairs that can be voted on, pairs that votes ask for, and what a vote changes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from freeu.errors import FreeURuntimeError
from freeu.pipelines.io.inputs import MAX_SMALL_SEED
from freeu.tuning.votes.space import Settings
from freeu.ui.actions import config_from, form_of, request_from
from freeu.ui.pair import Pair
from freeu.ui.request import StudioRequest
from freeu.ui.studio import Progress, Studio
from freeu.ui.voting.showing import Showing
from freeu.ui.voting.standing import Standing
from freeu.ui.voting.voters import Voted, Voters


class Votes:
    """The votes of a studio's visitors.

    Args:
        studio: generates, and knows the models.
        voters: keeps the votes.
    """

    def __init__(self, studio: Studio, voters: Voters) -> None:
        self._studio, self._voters = studio, voters
        self.lasting = voters.lasting

    def standing(self, voter: str, model: str) -> Standing:
        """What a visitor's votes on a model say so far.

        Raises:
            FreeUError: no such model; the votes cannot be read.
        """
        return self._voters.standing(self._who(voter, model))

    def settings(self, asked: StudioRequest) -> tuple[Settings, Settings] | None:
        """The settings of both images as votes search them.

        Returns:
            None where they lie outside of what is searched, or are the same: a vote would say nothing.
        """
        space = self._who("", asked.model).space
        first, second = space.settings(asked.against), space.settings(asked.config)
        return None if first is None or second is None or first == second else (first, second)

    def proposed(
        self, voter: str, form: Mapping[str, Any], prompts: Sequence[str], earlier: bool
    ) -> tuple[dict[str, Any], StudioRequest]:
        """The pair that a visitor's votes ask for, with another seed, as a form and as a request.

        Args:
            form: everything but FreeU's settings and the seed are taken from it; before the first vote those, too.
            prompts: of the visitor.
            earlier: take one of these, in turn, and not that of the form.

        Raises:
            FreeUValueError: a value of the form that cannot be used.
            FreeURuntimeError: the votes cannot be read.
        """
        who = self._who(voter, str(form["model"]))
        votes = self._voters.standing(who).votes
        first, second = self._voters.propose(who, who.space.settings(config_from(form)))
        config = who.space.arm(second).config
        assert config is not None  # plain sampling is the first of the two
        new = {**form, **form_of(config), "seed": str(secrets.randbelow(MAX_SMALL_SEED + 1)), "batch": 1}
        written = [prompt for prompt in prompts if prompt]
        if earlier and written:
            new["prompt"] = written[votes % len(written)]
        return new, replace(request_from(new), against=who.space.arm(first).config)

    def pair(self, voter: str, asked: StudioRequest, progress: Progress) -> Pair:
        """Generate a proposed pair; settings that break the model are not proposed again.

        Raises:
            FreeUError: as ``Studio.pair``.
        """
        try:
            return self._studio.pair(asked, progress)
        except FreeURuntimeError:
            settings = self.settings(asked)
            if settings is not None:
                self._voters.drop(self._who(voter, asked.model), settings)
            raise

    def vote(self, voter: str, showing: Showing, choice: str) -> Standing:
        """Take a visitor's vote on the pair before him. When this returns it is on the disk.

        Args:
            showing: a pair with settings that votes search.

        Raises:
            FreeUError: it cannot be kept; it does not count.
        """
        shown = showing.shown
        assert shown.settings is not None
        return self._voters.vote(
            self._who(voter, shown.form["model"]),
            shown.settings,
            shown.plan,
            choice,
            swapped=showing.swapped,
            blind=showing.blind,
            seconds=time.monotonic() - showing.began,
            token=showing.token,
        )

    def undo(self, voter: str, model: str) -> Standing | None:
        """Take the last vote of a visitor on a model back; None if there was none.

        Raises:
            FreeUError: the votes cannot be read or written.
        """
        who = self._who(voter, model)
        return self._voters.standing(who) if self._voters.undo(who) else None

    def liked(self, standing: Standing, model: str) -> dict[str, Any]:
        """Values of FreeU's inputs for the settings that a visitor likes best."""
        assert standing.settings is not None
        config = self._who("", model).space.arm(standing.settings).config
        assert config is not None  # these are never those of plain sampling
        return form_of(config)

    def _who(self, voter: str, model: str) -> Voted:
        own = self._studio.defaults(model)
        return Voted(voter, own.reference, own.family)
