"""The video that comes in, its sound and key frames, and the frames between two generated key frames.

Imports motion and pipelines.io; knows no diffusion model.
"""
