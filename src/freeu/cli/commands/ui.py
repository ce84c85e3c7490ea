"""``freeu ui``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from freeu.cli import options as o
from freeu.errors import FreeUValueError

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="Models to choose from (default: the embedded one).", show_default=False),
]
Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets others in.")]
Port = Annotated[int, typer.Option("--port", metavar="N", help="The port; 0 takes a free one.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")]


def ui(
    models: Models = None,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    browser: Open = False,
    lora: o.Loras = None,
    fuse_lora: o.FuseLora = False,
    embedding: o.Embeddings = None,
    dtype: o.DType = "auto",
    device: o.Device = "auto",
    threads: o.Threads = None,
) -> None:
    """Open a studio in the browser: sliders for every setting, the picture without and with FreeU, and its spectra."""
    added = o.add_ons({"lora": lora, "fuse_lora": fuse_lora, "embedding": embedding})
    from freeu.extras import need
    from freeu.pipelines.runs.request import check_range

    check_range("--port", port, 0, 65_535)
    check_range("--threads", threads, 1, 4_096)
    need("ui", "gradio", "plotly")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing leaves this machine
    from freeu.ui.studio import Studio, check_models

    sources = check_models(models or [], added)
    studio = Studio(sources, device=device, dtype=dtype, threads=threads, added=added)
    from freeu.ui.page import build

    world = sources[0].world
    note = (
        f"The embedded miniature model draws {str(world['description'])[0].lower()}{str(world['description'])[1:]}."
        if world
        else ""
    )
    words = [f"{one.token} (an embedding)" for one in added["embeddings"]]
    names = [f"{one.name} (LoRA, weight {one.weight:g})" for one in added["loras"]]
    note += f" Added to the model: {', '.join([*names, *words])}." if names or words else ""
    page = build(studio, note.strip())
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port or None,
            inbrowser=browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=True,
            footer_links=[],
            allowed_paths=[],
            max_file_size=1,
        )
    except OSError as error:
        raise FreeUValueError(f"cannot listen on {host}, port {port}: {error}: choose another --port") from None
    print(f"freeu studio: {url} (Ctrl-C ends it)")
    sys.stdout.flush()
    page.block_thread()
