"""What a command line shows of a field, and what can be said of any set of options without knowing its fields."""

from __future__ import annotations

import dataclasses
import functools
import math
import shlex
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from freeu.errors import FreeUValueError


@dataclass(frozen=True)
class Option:
    """How a field is given by name.

    Args:
        help: one or two sentences.
        metavar: what stands for the value, such as "0..1"; none for a switch.
        names: with their dashes, the first is used in messages; default: the field's name.
        old: names of earlier versions; they work and are not shown.
        panel: heading of the group in the help; default: that of the class, ``PANEL``.
        bounds: least and largest legal number.
        config: the field of ``FreeUConfig`` that it sets, if it sets one.
        bare: the value where the option is given without one, as the last word or before another option.
    """

    help: str
    metavar: str | None = None
    names: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    panel: str | None = None
    bounds: tuple[float, float] | None = None
    config: str | None = None
    bare: str | None = None


@dataclass(frozen=True)
class Argument:
    """How a field is given by its place: what stands for the value, and one or two sentences."""

    help: str
    metavar: str


def annotated_fields(cls: Any) -> dict[str, tuple[Any, Option | Argument]]:
    """The type and the option of each field of a dataclass that has one, in order."""
    # The cached function is another one: mypy does not take ``type(options)`` for Hashable, which its argument must be.
    return _annotated_fields(cls)


@functools.cache
def _annotated_fields(cls: Any) -> dict[str, tuple[Any, Option | Argument]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for item in dataclasses.fields(cls):
        kind, *extras = typing.get_args(hints[item.name]) or (None,)
        for extra in extras:
            if isinstance(extra, (Option, Argument)):
                found[item.name] = (kind, extra)
    return found


def flag(cls: type, field: str) -> str:
    """What a message calls a field: the first name of its option, or what stands for the argument."""
    option = annotated_fields(cls)[field][1]
    if isinstance(option, Argument):
        return option.metavar
    return option.names[0].partition("/")[0] if option.names else "--" + field.replace("_", "-")


def given(options: Any, usual: Any = None) -> dict[str, Any]:
    """The values of options that are not their defaults, by the names of their fields.

    Args:
        options: an instance of a dataclass of options.
        usual: another instance, for a command whose defaults are not those of the class.
    """
    known = annotated_fields(type(options))
    fields = [item for item in dataclasses.fields(options) if item.name in known]
    values = {
        item.name: (getattr(options, item.name), item.default if usual is None else getattr(usual, item.name))
        for item in fields
    }
    return {name: value for name, (value, default) in values.items() if value != default and value != []}


def given_flags(*groups: Any) -> list[str]:
    """What was given, as messages call it."""
    return [flag(type(options), name) for options in groups for name in given(options)]


def words(options: Any) -> list[str]:
    """The words of a command line that give these values; a command with the same defaults reads them back."""
    found: list[str] = []
    for name, value in given(options).items():
        if isinstance(annotated_fields(type(options))[name][1], Argument):
            found += [str(one) for one in value]
        elif isinstance(value, bool):
            found.append(flag(type(options), name) if value else "--no-" + flag(type(options), name)[2:])
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                found += [flag(type(options), name), plain(one)]
    return found


def shell_line(command: str, arguments: Sequence[str], options: Sequence[str]) -> str:
    """A command for a shell, which reads it back whatever its arguments begin with."""
    if any(word.startswith("-") for word in arguments):
        return shlex.join(["freeu", command, *options, "--", *arguments])
    return shlex.join(["freeu", command, *arguments, *options])


def plain(value: object) -> str:
    """A value as a command line holds it: numbers as short as they can be without losing a digit."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def check_bounds(*groups: Any) -> None:
    """Raise ``FreeUValueError`` for the first number outside its bounds."""
    for options in groups:
        for name, (_, option) in annotated_fields(type(options)).items():
            if isinstance(option, Option) and option.bounds is not None:
                check_range(flag(type(options), name), getattr(options, name), *option.bounds)


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise ``FreeUValueError`` for a number outside its range; None passes."""
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise FreeUValueError(f"{name} must lie in {low:g} to {high:g}, got {value:g}")
