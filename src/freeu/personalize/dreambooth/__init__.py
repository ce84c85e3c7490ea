"""DreamBooth (Ruiz et al., CVPR 2023): settings, the rare token, the training, and loading its result to generate.

Imports personalize.training and pipelines.
"""
