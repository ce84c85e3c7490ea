"""The votes of each visitor on each model, on disk, and what follows from them. Safe for threads."""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.json_files import find_json
from freeu.pipelines.io.output import OutputFolder, is_leftover
from freeu.pipelines.runs.manifest import as_json, made_with
from freeu.pipelines.runs.plan import ModelReference, Plan
from freeu.presets.files import PresetFile
from freeu.tuning.search import identity_of
from freeu.tuning.votes.ballots import BROKEN, SEARCH, UNDO, Pair, open_ballots
from freeu.tuning.votes.choosing import Chooser
from freeu.tuning.votes.outcome import VOTES
from freeu.tuning.votes.space import NONE, Settings, VoteSpace
from freeu.ui.voting.standing import Standing
from freeu.wording import counted

KIND, SCHEMA = "freeu-studio-votes", 1
CONDITIONS = "conditions.json"
"""Prompts and sampling of the pairs; the number of a pair's prompt counts in it."""
BOOKS = 256
"""Fitted models that are remembered."""
LEVEL, _DEVIATIONS = 0.95, 1.96
"""Coverage of the interval of a chance, and the standard deviations of a normal distribution that cover it."""


@dataclass(frozen=True)
class Voted:
    """Whose votes, and on what.

    Args:
        voter: a name that nobody can guess, which the visitor's browser keeps.
        model: on which he votes.
        family: name of the preset that was published for its family.
    """

    voter: str
    model: ModelReference
    family: str

    @property
    def space(self) -> VoteSpace:
        """What his votes search."""
        return VoteSpace(self.family)


@dataclass
class _Book:
    """The votes of one visitor on one model."""

    chooser: Chooser
    lock: Any = field(default_factory=threading.RLock)
    last: str = ""
    dropped: list[Pair] = field(default_factory=list)


class Voters:
    """Keeps votes in a folder: one folder in it for each visitor, and in that one for each model.

    Args:
        folder: made if it is not there; None keeps them as long as this object.

    Raises:
        FreeUValueError: the folder is a file, cannot be made, or holds something else.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.lasting = folder is not None
        self._temporary = tempfile.TemporaryDirectory(prefix="freeu-votes-") if folder is None else None
        self._folder = Path(self._temporary.name) if self._temporary is not None else _usable(folder)
        self._books: OrderedDict[Path, _Book] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Forget what was not to last."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def standing(self, who: Voted) -> Standing:
        """What the votes say so far.

        Raises:
            StoreError: they cannot be read.
        """
        with self._book(who).lock:
            return self._standing(who, self._pairs(who))

    def propose(self, who: Voted, present: Settings | None = None) -> tuple[Settings, Settings]:
        """The two settings to show next; plain sampling is the first of them, if it is one.

        Args:
            present: of the sliders: before the first vote these are compared with plain sampling. None where they lie
                outside of what is searched; then it begins as the search by votes on a list of prompts does.

        Raises:
            StoreError: the votes cannot be read.
        """
        book = self._book(who)
        with book.lock:
            pairs = [*self._pairs(who), *book.dropped]
            if not any(one.voted for one in pairs) and not book.dropped and present not in (None, NONE):
                return NONE, present
            first, second = book.chooser.next_settings(pairs, (), len(pairs))
        return (second, first) if dict(second) == dict(NONE) else (first, second)

    def vote(
        self,
        who: Voted,
        settings: tuple[Settings, Settings],
        plan: Plan,
        choice: str,
        *,
        swapped: bool,
        blind: bool,
        seconds: float,
        token: str,
    ) -> Standing:
        """Take a vote. When this returns it is on the disk.

        Args:
            settings: of the first and the second image.
            plan: of the second image.
            choice: "left", "right" or "tie".
            swapped: whether the first was on the right.
            blind: whether he could not know which was which.
            seconds: that the vote took.
            token: of the showing; a second vote on the last one is not counted.

        Raises:
            FreeURuntimeError: it could not be written; it does not count.
        """
        book = self._book(who)
        with book.lock:
            if token == book.last:
                return self._standing(who, self._pairs(who))
            pair = self._add(who, settings, plan, swapped, blind)
            with self._ballots(who) as ballots:
                ballots.record(pair.id, 0, choice, seconds)
            book.last = token
            return self._standing(who, self._pairs(who))

    def undo(self, who: Voted) -> bool:
        """Take the last vote back; False if there is none.

        Raises:
            StoreError: the votes cannot be read or written.
        """
        with self._book(who).lock:
            voted = [one for one in self._pairs(who) if one.voted]
            if voted:
                with self._ballots(who) as ballots:
                    ballots.record(voted[-1].id, voted[-1].revision, UNDO, 0.0)
            return bool(voted)

    def drop(self, who: Voted, settings: tuple[Settings, Settings]) -> None:
        """Do not propose these again: no image could be made of one of them."""
        book = self._book(who)
        with book.lock:
            book.dropped.append(Pair(-1 - len(book.dropped), SEARCH, *settings, 0, 0, True, BROKEN))

    def _book(self, who: Voted) -> _Book:
        place = self._place(who)
        with self._lock:
            book = self._books.setdefault(place, _Book(Chooser(who.space)))
            self._books.move_to_end(place)
            while len(self._books) > BOOKS:
                self._books.popitem(last=False)
            return book

    def _place(self, who: Voted) -> Path:
        """A voter's name may hold anything; his folder is not told to others, but need not tell his name either."""
        voter = hashlib.sha256(who.voter.encode(errors="replace")).hexdigest()[:24]
        model = hashlib.sha256(who.model.fingerprint.encode()).hexdigest()[:12]
        return self._folder / voter / model

    def _ballots(self, who: Voted) -> Any:
        record = {"kind": KIND, "schema": SCHEMA, "model": who.model.fingerprint, "space": who.space.to_dict()}
        return open_ballots(self._place(who) / VOTES, identity_of(record))

    def _pairs(self, who: Voted) -> list[Pair]:
        if not (self._place(who) / VOTES).is_file():
            return []
        with self._ballots(who) as ballots:
            return list(ballots.pairs())

    def _add(self, who: Voted, settings: tuple[Settings, Settings], plan: Plan, swapped: bool, blind: bool) -> Pair:
        """A new pair; under which conditions it was shown is on the disk before it."""
        conditions, _ = self._conditions(who)
        shown = _conditions_of(plan, blind)
        if shown not in conditions:
            conditions = [*conditions, shown]
        data = {
            "kind": KIND,
            "schema": SCHEMA,
            "model": {"name": who.model.name, "fingerprint": who.model.fingerprint},
            "conditions": conditions,
            "environment": made_with(plan),
        }
        OutputFolder(self._place(who), "--votes").write(CONDITIONS, as_json(data))
        pairs = self._pairs(who)
        number = conditions.index(shown)
        pair = Pair(len(pairs), SEARCH, *settings, number, plan.seeds[0], not swapped)
        with self._ballots(who) as ballots:
            ballots.add(pair)
        return pair

    def _conditions(self, who: Voted) -> tuple[list[dict[str, Any]], Mapping[str, str]]:
        path = self._place(who) / CONDITIONS
        data = find_json(path) or {}
        found, environment = data.get("conditions", []), data.get("environment", {})
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise FreeUValueError(f"{path} is damaged: its conditions must be objects")
        return found, environment

    def _standing(self, who: Voted, pairs: Sequence[Pair]) -> Standing:
        voted = [one for one in pairs if one.voted]
        if not voted:
            return Standing()
        chooser = self._book(who).chooser
        settings = chooser.best_settings(pairs)
        mean, deviation = chooser.over_none(pairs, settings)
        chance = tuple(_chance(mean + by * deviation) for by in (0.0, -_DEVIATIONS, _DEVIATIONS))
        preset = None
        if mean > 0.0:
            preset = self._preset(who, voted, settings, (mean, deviation), (chance[0], chance[1], chance[2]))
        return Standing(len(voted), settings, (chance[0], chance[1], chance[2]), preset)

    def _preset(
        self,
        who: Voted,
        voted: Sequence[Pair],
        settings: Settings,
        expected: tuple[float, float],
        chance: tuple[float, float, float],
    ) -> PresetFile:
        conditions, environment = self._conditions(who)
        try:
            shown = [conditions[one.prompt] for one in voted]
            prompts = list(dict.fromkeys(one["prompt"] for one in shown))
            blind = sum(bool(one["blind"]) for one in shown)
            guidance, steps = float(shown[-1]["guidance"]), int(shown[-1]["steps"])
        except (IndexError, KeyError, TypeError, ValueError):
            raise FreeUValueError(f"{self._place(who) / CONDITIONS} is damaged: it lacks conditions of votes") from None
        low, high = (round(100 * end) for end in chance[1:])
        verdict = (
            f"Liked best by one person in the studio after {counted(len(voted), 'vote')} ({blind} blind) on "
            f"{counted(len(prompts), 'prompt')}: expected to be chosen over plain sampling in {100 * chance[0]:.0f} % "
            f"[{low} %, {high} %] of votes. Not tried on other prompts."
        )
        provenance = {
            "objective": "votes in the studio",
            "votes": len(voted),
            "blind_votes": blind,
            "found": dict(settings),
            "expected": {"logits": expected[0], "deviation": expected[1]},
            "chance": {"mean": chance[0], "low": chance[1], "high": chance[2], "level": LEVEL},
            "conditions": [one for number, one in enumerate(conditions) if number in {vote.prompt for vote in voted}],
            "space": who.space.to_dict(),
            "environment": dict(environment),
        }
        return PresetFile(
            f"{who.model.name}-studio",
            who.space.arm(settings).config,
            who.model.name,
            who.model.fingerprint,
            guidance,
            steps,
            verdict,
            provenance,
        )


def _chance(logits: float) -> float:
    """Of a vote for what has so many logits more; never quite 0 or 1, and without overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * logits))


def _conditions_of(plan: Plan, blind: bool) -> dict[str, Any]:
    """What a pair was shown with, besides FreeU's settings and its seed."""
    added: dict[str, Any] = {}
    if plan.loras:
        added["loras"] = [f"{one.name}:{one.weight:g}" for one in plan.loras]
    if plan.image_sha is not None:
        added |= {"image_sha": plan.image_sha, "denoising_strength": plan.image_strength}
    if plan.control is not None:
        added |= {"control": plan.control.name, "control_weight": plan.control.scale}
    return {
        "prompt": plan.prompts[0],
        "negative_prompt": plan.negative_prompt,
        "steps": plan.steps,
        "guidance": plan.guidance,
        "scheduler": plan.scheduler,
        "width": plan.width,
        "height": plan.height,
        "blind": blind,
    } | added


def _usable(folder: Path | None) -> Path:
    """A folder that is there, can be written, and holds votes of a studio alone."""
    assert folder is not None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = [one.name for one in folder.iterdir()]
        tempfile.TemporaryFile(dir=folder).close()
    except FileExistsError:
        raise FreeUValueError(f"--votes {folder} is a file: name a folder") from None
    except OSError as error:
        raise FreeUValueError(
            f"cannot write --votes {folder}: {error.strerror or error}: name another folder"
        ) from None
    other = next((name for name in names if not re.fullmatch(r"[0-9a-f]{24}", name) and not is_leftover(name)), None)
    if other is not None:
        raise FreeUValueError(
            f"--votes {folder} holds {other!r}, which is no studio's: name a folder that does not exist yet"
        )
    return folder
