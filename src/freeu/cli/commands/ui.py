"""``freeu ui``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from freeu.cli.bundles import Only, Without
from freeu.cli.shell import loading
from freeu.errors import FreeUValueError
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.server import ServerOptions


def ui(
    options: Annotated[ModelOptions, Only("lora", "fuse_lora", "embedding")],
    run: Annotated[RunOptions, Without("output")],
    server: ServerOptions,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="Models to choose from (default: the embedded one).", show_default=False
        ),
    ] = None,
    controlnet: Annotated[
        list[str] | None,
        typer.Option(
            "--controlnet",
            metavar="NAME|PATH",
            help="A ControlNet to choose from; may be given again (an embedded model has the embedded one).",
            show_default=False,
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """Open a studio in the browser: sliders for every setting, the image without and with FreeU, and its spectra."""
    from freeu.extras import need
    from freeu.pipelines.options.option import check_bounds

    added = options.add_ons()
    check_bounds(server, run)
    run.memory()
    need("ui", "gradio", "plotly")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing leaves this machine
    loading("the studio")
    from freeu.ui.studio import Studio, check_controls, check_models

    sources = check_models(models or [], added)
    studio = Studio(sources, run, added, check_controls(controlnet or [], sources))
    from freeu.ui.page import Page, serve

    world = sources[0].world
    note = (
        f"The embedded miniature model generates {str(world['description'])[0].lower()}{str(world['description'])[1:]}."
        if world
        else ""
    )
    words = [f"{one.token} (an embedding)" for one in added.embeddings]
    names = [f"{one.name} (LoRA, weight {one.weight:g})" for one in added.loras]
    note += f" Added to the model: {', '.join([*names, *words])}." if names or words else ""
    print(f"loading {sources[0].label} ...", file=sys.stderr, flush=True)
    page = Page(studio, note.strip())
    try:
        url = serve(page, server.host, server.port, browser)
    except OSError as error:
        raise FreeUValueError(
            f"cannot listen on {server.host}, port {server.port}: {error}: choose another --port"
        ) from None
    print(f"freeu studio: {url} (Ctrl-C ends it)", flush=True)
    page.blocks.block_thread()
