"""How key frames are generated: the denoising loop and the constraints that tie the key frames together.

Imports motion and pipelines; reads no video.
"""
