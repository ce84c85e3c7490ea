"""Optional dependencies: say which ``pip`` command brings a missing one."""

from __future__ import annotations

import importlib.util

from freeu.errors import FreeUValueError


def need(extra: str, *modules: str) -> None:
    """Make sure that the modules of an extra are installed; nothing is imported.

    Raises:
        FreeUValueError: names what is missing and the command that installs it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise FreeUValueError(f"{', '.join(missing)} {verb} not installed: pip install 'freeu[{extra}]'")


def need_diffusers() -> None:
    """Everything that making images takes."""
    need("diffusers", "diffusers", "transformers", "accelerate", "safetensors", "PIL", "numpy", "jinja2")
