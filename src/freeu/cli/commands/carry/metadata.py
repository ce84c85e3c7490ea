"""``freeu metadata``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli.tables import plain_table, wide_console
from freeu.errors import FreeUValueError
from freeu.pipelines.options.run import JsonOptions


def metadata(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A PNG, JPEG, WebP or JSON file of any of the tools.")],
    form: JsonOptions,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="DIALECT",
            help="Write a copy with FreeU's settings as freeu, a1111, forge, sdnext, comfyui or fooocus says them.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="TEXT|FILE", help="With --to: other settings than the file's, as for `freeu compare`."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="With --to: where the copy goes.")
    ] = None,
) -> None:
    """Say how an image was made, whoever made it; or carry its settings of FreeU over to another tool.

    Reads what freeu, A1111, Forge, SD.Next, ComfyUI, Fooocus and InvokeAI write. Nothing of a file is run.
    """
    from freeu.metadata import read, write
    from freeu.pipelines.options.freeu import parse_config

    if to is None and (output is not None or config is not None):
        raise FreeUValueError("--output and --config belong to --to: name the dialect to write")
    if to is None:
        found = read(file)
        print(json.dumps(found.to_dict(), indent=2)) if form.as_json else _print(found)
        return
    if output is None:
        raise FreeUValueError("--to writes a copy: name it with --output")
    settings = parse_config(config) if config is not None else read(file).config
    if settings is None:
        notes = [note for note in read(file).notes if note.startswith("FreeU")]
        raise FreeUValueError(f"{file} has no settings of FreeU: give --config{''.join(f' ({one})' for one in notes)}")
    write(file, settings, to, output)
    if form.as_json:
        print(json.dumps({"file": str(output), "dialect": to, "config": settings.to_dict()}, indent=2))
    else:
        print(f"{output}: {settings} ({to})")


def _print(found: Any) -> None:
    """A row for each thing that is said."""
    size = f"{found.width}x{found.height}" if found.width and found.height else None
    rows = {
        "dialect": found.dialect,
        "prompt": found.prompt or None,
        "negative prompt": found.negative_prompt or None,
        "seed": found.seed,
        "steps": found.steps,
        "guidance scale": found.guidance_scale,
        "size": size,
        "sampler": found.sampler,
        "model": found.model,
        "FreeU": found.config if found.config is not None else "none",
    }
    table = plain_table()
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, _shown(str(value)))
    for note in found.notes:
        table.add_row("note", _shown(note))
    wide_console().print(table, highlight=False, markup=False)


def _shown(text: str) -> str:
    """A text of a foreign file for a terminal: nothing in it moves the cursor."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)
