"""ReVersion (Huang et al., arXiv:2303.13495): exemplars, losses, the placeholder token, the training.

Imports personalize.training and pipelines.
"""
