"""The plan of a study: questions, pairs and the tasks of every rater, fixed and hashed before the first vote.

An *arm* is one of the methods that are compared. A *pair* is two images (or videos) of the same prompt and seed from
two arms. A *task* is a pair, a question, and which item is on the left. A *slot* is the list of tasks of one rater.
Everything here is plain data that ``plan.json`` stores. design.py makes the design from a seed; store and web only
execute the plan.
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
"""Name of the arm of the noisy copies in attention checks."""


@dataclass(frozen=True)
class Question:
    """A question about every pair.

    Args:
        name: short and unique, such as "alignment".
        text: the question as raters see it, by language ("en", "zh").
    """

    name: str
    text: Mapping[str, str]


_NOUNS: Mapping[Media, tuple[str, str]] = {"image": ("image", "哪张图片"), "video": ("video", "哪段视频")}


def paper_questions(media: Media = "image", *, prompts: bool = True) -> tuple[Question, ...]:
    """The questions of the paper: image-text alignment and image quality (for Table 2, those of videos).

    A study keeps the wording that its plan was made with, so a change here does not affect existing studies.

    Args:
        media: "image" or "video".
        prompts: whether raters see the prompts. Without prompts only quality can be asked.
    """
    noun, chinese = _NOUNS[media]
    if not prompts:
        return (Question("quality", {"en": f"Which {noun} has better quality?", "zh": f"{chinese}的质量更好？"}),)
    return (
        Question("alignment", {"en": f"Which {noun} matches the prompt better?", "zh": f"{chinese}更符合提示词？"}),
        Question(
            "quality",
            {
                "en": f"Which {noun} has better quality, regardless of the prompt?",
                "zh": f"不考虑提示词，{chinese}的质量更好？",
            },
        ),
    )


QUESTIONS = paper_questions()
"""The paper's questions about images."""


@dataclass(frozen=True)
class Arm:
    """One of the compared methods.

    Args:
        name: unique.
        label: for reports; raters never see it.
        settings: FreeU's configuration as plain data; None without FreeU, or where it is unknown.
    """

    name: str
    label: str
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Item:
    """One image or video as raters see it.

    Args:
        id: random; the name of the file in ``media/`` (without suffix) and in URLs. It carries no information.
        arm: name of the arm, or ``CHECK_ARM`` for the noisy copy of a check.
        prompt: number of the prompt, from 0.
        seed: noise seed, or None where it is unknown.
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
        """Name of the file in ``media/``."""
        return self.id + (".mp4" if self.media == "video" else ".png")


@dataclass(frozen=True)
class Pair:
    """Two items of the same prompt and seed. ``first`` and ``second`` do not say which is on the left.

    Args:
        id: short and unique within the plan.
        prompt: number of the prompt, from 0.
        first, second: ids of items. In a check the first item is the clean one, which is the right answer.
        check: whether this is an attention check.
    """

    id: str
    prompt: int
    first: str
    second: str
    check: bool = False


@dataclass(frozen=True)
class Task:
    """One question about one pair for one rater.

    Args:
        id: random, unique within the plan.
        pair: id of the pair.
        question: name of the question.
        first_left: whether the pair's first item is on the left.
        kind: "vote", "check" (see ``Pair.check``) or "repeat" (a pair from earlier in the slot with left and right
            swapped; used for consistency only, never for the results).
    """

    id: str
    pair: str
    question: str
    first_left: bool
    kind: TaskKind = "vote"


@dataclass(frozen=True)
class Rules:
    """Exclusion rules, fixed before the first vote.

    Args:
        least_checks: a rater must pass at least this share (0..1) of the attention checks; a tie in a check is wrong.
        least_seconds: an answer within less than this response time, in seconds, counts as too fast.
        most_hasty: a rater with a larger share (0..1) of answers that were too fast is excluded.
        least_consistency: a rater must give the same answer to at least this share (0..1) of the repeats; 0 excludes
            no one.
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
        ties: whether "no difference" is offered as an answer.
        questions, prompts, arms, items, pairs: see their classes.
        slots: the tasks of each rater in order; one slot per planned rater and some spare slots.
        raters: planned number of raters.
        rules: exclusion rules.
        source: where the images come from (names of manifests or folders, never paths) and their settings.
        demonstration: True marks a study with simulated raters: every page and result says so.

    Raises:
        FreeUValueError: an inconsistency; the message names the entry.
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
        raise FreeUValueError(f"the plan of the study is inconsistent: {name} {rule}")
