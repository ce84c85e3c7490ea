"""What every training shares: the resumable run, its checkpoint and record, the images it learns from, its samples.

Imports pipelines; knows no method.
"""
