"""FreeU for diffusion U-Nets: better images at inference, with no training and no cost.

    import freeu
    with freeu.enabled(pipe, "sdxl"):
        image = pipe(prompt).images[0]

At every place where a decoder joins its backbone with a skip connection, FreeU (Si et al., CVPR 2024,
arXiv:2309.11497) amplifies the backbone by ``b`` and turns down the skip's low frequencies by ``s``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUError, FreeURuntimeError, FreeUValueError, NoEffectWarning, NoSitesError
from freeu.extras import installed
from freeu.presets import Preset, preset, presets
from freeu.schedule import Schedule, Stage

if TYPE_CHECKING:
    from freeu import analysis, evaluate, guiding, metadata, ops, personalize, scalecrafter
    from freeu.api import Inspection, active, apply, apply_freeu, enabled, inspect, remove_all
    from freeu.conversion import convert
    from freeu.core.patch import Handle
    from freeu.core.site import Site
    from freeu.guiding.guider import FreeUGuidance as FreeUGuidance  # not in __all__: import * would load diffusers
    from freeu.presets.recommending import Recommendation, recommend, recommendation
    from freeu.tuning.interactive import tune

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
    "Recommendation",
    "Schedule",
    "Site",
    "Stage",
    "__version__",
    "active",
    "analysis",
    "apply",
    "apply_freeu",
    "convert",
    "enabled",
    "evaluate",
    "guiding",
    "inspect",
    "metadata",
    "ops",
    "personalize",
    "preset",
    "presets",
    "recommend",
    "recommendation",
    "remove_all",
    "scalecrafter",
    "tune",
]

# What needs torch is loaded when it is first used, so that the command line answers before torch is there.
_NEED_TORCH = {
    "freeu.api": ("Inspection", "active", "apply", "apply_freeu", "enabled", "inspect", "remove_all"),
    "freeu.conversion": ("convert",),
    "freeu.core.patch": ("Handle",),
    "freeu.core.site": ("Site",),
    "freeu.guiding.guider": ("FreeUGuidance",),
    "freeu.presets.recommending": ("Recommendation", "recommend", "recommendation"),
    "freeu.tuning.interactive": ("tune",),
}


def __getattr__(name: str) -> Any:
    if name in ("analysis", "evaluate", "guiding", "metadata", "ops", "personalize", "scalecrafter"):
        return importlib.import_module(f"freeu.{name}")
    for home, names in _NEED_TORCH.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(home), name)
            return value
    raise AttributeError(f"module 'freeu' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *(("FreeUGuidance",) if installed("diffusers") else ())})
