"""Experiments: the same prompts and seeds under several arms, generated, scored and summarized; resumable.

Imports pipelines, evaluate.metrics and motion; makes no pages.
"""
