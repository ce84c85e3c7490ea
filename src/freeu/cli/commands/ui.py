"""``freeu ui``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freeu.cli.bundles import Only, Without
from freeu.cli.serving import interruptible
from freeu.cli.shell import loading
from freeu.errors import FreeUValueError
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.server import ServerOptions

if TYPE_CHECKING:
    from freeu.ui.page import Page
    from freeu.ui.studio import Studio
    from freeu.ui.voting.votes import Votes


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
    votes: Annotated[
        Path | None,
        typer.Option(
            "--votes",
            metavar="DIR",
            help="Keep the visitors' votes between images here (default: until the studio ends).",
            show_default=False,
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """Open a studio in the browser: sliders for every setting, the image without and with FreeU, and its spectra.

    Vote which image you like better: it proposes what to look at next, and gives what you like as a preset.
    """
    from freeu.extras import need
    from freeu.pipelines.options.option import check_bounds

    added = options.add_ons()
    check_bounds(server, run)
    run.memory()
    need("ui", "gradio", "plotly")
    missing = _missing(votes)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing leaves this machine
    loading("the studio")
    from freeu.ui.studio import Studio, check_controls, check_models

    sources = check_models(models or [], added)
    studio = Studio(sources, run, added, check_controls(controlnet or [], sources))
    from freeu.ui.page import Page

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
    with _keeping(studio, votes, missing) as kept:
        page = Page(studio, note.strip(), kept)
        _serve(page, server, browser)


def _missing(votes: Path | None) -> str:
    """What votes lack on this machine, in a line; "" if nothing.

    Raises:
        FreeUValueError: it is missing, and ``--votes`` was given.
    """
    from freeu.extras import need, need_package

    try:
        need("tune", "sqlalchemy", "scipy")
        need_package("sklearn", "scikit-learn")
    except FreeUValueError as reason:
        if votes is not None:
            raise
        return str(reason)
    return ""


@contextlib.contextmanager
def _keeping(studio: Studio, votes: Path | None, missing: str) -> Iterator[Votes | str]:
    """The votes of a studio for a ``with`` block, or why there can be none.

    Raises:
        FreeUValueError: they cannot be kept in that folder.
    """
    if missing:
        yield missing
        return
    from freeu.ui.voting.voters import Voters
    from freeu.ui.voting.votes import Votes

    with contextlib.closing(Voters(votes)) as voters:
        yield Votes(studio, voters)


def _serve(page: Page, server: ServerOptions, browser: bool) -> None:
    """Serve until Ctrl-C, or SIGTERM.

    Raises:
        FreeUValueError: the address cannot be listened on.
    """
    from freeu.ui.page import serve

    try:
        url = serve(page, server.host, server.port, browser)
    except OSError as error:
        raise FreeUValueError(
            f"cannot listen on {server.host}, port {server.port}: {error}: choose another --port"
        ) from None
    with interruptible():
        print(f"freeu studio: {url} (Ctrl-C ends it)", flush=True)
        page.blocks.block_thread()
