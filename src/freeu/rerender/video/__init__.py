"""The source video, its sound and key frames, and the frames between two generated key frames.

Imports motion and pipelines.io; uses no diffusion model.
"""
