"""``freeu presets``."""

from __future__ import annotations

import json

from freeu.cli.tables import plain_table, wide_console
from freeu.pipelines.options.run import JsonOptions


def presets(form: JsonOptions) -> None:
    """List the named settings with their operator version, their source, and what was measured of them."""
    from freeu.presets import presets as table_of

    known = table_of()
    if form.as_json:
        rows = {
            n: {"family": p.family, "source": p.source, "measured": p.measured, "config": p.config.to_dict()}
            for n, p in known.items()
        }
        print(json.dumps(rows, indent=2))
        return
    table = plain_table()
    for name in ("preset", "b", "s"):
        table.add_column(name, no_wrap=True)
    table.add_column("version", justify="right")
    for name in ("profile", "family", "source", "evidence"):
        table.add_column(name)
    for name, preset in known.items():
        b, s = (", ".join(f"{value:g}" for value in values) for values in (preset.config.b, preset.config.s or ()))
        gains = preset.config.skip_gain_ends or preset.config.skip_gain
        if gains != 1.0:
            s += f"; g {' to '.join(f'{gain:g}' for gain in gains)}" if isinstance(gains, tuple) else f"; g {gains:g}"
        version, profile = str(preset.config.version), preset.config.profile
        table.add_row(name, b, s, version, profile, preset.family, preset.source, preset.evidence)
    wide_console().print(table)
