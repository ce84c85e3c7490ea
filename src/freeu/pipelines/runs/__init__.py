"""A run: request (what a user asks for) -> plan (everything that decides the images) -> run -> manifest.

Imports pipelines.io and pipelines.models; makes no pages.
"""
