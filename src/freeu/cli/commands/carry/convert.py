"""``freeu convert``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freeu.cli.bundles import Only
from freeu.cli.errors import CheckFailedError
from freeu.cli.shell import loading
from freeu.cli.tables import plain_table, wide_console
from freeu.pipelines.options.freeu import FreeUOptions, RegionOptions
from freeu.pipelines.options.model import ModelOptions, NamedModel
from freeu.pipelines.options.run import JsonOptions

if TYPE_CHECKING:
    from freeu.conversion import Conversion


def convert(
    named: NamedModel,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="TOOL",
            help="official, diffusers, comfyui, a1111, forge, fooocus, invokeai, refiners, sdnext, was, bleh or "
            "rerender.",
        ),
    ],
    freeu: FreeUOptions,
    region: RegionOptions,
    files: Annotated[ModelOptions, Only("model_config")],
    form: JsonOptions,
) -> None:
    """Say with which settings another tool does the same to a model, or what it cannot be told.

    The same four numbers act at other concatenations in each tool, and as another version of the operator; nothing
    is left out unsaid. Settings that come from a tool are given with its profile, such as
    --profile diffusers --b 1.2,1.4 --s 0.9,0.2.
    """
    from freeu.conversion import convert as converted
    from freeu.extras import need_diffusers
    from freeu.foreign.tools import tool
    from freeu.pipelines.io.inputs import open_region
    from freeu.pipelines.models.describe import empty_unet
    from freeu.pipelines.models.sources.sources import find_model

    freeu.check()
    if region.region is not None:
        open_region(region.region)
    title = tool(to).title
    source = find_model(named.model)
    need_diffusers()
    loading(source.label)
    unet = empty_unet(source, files.model_config)
    config = freeu.resolve(unet)
    found = converted(config, to, unet, region=region.region)
    if form.as_json:
        print(json.dumps(_data(found), indent=2))
    elif found.exact:
        print(found.text)
    else:
        console = wide_console()
        console.print(f"{source.label} with {config}", highlight=False, markup=False)
        console.print(_table(found, title))
    if not found.exact:
        raise CheckFailedError(f"{title} cannot do the same to {source.label}: {'; '.join(found.lost)}")


def _data(found: Conversion) -> dict[str, Any]:
    return {
        "tool": found.tool,
        "exact": found.exact,
        "settings": found.settings,
        "text": found.text,
        "config": found.config.to_dict() if found.config is not None else None,
        "lost": list(found.lost),
        "sites": [asdict(row) for row in found.sites],
    }


def _table(found: Conversion, title: str) -> Any:
    table = plain_table()
    table.add_column("site", no_wrap=True)
    for name in ("b", "s", "g"):
        table.add_column(name, justify="right")
    table.add_column(f"stage in {title}", justify="right")
    for row in found.sites:
        numbers = (f"{value:g}" for value in (row.factors.b, row.factors.s, row.factors.g))
        table.add_row(row.path, *numbers, "-" if row.place is None else str(row.place))
    return table
