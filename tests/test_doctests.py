"""Every public function has an example, and every example runs."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import freeu
from freeu.ops import reference

pytest.importorskip("freeu_zoo")

METHODS = ("parse", "replace", "to_json", "from_dict", "to_dict", "factors")


def examples() -> Iterator[tuple[str, Any]]:
    """Public functions, and methods that people call, by name."""
    for module in (freeu, freeu.ops, freeu.evaluate, freeu.analysis):
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isfunction(found):
                yield f"{module.__name__}.{name}", found
    for name in ("filter_skip", "scale_backbone"):
        yield f"freeu.ops.reference.{name}", getattr(reference, name)
    for name in METHODS:
        yield f"freeu.FreeUConfig.{name}", getattr(freeu.FreeUConfig, name)
    yield "freeu.FreeUConfig", freeu.FreeUConfig
    yield "freeu.Stage", freeu.Stage
    yield "freeu.Schedule", freeu.Schedule
    yield "freeu.Schedule.weight", freeu.Schedule.weight
    yield "freeu.personalize.Checkpoint", freeu.personalize.Checkpoint
    yield "freeu.personalize.StopSignals", freeu.personalize.StopSignals


@pytest.mark.parametrize(("name", "found"), [pytest.param(*one, id=one[0]) for one in examples()])
def test_the_example_runs(name: str, found: Any) -> None:
    module = inspect.getmodule(found)
    assert module is not None
    names = dict(vars(module))
    (test,) = [one for one in doctest.DocTestFinder(recurse=False).find(found, name, globs=names) if one.name == name]
    assert test.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
