"""Teach a model something new, and draw it without and with FreeU.

training.py    one resumable training run: the same weights to the bit, whether it was interrupted or not
checkpoint.py  its state on disk
record.py      what its folder says of it
examples.py    the pictures to learn from
denoising.py   the loss of a U-Net of Stable Diffusion's kind
settings.py, identifier.py, lora.py, drawing.py, dreambooth.py, subjects.py
               DreamBooth: what is asked for, the rare word, low-rank changes, pictures of the class and samples,
               the training itself, and what it left to draw with

Needs ``pip install 'freeu[personalize]'``.
"""
