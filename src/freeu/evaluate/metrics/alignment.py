"""What a prompt asks for against what an image shows, aspect by aspect.

What a prompt asks for (``PromptSpec``) comes with the prompt; what an image shows (``Reading``) comes from a scene
reader that sees the image alone. This is the protocol of compositional benchmarks such as T2I-CompBench (Huang et al.
2023) and GenEval (Ghosh et al. 2023), with an open set of readers.
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
"""Relations that have an inverse: "a left of b" is "b right of a"."""

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
class PromptSpec:
    """What a prompt asks for; what it does not mention is None or empty.

    Args:
        nouns: different objects, singular, in order of mention (the subject of the relation first).
        count: number of objects, equal ones counted one by one.
        style: of the image.
        background: one colour, or two for a gradient from top to bottom.
        colours: for each noun a colour name, or None; empty means None for all.
        relation: of the first noun to the second, one of ``RELATIONS``.
        motion: of a video's subject, one of ``freeu.motion.measure.MOTIONS``; images are not scored by it.

    Raises:
        FreeUValueError: a bad value, or fields that contradict each other.
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
            raise FreeUValueError(f"count must be a whole number or absent, got {self.count!r}")
        if self.style is not None and not (isinstance(self.style, str) and self.style):
            raise FreeUValueError(f"style must be a name or absent, got {self.style!r}")
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
    def from_dict(cls, data: Any) -> PromptSpec:
        """From plain data, as in a line of a prompt file; fields may be absent, lists stand for tuples.

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
        """Plain data that ``from_dict`` reads; "motion" is absent if the prompt has none, as for images."""
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if self.motion is None:
            del data["motion"]
        return data


class Reading(Protocol):
    """What a reader sees in an image; the fields mean what those of ``PromptSpec`` mean.

    Every field has a value: None in ``colours`` means "natural colours", ``relation`` None means "no relation".
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
    """Names what images show. ``nouns``, ``styles`` and ``colours`` are the names that it knows."""

    @property
    def nouns(self) -> tuple[str, ...]: ...

    @property
    def styles(self) -> tuple[str, ...]: ...

    @property
    def colours(self) -> tuple[str, ...]: ...

    def read(self, images: Sequence[Image], /) -> Sequence[Reading]:
        """One reading for each image, in order."""


def check_readable(spec: PromptSpec, reader: Reader) -> None:
    """Check that a reader knows every name in a prompt's spec.

    Raises:
        FreeUValueError: the first name that the reader does not know, with the nearest known one.
    """
    colours = (*spec.background, *(colour for colour in spec.colours if colour is not None))
    styles = () if spec.style is None else (spec.style,)
    for what, names, known in (
        ("noun", spec.nouns, reader.nouns),
        ("style", styles, reader.styles),
        ("colour", colours, reader.colours),
    ):
        for name in names:
            if name not in known:
                raise unknown_name(f"{what} (the scene reader was not trained on it)", name, known)


def score_alignment(spec: PromptSpec, reading: Reading) -> dict[str, float | None]:
    """Score an image, aspect by aspect.

    Returns:
        for each of ``ASPECTS`` a number in 0..1, or None where the prompt does not mention it:

        - ``noun``: share of the prompt's nouns that are in the image (as a multiset, in any order);
        - ``noun_strict``: 1 if all of them are and no other;
        - ``count``, ``style``: 1 if equal;
        - ``background``: 1 if its colours are equal, top and bottom in this order;
        - ``object_colour``: 1 if every noun whose colour the prompt gives is there in that colour;
        - ``colour``: 1 if ``background`` and ``object_colour`` are, as far as the prompt gives them;
        - ``relation``: 1 if both nouns are there in that relation or its inverse (a left of b, b right of a);
        - ``relation_given_nouns``: the same among images with both nouns, None for the others;
        - ``all_asked``: 1 if all attributes are correct.

    >>> asked = PromptSpec(nouns=("fox", "cat"), count=2, style="3d", background=("blue",), relation="left of")
    >>> seen = PromptSpec(("fox", "cat"), 2, "3d", ("red",), (None, None), "left of")  # what a reader read
    >>> scores = score_alignment(asked, seen)
    >>> scores["noun"], scores["relation"], scores["background"], scores["object_colour"], scores["all_asked"]
    (1.0, 1.0, 0.0, None, 0.0)
    """
    scores: dict[str, float | None] = dict.fromkeys(ASPECTS)
    if spec.nouns:
        wanted, found = Counter(spec.nouns), Counter(reading.nouns)
        scores["noun"] = (wanted & found).total() / wanted.total()
        scores["noun_strict"] = float(wanted == found)
    if spec.count is not None:
        scores["count"] = float(spec.count == reading.count)
    if spec.style is not None:
        scores["style"] = float(spec.style == reading.style)
    if spec.background:
        scores["background"] = float(spec.background == tuple(reading.background))
    coloured = Counter(pair for pair in zip(spec.nouns, spec.colours, strict=True) if pair[1] is not None)
    if coloured:
        scores["object_colour"] = float(coloured <= Counter(zip(reading.nouns, reading.colours, strict=True)))
    parts = [part for name in ("background", "object_colour") if (part := scores[name]) is not None]
    if parts:
        scores["colour"] = min(parts)
    if spec.relation is not None:
        both = Counter(spec.nouns) == Counter(reading.nouns)
        scores["relation"] = float(both and _same_relation(spec, reading))
        scores["relation_given_nouns"] = scores["relation"] if both else None
    whole = ("noun_strict", "count", "style", "colour", "relation")
    held = [score for name in whole if (score := scores[name]) is not None]
    if held:
        scores["all_asked"] = min(held)
    return scores


def _same_relation(spec: PromptSpec, reading: Reading) -> bool:
    """Whether the reading has the relation of the prompt, or its inverse with the nouns exchanged."""
    assert spec.relation is not None
    first, second = spec.nouns
    wanted = [(first, spec.relation, second)]
    if spec.relation in INVERSE:
        wanted.append((second, INVERSE[spec.relation], first))
    return (reading.nouns[0], reading.relation, reading.nouns[1]) in wanted
