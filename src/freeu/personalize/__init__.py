"""Teach a model something new, and generate it without and with FreeU.

training    what every training shares: the resumable run, its checkpoint and record, images to learn from, samples
dreambooth  one subject from a few images
reversion   a word for a relation from a few images

Needs ``pip install 'freeu[personalize]'``.
"""
