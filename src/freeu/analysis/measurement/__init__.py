"""Numbers of an analysis: Fourier measures, traces of a generation, and what a figure consists of.

Imports core, api, pipelines and evaluate.metrics; knows neither figures nor plots nor reports.
"""

from freeu.extras import need

need("analysis", "numpy", "scipy")
