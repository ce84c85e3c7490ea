"""The same run for videos: its request, and frames that go from the decoder to the encoders a few at a time.

Imports pipelines.runs, models and io.
"""
