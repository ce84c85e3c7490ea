"""What a search is to improve, what it must not spoil, and how long it may take."""

from __future__ import annotations

import math
import random
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from freeu.errors import FreeUValueError

Values = Mapping[str, float | None]

DEFAULT_OBJECTIVE = ("all_asked", "noun", "clip_score")
"""Of these a search improves those that the judges at hand measure."""
VIDEO_OBJECTIVE = ("clip_right", "noun", "clip_score")
"""The same for videos; ``clip_right`` holds the motion that a prompt asks for, beside what it shows."""
DEFAULT_GUARD = "saturation=0.03"
LEAST_HELD_OUT = 20
"""Prompts; with fewer no interval means anything."""


@dataclass(frozen=True)
class Objective:
    """Measures that are to rise (or fall, with "-" before them), each in units of its own spread.

    The gain of an image is the mean over measures of its change against plain sampling with the same prompt and seed,
    divided by the standard deviation of that measure over plain images. So measures of any scale weigh the same, and
    0 is plain sampling.

    Args:
        terms: names of measures as in ``results.json``, and their signs.

    >>> Objective.parse("clip_score,-saturation").terms
    (('clip_score', 1.0), ('saturation', -1.0))
    """

    terms: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read names with commas between them.

        Raises:
            FreeUValueError: no name, or one twice.
        """
        words = [word.strip() for word in text.split(",")]
        terms = tuple((word.lstrip("-+").strip(), -1.0 if word.startswith("-") else 1.0) for word in words)
        names = [name for name, _ in terms]
        if not all(names) or len({*names}) < len(names):
            raise FreeUValueError(f"--objective must be names of measures with commas, each once, got {text!r}")
        return cls(terms)

    def __str__(self) -> str:
        return ",".join(("-" if sign < 0 else "") + name for name, sign in self.terms)

    def spreads(self, plain: Sequence[Values]) -> dict[str, float]:
        """The standard deviation of each measure over plain images; 1 where all are equal.

        Raises:
            FreeUValueError: a measure that these images do not have, with those they have.
        """
        found = {}
        for name, _ in self.terms:
            values = [value for row in plain if (value := row.get(name)) is not None]
            if not values:
                known = sorted({name for row in plain for name, value in row.items() if value is not None})
                raise FreeUValueError(
                    f"no image has the measure {name!r} that --objective names: these have {', '.join(known)}"
                )
            found[name] = (statistics.pstdev(values) if len(values) > 1 else 0.0) or 1.0
        return found

    def gain(self, values: Values, plain: Values, spreads: Mapping[str, float]) -> float:
        """The gain of one image; NaN if none of the measures has a value for both."""
        gains = [
            sign * (mine - theirs) / spreads[name]
            for name, sign in self.terms
            if (mine := values.get(name)) is not None and (theirs := plain.get(name)) is not None
        ]
        return statistics.fmean(gains) if gains else math.nan


@dataclass(frozen=True)
class Guard:
    """A measure that must stay near that of plain sampling.

    Args:
        measure: its name as in ``results.json``.
        most: the largest mean change, above 0.
    """

    measure: str
    most: float


def parse_guards(text: str) -> tuple[Guard, ...]:
    """Read "saturation=0.03,contrast=0.02"; "none" is no guard.

    Raises:
        FreeUValueError: no such text, or a change that is not above 0.
    """
    if text.strip() == "none":
        return ()
    found = []
    for word in text.split(","):
        matched = re.fullmatch(r"\s*([\w.-]+)\s*=\s*([0-9.eE+-]+)\s*", word)
        try:
            most = float(matched[2]) if matched else math.nan
        except ValueError:
            most = math.nan
        if not (math.isfinite(most) and most > 0.0):
            raise FreeUValueError(f"--guard must be none, or MEASURE=LARGEST_CHANGE with commas, got {text!r}")
        assert matched is not None
        found.append(Guard(matched[1], most))
    return tuple(found)


def check_guards(guards: Sequence[Guard], plain: Sequence[Values]) -> None:
    """Refuse a guard of a measure that plain images do not have, with those they have."""
    known = sorted({name for row in plain for name, value in row.items() if value is not None})
    for guard in guards:
        if guard.measure not in known:
            raise FreeUValueError(
                f"no image has the measure {guard.measure!r} that --guard names: these have {', '.join(known)}"
            )


@dataclass(frozen=True)
class TuneSettings:
    """How a search is done.

    Args:
        objective: what is to rise.
        guards: what must not change much.
        trials: settings that are tried in each of the two searches, of FreeU and of guidance.
        minutes: after which each of them ends; infinite by default.
        search_prompts: prompts of the search, of which each is generated once in a trial.
        confirm_prompts: other prompts, on which the best few are measured once more.
        finalists: how many those are.
        sites: how many sites get factors of their own, those that the judge's gradient says matter most.
        seed: of the sampler and of the noise.
    """

    objective: Objective
    guards: tuple[Guard, ...] = ()
    trials: int = 60
    minutes: float = math.inf
    search_prompts: int = 64
    confirm_prompts: int = 96
    finalists: int = 4
    sites: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Split:
    """Numbers of the prompts of each part; no prompt is in two."""

    search: tuple[int, ...]
    confirm: tuple[int, ...]
    held_out: tuple[int, ...]


def divide_prompts(prompts: int, held_out: bool, search: int, confirm: int, seed: int) -> Split:
    """Divide prompts between the search, the second look and the verdict, in a random order that the seed decides.

    Args:
        prompts: how many there are.
        held_out: whether other prompts decide.
        search, confirm: how many are searched on, and looked at again.
        seed: of the order.

    Raises:
        FreeUValueError: too few prompts.
    """
    order = random.Random(f"{seed}/split").sample(range(prompts), prompts)
    least = search + confirm + (0 if held_out else LEAST_HELD_OUT)
    if prompts < least:
        raise FreeUValueError(
            f"a search needs {least} prompts or more ({search} to search, {confirm} to look again, the others for the "
            f"verdict), got {prompts}: give more, or lower --search-prompts and --confirm-prompts"
        )
    return Split(tuple(order[:search]), tuple(order[search : search + confirm]), tuple(order[search + confirm :]))
