"""The pair that a visitor has before him: on which side what is, and whether he may know it yet."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace

from freeu.ui.actions import Shown
from freeu.ui.texts import say


@dataclass(frozen=True)
class Showing:
    """A pair as it stands on the page.

    Args:
        shown: the pair; what its first image is, is its ``against``.
        files: the PNG files on the left and on the right.
        swapped: whether its first image is on the right.
        hidden: whether nothing is told yet of which is which.
        proposed: whether the votes chose its settings.
        choice: "left", "right" or "tie"; None before the vote.
        began: when it was shown, in seconds of a clock that never goes back.
        token: names this showing, so that no click counts twice.
    """

    shown: Shown
    files: tuple[str, str]
    swapped: bool = False
    hidden: bool = False
    proposed: bool = False
    choice: str | None = None
    began: float = field(default_factory=time.monotonic)
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def blind(self) -> bool:
        """Whether its files tell nothing: the vote on it, given or to come, is blind."""
        return self.files not in (self.shown.files, self.shown.files[::-1])

    def voted(self, choice: str) -> Showing:
        """The same after the vote: nothing is hidden any more, and no side changes."""
        return replace(self, choice=choice, hidden=False)

    def again(self) -> Showing:
        """The same after its vote was taken back. What was told cannot be hidden again: another vote is not blind."""
        files = self.shown.files[::-1] if self.swapped else self.shown.files
        return Showing(self.shown, files, self.swapped, proposed=self.proposed)

    def label(self, language: str) -> str:
        """What the two sides are called."""
        if self.hidden:
            return say("pair_hidden", language)
        keys = ("first", "second") if self.shown.against is not None else ("baseline", "freeu")
        left, right = (say(key, language) for key in (keys[::-1] if self.swapped else keys))
        return f"{left} | {right}"


def openly(shown: Shown, proposed: bool = False) -> Showing:
    """A pair with its first image on the left, and nothing hidden."""
    return Showing(shown, shown.files, proposed=proposed)


def blindly(shown: Shown, files: tuple[str, str], proposed: bool = False) -> Showing:
    """A pair on sides that are drawn by chance.

    Args:
        files: of its two images, whose names and contents say nothing of their settings.
    """
    swapped = bool(secrets.randbelow(2))
    return Showing(shown, files[::-1] if swapped else files, swapped, hidden=True, proposed=proposed)
