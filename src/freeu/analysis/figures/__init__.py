"""The figures, by the numbers of the paper.

figures.py is their table; the other files hold the figures of one topic each. Imports analysis.measurement,
evaluate.metrics, motion and core; plots nothing: plots.py and report.py of the folder above do that.
"""

from freeu.extras import need

need("analysis", "numpy", "scipy", "PIL")
