"""The verdicts of an analysis as a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TABLE = "table.md"


def as_markdown(results: Mapping[str, Any]) -> str:
    """A row for each verdict, with that of random weights if there is a random baseline.

    Args:
        results: what ``results.json`` holds.
    """
    head = ["fig.", "the paper", "measure", "this model", "answer"]
    head += ["random weights", "this minus random", "evidence"] if results["control_verdicts"] else []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in results["verdicts"]:
        expected = "above 0" if one["sign"] > 0 else "below 0"
        row = [str(one["figure"]), one["claim"], f"{one['measure']}: {expected}?", number(one), one["answer"]]
        other = one["control"]
        if other is not None:
            row += [f"{number(other)}: {other['answer']}", number(other["difference"]), other["beyond"]]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def number(found: Mapping[str, Any]) -> str:
    """A value with its interval."""
    interval = "" if found["low"] is None else f" [{found['low']:+.3g}, {found['high']:+.3g}]"
    return f"{found['value']:+.3g}{interval}"
