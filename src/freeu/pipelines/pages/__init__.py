"""What people open: grids, strips, comparison pages, films side by side.

Imports pipelines.runs, models and io; generates nothing.
"""
