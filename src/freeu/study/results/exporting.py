"""Votes and results as tables: CSV, JSON and Parquet. They never contain nicknames."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from freeu.errors import unknown_name
from freeu.extras import need
from freeu.study.plan.plan import StudyPlan
from freeu.study.statistics.ballots import check_votes, rater_names
from freeu.study.statistics.exclusion import summarize_raters
from freeu.study.store.votes import Vote, answers

FORMATS = ("csv", "json", "parquet")
VOTE_COLUMNS = (
    "rater",
    "task",
    "kind",
    "question",
    "pair",
    "prompt",
    "prompt_text",
    "seed",
    "left_arm",
    "right_arm",
    "choice",
    "winner",
    "seconds",
    "time",
    "excluded",
    "plan",
)
RESULT_COLUMNS = (
    "analysis",
    "question",
    "first",
    "second",
    "prompt",
    "prompt_text",
    "votes",
    "for_first",
    "for_second",
    "tied",
    "share",
    "raters",
    "effective",
    "clustered_low",
    "clustered_high",
    "bootstrap_low",
    "bootstrap_high",
    "wilson_low",
    "wilson_high",
    "p_clustered",
    "p_holm",
    "p_exact",
    "demonstration",
    "plan",
)
# Spreadsheets of some languages take a semicolon for a comma, and full-width signs for plain ones.
_FORMULA = re.compile(r"(^|[;|\t\n\v\f]|\r(?!\n))(?=\s*[=+\-@＝＋－＠\t\r])")


def vote_rows(plan: StudyPlan, votes: Sequence[Vote]) -> list[dict[str, Any]]:
    """One row per counted vote, in the order of the votes; the columns are ``VOTE_COLUMNS``.

    ``rater`` is the number of the slot ("R007"), ``prompt`` counts from 0, ``left_arm`` and ``right_arm`` are the arms
    on the two sides ("check" for the noisy copy of a check), ``winner`` is the chosen arm or "tie", ``seconds`` is the
    response time, ``time`` is ISO 8601 in UTC, and ``excluded`` says whether the rules exclude the rater. Checks and
    repeats are included; only rows of kind "vote" enter the results.

    Raises:
        FreeUValueError: the votes are not counted votes of this plan.
    """
    check_votes(plan, votes)
    names, found = rater_names(plan, votes), summarize_raters(plan, votes)
    rows = []
    for vote, answer in zip(votes, answers(plan, votes), strict=True):
        arms = {"first": answer.first, "second": answer.second, "tie": "tie"}
        sides = (answer.first, answer.second) if answer.left == "first" else (answer.second, answer.first)
        values = (
            names[vote.rater],
            vote.task,
            answer.kind,
            answer.question,
            answer.pair,
            answer.prompt,
            plan.prompts[answer.prompt],
            plan.item(plan.pair(answer.pair).first).seed,
            *sides,
            vote.choice,
            arms[answer.winner],
            vote.seconds,
            vote.time,
            found[vote.rater].excluded,
            vote.plan,
        )
        rows.append(dict(zip(VOTE_COLUMNS, values, strict=True)))
    return rows


def result_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shares of ``results()`` as a table, one row per comparison and one per prompt of each comparison.

    ``analysis`` is "main" (without excluded raters) or "everyone" (with them); ``share`` is the share of votes for the
    second arm, 0..1, with a tie as half a vote; the row of a whole comparison has no prompt.
    """
    rows = []
    for analysis in ("main", "everyone"):
        for one in results[analysis]["comparisons"]:
            rows.append(_row(results, analysis, one, one | one["preference"], None))
            rows += [_row(results, analysis, one, row, row["prompt"]) for row in one["prompts"]]
    return rows


def _row(
    results: Mapping[str, Any], analysis: str, one: Mapping[str, Any], found: Mapping[str, Any], prompt: int | None
) -> dict[str, Any]:
    row = {name: found.get(name) for name in RESULT_COLUMNS}
    row |= {name: one[name] for name in ("question", "first", "second")}
    row |= {name: results[name] for name in ("demonstration", "plan")}
    row |= {"analysis": analysis, "prompt": prompt}
    row["prompt_text"] = None if prompt is None else results["prompts"][prompt]
    for name in ("clustered", "bootstrap", "wilson"):
        row[f"{name}_low"], row[f"{name}_high"] = found[name] or (None, None)
    return row


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: str) -> bytes:
    """Encode a table as a file.

    Args:
        rows: with a value for every column: text, numbers, booleans or None.
        columns: names of the columns in order.
        form: "csv" (UTF-8; what a spreadsheet would run as a formula, also after a semicolon or in full-width signs,
            is prefixed with an apostrophe; None is empty), "json" (a list of objects) or "parquet".

    Raises:
        FreeUValueError: another format, or pyarrow is not installed.
    """
    if form == "csv":
        return _csv(rows, columns)
    if form == "json":
        data = [{name: row[name] for name in columns} for row in rows]
        return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    if form == "parquet":
        return _parquet(rows, columns)
    raise unknown_name("format", form, FORMATS)


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def _parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    need("parquet", "pyarrow")
    import pyarrow
    from pyarrow import parquet

    made = pyarrow.table({name: pyarrow.array([row[name] for row in rows]) for name in columns})
    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(made, buffer)
    return bytes(buffer.getvalue().to_pybytes())
