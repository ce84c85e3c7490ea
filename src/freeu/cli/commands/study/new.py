"""``freeu study``: ``new`` and ``power``."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freeu.cli.bundles import Only
from freeu.cli.errors import StoppedError
from freeu.errors import FreeUValueError
from freeu.pipelines.options.option import check_range
from freeu.pipelines.options.run import RunOptions

if TYPE_CHECKING:
    from freeu.study.plan.folder import StudyFolder

_DESIGN, _RULES = "Design", "Rules (stated before the first vote)"

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...", help="Of freeu compare or generate; or two or more of images or MP4s of the same names."
    ),
]
Title = Annotated[str, typer.Option("--title", metavar="TEXT", help="What raters see as the head of the study.")]
Raters = Annotated[
    int, typer.Option("--raters", metavar="N", help="How many are planned for.", rich_help_panel=_DESIGN)
]
PairsPerRater = Annotated[
    int | None,
    typer.Option(
        "--pairs-per-rater",
        metavar="N",
        help="Different pairs put to each (default: 20, or all if there are fewer).",
        rich_help_panel=_DESIGN,
    ),
]
Questions = Annotated[
    list[str] | None,
    typer.Option(
        "--question",
        metavar="NAME=TEXT",
        help="What is asked of each pair; may be given again; NAME.zh=TEXT for one language only "
        "(default: alignment and quality, as in the paper).",
    ),
]
Ties = Annotated[bool, typer.Option("--ties/--no-ties", help="Whether 'no difference' is an answer.")]
Checks = Annotated[
    int,
    typer.Option(
        "--checks",
        metavar="N",
        help="Attention checks per rater: an image against its own noised copy.",
        rich_help_panel=_DESIGN,
    ),
]
Repeats = Annotated[
    int,
    typer.Option("--repeats", metavar="N", help="Pairs that come again with sides exchanged.", rich_help_panel=_DESIGN),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of the design.", rich_help_panel=_DESIGN)]
PromptFile = Annotated[
    str | None,
    typer.Option(
        "--prompts", metavar="FILE|paper", help="For plain folders: the i-th line is shown with the i-th file by name."
    ),
]
Languages = Annotated[str, typer.Option("--languages", metavar="en,zh", help="Of the pages; the first is the default.")]
LeastSeconds = Annotated[
    float,
    typer.Option("--min-seconds", metavar="S", help="A faster answer counts as hasty.", rich_help_panel=_RULES),
]
MostHasty = Annotated[
    float,
    typer.Option(
        "--max-hasty",
        metavar="0..1",
        help="Raters with a larger share of hasty answers are left out.",
        rich_help_panel=_RULES,
    ),
]
LeastChecks = Annotated[
    float,
    typer.Option(
        "--min-checks",
        metavar="0..1",
        help="Raters who pass a smaller share of the checks are left out.",
        rich_help_panel=_RULES,
    ),
]
LeastConsistency = Annotated[
    float,
    typer.Option(
        "--min-consistency",
        metavar="0..1",
        help="Raters who repeat fewer of their answers are left out.",
        rich_help_panel=_RULES,
    ),
]
Demonstration = Annotated[
    bool, typer.Option("--demonstration", help="The raters will be simulated: every page and result says so.")
]
Effect = Annotated[float, typer.Option("--effect", metavar="0..1", help="The preference to be found.")]
Power = Annotated[float, typer.Option("--power", metavar="0..1", help="Probability of finding it.")]
Alpha = Annotated[float, typer.Option("--alpha", metavar="0..1", help="Level of the two-sided test.")]
PowerPairs = Annotated[int, typer.Option("--pairs-per-rater", metavar="N", help="Different pairs put to each rater.")]
PowerPrompts = Annotated[
    int | None,
    typer.Option("--prompts", metavar="N", help="How many prompts there are (default: one for each pair of a rater)."),
]
Arms = Annotated[int, typer.Option("--arms", metavar="N", help="How many ways of making images are compared.")]
Rho = Annotated[float, typer.Option("--rho", metavar="0..1", help="Correlation of two votes of one rater.")]
PromptRho = Annotated[
    float | None,
    typer.Option("--prompt-rho", metavar="0..1", help="Correlation of two votes about one prompt (default: as --rho)."),
]


def new(
    folders: Folders,
    run: Annotated[RunOptions, Only("output")],
    title: Title = "Which one is better?",
    raters: Raters = 35,
    pairs_per_rater: PairsPerRater = None,
    questions: Questions = None,
    ties: Ties = False,
    checks: Checks = 4,
    repeats: Repeats = 2,
    seed: Seed = 0,
    prompts: PromptFile = None,
    languages: Languages = "en,zh",
    min_seconds: LeastSeconds = 0.7,
    max_hasty: MostHasty = 0.25,
    min_checks: LeastChecks = 0.75,
    min_consistency: LeastConsistency = 0.0,
    demonstration: Demonstration = False,
) -> None:
    """Plan a study: who is asked about which pairs, in which order and on which side, fixed before the first vote.

    Writes plan.json and media/, files made new without anything that could tell raters where they come from.
    """
    from freeu.extras import need
    from freeu.pipelines.io.inputs import MAX_SEED
    from freeu.pipelines.io.output import refuse_foreign
    from freeu.study.plan.questions import parse_languages, parse_questions

    for name, value, low, high in (
        ("--raters", raters, 1, 10_000),
        ("--pairs-per-rater", pairs_per_rater, 1, 1_000),
        ("--checks", checks, 0, 100),
        ("--repeats", repeats, 0, 100),
        ("--seed", seed, 0, MAX_SEED),
        ("--min-seconds", min_seconds, 0, 3_600),
        ("--max-hasty", max_hasty, 0, 1),
        ("--min-checks", min_checks, 0, 1),
        ("--min-consistency", min_consistency, 0, 1),
    ):
        check_range(name, value, low, high)
    asked = parse_questions(questions or (), spoken := parse_languages(languages))
    need("study", "PIL", "numpy", "scipy")
    folder = run.folder("freeu-study")
    refuse_foreign(folder, resumable=False)

    from freeu.study.plan.build import new_study
    from freeu.study.plan.material import read_material
    from freeu.study.plan.plan import QUESTIONS, Rules

    try:
        with _bar("reading") as report:
            material = read_material(folders, prompts, report)
        for note in material.notes:
            print(f"freeu: {note}", file=sys.stderr)
        if not asked:
            asked = QUESTIONS
            if not any(material.prompts):
                asked = tuple(question for question in QUESTIONS if question.name != "alignment")
                print("freeu: nobody knows the prompts, so only quality is asked: see --prompts", file=sys.stderr)
        arms = len(material.arms)
        with _bar("writing") as report:
            made = new_study(
                material,
                folder,
                title=title,
                raters=raters,
                pairs_per_rater=pairs_per_rater or min(20, len(material.groups) * arms * (arms - 1) // 2),
                questions=asked,
                ties=ties,
                checks=checks,
                repeats=repeats,
                seed=seed,
                languages=spoken,
                rules=Rules(min_checks, min_seconds, max_hasty, min_consistency),
                demonstration=demonstration,
                report=report,
            )
    except KeyboardInterrupt:
        raise StoppedError("stopped; nothing was written: give the same command again") from None
    for line in _summary(made):
        print(line)
    print(f"wrote {folder}: put it online with freeu study serve")


def power(
    effect: Effect = 0.6,
    power: Power = 0.8,
    alpha: Alpha = 0.05,
    pairs_per_rater: PowerPairs = 20,
    prompts: PowerPrompts = None,
    arms: Arms = 2,
    rho: Rho = 0.05,
    prompt_rho: PromptRho = None,
) -> None:
    """Say how many raters find a preference, by the exact binomial test and Kish's design effect."""
    from freeu.study.statistics.power import design_effect, raters_needed, votes_needed

    check_range("--pairs-per-rater", pairs_per_rater, 1, 1_000)
    check_range("--prompts", prompts, 1, 1_000_000)
    check_range("--arms", arms, 2, 100)
    there = pairs_per_rater if prompts is None else prompts
    alike = rho if prompt_rho is None else prompt_rho
    votes = votes_needed(effect, power, alpha)
    needed = raters_needed(
        effect,
        pairs_per_rater=pairs_per_rater,
        prompts=there,
        arms=arms,
        power=power,
        alpha=alpha,
        rho=rho,
        prompt_rho=alike,
    )
    print(
        f"{votes} independent votes find a preference of {effect:.1%} with probability {power:.0%} "
        f"(exact two-sided binomial test at level {alpha:g})"
    )
    if needed is None:
        raise FreeUValueError(
            f"no number of raters is enough with {there} prompts: votes about one prompt resemble each other "
            f"(--prompt-rho {alike:g}), so take more prompts (--prompts)"
        )
    each = pairs_per_rater * 2 / (arms * (arms - 1))
    print(
        f"{needed} raters of {pairs_per_rater} pairs each over {there} prompts say as much: {needed * each:.0f} votes "
        f"on each question{' and pair of arms' if arms > 2 else ''}, "
        f"design effect {design_effect(needed, each, there, rho, alike):.2f}"
    )


def _summary(made: StudyFolder) -> Iterator[str]:
    """What was planned, and what such a study can find."""
    from freeu.study.statistics.power import RHO, detectable_effect
    from freeu.wording import counted

    plan = made.plan
    arms, asked = len(plan.arms), [pair for pair in plan.pairs if not pair.check]
    prompts = {pair.prompt for pair in asked}
    kinds = Tally(task.kind for task in plan.slots[0] if task.question == plan.questions[0].name)
    votes = Tally(task.pair for slot in plan.slots[: plan.raters] for task in slot if task.kind == "vote")
    per = [votes[pair.id] // len(plan.questions) for pair in asked]
    yield f"{counted(len(prompts), 'prompt')}, {counted(len(asked), 'pair')} of {' / '.join(a.name for a in plan.arms)}"
    yield (
        f"{counted(plan.raters, 'rater')} ({len(plan.slots)} slots), each with {counted(kinds['vote'], 'pair')}, "
        f"{counted(kinds['check'], 'check')} and {counted(kinds['repeat'], 'repeat')}: "
        f"{counted(len(plan.slots[0]), 'answer')} to {counted(len(plan.questions), 'question')}"
    )
    yield f"{'-'.join(map(str, sorted({min(per), max(per)})))} votes per pair and question"
    effect = detectable_effect(plan.raters, pairs_per_rater=kinds["vote"], prompts=len(prompts), arms=arms)
    found = "cannot find any preference" if effect is None else f"finds a preference of {effect:.1%}"
    yield f"{found} with probability 80% at level 0.05 (design effect with rho {RHO:g}: freeu study power)"


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that begins with the first report."""
    from freeu.cli.progress import Bar

    with Bar(what, None, "file") as bar:
        yield bar.report
