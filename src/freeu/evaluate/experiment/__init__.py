"""Experiments: the same prompts and seeds under several arms, generated, scored and summarized; resumable.

Imports pipelines, evaluate.metrics and motion; makes no pages.
"""

from freeu.extras import need

need("eval", "numpy", "scipy")
