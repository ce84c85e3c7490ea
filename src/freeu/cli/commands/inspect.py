"""``freeu inspect`` and ``freeu presets``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from freeu.cli import options as o

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def inspect(
    model: o.ModelArgument, preset: o.Preset = None, model_config: o.ModelConfig = None, as_json: AsJson = False
) -> None:
    """List every place where a model's decoder meets a skip connection, and what each profile does there."""
    from freeu.pipelines.models.describe import describe, empty_unet
    from freeu.pipelines.models.sources.sources import find_model
    from freeu.pipelines.runs.request import FreeUChoice

    choice = FreeUChoice(preset=preset)
    choice.check()
    source = find_model(model)
    unet = empty_unet(source, model_config)
    data = describe(unet, source.label, choice.resolve(unet))
    if as_json:
        print(json.dumps(data, indent=2))
        return
    console = _console()
    origin = f"preset {preset}" if preset else "recommended for this model"
    console.print(f"{data['model']}: {data['unet']}, {data['concatenations']} concatenations", highlight=False)
    console.print(f"stage and factors (b, s) with {choice.resolve(unet)} ({origin})", highlight=False)
    console.print(_site_table(data))


def _site_table(data: dict[str, Any]) -> Table:
    table = _table()
    profiles = list(data["touched"])
    table.add_column("site", no_wrap=True)
    for name in ("backbone", "skip"):
        table.add_column(name, justify="right")
    for name in profiles:
        table.add_column(name, no_wrap=True)
    for site in data["sites"]:
        cells = []
        for name in profiles:
            at = site["profiles"][name]
            cells.append(f"{at['stage']}: {at['b']:g}, {at['s']:g}" if at["touched"] else "-")
        table.add_row(site["path"], str(site["backbone_channels"]), str(site["skip_channels"]), *cells)
    table.add_section()
    table.add_row("touched", "", "", *(str(count) for count in data["touched"].values()))
    return table


def presets(as_json: AsJson = False) -> None:
    """List the named settings with their operator version, their source, and what was measured of them."""
    from freeu.presets import presets as table_of

    known = table_of()
    if as_json:
        rows = {
            n: {"family": p.family, "source": p.source, "measured": p.measured, "config": p.config.to_dict()}
            for n, p in known.items()
        }
        print(json.dumps(rows, indent=2))
        return
    table = _table()
    for name in ("preset", "b", "s"):
        table.add_column(name, no_wrap=True)
    table.add_column("version", justify="right")
    for name in ("profile", "family", "source", "evidence"):
        table.add_column(name)
    for name, preset in known.items():
        b, s = (", ".join(f"{value:g}" for value in values) for values in (preset.config.b, preset.config.s or ()))
        version, profile = str(preset.config.version), preset.config.profile
        table.add_row(name, b, s, version, profile, preset.family, preset.source, preset.evidence)
    _console().print(table)


def _console() -> Console:
    """Standard output; wide where it is no terminal, so that a file or pipe gets whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
