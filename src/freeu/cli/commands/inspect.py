"""``freeu inspect``."""

from __future__ import annotations

import json
from typing import Annotated, Any

from rich.table import Table

from freeu.cli.bundles import Only
from freeu.cli.shell import loading
from freeu.cli.tables import needed, plain_table, wide_console
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.model import ModelOptions, NamedModel
from freeu.pipelines.options.run import JsonOptions


def inspect(
    named: NamedModel,
    freeu: Annotated[FreeUOptions, Only("preset")],
    files: Annotated[ModelOptions, Only("model_config")],
    form: JsonOptions,
) -> None:
    """List every site of a model: where its decoder meets a skip connection, and what each profile does there."""
    from freeu.extras import need_diffusers
    from freeu.pipelines.models.describe import describe, empty_unet
    from freeu.pipelines.models.sources.sources import find_model
    from freeu.presets.recommending import recommendation

    freeu.check()
    source = find_model(named.model)
    need_diffusers()
    loading(source.label)
    unet = empty_unet(source, files.model_config)
    data = describe(unet, source.label, freeu.resolve(unet))
    if form.as_json:
        print(json.dumps(data, indent=2))
        return
    console = wide_console()
    chosen = f"{freeu.resolve(unet)} (preset {freeu.preset})" if freeu.preset else str(recommendation(unet))
    console.print(f"{data['model']}: {data['unet']}, {data['concatenations']} concatenations", highlight=False)
    names = "(b, s, g)" if _gains_whole_skip(data) else "(b, s)"
    console.print(f"stage and factors {names} with {chosen}", highlight=False)
    for table in _site_tables(data, console.width):
        console.print(table)


def _gains_whole_skip(data: dict[str, Any]) -> bool:
    """Whether any site has a gain of its whole skip."""
    return any(at["g"] != 1.0 for site in data["sites"] for at in site["profiles"].values())


def _site_tables(data: dict[str, Any], width: int) -> list[Table]:
    """One table or, where the terminal is too narrow for all profiles, one for as many as fit side by side."""
    profiles = list(data["touched"])
    for count in range(len(profiles), 0, -1):
        tables = [_site_table(data, profiles[start : start + count]) for start in range(0, len(profiles), count)]
        if count == 1 or all(needed(table) <= width for table in tables):
            break
    return tables


def _site_table(data: dict[str, Any], profiles: list[str]) -> Table:
    table = plain_table()
    whole = _gains_whole_skip(data)
    table.add_column("site", no_wrap=True)
    for name in ("backbone", "skip"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in profiles:
        table.add_column(name, no_wrap=True)
    for site in data["sites"]:
        cells = []
        for name in profiles:
            at = site["profiles"][name]
            factors = [at["b"], at["s"]] + [at["g"]] * whole
            numbers = ", ".join(f"{factor:g}" for factor in factors)
            cells.append(f"{at['stage'] or '-'}: {numbers}" if at["touched"] else "-")
        table.add_row(site["path"], str(site["backbone_channels"]), str(site["skip_channels"]), *cells)
    table.add_section()
    table.add_row("touched", "", "", *(str(data["touched"][name]) for name in profiles))
    return table
