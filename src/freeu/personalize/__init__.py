"""Train a model on a subject or a relation, and generate it without and with FreeU.

training    what every training shares: the resumable run, its checkpoint and record, training images, samples
dreambooth  DreamBooth: one subject from a few images
reversion   ReVersion: a token for a relation from a few images

Needs ``pip install 'freeu[personalize]'``.
"""
