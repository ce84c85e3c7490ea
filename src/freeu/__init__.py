"""FreeU for diffusion U-Nets: better pictures at inference, with no training and no cost.

    import freeu
    with freeu.enabled(pipe, "sdxl"):
        image = pipe(prompt).images[0]

At every place where a decoder joins its backbone with a skip connection, FreeU (Si et al., CVPR 2024,
arXiv:2309.11497) amplifies the backbone by ``b`` and turns down the skip's low frequencies by ``s``.
"""

from freeu import ops
from freeu.api import Inspection, active, apply, enabled, inspect, recommend
from freeu.config import FreeUConfig, Schedule, Stage
from freeu.core.patch import Handle
from freeu.core.site import Site
from freeu.errors import FreeUError, FreeURuntimeError, FreeUValueError, NoEffectWarning, NoSitesError
from freeu.presets import Preset, preset, presets

__version__ = "0.1.0"
__all__ = [
    "FreeUConfig",
    "FreeUError",
    "FreeURuntimeError",
    "FreeUValueError",
    "Handle",
    "Inspection",
    "NoEffectWarning",
    "NoSitesError",
    "Preset",
    "Schedule",
    "Site",
    "Stage",
    "__version__",
    "active",
    "apply",
    "enabled",
    "inspect",
    "ops",
    "preset",
    "presets",
    "recommend",
]
