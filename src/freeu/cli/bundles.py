"""Options that are dataclasses: a command takes them whole, and typer sees their fields.

    @command(app, "compare")
    def compare(prompts: PromptOptions, freeu: FreeUOptions, run: RunOptions) -> None: ...

has the options of all three, in that order and under their panels.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from freeu.cli.shell import speaking
from freeu.pipelines.options.option import Argument, Option, annotated_fields, flag
from freeu.pipelines.options.run import ShellOptions


class Only:
    """In the annotation of a bundle: offer these fields alone, ``Annotated[ModelOptions, Only("variant")]``."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields


class Without:
    """In the annotation of a bundle: leave these fields at their defaults."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields


class Defaults:
    """In the annotation of a bundle: other defaults, ``Annotated[SamplingOptions, Defaults(seeds="0-1")]``."""

    def __init__(self, **values: Any) -> None:
        self.values = values


@dataclass(frozen=True)
class _Bundle:
    """A parameter of a command that stands for the fields of a dataclass.

    Args:
        cls: the dataclass.
        defaults: of the fields that are offered.
        fixed: other values of fields that are not.
    """

    cls: type
    defaults: dict[str, Any]
    fixed: dict[str, Any]

    @classmethod
    def of(cls, annotation: Any) -> _Bundle | None:
        kind, *marks = typing.get_args(annotation) or (annotation,)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            return None
        values = {item.name: item.default for item in dataclasses.fields(kind)}
        offered = list(annotated_fields(kind))
        for mark in marks:
            if isinstance(mark, Defaults):
                values |= mark.values
            elif isinstance(mark, (Only, Without)):
                unknown = set(mark.fields) - set(values)
                assert not unknown, f"{kind.__name__} has no {unknown}"
                offered = [name for name in offered if (name in mark.fields) == isinstance(mark, Only)]
        # What is neither offered nor given keeps the default of the class.
        fixed = {name: value for mark in marks if isinstance(mark, Defaults) for name, value in mark.values.items()}
        return cls(kind, {n: values[n] for n in offered}, {n: v for n, v in fixed.items() if n not in offered})

    def parameters(self) -> list[inspect.Parameter]:
        """One for each field that is offered."""
        found = []
        for name, default in self.defaults.items():
            kind, option = annotated_fields(self.cls)[name]
            found.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if default is dataclasses.MISSING else default,
                    annotation=Annotated[kind, self._typer(name, option)],
                )
            )
        return found

    def _typer(self, name: str, option: Option | Argument) -> Any:
        if isinstance(option, Argument):
            return typer.Argument(metavar=option.metavar, help=option.help, show_default=False)
        names = option.names or (flag(self.cls, name),)
        panel = option.panel or getattr(self.cls, "PANEL", None)
        shown = self.defaults[name] is not dataclasses.MISSING
        kind = annotated_fields(self.cls)[name][0]
        metavar = " " if kind is bool else option.metavar  # a switch has no value
        return typer.Option(*names, metavar=metavar, help=option.help, rich_help_panel=panel, show_default=shown)

    def old_names(self) -> dict[str, tuple[str, ...]]:
        """Names of earlier versions by field."""
        options = {name: annotated_fields(self.cls)[name][1] for name in self.defaults}
        return {name: one.old for name, one in options.items() if isinstance(one, Option) and one.old}

    def bare_values(self) -> dict[str, str]:
        """What options mean where they stand without a value, by their first names."""
        options = {name: annotated_fields(self.cls)[name][1] for name in self.defaults}
        return {flag(self.cls, name): one.bare for name, one in options.items() if isinstance(one, Option) and one.bare}

    def build(self, values: dict[str, Any]) -> Any:
        """The dataclass; its fields leave ``values``."""
        return self.cls(**self.fixed, **{name: values.pop(name) for name in self.defaults})


def flattened(function: Callable[..., None]) -> Callable[..., None]:
    """The same function with the fields of its bundles as parameters of their own."""
    # Not get_type_hints: on Python 3.10 it hides the Annotated of a parameter with the default None in an Optional.
    parameters = inspect.signature(function, eval_str=True).parameters
    flat: dict[str, inspect.Parameter] = {}
    bundles: dict[str, _Bundle] = {}
    for name, parameter in parameters.items():
        bundle = _Bundle.of(parameter.annotation)
        if bundle is None:
            flat[name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        bundles[name] = bundle
        for one in bundle.parameters():
            assert one.name not in flat, f"{function.__name__} has two options {one.name}"
            flat[one.name] = one

    @functools.wraps(function)
    def call(**values: Any) -> None:
        built = {name: bundle.build(values) for name, bundle in bundles.items()}
        manner = next((one for one in built.values() if isinstance(one, ShellOptions)), ShellOptions())
        with speaking(manner):
            function(**values, **built)

    call.__signature__ = inspect.Signature(list(flat.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in flat.values()}
    call.__old_names__ = {  # type: ignore[attr-defined]
        name: old for bundle in bundles.values() for name, old in bundle.old_names().items()
    }
    call.__bare_values__ = {  # type: ignore[attr-defined]
        name: value for bundle in bundles.values() for name, value in bundle.bare_values().items()
    }
    return call


def given_names(ctx: typer.Context) -> set[str]:
    """The parameters that the user gave, also those given with the value that is the default."""
    # By its name: typer brings its own click, or uses the installed one, by version.
    return {name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"}


def command(
    app: typer.Typer, name: str, **old: tuple[str, ...]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose parameters may be bundles.

    Args:
        app: the group.
        name: of the command.
        old: names of earlier versions for the command's own parameters; those of bundles come with them.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        flat = flattened(function)
        names = flat.__old_names__ | old  # type: ignore[attr-defined]
        bare = flat.__bare_values__  # type: ignore[attr-defined]
        app.command(name, cls=type("Command", (_Command,), {"old_names": names, "bare": bare}))(flat)
        return function

    return register


class _PlainSwitches:
    """Shows no type beside options that take no value, such as --help."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in params:
            if getattr(one, "is_flag", False) and one.metavar is None:
                one.metavar = " "
        return params


class Group(_PlainSwitches, TyperGroup):
    """A group of commands."""


class _Command(_PlainSwitches, TyperCommand):
    """A command that also takes names of earlier versions, which its help does not show."""

    old_names: typing.ClassVar[dict[str, tuple[str, ...]]] = {}
    bare: typing.ClassVar[dict[str, str]] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for parameter in self.get_params(ctx):
            for old in self.old_names.get(parameter.name or "", ()):
                if any(word.partition("=")[0] == old for word in itertools.takewhile(lambda word: word != "--", args)):
                    print(f"freeu: {old} is called {parameter.opts[0]} now", file=sys.stderr)
        options = list(itertools.takewhile(lambda word: word != "--", args))
        for place, word in enumerate(options):
            # Neither typer nor every click knows options whose value may be left out.
            if word in self.bare and (place + 1 == len(args) or args[place + 1].startswith("-")):
                args = [*args[:place], f"{word}={self.bare[word]}", *args[place + 1 :]]
        return super().parse_args(ctx, args)

    def make_parser(self, ctx: Any) -> Any:
        parser = super().make_parser(ctx)
        for parameter in self.get_params(ctx):
            old = self.old_names.get(parameter.name or "")
            if old:
                shown, parameter.opts = parameter.opts, list(old)
                parameter.add_to_parser(parser, ctx)
                parameter.opts = shown
        return parser
