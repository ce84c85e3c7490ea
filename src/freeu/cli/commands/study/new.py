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
    from freeu.study.plan.material import Material

_DESIGN, _RULES = "Design", "Exclusion rules (fixed before the first vote)"

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...",
        help="Folders of freeu compare, generate or video, or two or more folders of images or MP4s of the same names.",
    ),
]
Title = Annotated[
    str | None,
    typer.Option("--title", metavar="TEXT", help="Title that raters see (default: Which image is better?)."),
]
Raters = Annotated[
    int, typer.Option("--raters", metavar="N", help="Planned number of raters.", rich_help_panel=_DESIGN)
]
PairsPerRater = Annotated[
    int | None,
    typer.Option(
        "--pairs-per-rater",
        metavar="N",
        help="Different pairs shown to each rater (default: 20, or all if there are fewer).",
        rich_help_panel=_DESIGN,
    ),
]
Questions = Annotated[
    list[str] | None,
    typer.Option(
        "--question",
        metavar="NAME=TEXT",
        help="Question about each pair; can be repeated; NAME.zh=TEXT for one language only "
        "(default: alignment and quality, as in the paper).",
    ),
]
Ties = Annotated[bool, typer.Option("--ties/--no-ties", help="Offer 'no difference' as an answer.")]
Checks = Annotated[
    int | None,
    typer.Option(
        "--checks",
        metavar="N",
        help="Attention checks per rater: an image beside its noisy copy (default: 4, or fewer in a small study).",
        rich_help_panel=_DESIGN,
    ),
]
Repeats = Annotated[
    int | None,
    typer.Option(
        "--repeats",
        metavar="N",
        help="Pairs per rater shown again with left and right swapped (default: 2, or fewer in a small study).",
        rich_help_panel=_DESIGN,
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the design.", rich_help_panel=_DESIGN)]
PromptFile = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE|paper",
        help="Prompts for plain folders: the i-th line belongs to the i-th file by name.",
    ),
]
Languages = Annotated[
    str, typer.Option("--languages", metavar="en,zh", help="Languages of the pages; the first is the default.")
]
LeastSeconds = Annotated[
    float,
    typer.Option(
        "--min-seconds",
        metavar="S",
        help="Response time in seconds below which an answer is too fast.",
        rich_help_panel=_RULES,
    ),
]
MostHasty = Annotated[
    float,
    typer.Option(
        "--max-hasty",
        metavar="0..1",
        help="Exclude raters with a larger share of answers that were too fast.",
        rich_help_panel=_RULES,
    ),
]
LeastChecks = Annotated[
    float,
    typer.Option(
        "--min-checks",
        metavar="0..1",
        help="Exclude raters who pass a smaller share of the attention checks.",
        rich_help_panel=_RULES,
    ),
]
LeastConsistency = Annotated[
    float,
    typer.Option(
        "--min-consistency",
        metavar="0..1",
        help="Exclude raters who answer a smaller share of the repeats as before.",
        rich_help_panel=_RULES,
    ),
]
Demonstration = Annotated[
    bool, typer.Option("--demonstration", help="Mark a study with simulated raters; every page and result says so.")
]
Effect = Annotated[
    float, typer.Option("--effect", metavar="0..1", help="Preference to detect: share of votes for the preferred arm.")
]
Power = Annotated[float, typer.Option("--power", metavar="0..1", help="Power: probability of detecting it.")]
Alpha = Annotated[float, typer.Option("--alpha", metavar="0..1", help="Significance level of the two-sided test.")]
PowerPairs = Annotated[int, typer.Option("--pairs-per-rater", metavar="N", help="Different pairs shown to each rater.")]
PowerPrompts = Annotated[
    int | None,
    typer.Option("--prompts", metavar="N", help="Number of prompts (default: as many as pairs per rater)."),
]
Arms = Annotated[int, typer.Option("--arms", metavar="N", help="Number of arms (methods that are compared).")]
Rho = Annotated[float, typer.Option("--rho", metavar="0..1", help="Correlation of two votes of one rater.")]
PromptRho = Annotated[
    float | None,
    typer.Option("--prompt-rho", metavar="0..1", help="Correlation of two votes on one prompt (default: as --rho)."),
]


def new(
    folders: Folders,
    run: Annotated[RunOptions, Only("output")],
    title: Title = None,
    raters: Raters = 35,
    pairs_per_rater: PairsPerRater = None,
    questions: Questions = None,
    ties: Ties = False,
    checks: Checks = None,
    repeats: Repeats = None,
    seed: Seed = 0,
    prompts: PromptFile = None,
    languages: Languages = "en,zh",
    min_seconds: LeastSeconds = 0.7,
    max_hasty: MostHasty = 0.25,
    min_checks: LeastChecks = 0.75,
    min_consistency: LeastConsistency = 0.0,
    demonstration: Demonstration = False,
) -> None:
    """Plan a study. The pairs, order and sides of every rater are fixed before the first vote.

    Writes plan.json and media/, copies without metadata that do not reveal the arm.
    """
    from freeu.extras import need
    from freeu.pipelines.io.inputs import MAX_SMALL_SEED
    from freeu.pipelines.io.output import dated_folder, refuse_foreign
    from freeu.study.plan.questions import parse_languages, parse_questions

    for name, value, low, high in (
        ("--raters", raters, 1, 10_000),
        ("--pairs-per-rater", pairs_per_rater, 1, 1_000),
        ("--checks", checks, 0, 100),
        ("--repeats", repeats, 0, 100),
        ("--seed", seed, 0, MAX_SMALL_SEED),
        ("--min-seconds", min_seconds, 0, 3_600),
        ("--max-hasty", max_hasty, 0, 1),
        ("--min-checks", min_checks, 0, 1),
        ("--min-consistency", min_consistency, 0, 1),
    ):
        check_range(name, value, low, high)
    given = questions or ()
    parse_questions(given, spoken := parse_languages(languages))  # reports mistakes before any file is read
    need("study", "PIL", "numpy", "scipy")
    folder = run.output or dated_folder("freeu-study")
    refuse_foreign(folder, resumable=False)

    from freeu.study.plan.build import new_study
    from freeu.study.plan.material import read_material
    from freeu.study.plan.plan import Rules, paper_questions

    try:
        with _bar("reading") as report:
            material = read_material(folders, prompts, report)
        for note in material.notes:
            print(f"freeu: {note}", file=sys.stderr)
        shown = any(material.prompts)
        known = paper_questions(material.media, prompts=shown)
        if not shown and "alignment" in given:
            raise FreeUValueError("--question alignment needs the prompts: add --prompts FILE")
        if not shown and not given:
            print("freeu: the prompts are unknown, so only quality is asked: see --prompts", file=sys.stderr)
        if note := _reduced(material, pairs_per_rater, checks, repeats):
            print(f"freeu: {note}", file=sys.stderr)
        with _bar("writing") as report:
            made = new_study(
                material,
                folder,
                title=f"Which {material.media} is better?" if title is None else title,
                raters=raters,
                pairs_per_rater=pairs_per_rater,
                questions=parse_questions(given, spoken, known) if given else known,
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
    print(f"wrote {folder}: serve it with freeu study serve {folder}")


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
    """Power analysis: the number of raters that detect a preference (exact binomial test, Kish's design effect)."""
    from freeu.study.statistics.power import PowerSettings, raters_needed, votes_needed
    from freeu.wording import counted

    check_range("--pairs-per-rater", pairs_per_rater, 1, 1_000)
    check_range("--prompts", prompts, 1, 1_000_000)
    check_range("--arms", arms, 2, 100)
    number = pairs_per_rater if prompts is None else prompts
    on_prompt = rho if prompt_rho is None else prompt_rho
    settings = PowerSettings(pairs_per_rater, number, arms, power, alpha, rho, on_prompt)
    votes = votes_needed(effect, power, alpha)
    needed = raters_needed(effect, settings)
    print(
        f"{votes} independent votes detect a preference of {effect:.1%} with power {power:.0%} "
        f"(exact two-sided binomial test, alpha {alpha:g})"
    )
    if needed is None:
        raise FreeUValueError(
            f"no number of raters is enough with {counted(number, 'prompt')}, since votes on one prompt are correlated "
            f"(--prompt-rho {on_prompt:g}): use more prompts (--prompts)"
        )
    print(
        f"{counted(needed, 'rater')} with {counted(pairs_per_rater, 'pair')} each over {counted(number, 'prompt')} "
        f"have the same power: {needed * settings.votes_per_rater:.0f} votes per question"
        f"{' and pair of arms' if arms > 2 else ''}, design effect {settings.design_effect(needed):.2f}"
    )


def _reduced(material: Material, pairs: int | None, checks: int | None, repeats: int | None) -> str:
    """The defaults that were reduced to fit a small study, as a sentence; "" if there are none."""
    from freeu.study.plan.design import CHECKS, REPEATS, workload
    from freeu.wording import counted

    load = workload(len(material.groups), len(material.arms), pairs, checks, repeats)
    reduced = [
        f"{counted(number, noun)} instead of {default}"
        for given, number, default, noun in (
            (checks, load.checks, CHECKS, "attention check"),
            (repeats, load.repeats, REPEATS, "repeat"),
        )
        if given is None and number < default
    ]
    return f"only {counted(load.pairs, 'pair')} per rater, so {' and '.join(reduced)}" if reduced else ""


def _summary(made: StudyFolder) -> Iterator[str]:
    """What was planned, and the preference that such a study can detect."""
    from freeu.study.statistics.power import RHO, PowerSettings, detectable_effect
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
        f"{counted(kinds['check'], 'attention check')} and {counted(kinds['repeat'], 'repeat')}: "
        f"{counted(len(plan.slots[0]), 'answer')} to {counted(len(plan.questions), 'question')}"
    )
    least, most = min(per), max(per)
    yield f"{counted(most, 'vote') if least == most else f'{least}-{most} votes'} per pair and question"
    effect = detectable_effect(plan.raters, PowerSettings(kinds["vote"], len(prompts), arms))
    found = "cannot detect any preference" if effect is None else f"detects a preference of {effect:.1%}"
    yield f"{found} with power 80% at alpha 0.05 (correlations {RHO:g}; see freeu study power)"


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that begins with the first report."""
    from freeu.cli.progress import Bar

    with Bar(what, None, "file") as bar:
        yield bar.report
