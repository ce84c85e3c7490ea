"""FreeU as a patch of a U-Net's output blocks, as ComfyUI and the Forge family of web UIs call it.

These programs own the model and clone what is put on it, so no hook is needed: before each concatenation the patch is
given backbone and skip. Imports adapters, core and ops; knows no more of them than the objects that it is given.
"""

from freeu.output_blocks.patching import FreeUPatch, freeu_on
from freeu.output_blocks.sites import find_sites
from freeu.output_blocks.steps import Steps

__all__ = ["FreeUPatch", "Steps", "find_sites", "freeu_on"]
