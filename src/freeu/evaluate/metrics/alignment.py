"""What a prompt asks for against what an image shows, aspect by aspect.

The expectation (``Asked``) is known with the prompt; what is there (``Reading``) is told by a scene reader that sees
the image alone. This is the protocol of compositional benchmarks such as T2I-CompBench (Huang et al. 2023) and
GenEval (Ghosh et al. 2023) with an open set of readers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from freeu.errors import FreeUValueError, unknown_name
from freeu.motion.measure import MOTIONS

if TYPE_CHECKING:
    from PIL.Image import Image

INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
"""Relations that can be said from the other object's side."""

RELATIONS = (*INVERSE, "on", "inside", "behind")

ASPECTS = (
    "noun",
    "noun_strict",
    "count",
    "style",
    "colour",
    "background",
    "object_colour",
    "relation",
    "relation_given_nouns",
    "all_asked",
)
"""The scores of ``score_alignment``."""


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for; what it leaves open is None or empty.

    Args:
        nouns: different objects, singular, in order of mention (the subject of the relation first).
        count: number of objects, equal ones counted one by one.
        style: the generating style.
        background: one colour, or two for a gradient from top to bottom.
        colours: for each noun a colour name, or None; empty means None for all.
        relation: of the first noun to the second, one of ``RELATIONS``.
        motion: of a video, what its subject does, one of ``motion.MOTIONS``; no image is scored by it.

    Raises:
        FreeUValueError: fields that contradict each other, with the value.
    """

    nouns: tuple[str, ...] = ()
    count: int | None = None
    style: str | None = None
    background: tuple[str, ...] = ()
    colours: tuple[str | None, ...] = ()
    relation: str | None = None
    motion: str | None = None

    def __post_init__(self) -> None:
        for name in ("nouns", "background"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(word, str) and word for word in value):
                raise FreeUValueError(f"{name} must be names, got {value!r}")
        if self.count is not None and (
            isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 0
        ):
            raise FreeUValueError(f"count must be a whole number or left out, got {self.count!r}")
        if self.style is not None and not (isinstance(self.style, str) and self.style):
            raise FreeUValueError(f"style must be a name or left out, got {self.style!r}")
        if len(self.background) > 2:
            raise FreeUValueError(f"a background has one colour, or two (top, bottom), got {self.background!r}")
        if not isinstance(self.colours, tuple) or not all(
            colour is None or (isinstance(colour, str) and colour) for colour in self.colours
        ):
            raise FreeUValueError(f"colours must be names or null, got {self.colours!r}")
        if not self.colours:
            object.__setattr__(self, "colours", (None,) * len(self.nouns))
        if len(self.colours) != len(self.nouns):
            raise FreeUValueError(
                f"colours must name one colour (or null) for each noun, got {len(self.colours)} for {len(self.nouns)}"
            )
        if self.relation is not None:
            if self.relation not in RELATIONS:
                raise unknown_name("relation", self.relation, RELATIONS)
            if len(self.nouns) != 2:
                raise FreeUValueError(f"relation {self.relation!r} needs two nouns, got {self.nouns!r}")
        if self.motion is not None and self.motion not in MOTIONS:
            raise unknown_name("motion", str(self.motion), MOTIONS)

    @classmethod
    def from_dict(cls, data: Any) -> Asked:
        """From plain data, as in a line of a prompt file; fields may be left out, lists stand for tuples.

        Raises:
            FreeUValueError: no object, an unknown field (with the nearest), or what the class refuses.
        """
        if not isinstance(data, Mapping):
            raise FreeUValueError(f"'asked' must be a JSON object, got {data!r}")
        known = [item.name for item in fields(cls)]
        for name in data:
            if name not in known:
                raise unknown_name("field of 'asked'", name, known)
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in data.items()}
        for name in ("nouns", "background", "colours"):
            if values.get(name, ()) is None:
                values[name] = ()
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``from_dict`` reads; without "motion" where none is asked for, as of every image."""
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if self.motion is None:
            del data["motion"]
        return data


class Reading(Protocol):
    """What an image shows, told from the image alone; the fields mean what those of ``Asked`` mean.

    Nothing is left open here; None in ``colours`` is "its natural colours", ``relation`` None is "none".
    """

    @property
    def nouns(self) -> tuple[str, ...]: ...

    @property
    def count(self) -> int: ...

    @property
    def style(self) -> str: ...

    @property
    def background(self) -> tuple[str, ...]: ...

    @property
    def colours(self) -> tuple[str | None, ...]: ...

    @property
    def relation(self) -> str | None: ...


class Reader(Protocol):
    """Reads scenes. ``nouns``, ``styles`` and ``colours`` are the names it knows."""

    @property
    def nouns(self) -> tuple[str, ...]: ...

    @property
    def styles(self) -> tuple[str, ...]: ...

    @property
    def colours(self) -> tuple[str, ...]: ...

    def read(self, pictures: Sequence[Image]) -> Sequence[Reading]:
        """One reading for each image, in order."""


def check_readable(asked: Asked, reader: Reader) -> None:
    """Make sure that a reader has a name for everything that is asked for.

    Raises:
        FreeUValueError: the first name that the reader does not know, with the nearest that it does.
    """
    colours = (*asked.background, *(colour for colour in asked.colours if colour is not None))
    styles = () if asked.style is None else (asked.style,)
    for what, names, known in (
        ("noun", asked.nouns, reader.nouns),
        ("style", styles, reader.styles),
        ("colour", colours, reader.colours),
    ):
        for name in names:
            if name not in known:
                raise unknown_name(f"{what} (the scene reader never saw it)", name, known)


def score_alignment(asked: Asked, reading: Reading) -> dict[str, float | None]:
    """Score an image, aspect by aspect.

    Returns:
        for each of ``ASPECTS`` a number in 0..1, or None where the prompt does not ask for it:

        - ``noun``: share of the asked nouns that are there (as a multiset, in any order);
        - ``noun_strict``: 1 if all are there and nothing else is;
        - ``count``, ``style``: 1 if equal;
        - ``background``: 1 if its colours are equal, top and bottom in this order;
        - ``object_colour``: 1 if every noun with an asked colour is there in that colour;
        - ``colour``: 1 if both of these hold, as far as asked;
        - ``relation``: 1 if both nouns are there and stand so, said from either side (a left of b, b right of a);
        - ``relation_given_nouns``: the same among images with both nouns right, None for the others;
        - ``all_asked``: 1 if everything that is asked for is right.
    """
    scores: dict[str, float | None] = dict.fromkeys(ASPECTS)
    if asked.nouns:
        wanted, found = Counter(asked.nouns), Counter(reading.nouns)
        scores["noun"] = (wanted & found).total() / wanted.total()
        scores["noun_strict"] = float(wanted == found)
    if asked.count is not None:
        scores["count"] = float(asked.count == reading.count)
    if asked.style is not None:
        scores["style"] = float(asked.style == reading.style)
    if asked.background:
        scores["background"] = float(asked.background == tuple(reading.background))
    tinted = Counter(pair for pair in zip(asked.nouns, asked.colours, strict=True) if pair[1] is not None)
    if tinted:
        scores["object_colour"] = float(tinted <= Counter(zip(reading.nouns, reading.colours, strict=True)))
    parts = [part for name in ("background", "object_colour") if (part := scores[name]) is not None]
    if parts:
        scores["colour"] = min(parts)
    if asked.relation is not None:
        both = Counter(asked.nouns) == Counter(reading.nouns)
        scores["relation"] = float(both and _stands(asked, reading))
        scores["relation_given_nouns"] = scores["relation"] if both else None
    whole = ("noun_strict", "count", "style", "colour", "relation")
    held = [score for name in whole if (score := scores[name]) is not None]
    if held:
        scores["all_asked"] = min(held)
    return scores


def _stands(asked: Asked, reading: Reading) -> bool:
    """Whether the objects stand as asked, said from either side."""
    assert asked.relation is not None
    wanted = (asked.nouns[0], asked.relation, asked.nouns[1])
    found = (reading.nouns[0], reading.relation, reading.nouns[1])
    return found in (wanted, _from_the_other_side(wanted))


def _from_the_other_side(said: tuple[str, str, str]) -> tuple[str, str, str] | None:
    first, relation, second = said
    return (second, INVERSE[relation], first) if relation in INVERSE else None
