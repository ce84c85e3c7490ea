"""A grid of settings: one text of settings for each cell, by the axes of ``freeu sweep``."""

from __future__ import annotations

import json

from freeu import FreeUConfig, FreeUValueError
from freeu.pipelines.sweep.axes import Axis, Settings, parse_axis

OFF = "strength=0"
"""Settings that leave the model as it is."""
_MOST = 200


def grid(base: str, x: str, y: str = "") -> tuple[list[str], list[str], int]:
    """Settings for every cell of a grid, row after row.

    Args:
        base: settings that all cells have but for the axes, as JSON or in the short form.
        x, y: axes such as ``b1=1,1.2,1.4``, ``s2=0:1:0.25`` or ``preset=off,sd15``; y may be empty.

    Returns:
        settings as JSON, what to call each of them, and the number of columns.

    Raises:
        FreeUValueError: an axis of something else than FreeU's settings, a value out of range, more than 200 cells.
    """
    start = FreeUConfig.from_json(base) if base.strip().startswith("{") else FreeUConfig.parse(base)
    axes = [parse_axis(name, text) for name, text in (("y", y), ("x", x)) if text.strip()]
    if not axes:
        raise FreeUValueError("x must name an axis, such as b1=1,1.2,1.4")
    cells: list[tuple[Settings, tuple[str, ...]]] = [(Settings(), ())]
    for axis in axes:
        cells = [_with(cell, axis, value) for cell in cells for value in axis.values]
    if len(cells) > _MOST:
        raise FreeUValueError(f"the grid has {len(cells)} cells, more than {_MOST}: use fewer values")
    configs = [settings.freeu(start) for settings, _ in cells]
    texts = [OFF if config is None else json.dumps(config.to_dict()) for config in configs]
    return texts, [", ".join(words) for _, words in cells], len(axes[-1].values)


def _with(cell: tuple[Settings, tuple[str, ...]], axis: Axis, value: object) -> tuple[Settings, tuple[str, ...]]:
    settings, words = cell
    found = settings.with_value(axis.name, value)
    if found.fields == settings.fields and (found.preset, found.config) == (settings.preset, settings.config):
        raise FreeUValueError(f"{axis.name} is not a setting of FreeU: use b1, s2, end, mask, preset and the like")
    return found, (*words, axis.label(value))
