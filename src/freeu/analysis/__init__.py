"""The microscope: what frequencies a diffusion U-Net's images, latents and features hold, with FreeU and without.

measure.py    Fourier measures of planes: numbers only
trace.py      one image generated while its latents and features are measured
variants.py, runs.py                         what the figures compare, generated once each
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
    from freeu.analysis.interactive import make_figures
    from freeu.analysis.measurement.content import Cell, Figure, Grid, Panel, Series, Verdict, against
    from freeu.analysis.measurement.measure import (
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
    from freeu.analysis.measurement.trace import FeatureSpectra, Trace, watch
    from freeu.analysis.plots import figure_files, plotly_figure

_HOMES = {
    "freeu.analysis.analyze": ("random_unet",),
    "freeu.analysis.measurement.content": (
        "Cell",
        "Figure",
        "Grid",
        "Panel",
        "Series",
        "Verdict",
        "against",
    ),
    "freeu.analysis.interactive": ("make_figures",),
    "freeu.analysis.measurement.measure": (
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
    "freeu.analysis.plots": (
        "figure_files",
        "plotly_figure",
    ),
    "freeu.analysis.measurement.trace": (
        "FeatureSpectra",
        "Trace",
        "watch",
    ),
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
            value = globals()[name] = getattr(importlib.import_module(home), name)
            return value
    raise AttributeError(f"module 'freeu.analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
