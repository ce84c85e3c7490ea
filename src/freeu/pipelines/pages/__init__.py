"""What people open: grids, strips, comparison pages, videos side by side.

Imports pipelines.runs, models and io; generates nothing.
"""
