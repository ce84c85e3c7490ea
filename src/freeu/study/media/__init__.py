"""Images and videos of a study, re-encoded so that no file reveals its arm.

Imports pipelines.io.
"""
