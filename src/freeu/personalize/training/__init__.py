"""What every training shares: the resumable run, its checkpoint and record, the training images, the samples.

Imports pipelines; contains no training method.
"""
