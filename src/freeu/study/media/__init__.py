"""Images and videos of a study, written again so that no file tells which arm it is.

Imports pipelines.io.
"""
