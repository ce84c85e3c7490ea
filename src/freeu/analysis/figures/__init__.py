"""The figures, by the numbers of the paper.

figures.py makes them; the other files hold the figures of one subject each. Imports analysis.measurement,
evaluate.metrics, motion and core; plots nothing: plots.py and report.py of the folder above do that.
"""
