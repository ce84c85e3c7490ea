"""Images and videos of a study, rewritten without metadata, so that no file reveals its arm.

Imports pipelines.io.
"""
