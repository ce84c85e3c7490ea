"""FreeU proven on the user's own model and machine: sites, parity, restoration, overhead; and the report.

Imports pipelines.runs, models and io, core and ops.
"""
