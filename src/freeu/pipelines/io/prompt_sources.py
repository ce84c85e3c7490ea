"""Where prompts come from: text files, lines of JSON, captions of COCO, data sets of the ``datasets`` library.

Everything is read row by row, so that a part of a large set costs the memory of that part.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from freeu.errors import FreeUValueError, one_line
from freeu.extras import load_package
from freeu.json_files import parse_json
from freeu.wording import counted

MAX_PROMPTS = 100_000
"""Of a run: the manifest of as many images has 50 MB."""
MAX_LINE = 1 << 20
"""Bytes; the longest prompt that any model reads has a few thousand."""
HUB = "hf:"
"""What the name of a data set begins with."""
COLUMNS = ("prompt", "Prompt", "caption", "text", "TEXT")
"""Of a data set, where none is named: the first of these that it has."""
_COCO_BYTES, _COCO_VALUES = 512 << 20, 20_000_000
"""``captions_train2017.json`` has 92 MB and 5 million values."""


class Row(NamedTuple):
    """A prompt as its source holds it; a tuple, since a file may have millions.

    Args:
        text: a line of a file, or a caption.
        source: a short name, for messages.
        kind: of what is numbered, such as "line".
        number: of it.
    """

    text: str
    source: str
    kind: str
    number: int

    @property
    def where(self) -> str:
        """What messages call it, such as "prompts.txt, line 3"."""
        return f"{self.source}, {self.kind} {self.number}"


def choose_rows(
    source: str, rows: Iterable[Row], limit: int | None = None, sample: int | None = None, seed: int = 0
) -> list[Row]:
    """The rows that are used, in their order.

    Args:
        source: what to call it in messages.
        rows: all of them; read no further than needed.
        limit: the first so many.
        sample: so many at random, each with the same chance (reservoir sampling: one pass, the memory of the sample).
        seed: of the sample: the same rows and seed give the same sample.

    Raises:
        FreeUValueError: both a limit and a sample, numbers below 1 or above ``MAX_PROMPTS``, or neither of them for
            more than ``MAX_PROMPTS`` rows.
    """
    if limit is not None and sample is not None:
        raise FreeUValueError("--limit takes the first prompts and --sample random ones: leave one of them out")
    for name, number in (("--limit", limit), ("--sample", sample)):
        if number is not None and not 1 <= number <= MAX_PROMPTS:
            raise FreeUValueError(f"{name} must lie in 1 to {MAX_PROMPTS}, got {number}")
    if limit is not None:
        return list(itertools.islice(rows, limit))
    if sample is not None:
        return _sampled(rows, sample, seed)
    iterator = iter(rows)
    found = list(itertools.islice(iterator, MAX_PROMPTS))
    if next(iterator, None) is not None:
        # Files are counted to the end, which takes a second for a million lines; a data set may have no end.
        more = "" if source.startswith(HUB) else f"{len(found) + 1 + sum(1 for _ in iterator):,} prompts, "
        raise FreeUValueError(
            f"{source} holds {more}more than the {MAX_PROMPTS:,} of a run: "
            "give --limit N for the first ones, or --sample N for random ones"
        )
    return found


def _sampled(rows: Iterable[Row], count: int, seed: int) -> list[Row]:
    """Algorithm R of Vitter 1985, sorted by place."""
    generator = random.Random(seed)
    kept: list[tuple[int, Row]] = []
    for place, row in enumerate(rows):
        if len(kept) < count:
            kept.append((place, row))
        elif (other := generator.randrange(place + 1)) < count:
            kept[other] = (place, row)
    return [row for _, row in sorted(kept, key=lambda one: one[0])]


def rows_of(source: str) -> Iterator[Row]:
    """The rows of a file, of the captions of COCO (.json), or of a data set ("hf:..."), one after the other.

    Raises:
        FreeUValueError: a source that cannot be read; the message says where.
    """
    if source.startswith(HUB):
        return _unique(source, _hub_rows(source))
    if source.endswith(".json"):
        return _coco_rows(Path(source))
    return _lines(Path(source))


def _unique(source: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows without those whose text repeats an earlier one: data sets repeat their captions."""
    seen: set[bytes] = set()
    repeated = 0
    for row in rows:
        digest = hashlib.blake2b(row.text.encode(errors="replace"), digest_size=8).digest()
        if digest in seen:
            repeated += 1
            continue
        seen.add(digest)
        yield row
    if repeated:
        warnings.warn(f"{source}: left out {counted(repeated, 'prompt')}: earlier ones are the same", stacklevel=2)


def prompt_of(row: Row) -> tuple[str, dict[str, Any]]:
    """The prompt of a line of a ``.jsonl`` file, and the whole object.

    Raises:
        FreeUValueError: no object with a "prompt"; the message gives the line.
    """
    data = parse_json(row.text, row.where)
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str) or not data["prompt"].strip():
        raise FreeUValueError(f'{row.where} must be an object like {{"prompt": "...", "asked": {{...}}}}')
    return data["prompt"].strip(), data


# -- files of lines -------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[Row]:
    """Lines that are neither empty nor begin with #, numbered as an editor does; "-" is standard input."""
    name = "standard input" if path == Path("-") else path.name
    number = 0
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == Path("-") else path.open("rb") as file:
            while raw := file.readline(MAX_LINE + 1):
                if len(raw) > MAX_LINE:
                    raise FreeUValueError(f"{name}, line {number + 1} is longer than {MAX_LINE} bytes: it is no prompt")
                try:
                    text = raw.decode("utf-8" if number else "utf-8-sig")
                except UnicodeDecodeError:
                    raise FreeUValueError(
                        f"the prompts in {path} are not UTF-8 text (line {number + 1}): save the file as UTF-8"
                    ) from None
                for line in text.splitlines():  # of old Macs too, which end lines otherwise
                    number += 1
                    if (line := line.strip()) and not line.startswith("#"):
                        yield Row(line, name, "line", number)
    except OSError as error:
        raise FreeUValueError(f"cannot read the prompts in {path}: {error.strerror or error}") from None


# -- captions of COCO -----------------------------------------------------------------------------------------------


def _coco_rows(path: Path) -> Iterator[Row]:
    """One caption of each image, images by id: its first by id that no earlier image has, so that none is repeated."""
    try:
        with path.open("rb") as file:
            text = file.read(_COCO_BYTES + 1)
    except OSError as error:
        raise FreeUValueError(f"cannot read the prompts in {path}: {error.strerror or error}") from None
    data = parse_json(text, path.name, most_bytes=_COCO_BYTES, most_values=_COCO_VALUES)
    del text
    found: dict[int, list[tuple[int, str]]] = {}
    annotations = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(annotations, list) or not annotations:
        raise FreeUValueError(f"{path.name} holds no captions of COCO: it has no annotations")
    for number, one in enumerate(annotations):
        kinds = {"image_id": int, "id": int, "caption": str}
        if not isinstance(one, dict) or any(type(one.get(name)) is not kind for name, kind in kinds.items()):
            raise FreeUValueError(f"{path.name}, annotation {number} is no caption: it needs id, image_id and caption")
        found.setdefault(one["image_id"], []).append((one["id"], " ".join(one["caption"].split())))
    del data, annotations
    return _captions(path.name, found)


def _captions(name: str, found: dict[int, list[tuple[int, str]]]) -> Iterator[Row]:
    taken: set[str] = set()
    without = 0
    for image in sorted(found):
        caption = next((text for _, text in sorted(found[image]) if text and text not in taken), None)
        if caption is None:
            without += 1
            continue
        taken.add(caption)
        yield Row(caption, name, "image", image)
    if without:
        what = counted(without, "image")
        warnings.warn(f"{name}: left out {what}: earlier images have the same captions", stacklevel=2)


# -- data sets ------------------------------------------------------------------------------------------------------


def _hub_rows(source: str) -> Iterator[Row]:
    """The rows of "hf:ID[:SPLIT[:COLUMN]]", streamed: nothing beyond what is read is downloaded."""
    place, split, column, *more = [*source.removeprefix(HUB).split(":"), "", ""]
    if not place or any(more):
        raise FreeUValueError(f"a data set is named hf:ID, hf:ID:SPLIT or hf:ID:SPLIT:COLUMN, got {source!r}")
    datasets = load_package("datasets", "datasets")
    if int(datasets.__version__.split(".")[0]) < 4:
        raise FreeUValueError(f"datasets {datasets.__version__} may run code of a data set: pip install 'datasets>=4'")
    data = _split(source, _opened(datasets, source, place), split)
    names = list(data.column_names or next(iter(data), {}))
    if not column:
        column = next((name for name in COLUMNS if name in names), "")
    if column not in names:
        raise FreeUValueError(
            f"{source} has no column {column or COLUMNS[0]!r}: name one of {', '.join(names)}, as in hf:ID:SPLIT:COLUMN"
        )
    rows = iter(data.select_columns([column]))
    for number in itertools.count():
        try:
            text = next(rows)[column]
        except StopIteration:
            return
        except Exception as error:  # of the network, or of a format
            raise _unreadable(source, error) from None
        if not isinstance(text, str):
            raise FreeUValueError(f"{source}, row {number} holds a {type(text).__name__} in {column!r}, and no text")
        if text := " ".join(text.split()):
            yield Row(text, source, "row", number)


def _opened(datasets: Any, source: str, place: str) -> Any:
    """A data set by its id on the hub, of files in a folder, or of ``save_to_disk``."""
    folder = Path(place)
    saved = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        if saved:
            return datasets.load_from_disk(place)
        return datasets.load_dataset(place, streaming=True)
    except Exception as error:  # no network, no such data set, damaged files: each library has errors of its own
        raise _unreadable(source, error) from None


def _split(source: str, data: Any, split: str) -> Any:
    if not isinstance(data, dict):  # of save_to_disk
        return data
    if not split and len(data) == 1:
        return next(iter(data.values()))
    if split not in data:
        raise FreeUValueError(
            f"{source} has the splits {', '.join(map(str, data))}: name one of them, as in hf:ID:SPLIT"
        )
    return data[split]


def _unreadable(source: str, error: Exception) -> FreeUValueError:
    return FreeUValueError(f"cannot read the prompts in {source}: {one_line(error)}")
