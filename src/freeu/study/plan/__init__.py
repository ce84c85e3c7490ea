"""The plan of a study, fixed from its seed before the first vote: pairs, sides, questions, material.

Imports study.media, pipelines.runs and io; knows no votes.
"""
