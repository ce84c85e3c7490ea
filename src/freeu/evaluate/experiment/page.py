"""``report.html`` of an evaluation: its table, the differences with intervals, images that nobody chose, conditions."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from freeu.config import FreeUConfig
from freeu.evaluate.experiment.results import about_run, glance, ordered_measures
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.used import sampler_text
from freeu.pipelines.pages.rendering import render

PAGE = "report.html"
PROMPTS = 4
"""The first prompts whose images are shown."""
_SIDE = 256
"""Pixels of the longer side of an image on the page, at most."""
_STILLS = (".png", ".jpg", ".jpeg", ".webp")


def write_report(folder: Path, results: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Path:
    """Write the page of an evaluation; everything is inside, images reduced to 256 pixels.

    Args:
        folder: of the evaluation.
        results: what ``results.json`` holds.
        files: the images of each arm, in the order of ``results["pictures"]``.

    Returns:
        the page's path.
    """
    title, *facts = about_run(results)
    heads, rows = glance(results)
    page = render(
        "freeu.evaluate.experiment",
        "evaluation.html",
        title=title,
        facts=facts,
        heads=heads,
        rows=rows,
        measures=ordered_measures(results),
        differences=_differences(results),
        first=results["arms"][0]["name"],
        images=_images(results, files),
        conditions=_conditions(results),
    )
    return OutputFolder(folder).write(PAGE, page)


def _differences(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each arm but the first, of each measure the difference, its interval, and whether that leaves out 0."""
    measures = ordered_measures(results)
    rows = []
    for arm in results["arms"][1:]:
        cells = []
        for measure in measures:
            found = results["differences"][arm["name"]].get(measure)
            low, high = (None, None) if found is None else (found["low"], found["high"])
            cells.append(
                {
                    "value": "-" if found is None else f"{found['value']:+.3g}",
                    "interval": "" if low is None or high is None else f"[{low:+.3g}, {high:+.3g}]",
                    "bold": low is not None and high is not None and (low > 0 or high < 0),
                }
            )
        rows.append({"name": arm["name"], "cells": cells})
    return rows


def _images(results: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> list[dict[str, Any]]:
    """The first image of each of the first prompts under every arm; none of videos."""
    found = []
    for index in range(min(PROMPTS, len(results["prompts"]))):
        cells = []
        for arm in results["arms"]:
            rows = [one for one in results["pictures"] if one["arm"] == arm["name"]]
            pairs = zip(rows, files.get(arm["name"], ()), strict=True)
            path = next((path for row, path in pairs if row["prompt"] == index), None)
            if path is not None and path.suffix.lower() in _STILLS:
                cells.append({"name": arm["name"], "src": _source(path)})
        if cells:
            found.append({"prompt": results["prompts"][index]["prompt"], "cells": cells})
    return found


def _source(path: Path) -> str:
    from freeu.pipelines.io.inputs import open_image

    image, buffer = open_image(path), io.BytesIO()
    image.thumbnail((_SIDE, _SIDE))
    image.save(buffer, format="WEBP", quality=92)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _conditions(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was compared, by what it was scored, and the versions."""
    rows = []
    for arm in results["arms"]:
        config = FreeUConfig.from_dict(arm["config"]) if arm["config"] else None
        scale = results["guidance"].get(arm["name"])
        parts = ["without FreeU" if config is None else f"FreeU {config} (profile {config.profile})"]
        parts += [f"CFG scale {scale:.4g}"] if scale is not None else []
        rows.append(
            (f"arm {arm['name']}", ", ".join(parts) if results["plan"] is not None else "images as they were given")
        )
    rows += [(f"judge: {name}", value) for name, value in results.get("judges", {}).items() if value]
    if results["plan"] is not None:
        plan = results["plan"]
        rows += [
            ("seeds", ", ".join(map(str, plan["seeds"]))),
            ("size", f"{plan['width']}x{plan['height']}"),
            ("CFG scale", f"{plan['guidance']:g}"),
            ("sampler", sampler_text(results.get("used", {})) or plan["scheduler"] or "the model's own"),
            ("model fingerprint", plan["model"]["fingerprint"]),
            ("device", f"{plan['device']}, {plan['threads']} threads"),
        ]
    return rows + list(results.get("environment", {}).items())
