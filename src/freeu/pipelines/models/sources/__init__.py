"""Which model is meant, and of which family it is, from its files alone.

Imports pipelines.io; loads no weights, so that a wrong name fails at once.
"""
