"""The miniature ModelScope: a text-to-video pipeline that works offline, on any machine.

Nothing but its files is here: ``freeu_zoo.models()`` finds them by the name of this package, without importing it.
"""

__all__ = ["__version__"]

__version__ = "0.2.0"
