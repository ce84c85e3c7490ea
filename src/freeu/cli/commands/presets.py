"""``freeu presets``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from freeu.cli.tables import plain_table, wide_console
from freeu.pipelines.options.run import JsonOptions

WIDE = 130
"""Columns of a terminal from which on the list shows source and evidence too."""


def presets(
    form: JsonOptions,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Everything about this one.")] = None,
) -> None:
    """List the named settings, or show one with its source and what was measured of it."""
    from freeu.presets import preset as checked
    from freeu.presets import presets as table_of

    if name is not None:
        checked(name)
    known = {one: found for one, found in table_of().items() if name in (None, one)}
    if form.as_json:
        rows = {
            n: {"family": p.family, "source": p.source, "measured": p.measured, "config": p.config.to_dict()}
            for n, p in known.items()
        }
        print(json.dumps(rows, indent=2))
    elif name is not None:
        _print_one(known[name])
    else:
        _print_all(known)


def _print_one(preset: Any) -> None:
    rows = [
        ("preset", preset.name),
        ("settings", str(preset.config)),
        ("profile", preset.config.profile),
        ("version", str(preset.config.version)),
        ("family", preset.family),
        ("source", preset.source),
        ("evidence", preset.evidence),
        ("use", f'freeu compare "a fox" --preset {preset.name}'),
    ]
    table = plain_table()
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    wide_console().print(table, highlight=False, markup=False)


def _print_all(known: dict[str, Any]) -> None:
    console = wide_console()
    wide = console.width >= WIDE
    table = plain_table()
    for name in ("preset", "b", "s"):
        table.add_column(name, no_wrap=True)
    table.add_column("version", justify="right")
    for name in ("profile", "family", "source", "evidence") if wide else ("family",):
        table.add_column(name, no_wrap=name == "profile")
    for name, preset in known.items():
        b, s = (", ".join(f"{value:g}" for value in values) for values in (preset.config.b, preset.config.s or ()))
        gains = preset.config.skip_gain_ends or preset.config.skip_gain
        if gains != 1.0:
            s += f"; g {' to '.join(f'{gain:g}' for gain in gains)}" if isinstance(gains, tuple) else f"; g {gains:g}"
        more = (preset.config.profile, preset.family, preset.source, preset.evidence) if wide else (preset.family,)
        table.add_row(name, b, s, str(preset.config.version), *more)
    console.print(table)
    if not wide:
        console.print("freeu presets NAME shows profile, source and evidence of one", highlight=False)
