"""Teach a model something new, and draw it without and with FreeU.

training.py    one resumable training run: the same weights to the bit, whether it was interrupted or not
checkpoint.py  its state on disk
examples.py    the pictures to learn from
denoising.py   the loss of a U-Net of Stable Diffusion's kind

Needs ``pip install 'freeu[personalize]'``.
"""
