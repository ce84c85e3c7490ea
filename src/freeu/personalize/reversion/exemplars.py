"""Exemplars of a relation: images whose captions contain the token of the relation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.json_files import parse_json
from freeu.personalize.training.examples import read_examples

if TYPE_CHECKING:
    from PIL.Image import Image

LINES, TEMPLATES = "captions.jsonl", "text.json"
"""Files with the captions of a folder: one caption per line, or the layout of the published exemplars."""
PLACE = "{}"
"""Placeholder of the relation in ``TEMPLATES``."""
LEAST, MOST = 2, 1_000


@dataclass(frozen=True)
class Exemplar:
    """An image that shows the relation.

    Args:
        name: of its file.
        image: RGB, EXIF rotation applied.
        captions: at least one; each contains the token.
    """

    name: str
    image: Image
    captions: tuple[str, ...]


def read_exemplars(folder: Path, token: str) -> tuple[Exemplar, ...]:
    """All images of a folder with their captions, sorted by name.

    Captions stand in ``captions.jsonl`` (lines of {"file": "1.png", "caption": "a cat <R> a box"}; an image may have
    several), in ``text.json`` ({"1.png": ["cat {} box"]}, as the published exemplars have them), or beside each image
    in a text file of its name ("1.txt" or "1.png.txt", one caption a line).

    Args:
        folder: with the images; its subfolders are not read.
        token: of the relation.

    Raises:
        FreeUValueError: fewer than 2 images, an unreadable image or one without a caption, a caption without the token
            or without an image, or captions in two of these forms.
    """
    examples = read_examples(folder, LEAST, MOST, "one image cannot tell a relation from the objects in it")
    ways = [name for name in (LINES, TEMPLATES) if (folder / name).is_file()]
    if len(ways) > 1:
        raise FreeUValueError(f"{folder} holds {' and '.join(ways)}: keep the one with the right captions")
    names = [example.name for example in examples]
    if not ways:
        found = {name: list(_beside(folder, name)) for name in names}
    elif ways[0] == LINES:
        found = _of_lines(folder / LINES, names)
    else:
        found = _of_templates(folder / TEMPLATES, names, token)
    for name in names:
        if not found.get(name):
            raise FreeUValueError(
                f"{folder / name} has no caption: add {json.dumps({'file': name, 'caption': f'a cat {token} a box'})} "
                f"to {LINES}, or write it to {Path(name).stem}.txt"
            )
        for caption in found[name]:
            if token not in caption:
                raise FreeUValueError(
                    f"the caption {caption!r} of {name} lacks the token {token!r}: write it between the nouns, or give "
                    "your token with --token"
                )
    return tuple(
        Exemplar(example.name, example.image, tuple(dict.fromkeys(found[example.name]))) for example in examples
    )


def _of_lines(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        data = parse_json(line, f"{path}, line {number}")
        if not isinstance(data, dict) or {"file", "caption"} - data.keys():
            raise FreeUValueError(f'{path}, line {number} must be an object like {{"file": "1.png", "caption": "..."}}')
        _add(found, data["file"], [data["caption"]], f"{path.name}, line {number}", names)
    return found


def _of_templates(path: Path, names: Sequence[str], token: str) -> dict[str, list[str]]:
    data = parse_json(_text(path), str(path))
    if not isinstance(data, dict):
        raise FreeUValueError(f'{path} must be an object like {{"1.png": ["cat {PLACE} box"]}}')
    found: dict[str, list[str]] = {}
    for name, texts in data.items():
        listed = texts if isinstance(texts, list) else [texts]
        filled = [text.replace(PLACE, token) if isinstance(text, str) else text for text in listed]
        _add(found, name, filled, path.name, names)
    return found


def _add(found: dict[str, list[str]], name: Any, texts: Sequence[Any], where: str, names: Sequence[str]) -> None:
    if name not in names:
        raise FreeUValueError(f"{where} has a caption for {name!r}, but there is no such image in the folder")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise FreeUValueError(f"{where}: a caption must be a text, got {text!r}")
        found.setdefault(name, []).append(text.strip())


def _beside(folder: Path, name: str) -> Iterator[str]:
    """The captions in a text file of an image's name."""
    for path in (folder / f"{name}.txt", (folder / name).with_suffix(".txt")):
        if path.is_file():
            yield from (line.strip() for line in _text(path).splitlines() if line.strip())
            return


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FreeUValueError(f"cannot read the captions in {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise FreeUValueError(f"the captions in {path} are not UTF-8 text: save the file as UTF-8") from None
