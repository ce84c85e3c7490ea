"""Grids over any setting: axes, the run, and the page to browse its cells.

Imports pipelines.runs, pages, models and io.
"""
