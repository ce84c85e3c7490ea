"""What a study asks, of whom and in which order: fixed and hashed before the first vote.

A *pair* is two images (or videos) of one prompt and one seed, made by two arms. A *task* is a pair, a question, and
which of the two stands on the left. A *slot* is the list of tasks of one rater. Everything here is plain data that
``plan.json`` holds; design.py makes it from a seed, store.py and web.py only carry it out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from freeu.errors import FreeUValueError

LANGUAGES = ("en", "zh")
Media = Literal["image", "video"]
TaskKind = Literal["vote", "check", "repeat"]
CHECK_ARM = "check"
"""The arm of the noised copies in attention checks."""


@dataclass(frozen=True)
class Question:
    """What a rater is asked of a pair.

    Args:
        name: short, unique, such as "alignment".
        text: the question by language ("en", "zh").
    """

    name: str
    text: Mapping[str, str]


QUESTIONS = (
    Question(
        "alignment",
        {"en": "Which one shows better what the text says?", "zh": "哪一个更符合文字描述？"},
    ),
    Question(
        "quality",
        {"en": "Which one looks better, whatever the text says?", "zh": "不考虑文字，哪一个画质更好？"},
    ),
)
"""Those of the paper: image-text alignment and image quality (video quality for Table 2)."""


@dataclass(frozen=True)
class Arm:
    """One way of making images.

    Args:
        name: unique.
        label: for reports; raters never see it.
        settings: FreeU's configuration as plain data, or None.
    """

    name: str
    label: str
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Item:
    """One image or video as raters see it.

    Args:
        id: opaque; the name of its file in ``media/`` (without suffix) and in addresses. It says nothing.
        arm: name of the arm, or ``CHECK_ARM`` for the noised copy of a check.
        prompt: number of the prompt.
        seed: of the diffusion noise, or None where nobody knows.
        media: "image" or "video".
        width, height: in pixels.
        sha256: of the file in ``media/``.
    """

    id: str
    arm: str
    prompt: int
    seed: int | None
    media: Media
    width: int
    height: int
    sha256: str

    @property
    def file(self) -> str:
        """Name of its file in ``media/``."""
        return self.id + (".mp4" if self.media == "video" else ".png")


@dataclass(frozen=True)
class Pair:
    """Two items of one prompt and seed. ``first`` and ``second`` have nothing to do with left and right.

    Args:
        id: short and unique within the plan.
        prompt: number of the prompt.
        first, second: ids of items. In a check the first is the clean one, which is the right answer.
        check: whether this is an attention check.
    """

    id: str
    prompt: int
    first: str
    second: str
    check: bool = False


@dataclass(frozen=True)
class Task:
    """One question of one pair, put to one rater.

    Args:
        id: opaque, unique in the plan.
        pair: id of the pair.
        question: name of the question.
        first_left: whether the pair's first item stands on the left.
        kind: "vote", "check" (see ``Pair.check``) or "repeat" (asked before in the same slot, with sides exchanged;
            only for consistency, never counted in results).
    """

    id: str
    pair: str
    question: str
    first_left: bool
    kind: TaskKind = "vote"


@dataclass(frozen=True)
class Rules:
    """When a rater's votes are left out of the results, stated before the first vote.

    Args:
        least_checks: a rater must answer at least this share (0..1) of the checks that were put to them correctly; a
            tie in a check is wrong.
        least_seconds: a vote faster than this counts as hasty, in seconds from the moment the pair was shown.
        most_hasty: a rater with a larger share (0..1) of hasty votes is excluded.
        least_consistency: a rater must give the same answer to at least this share (0..1) of the repeats; 0 never
            excludes anybody.
    """

    least_checks: float = 0.75
    least_seconds: float = 0.7
    most_hasty: float = 0.25
    least_consistency: float = 0.0


@dataclass(frozen=True)
class StudyPlan:
    """Everything that is fixed before the first vote.

    Args:
        title: shown to raters.
        seed: of the design.
        languages: of the pages, the default first.
        ties: whether "no difference" is an answer.
        questions, prompts, arms, items, pairs: see above.
        slots: the tasks of each rater in order; as many slots as raters are planned for, with some to spare.
        raters: how many are planned for.
        rules: of exclusion.
        source: where the images come from (names of manifests or folders, never paths), and what made them.
        demonstration: True marks a study whose raters are simulated: every page and result says so.

    Raises:
        FreeUValueError: anything that does not fit together, by name.
    """

    title: str
    seed: int
    languages: tuple[str, ...]
    ties: bool
    questions: tuple[Question, ...]
    prompts: tuple[str, ...]
    arms: tuple[Arm, ...]
    items: tuple[Item, ...]
    pairs: tuple[Pair, ...]
    slots: tuple[tuple[Task, ...], ...]
    raters: int
    rules: Rules = field(default_factory=Rules)
    source: tuple[str, ...] = ()
    demonstration: bool = False

    def __post_init__(self) -> None:
        _require(bool(self.title.strip()), "title", "must not be empty")
        _require(bool(self.languages) and set(self.languages) <= set(LANGUAGES), "languages", f"are {LANGUAGES}")
        for name, values in (
            ("questions", [one.name for one in self.questions]),
            ("arms", [one.name for one in self.arms]),
            ("items", [one.id for one in self.items]),
            ("pairs", [one.id for one in self.pairs]),
            ("tasks", [task.id for slot in self.slots for task in slot]),
        ):
            _require(bool(values), name, "must not be empty")
            _require(len(set(values)) == len(values), name, "must be unique")
        for question in self.questions:
            _require(set(self.languages) <= set(question.text), question.name, "must be asked in every language")
        arms = {arm.name for arm in self.arms} | {CHECK_ARM}
        for item in self.items:
            _require(item.arm in arms and 0 <= item.prompt < len(self.prompts), item.id, "has no such arm or prompt")
        for pair in self.pairs:
            both = [self.item(one) if one in self._items else None for one in (pair.first, pair.second)]
            _require(None not in both and pair.first != pair.second, pair.id, "needs two different items")
        names = {question.name for question in self.questions}
        for task in self.tasks():
            _require(task.pair in self._pairs and task.question in names, task.id, "has no such pair or question")
            _require((task.kind == "check") == self.pair(task.pair).check, task.id, "must be a check as its pair is")
        _require(1 <= self.raters <= len(self.slots), "raters", "must be at most the number of slots")

    @cached_property
    def _items(self) -> dict[str, Item]:
        return {item.id: item for item in self.items}

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return {pair.id: pair for pair in self.pairs}

    @cached_property
    def _tasks(self) -> dict[str, tuple[int, Task]]:
        return {task.id: (number, task) for number, slot in enumerate(self.slots) for task in slot}

    def item(self, name: str) -> Item:
        """The item of an id; ``KeyError`` if there is none."""
        return self._items[name]

    def pair(self, name: str) -> Pair:
        """The pair of an id; ``KeyError`` if there is none."""
        return self._pairs[name]

    def task(self, name: str) -> tuple[int, Task]:
        """Number of the slot and the task of an id; ``KeyError`` if there is none."""
        return self._tasks[name]

    def tasks(self) -> Iterator[Task]:
        """Every task of every slot."""
        for slot in self.slots:
            yield from slot

    @cached_property
    def sha256(self) -> str:
        """The hash that every vote carries: of the canonical JSON of everything above."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``folder.StudyFolder.open`` reads it back."""
        return asdict(self)


def _require(fine: bool, name: str, rule: str) -> None:
    if not fine:
        raise FreeUValueError(f"the plan of the study does not fit together: {name} {rule}")
