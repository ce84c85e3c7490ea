"""Distillation of an image model to a few steps: its mathematics, what is learned of the U-Net, and the run.

consistency.py  the consistency function, the solver and the loss, as pure functions of tensors
lora.py         what is learned: all weights, or low-rank additions
lcm.py          the run

Imports run, data and schedule of training; it never writes a finished model.
"""
