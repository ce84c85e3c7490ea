"""The plan of a study, fixed before the first vote: questions, pairs, sides, media.

Imports study.media, pipelines.runs and io; does not know votes.
"""
