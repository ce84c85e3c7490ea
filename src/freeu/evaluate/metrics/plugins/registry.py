"""Find a metric by what ``--metric`` names: a known one, one of an installed plug-in, or a function by dotted name."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Sequence
from typing import Any

from freeu.errors import FreeUValueError, one_line
from freeu.evaluate.metrics.plugins.adapters import ADAPTERS
from freeu.evaluate.metrics.plugins.metric import Metric, MetricPlugin, as_metric
from freeu.extras import installed

GROUP = "freeu.metrics"
"""Entry points of other packages: each names a ``MetricPlugin``, a ``Metric`` or a callable."""

_DOTTED = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")


def metric_plugins() -> dict[str, MetricPlugin | importlib.metadata.EntryPoint]:
    """Every metric that is known by name; those of other packages as entry points, which nothing has loaded yet.

    >>> metric_plugins()["clip-iqa"].sees
    'image'
    """
    offered = {one.name: one for one in importlib.metadata.entry_points(group=GROUP)}
    return {**offered, **ADAPTERS}


def find_metric(text: str, device: str = "cpu") -> Metric:
    """The metric that a text names.

    Args:
        text: "NAME" or "NAME=LOCATION" of one in ``metric_plugins``, or "package.module:callable" for any callable
            (images, prompts) -> a number for each image in an installed module.
        device: a torch device.

    Raises:
        FreeUValueError: an unknown name (the message lists those that are ready and those that need a package), a
            package or a location that is missing, or a module that cannot be imported.

    >>> find_metric("clip-score")
    Traceback (most recent call last):
    ...
    freeu.errors.FreeUValueError: --metric clip-score needs the directory of a CLIPModel with its tokenizer and image \
processor: give --metric clip-score=PATH (nothing is downloaded)
    """
    name, _, location = text.partition("=")
    known = metric_plugins().get(name)
    if known is None:
        if _DOTTED.fullmatch(text):
            return as_metric(_imported(text), text)
        raise _unknown(text)
    if isinstance(known, MetricPlugin):
        return known.at(location or None, device)
    try:
        found = known.load()
    except Exception as error:  # whatever another package runs when it is imported
        raise FreeUValueError(f"--metric {name} ({known.value}) cannot be loaded: {one_line(error)}") from None
    if isinstance(found, MetricPlugin):
        return found.at(location or None, device)
    if location:
        raise FreeUValueError(f"--metric {name} takes no location, got {location!r}: leave it out")
    return as_metric(found, f"{name} ({known.value})")


def find_metrics(texts: Sequence[str], device: str = "cpu") -> tuple[Metric, ...]:
    """The metrics that texts name, each once.

    Raises:
        FreeUValueError: what ``find_metric`` refuses, or two of one name.
    """
    found = tuple(find_metric(text, device) for text in texts)
    names = [metric.name for metric in found]
    for name in names:
        if names.count(name) > 1:
            raise FreeUValueError(f"--metric {name} is given twice")
    return found


def _imported(text: str) -> Any:
    module, _, path = text.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a user's module runs when it is imported
        raise FreeUValueError(
            f"--metric {text} cannot be imported: {one_line(error)} (name a function of an installed module)"
        ) from None
    return found


def _unknown(text: str) -> FreeUValueError:
    """Those that are ready, those that need a package, and the way to any other."""
    ready, missing = [], []
    for name, one in sorted(metric_plugins().items()):
        package = one.package if isinstance(one, MetricPlugin) else ""
        if package and not installed(package):
            missing.append(f"{name} (pip install {one.install})" if isinstance(one, MetricPlugin) else name)
        else:
            ready.append(f"{name}=PATH" if isinstance(one, MetricPlugin) and one.location else name)
    others = f"; not installed: {', '.join(missing)}" if missing else ""
    return FreeUValueError(
        f"unknown --metric {text!r}: installed are {', '.join(ready)}{others}; "
        "or name any function (images, prompts) -> numbers as package.module:function"
    )
