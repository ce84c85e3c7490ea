"""ReVersion (Huang et al., arXiv:2303.13495): exemplars, losses, the learned word, the training.

Imports personalize.training and pipelines.
"""
