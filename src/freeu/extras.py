"""Optional dependencies: say which ``pip`` command brings a missing one."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from freeu.errors import FreeUValueError, one_line


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


def need_package(module: str, install: str) -> None:
    """Make sure that a package which no extra brings is installed, such as a user's tracker; nothing is imported.

    Args:
        module: its top-level name.
        install: what to give ``pip install``.

    Raises:
        FreeUValueError: it is missing; the message gives the command that installs it.
    """
    if not installed(module):
        raise FreeUValueError(f"{module} is not installed: pip install {install}")


def installed(module: str) -> bool:
    """Whether there is a top-level module of that name; nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # None in sys.modules
        return False


def load_package(module: str, install: str) -> Any:
    """A module of a package that no extra brings.

    Args:
        module: its dotted name.
        install: what to give ``pip install``.

    Raises:
        FreeUValueError: the package is missing (with the command that installs it), or fails to import.
    """
    need_package(module.partition(".")[0], install)
    try:
        return importlib.import_module(module)
    except Exception as error:  # whatever a package runs when it is imported
        raise FreeUValueError(f"{module} is installed and cannot be imported: {one_line(error)}") from None
