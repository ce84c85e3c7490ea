"""Models: found (sources), loaded (loading.py), and what is put on them (addons, control, modelscope).

Imports pipelines.io and api; never generates.
"""
