"""ControlNets: found, checked against the model, and the control image they are given.

Imports pipelines.io and models.sources.
"""
