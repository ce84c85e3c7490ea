"""The report of a study: a single HTML file without scripts and network requests."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from freeu.extras import need
from freeu.pipelines.pages.rendering import render
from freeu.study.plan.plan import Item, StudyPlan
from freeu.study.results.conclusions import conclusions
from freeu.study.statistics.numbers import interval, p_text, percent
from freeu.wording import counted

THUMB = 160
"""Longest side of an image on the page, in pixels."""

Thumbnails = Mapping[int, Mapping[str, str]]


def make_report(results: Mapping[str, Any], images: Thumbnails | None = None) -> str:
    """Render the report.

    Args:
        results: of ``results.results``; not modified.
        images: for each prompt number the image of each arm by name, as a ``data:`` URL (``thumbnails``); None omits
            the images.

    Returns:
        self-contained HTML. If ``demonstration`` is True, every heading and caption says that the raters are simulated.
    """
    need("study", "jinja2")
    labels = {arm["name"]: arm["label"] for arm in results["arms"]}
    main = results["main"]
    questions = [one["name"] for one in results["questions"]]
    return render(
        "freeu.study.results",
        "study_report.html",
        results=results,
        main=main,
        everyone=results["everyone"],
        simulated=results["demonstration"],
        labels=labels,
        questions=results["questions"],
        counted=counted,
        percent=lambda share, digits=1: _held(percent(share, digits)),
        interval=interval,
        signed=lambda score: f"{score:+.2f}".replace("-", "\N{MINUS SIGN}"),
        p_text=p_text,
        tables=_tables(results, questions),
        tests=_tests(results, labels),
        prompts=_prompts(results, questions, images or {}),
        paper=_paper(results),
        rankings=_rankings(main, labels),
        conclusions={name: [_held(line) for line in lines] for name, lines in conclusions(results).items()},
        level=_held(percent(results["level"], 0)),
    )


def thumbnails(plan: StudyPlan, file: Callable[[Item], Path]) -> dict[int, dict[str, str]]:
    """A small image of every arm for each prompt, of the first seed; for a video its first frame.

    Args:
        plan: of the study.
        file: returns the file of an item.

    Returns:
        images for ``make_report``: WebP of at most ``THUMB`` pixels a side.
    """
    need("study", "PIL")
    arms = {arm.name for arm in plan.arms}
    shown = {name for pair in plan.pairs if not pair.check for name in (pair.first, pair.second)}
    first: dict[tuple[int, str], Item] = {}
    for item in sorted(plan.items, key=lambda one: (-1 if one.seed is None else one.seed, one.id)):
        if item.arm in arms and item.id in shown:
            first.setdefault((item.prompt, item.arm), item)
    found: dict[int, dict[str, str]] = {}
    for (prompt, arm), item in sorted(first.items()):
        found.setdefault(prompt, {})[arm] = _thumb(file(item), item.media)
    return found


def _thumb(path: Path, media: str) -> str:
    from PIL import Image

    if media == "video":
        need("study-video", "av")
        import av

        with av.open(str(path)) as container:
            frame: Any = next(container.decode(video=0))
            image = frame.to_image()
    else:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    image.thumbnail((THUMB, THUMB))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _held(text: str) -> str:
    """Without a line break before a percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _tables(results: Mapping[str, Any], questions: Sequence[str]) -> list[dict[str, Any]]:
    """A table in the paper's layout for every two arms: a row per arm, a column per question."""
    tables = []
    for first, second in _pairs(results["main"]):
        found = {q: _find(results["main"], q, first, second) for q in questions}
        shares = {q: one["preference"]["share"] for q, one in found.items()}
        rows = [
            (first, {q: None if share is None else 1.0 - share for q, share in shares.items()}),
            (second, shares),
        ]
        tables.append(
            {
                "first": first,
                "second": second,
                "rows": rows,
                "tied": {q: one["tied"] / n if (n := one["preference"]["votes"]) else None for q, one in found.items()},
                "found": found,
            }
        )
    return tables


def _pairs(analysis: Mapping[str, Any]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((one["first"], one["second"]) for one in analysis["comparisons"]))


def _find(analysis: Mapping[str, Any], question: str, first: str, second: str) -> dict[str, Any]:
    return next(
        dict(one)
        for one in analysis["comparisons"]
        if (one["question"], one["first"], one["second"]) == (question, first, second)
    )


def _tests(results: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every comparison with its statistics, without and with excluded raters."""
    rows = []
    for name, words in (("main", "included"), ("everyone", "all")):
        for one in results[name]["comparisons"]:
            of = one["preference"]
            rows.append({**of, **one, "who": words, "label": labels[one["second"]], "other": labels[one["first"]]})
    # Sorted by question, so that both analyses of a comparison are in adjacent rows.
    order = [(one["question"], one["first"], one["second"]) for one in results["main"]["comparisons"]]
    return sorted(rows, key=lambda row: order.index((row["question"], row["first"], row["second"])))


def _prompts(results: Mapping[str, Any], questions: Sequence[str], images: Thumbnails) -> list[dict[str, Any]]:
    """For every two arms a table of prompts with a column per question."""
    tables = []
    for first, second in _pairs(results["main"]):
        by_question = {
            q: {row["prompt"]: row for row in _find(results["main"], q, first, second)["prompts"]} for q in questions
        }
        rows = [
            {
                "text": text or f"unknown prompt {number + 1}",
                "images": [(arm, images[number][arm]) for arm in (first, second) if arm in images.get(number, {})],
                "cells": [by_question[q].get(number) for q in questions],
            }
            for number, text in enumerate(results["prompts"])
            if any(number in found for found in by_question.values())
        ]
        tables.append({"first": first, "second": second, "rows": rows})
    return tables


def _paper(results: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's table for this kind of media, and the positions of its numbers on the axes of this study.

    The paper's shares can be marked only in a study of two arms of which exactly one is known to use FreeU.
    """
    found = next(one for one in results["paper"]["tables"] if one["media"] == results["media"])
    freeu = [arm["freeu"] for arm in results["arms"]]
    marks: dict[str, float] = {}
    if sorted(freeu) == [False, True]:
        marks = {question: shares[freeu.index(True)] for question, shares in found["shares"].items()}
    return {**found, "source": results["paper"]["source"], "marks": marks}


def _rankings(main: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """For every question the arms from first to last, on an axis that covers every interval."""
    rankings = []
    for question, one in (main["ranking"] or {}).items():
        if one["error"] is not None:
            rankings.append({"question": question, "error": one["error"]})
            continue
        ends = [end for both in one["intervals"] or [one["scores"]] for end in both]
        reach = max(0.1, *(abs(end) for end in ends)) * 1.05
        order = sorted(range(len(one["arms"])), key=lambda number: -one["scores"][number])

        def position(score: float, reach: float = reach) -> float:
            return (score + reach) / (2.0 * reach)

        rows = [
            {
                "label": labels[one["arms"][number]],
                "score": one["scores"][number],
                "interval": one["intervals"] and one["intervals"][number],
                "at": position(one["scores"][number]),
                "from_to": one["intervals"] and [position(end) for end in one["intervals"][number]],
                "first_chance": one["first_chance"] and one["first_chance"][number],
                "chances": [one["chances"][number][other] for other in order],
            }
            for number in order
        ]
        rankings.append({"question": question, "error": None, "rows": rows, "ties": one["ties"], "reach": reach})
    return rankings
