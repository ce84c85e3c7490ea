"""Votes that were given in the studio, for a search that goes on from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.tuning.search import identity_of
from freeu.tuning.votes.ballots import SEARCH, Pair, open_ballots
from freeu.tuning.votes.space import RANGES, VoteSpace

KIND, SCHEMA = "freeu-studio-votes", 1
VOTES = "votes.sqlite"
_CHOICES = {1.0: "left", 0.0: "right", 0.5: "tie"}


def model_folder(fingerprint: str) -> str:
    """What the folder of the votes on a model is called, in that of a visitor."""
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:12]


def studio_identity(fingerprint: str, space: VoteSpace) -> str:
    """What tells a visitor's votes on a model from those of a search."""
    return identity_of({"kind": KIND, "schema": SCHEMA, "model": fingerprint, "space": space.to_dict()})


def read_earlier(folder: Path, fingerprint: str, space: VoteSpace) -> tuple[Pair, ...]:
    """The votes on a model in a folder of the studio.

    Args:
        folder: that of ``freeu ui --votes``, or one visitor's in it.
        fingerprint: of the model.
        space: what the search may try.

    Raises:
        FreeUValueError: there are none on this model, or those of several visitors.
        StoreError: they cannot be read.
    """
    name = model_folder(fingerprint)
    found = sorted([*folder.glob(f"{name}/{VOTES}"), *folder.glob(f"*/{name}/{VOTES}")])
    if len(found) > 1:
        visitors = ", ".join(path.parent.parent.name for path in found)
        raise FreeUValueError(
            f"--earlier-votes {folder} holds votes of several visitors on this model: name the folder of one, out of "
            f"{visitors}"
        )
    voted: list[Pair] = []
    for path in found:
        with open_ballots(path, studio_identity(fingerprint, space)) as ballots:
            voted = [one for one in ballots.pairs() if one.voted]
    if not voted:
        raise FreeUValueError(
            f"--earlier-votes {folder} holds no votes on this model: name the folder of freeu ui --votes, "
            "and vote there first"
        )
    return from_plain(as_plain(voted))


def as_plain(pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """Votes as plain data: the two settings, and 1, 0.5 or 0 for the first of them."""
    return [{"first": dict(one.first), "second": dict(one.second), "outcome": one.outcome} for one in pairs]


def from_plain(votes: Sequence[Any]) -> tuple[Pair, ...]:
    """What ``as_plain`` gave, with numbers that no pair of a search has.

    Raises:
        FreeUValueError: it is something else.
    """
    try:
        return tuple(
            Pair(
                -1 - number,
                SEARCH,
                _settings(one["first"]),
                _settings(one["second"]),
                prompt=0,
                seed=0,
                first_left=True,
                choice=_CHOICES[one["outcome"]],
            )
            for number, one in enumerate(votes)
        )
    except (KeyError, TypeError, ValueError):
        raise FreeUValueError("the earlier votes of the search are damaged: begin another one") from None


def _settings(found: Any) -> dict[str, float]:
    return {name: float(found[name]) for name in RANGES}
