"""What others do to classifier-free guidance, beside FreeU: a guidance interval and FreSca.

settings.py  what is done, and when, as a frozen value; no torch
hook.py      the one hook on a U-Net that does it, and which pipelines it can be done to

Both edit the two predictions that a pipeline's guidance is made of, where they leave the U-Net, so no pipeline is
copied. FreeU acts inside the U-Net and ScaleCrafter in its convolutions: all can be on at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freeu.lazy import load_name

if TYPE_CHECKING:
    from freeu.guiding.hook import Guided, enabled
    from freeu.guiding.settings import FreSca, Guiding

_HOMES = {
    "freeu.guiding.hook": ("Guided", "enabled"),
    "freeu.guiding.settings": ("FreSca", "Guiding"),
}

__all__ = ["FreSca", "Guided", "Guiding", "enabled"]


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
