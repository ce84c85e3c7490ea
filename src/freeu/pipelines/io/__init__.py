"""Files in and out: images, prompts, videos and foreign weights that are read, folders that are written.

Imports errors, extras and metadata only; loads no model and knows no plan.
"""
