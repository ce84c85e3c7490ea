"""A search by a person's votes between two images: what to show next, what was voted, and what follows from it.

space       settings that a person's search may try, as points
preference  from votes to a preference over settings: a Gaussian process
ballots     pairs and votes in SQLite
choosing    what votes say of all settings, and which two are shown next
search      ``VoteSearch``: pairs out, votes in, a result at the end; no page and no images
earlier     votes of the studio, from which a search goes on
images      the images of pairs, generated ahead
outcome     all of it for a model: verdict, preset.json, report
report      the page of it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freeu.lazy import load_name

if TYPE_CHECKING:
    from freeu.tuning.votes.ballots import Pair, open_ballots
    from freeu.tuning.votes.search import VoteResult, VoteSearch
    from freeu.tuning.votes.space import VoteSpace

_HOMES = {
    "freeu.tuning.votes.ballots": ("Pair", "open_ballots"),
    "freeu.tuning.votes.search": ("VoteResult", "VoteSearch"),
    "freeu.tuning.votes.space": ("VoteSpace",),
}

__all__ = ["Pair", "VoteResult", "VoteSearch", "VoteSpace", "open_ballots"]


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
