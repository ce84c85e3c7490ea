"""Spectral analysis: the frequencies in a diffusion U-Net's images, latents and features, with and without FreeU.

measurement     Fourier measures, traces of features and latents, and the images that the figures need
figures         the figures of the paper as data, with the numbers that decide each verdict
plots.py, report.py, table.py, analyze.py, templates/  ``freeu analyze``: files and one HTML page
interactive.py  the same figures from Python

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freeu.extras import need
from freeu.lazy import load_name

if TYPE_CHECKING:
    from freeu.analysis.analyze import random_unet
    from freeu.analysis.interactive import make_figures
    from freeu.analysis.measurement.content import Cell, Figure, Grid, Panel, Series, Verdict, compare_verdicts
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
        "compare_verdicts",
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
    "channel_mean",
    "compare_verdicts",
    "figure_files",
    "fourier_split",
    "make_figures",
    "plotly_figure",
    "power_law",
    "random_unet",
    "spectrum",
    "watch",
]


_RENAMED = {"against": "compare_verdicts"}
"""Names of version 0.1."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        need("analysis", "numpy", "scipy")
    return load_name(__name__, name, _HOMES, _RENAMED)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
