"""Formatting of a study's numbers, the same for pages and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

NONE = "–"
"""Shown where a value could not be computed."""


def percent(share: float | None, digits: int = 1) -> str:
    """A share in 0..1 as "71.6 %"."""
    return NONE if share is None else f"{100.0 * share:.{digits}f} %"


def interval(ends: Sequence[float] | None, digits: int = 1) -> str:
    """An interval of shares in 0..1 as "[63.5, 78.6]", in percent."""
    return NONE if ends is None else f"[{100.0 * ends[0]:.{digits}f}, {100.0 * ends[1]:.{digits}f}]"


def p_text(value: float | None) -> str:
    """A p-value as "0.034" or "< 0.001"."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
