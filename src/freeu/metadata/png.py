"""Settings inside PNG files: one JSON text chunk, written without loss and read without ever evaluating it.

The chunk's key is ``freeu``; its value is a JSON object with ``schema`` (a number) and whatever the writer put in. It
is stored as international text, so prompts in any script survive. Beside it may stand the text ``parameters`` that
other tools read (``foreign.parameters``).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.foreign.comfyui import KEY as GRAPH
from freeu.foreign.comfyui import MAX_CHARACTERS as MOST_GRAPH
from freeu.foreign.comfyui import read_graph
from freeu.foreign.parameters import KEY as PARAMETERS
from freeu.foreign.parameters import MAX_CHARACTERS as MOST_PARAMETERS
from freeu.foreign.parameters import Parameters, read_parameters
from freeu.foreign.png import find_text
from freeu.json_files import parse_json

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "freeu"
SCHEMA = 1
FRAME_MS = 125
"""How long an animated PNG shows each frame, in milliseconds: 8 frames per second, as ModelScope's videos."""
# Settings are a few kilobytes; a chunk beyond this is not ours and is not parsed.
MAX_CHARACTERS = 1_000_000


def png_bytes(
    image: Image, settings: Mapping[str, Any], following: Sequence[Image] = (), parameters: str | None = None
) -> bytes:
    """Encode an image as PNG with its settings in the text chunk ``freeu``.

    Args:
        image: any Pillow image that PNG can hold; its pixels are stored without loss.
        settings: JSON data; ``schema`` is added.
        following: further frames of the same size, which make it an animated PNG.
        parameters: what other tools read; the text ``parameters``, if there is one.

    Raises:
        FreeUValueError: settings that JSON cannot hold (a NaN, an unknown type).
    """
    need("diffusers", "PIL")
    from PIL.PngImagePlugin import PngInfo

    try:
        text = json.dumps({"schema": SCHEMA, **settings}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FreeUValueError(f"these settings cannot be stored as JSON: {error}") from None
    info = PngInfo()
    if parameters is not None:
        info.add_text(PARAMETERS, parameters)  # Latin letters as A1111 writes them, else international text
    info.add_itxt(KEY, text)
    buffer = io.BytesIO()
    animated: dict[str, Any] = {
        "save_all": True,
        "append_images": list(following),
        "duration": FRAME_MS,
        "loop": 0,
        # Equal frames that ask for the same would be merged into one; for opaque pixels the two ways are one.
        "blend": [number % 2 for number in range(len(following) + 1)],
    }
    image.save(buffer, format="PNG", pnginfo=info, **(animated if following else {}))
    return buffer.getvalue()


def read_png(path: str | Path) -> dict[str, Any]:
    """The settings that ``png_bytes`` stored in a file.

    Raises:
        FreeUValueError: the file cannot be read, is no PNG, holds no settings of freeu, or a newer schema.
    """
    data = find_settings(path)
    if data is None:
        raise FreeUValueError(f"{path} holds no settings of freeu (no PNG text named {KEY!r})")
    return data


def find_settings(path: str | Path) -> dict[str, Any] | None:
    """The same, or None where a PNG holds no settings of freeu."""
    path = Path(path)
    text = find_text(path, KEY, MAX_CHARACTERS)
    if text is None:
        return None
    data = parse_json(text, f"the text {KEY!r} in {path}")
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise FreeUValueError(f"{path}: its settings are not of schema {SCHEMA}: a newer freeu may read them")
    return data


def read_parameters_of(path: str | Path) -> Parameters | None:
    """What A1111, Forge or freeu wrote into a PNG as its text ``parameters``; None where it has no such text.

    Raises:
        FreeUValueError: the file cannot be read, is no PNG, or the text is damaged or longer than any of theirs.
    """
    text = find_text(Path(path), PARAMETERS, MOST_PARAMETERS, any_kind=True)
    return None if text is None else read_parameters(text)


def read_graph_of(path: str | Path) -> Parameters | None:
    """What the graph that ComfyUI wrote into a PNG generates, in the words of A1111; None where there is none that is
    understood.

    Raises:
        FreeUValueError: the file cannot be read, is no PNG, or the graph is damaged or longer than any of theirs.
    """
    text = find_text(Path(path), GRAPH, MOST_GRAPH, any_kind=True)
    return (
        None
        if text is None
        else read_graph(
            parse_json(text, f"the text {GRAPH!r} in {path}", constant=lambda _: None)  # ComfyUI writes NaN
        )
    )
