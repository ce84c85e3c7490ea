"""The microscope: what frequencies a diffusion U-Net's pictures, latents and features hold, with FreeU and without.

measure.py    Fourier measures of planes: numbers only
trace.py      one picture drawn while its latents and features are measured
variants.py, runs.py                         what the figures compare, drawn once each
content.py, figures.py, figures_*.py         the figures of the paper as data, with the numbers that decide
plots.py, report.py, analyze.py, templates/  ``freeu analyze``: files and one HTML page
interactive.py                               the same figures from Python

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freeu.analysis.analyze import random_unet
    from freeu.analysis.content import Cell, Figure, Grid, Panel, Series, Verdict, against
    from freeu.analysis.interactive import make_figures
    from freeu.analysis.measure import (
        FORMS,
        Curve,
        Spectrum,
        SpectrumSum,
        TransferSum,
        channel_mean,
        fourier_split,
        power_law,
        spectrum,
    )
    from freeu.analysis.plots import figure_files, plotly_figure
    from freeu.analysis.trace import FeatureSpectra, Trace, watch

_HOMES = {
    "analyze": ("random_unet",),
    "content": ("Cell", "Figure", "Grid", "Panel", "Series", "Verdict", "against"),
    "interactive": ("make_figures",),
    "measure": (
        "FORMS",
        "Curve",
        "Spectrum",
        "SpectrumSum",
        "TransferSum",
        "channel_mean",
        "fourier_split",
        "power_law",
        "spectrum",
    ),
    "plots": ("figure_files", "plotly_figure"),
    "trace": ("FeatureSpectra", "Trace", "watch"),
}

__all__ = [
    "FORMS",
    "Cell",
    "Curve",
    "FeatureSpectra",
    "Figure",
    "Grid",
    "Panel",
    "Series",
    "Spectrum",
    "SpectrumSum",
    "Trace",
    "TransferSum",
    "Verdict",
    "against",
    "channel_mean",
    "figure_files",
    "fourier_split",
    "make_figures",
    "plotly_figure",
    "power_law",
    "random_unet",
    "spectrum",
    "watch",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"freeu.analysis.{home}"), name)
            return value
    raise AttributeError(f"module 'freeu.analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
