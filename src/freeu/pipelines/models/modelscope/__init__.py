"""ModelScope's original checkpoints, converted to diffusers' classes in memory.

Imports pipelines.io and models.sources.
"""
