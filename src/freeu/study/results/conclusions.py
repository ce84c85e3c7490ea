"""What a study's numbers allow to be said, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from freeu.study.statistics.numbers import interval, p_text, percent
from freeu.wording import counted

FEW = 10
"""Fewer raters or prompts than this are few to speak for others."""


def verdict(comparison: Mapping[str, Any], level: float) -> str:
    """ "preferred" or "not preferred" for the second arm of a comparison, or "undecided".

    The clustered interval decides: the whole of it must lie on one side of one half.

    Args:
        comparison: one of ``results()["main"]["comparisons"]``.
        level: coverage of its intervals; a comparison among several counts only if its p-value, adjusted for their
            number (Holm), is below 1 - level too.
    """
    found = comparison["preference"]
    ends, p_value = found["clustered"], found["p_holm"]
    if ends is None or p_value is None or ends[0] <= 0.5 <= ends[1] or p_value >= 1.0 - level:
        return "undecided"
    return "preferred" if ends[0] > 0.5 else "not preferred"


def conclusions(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Sentences for the report.

    Args:
        results: of ``results.results``.

    Returns:
        "may": what may be concluded; "may_not": what may not.
    """
    return {"may": _may(results), "may_not": _may_not(results)}


def _may(results: Mapping[str, Any]) -> list[str]:
    labels = {arm["name"]: arm["label"] for arm in results["arms"]}
    main, level = results["main"], results["level"]
    if not main["votes"]:
        return ["Nothing yet: there is no vote that counts."]
    lines = []
    if results["demonstration"]:
        lines.append(
            "Nothing about people. Every vote here was simulated. The page shows what a study looks like, "
            "and whether its statistics find the preference that was put in. The sentences below read as they would "
            "for people."
        )
    lines += [_sentence(one, labels, level) for one in main["comparisons"]]
    return [*lines, _scope(main["raters"], _prompts(main))]


def _scope(raters: int, prompts: int) -> str:
    """Whom and what the intervals speak for: of a single rater or prompt nothing is known about others."""
    if raters > 1 and prompts > 1:
        return (
            f"The intervals speak for raters like these {raters} and for prompts like these {prompts}: both were "
            "allowed to differ."
        )
    if raters == prompts == 1:
        return "One rater on one prompt speaks for nothing else: there are no intervals."
    alone, others = (
        ("rater", f"prompts like these {prompts}") if raters == 1 else ("prompt", f"raters like these {raters}")
    )
    return f"The intervals speak for this one {alone} and for {others}."


def _prompts(main: Mapping[str, Any]) -> int:
    return len({row["prompt"] for one in main["comparisons"] for row in one["prompts"]})


def _sentence(one: Mapping[str, Any], labels: Mapping[str, str], level: float) -> str:
    first, second, found = labels[one["first"]], labels[one["second"]], one["preference"]
    numbers = f"({second}: {percent(found['share'])}, {percent(level, 0)} interval {interval(found['clustered'])})"
    answer, question = verdict(one, level), one["question"].capitalize()
    if answer != "undecided":
        better, worse = (second, first) if answer == "preferred" else (first, second)
        return f"{question}: {better} is preferred to {worse} {numbers}."
    ends = found["clustered"]
    if ends is None or ends[0] <= 0.5 <= ends[1]:
        return f"{question}: undecided between {first} and {second} {numbers}."
    return (
        f"{question}: undecided between {first} and {second} once the number of comparisons is allowed for {numbers}, "
        f"adjusted p = {p_text(found['p_holm'])}."
    )


def _may_not(results: Mapping[str, Any]) -> list[str]:
    main, raters = results["main"], results["raters"]
    lines = []
    if raters["voted"] < raters["planned"]:
        lines.append(
            f"That this is the end of it: {raters['voted']} of {counted(raters['planned'], 'planned rater')} have "
            "voted. Intervals and tests hold for a number of raters that was fixed beforehand; looked at while votes "
            "come in, they promise too much."
        )
    if main["votes"] and min(main["raters"], _prompts(main)) < FEW:
        lines.append(
            f"Much about others: {counted(main['raters'], 'rater')} and {counted(_prompts(main), 'prompt')} are few to "
            "stand for the rest."
        )
    lines += [
        "That it holds for other models, settings, seeds or kinds of prompts than those that were shown.",
        "How much better the preferred one is: a share counts how often it was chosen, not by how much.",
        "That nothing else would have done as much: FreeU acts in part like stronger guidance, and only an arm with "
        "guidance of the same strength can tell the two apart.",
        "That a difference from the paper's numbers is a finding: other raters, prompts and models stand behind them, "
        "and the paper prints no intervals.",
    ]
    if len(main["comparisons"]) > 1:
        lines.append(
            f"That each of the {len(main['comparisons'])} comparisons stands for itself: with several, one may come "
            "out by chance. The adjusted p-values (Holm) allow for that, and the verdicts use them."
        )
    if any(one["preference"]["clustered"] is None for one in main["comparisons"]) and main["votes"]:
        lines.append("Anything where no interval is given: there are too few raters and prompts for one.")
    return lines
