"""Names of a package that are loaded when they are first used, so that importing the package loads no heavy library."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Collection, Mapping
from typing import Any


def load_name(
    package: str, name: str, homes: Mapping[str, Collection[str]], renamed: Mapping[str, str] | None = None
) -> Any:
    """What a package's ``__getattr__`` returns: a name of one of its modules, loaded and kept in the package.

    Args:
        package: its ``__name__``.
        name: what is looked up.
        homes: modules, each with the names that come from it.
        renamed: old names, each with the new one; they still work in this version and warn.

    Raises:
        AttributeError: there is no such name.
    """
    current = (renamed or {}).get(name)
    if current is not None:
        warnings.warn(f"{package}.{name} is now {package}.{current}", DeprecationWarning, stacklevel=3)
        return getattr(sys.modules[package], current)
    for home, names in homes.items():
        if name in names:
            found = getattr(importlib.import_module(home), name)
            setattr(sys.modules[package], name, found)
            return found
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
