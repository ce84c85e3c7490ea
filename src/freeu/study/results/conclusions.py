"""Conclusions from the results of a study, and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from freeu.study.statistics.numbers import interval, p_text, percent
from freeu.wording import counted

FEW = 10
"""With fewer raters or prompts the report says that the sample is small."""


def verdict(comparison: Mapping[str, Any], level: float) -> str:
    """ "preferred" or "not preferred" for the second arm of a comparison, or "inconclusive".

    A preference requires that the clustered interval excludes 0.5 and that the p-value adjusted for multiple
    comparisons (Holm) is below 1 - level.

    Args:
        comparison: one of ``results()["main"]["comparisons"]``.
        level: confidence level of its intervals.
    """
    found = comparison["preference"]
    ends, p_value = found["clustered"], found["p_holm"]
    if ends is None or p_value is None or ends[0] <= 0.5 <= ends[1] or p_value >= 1.0 - level:
        return "inconclusive"
    return "preferred" if ends[0] > 0.5 else "not preferred"


def conclusions(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Sentences for the report.

    Args:
        results: of ``results.results``.

    Returns:
        "conclusions": what the votes show; "limits": what they do not show.
    """
    return {"conclusions": _conclusions(results), "limits": _limits(results)}


def _conclusions(results: Mapping[str, Any]) -> list[str]:
    labels = {arm["name"]: arm["label"] for arm in results["arms"]}
    main, level = results["main"], results["level"]
    if not main["votes"]:
        return ["None yet: there are no votes in the results."]
    lines = []
    if results["demonstration"]:
        lines.append(
            "No conclusions about people: every vote was simulated. This page shows what a report looks like, and "
            "whether the statistics recover the simulated preference. The sentences below are worded as for human "
            "raters."
        )
    lines += [_sentence(one, labels, level) for one in main["comparisons"]]
    return [*lines, _scope(main["raters"], _prompts(main))]


def _scope(raters: int, prompts: int) -> str:
    """The population for which the intervals hold: a single rater or prompt says nothing about others."""
    if raters > 1 and prompts > 1:
        return (
            f"The confidence intervals hold for raters like these {raters} and for prompts like these {prompts}: they "
            "account for differences between raters and between prompts."
        )
    if raters == prompts == 1:
        return "One rater on one prompt does not generalize: there are no confidence intervals."
    one, others = (
        ("rater", f"prompts like these {prompts}") if raters == 1 else ("prompt", f"raters like these {raters}")
    )
    return f"The confidence intervals hold for this one {one} and for {others}."


def _prompts(main: Mapping[str, Any]) -> int:
    return len({row["prompt"] for one in main["comparisons"] for row in one["prompts"]})


def _sentence(one: Mapping[str, Any], labels: Mapping[str, str], level: float) -> str:
    first, second = (f"“{labels[one[name]]}”" for name in ("first", "second"))
    found = one["preference"]
    ends = found["clustered"]
    numbers = f"({second}: {percent(found['share'])}, {percent(level, 0)} confidence interval {interval(ends)})"
    answer, question = verdict(one, level), one["question"].capitalize()
    if answer != "inconclusive":
        better, worse = (second, first) if answer == "preferred" else (first, second)
        return f"{question}: {better} is preferred to {worse} {numbers}."
    if ends is None or ends[0] <= 0.5 <= ends[1]:
        return f"{question}: no significant preference between {first} and {second} {numbers}."
    return (
        f"{question}: no significant preference between {first} and {second} after correction for multiple "
        f"comparisons {numbers}, adjusted p = {p_text(found['p_holm'])}."
    )


def _limits(results: Mapping[str, Any]) -> list[str]:
    main, raters = results["main"], results["raters"]
    lines = []
    if raters["voted"] < raters["planned"]:
        lines.append(
            f"The study is not complete: {raters['voted']} of {counted(raters['planned'], 'planned rater')} have "
            "voted. Intervals and tests assume that the number of raters was fixed in advance. Stopping early because "
            "of interim results makes them too optimistic."
        )
    if main["votes"] and min(main["raters"], _prompts(main)) < FEW:
        lines.append(
            f"The sample is small: {counted(main['raters'], 'rater')} and {counted(_prompts(main), 'prompt')} may not "
            "represent others."
        )
    lines += [
        "The results hold for the models, settings, seeds and kinds of prompts that were shown, not for others.",
        "A share of votes says how often an arm was chosen, not how much better it is.",
        "Other settings may have the same effect: FreeU acts in part like a higher CFG scale. Only an arm with a "
        "matching CFG scale can separate the two.",
        "A difference from the paper's numbers is not a finding: raters, prompts and models differ, and the paper "
        "reports no confidence intervals.",
    ]
    if len(main["comparisons"]) > 1:
        lines.append(
            f"With {len(main['comparisons'])} comparisons, one may be significant by chance. The adjusted p-values "
            "(Holm) account for this, and the verdicts use them."
        )
    if any(one["preference"]["clustered"] is None for one in main["comparisons"]) and main["votes"]:
        lines.append("Where no confidence interval is given, there are too few raters and prompts for one.")
    return lines
