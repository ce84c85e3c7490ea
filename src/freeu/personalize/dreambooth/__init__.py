"""DreamBooth (Ruiz et al., CVPR 2023): settings, the rare word, the training, and what it left to generate with.

Imports personalize.training and pipelines.
"""
