"""From folders of images to a study that can be served."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from freeu.pipelines.io.output import refuse_foreign
from freeu.study.media.media import clean_copies, noised_copy, pad_alike
from freeu.study.plan.design import Design, Trial, make_design
from freeu.study.plan.folder import StudyFolder
from freeu.study.plan.material import Group, Material
from freeu.study.plan.plan import CHECK_ARM, QUESTIONS, Arm, Item, Pair, Question, Rules, StudyPlan, Task


def new_study(
    material: Material,
    output: Path,
    *,
    title: str,
    raters: int,
    pairs_per_rater: int,
    questions: Sequence[Question] = QUESTIONS,
    ties: bool = False,
    checks: int = 4,
    repeats: int = 2,
    spare: int | None = None,
    seed: int = 0,
    languages: Sequence[str] = ("en", "zh"),
    rules: Rules | None = None,
    demonstration: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> StudyFolder:
    """Design a study and write its folder. Everything that could tell raters which arm made a file is taken off it.

    The design is a function of the material's order and the seed; the ids of items and tasks are random each time.

    Args:
        material: see ``read_material``.
        output: a folder that does not exist yet, or an empty one.
        title, questions, ties, languages, rules, demonstration: as in ``StudyPlan``.
        raters, pairs_per_rater, checks, repeats, spare, seed: as in ``make_design``.
        report: called with files written and files in all.

    Raises:
        FreeUValueError: what cannot be used, or an output that holds something. Nothing is written then.
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
    """Write the media of a design, and make the plan of it."""
    shown = sorted({(pair.group, arm) for pair in design.pairs for arm in (pair.first, pair.second)})
    groups = sorted({group for group, _ in shown})
    total = len(shown) + 2 * len(design.checks)
    items: list[Item] = []
    ids: dict[tuple[int, int], str] = {}

    def add(group: Group, arms: Sequence[str], files: Sequence[bytes]) -> list[str]:
        names = []
        for arm, data in zip(arms, pad_alike(files), strict=True):
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
    # Checks have copies of their own, so that the large noised ones do not fill up the files that are voted on.
    for number, check in enumerate(design.checks, 1):
        group = material.groups[check.group]
        source = group.files[check.arm]
        both = [*clean_copies([source]), noised_copy(source, whole["seed"] + number)]
        names = add(group, [material.arms[check.arm].name, CHECK_ARM], both)
        pairs.append(Pair(f"c{number:04d}", group.prompt, names[0], names[1], check=True))
    items.sort(key=lambda item: item.id)  # the order of making says which arm is whose
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
    """With settings as JSON gives them back, so that a plan that was read equals the one that was written."""
    return Arm(arm.name, arm.label, json.loads(json.dumps(arm.settings)))
