"""What a metric of single images is, and what a plug-in says of itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from freeu.errors import FreeUValueError
from freeu.extras import need_package

Score = Callable[..., Sequence[Any]]
"""(images, prompts) -> a number for each image. Of one that sees a reference: (images, prompts, references)."""
Sees = Literal["image", "image and prompt", "image and reference"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Metric:
    """A metric that is ready to score.

    Args:
        name: of its values in ``results.json``: letters, digits and ``_ . + -``.
        open: returns the function that scores; called once, when the first image is scored, so that large networks
            are loaded one after the other and not beside the model that generates.
        sees: what it scores. "image and reference" needs the matching real image.
        higher_is_better: None if neither is.
        licence: of the package and of its weights, where it restricts what may be done with them.
        source: where it comes from, for the record.

    Raises:
        FreeUValueError: another kind of name.
    """

    name: str
    open: Callable[[], Score] = field(compare=False)
    sees: Sees = "image and prompt"
    higher_is_better: bool | None = None
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise FreeUValueError(
                f"a metric needs a name of letters, digits and _ . + -, got {self.name!r}: give it a __name__"
            )

    def to_dict(self) -> dict[str, Any]:
        """What ``results.json`` says of it."""
        return {
            "name": self.name,
            "sees": self.sees,
            "higher_is_better": self.higher_is_better,
            "licence": self.licence,
            "source": self.source,
        }


@dataclass(frozen=True)
class MetricPlugin:
    """A metric that is known by name; packages offer theirs under the entry-point group ``freeu.metrics``.

    Args:
        name: what ``--metric`` names.
        load: (location, device) -> the function that scores; loads nothing from the network.
        sees, higher_is_better, licence: as in ``Metric``.
        package: the module that must be installed; "" if freeu's own requirements are enough.
        install: what to give ``pip install`` for it.
        location: what ``NAME=LOCATION`` must name, such as "the directory of a CLIP"; "" if it takes none.
    """

    name: str
    load: Callable[[str, str], Score] = field(compare=False)
    sees: Sees = "image and prompt"
    higher_is_better: bool | None = True
    licence: str = ""
    package: str = ""
    install: str = ""
    location: str = ""

    def at(self, location: str | None = None, device: str = "cpu") -> Metric:
        """The metric with its weights at a location.

        Args:
            location: a path; None where it takes none.
            device: a torch device.

        Raises:
            FreeUValueError: no location where one is needed, or the other way round; a package that is not installed.
        """
        if self.location and not location:
            raise FreeUValueError(
                f"--metric {self.name} needs {self.location}: give --metric {self.name}=PATH (nothing is downloaded)"
            )
        if location and not self.location:
            raise FreeUValueError(f"--metric {self.name} takes no location, got {location!r}: leave it out")
        if self.package:
            need_package(self.package, self.install)
        place = str(Path(location).expanduser()) if location else ""
        if place and not Path(place).exists():
            raise FreeUValueError(f"--metric {self.name}={location}: no such path; it must be {self.location}")
        source = self.name + (f"={Path(place).name}" if place else "")
        return Metric(
            self.name, lambda: self.load(place, device), self.sees, self.higher_is_better, self.licence, source
        )


def as_metric(found: Any, source: str = "") -> Metric:
    """A metric of any callable (images, prompts) -> a number for each image; a ``Metric`` stays what it is.

    Args:
        found: a function or an object that can be called; its ``name`` or ``__name__`` names its values.
        source: where it comes from; default its name.

    Raises:
        FreeUValueError: no callable, a class, or one without a usable name.

    >>> def width(images, prompts):
    ...     return [image.width for image in images]
    >>> as_metric(width).name
    'width'
    """
    if isinstance(found, Metric):
        return found
    if isinstance(found, MetricPlugin):
        return found.at()
    if inspect.isclass(found) or not callable(found):
        what = "a class" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise FreeUValueError(
            f"a metric must be a function (images, prompts) -> numbers, or an object like it, got {what}"
        )
    name = getattr(found, "name", None) or getattr(found, "__name__", None) or type(found).__name__
    return Metric(str(name), lambda: found, source=source or str(name))
