"""Pure tensor operators of FreeU: no module, no configuration, no state.

``filter_skip`` and ``scale_backbone`` are exact and fast; ``reference`` holds the published FFT form as the oracle.
"""

from freeu.ops import reference
from freeu.ops._fused import freeu
from freeu.ops.backbone import scale_backbone, structure_gain
from freeu.ops.skip import filter_skip

__all__ = ["filter_skip", "freeu", "reference", "scale_backbone", "structure_gain"]
