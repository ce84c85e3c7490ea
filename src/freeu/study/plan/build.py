"""Creation of a study from folders of images or videos."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from freeu.pipelines.io.output import refuse_foreign
from freeu.study.media.media import clean_copies, noisy_copy, pad_to_equal_size
from freeu.study.plan.design import Design, Trial, make_design
from freeu.study.plan.folder import StudyFolder
from freeu.study.plan.material import Group, Material
from freeu.study.plan.plan import CHECK_ARM, Arm, Item, Pair, Question, Rules, StudyPlan, Task, paper_questions


def new_study(
    material: Material,
    output: Path,
    *,
    title: str,
    raters: int,
    pairs_per_rater: int | None = None,
    questions: Sequence[Question] | None = None,
    ties: bool = False,
    checks: int | None = None,
    repeats: int | None = None,
    spare: int | None = None,
    seed: int = 0,
    languages: Sequence[str] = ("en", "zh"),
    rules: Rules | None = None,
    demonstration: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> StudyFolder:
    """Design a study and write its folder. Files are copied without metadata, so that nothing reveals the arm.

    The design is a function of the order of the material and the seed. The ids of items and tasks are random each time.

    Args:
        material: see ``read_material``.
        output: a folder that does not exist yet, or an empty one.
        title, ties, languages, rules, demonstration: as in ``StudyPlan``.
        questions: as in ``StudyPlan``; None takes ``paper_questions`` of the material.
        raters, pairs_per_rater, checks, repeats, spare, seed: as in ``make_design``.
        report: called with the number of files written and the number of all files.

    Raises:
        FreeUValueError: unusable settings, or ``output`` is not empty. Nothing is written then.
        FreeURuntimeError: the folder cannot be written.
    """
    refuse_foreign(output, resumable=False)
    design = make_design(
        [group.prompt for group in material.groups],
        len(material.arms),
        raters=raters,
        pairs_per_rater=pairs_per_rater,
        checks=checks,
        repeats=repeats,
        spare=spare,
        seed=seed,
    )
    if questions is None:
        questions = paper_questions(material.media, prompts=any(material.prompts))
    whole: dict[str, Any] = {
        "title": title,
        "seed": seed,
        "languages": tuple(languages),
        "ties": ties,
        "questions": tuple(questions),
        "raters": raters,
        "rules": rules or Rules(),
        "demonstration": demonstration,
    }

    def fill(folder: Path) -> StudyPlan:
        return _fill(folder, material, design, whole, report)

    return StudyFolder.create(output, fill)


def _fill(
    folder: Path, material: Material, design: Design, whole: dict[str, Any], report: Callable[[int, int], None]
) -> StudyPlan:
    """Write the media of a design and make its plan."""
    shown = sorted({(pair.group, arm) for pair in design.pairs for arm in (pair.first, pair.second)})
    groups = sorted({group for group, _ in shown})
    total = len(shown) + 2 * len(design.checks)
    items: list[Item] = []
    ids: dict[tuple[int, int], str] = {}

    def add(group: Group, arms: Sequence[str], files: Sequence[bytes]) -> list[str]:
        names = []
        for arm, data in zip(arms, pad_to_equal_size(files), strict=True):
            item = Item(
                secrets.token_hex(16),
                arm,
                group.prompt,
                group.seed,
                material.media,
                group.width,
                group.height,
                hashlib.sha256(data).hexdigest(),
            )
            (folder / item.file).write_bytes(data)
            items.append(item)
            names.append(item.id)
            report(len(items), total)
        return names

    for number in groups:
        group = material.groups[number]
        arms = [arm for of, arm in shown if of == number]
        names = add(group, [material.arms[arm].name for arm in arms], clean_copies([group.files[arm] for arm in arms]))
        ids.update({(number, arm): name for arm, name in zip(arms, names, strict=True)})
    pairs = [
        Pair(
            f"p{number:04d}",
            material.groups[pair.group].prompt,
            ids[pair.group, pair.first],
            ids[pair.group, pair.second],
        )
        for number, pair in enumerate(design.pairs, 1)
    ]
    # Checks have copies of their own: padding to the size of a noisy copy would make the other files needlessly large.
    for number, check in enumerate(design.checks, 1):
        group = material.groups[check.group]
        source = group.files[check.arm]
        both = [*clean_copies([source]), noisy_copy(source, whole["seed"] + number)]
        names = add(group, [material.arms[check.arm].name, CHECK_ARM], both)
        pairs.append(Pair(f"c{number:04d}", group.prompt, names[0], names[1], check=True))
    items.sort(key=lambda item: item.id)  # sorted by random id: the order of writing would reveal the arms
    return StudyPlan(
        **whole,
        prompts=material.prompts,
        arms=tuple(_plain(arm) for arm in material.arms),
        items=tuple(items),
        pairs=tuple(pairs),
        slots=tuple(
            tuple(_task(trial, question, design) for trial in slot for question in whole["questions"])
            for slot in design.slots
        ),
        source=material.source,
    )


def _task(trial: Trial, question: Question, design: Design) -> Task:
    letter = "c" if trial.kind == "check" else "p"
    return Task(secrets.token_hex(16), f"{letter}{trial.number + 1:04d}", question.name, trial.first_left, trial.kind)


def _plain(arm: Arm) -> Arm:
    """With settings as JSON returns them, so that a plan that was read equals the one that was written."""
    return Arm(arm.name, arm.label, json.loads(json.dumps(arm.settings)))
