"""How key frames are generated: the denoising loop and the constraints that keep the key frames consistent.

Imports motion and pipelines; reads no video.
"""
