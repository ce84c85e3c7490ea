"""What is added to a model before it generates: LoRAs and textual-inversion embeddings, as values that a plan can hold.

Nothing heavy is imported, and of safetensors files only the headers are read; ``attaching.attach`` loads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from freeu.errors import FreeUValueError
from freeu.pipelines.io.output import file_sha
from freeu.pipelines.models.addons.embedding_files import EMBEDDING_NAMES, check_token, read_embedding_header
from freeu.pipelines.models.addons.lora_files import LORA_NAMES, WIDTHS, read_lora_header, text_widths
from freeu.pipelines.models.sources.sources import ModelSource

MAX_WEIGHT = 10.0
"""Of a LoRA; more than two or three already generates noise."""


@dataclass(frozen=True)
class Lora:
    """A LoRA and how much of it.

    Args:
        path: absolute path of its ``.safetensors`` file.
        weight: factor of its changes, -10 to 10; 1 as it was trained, 0 without effect, below 0 its opposite.
        sha: SHA-256 of the file.
    """

    path: Path
    weight: float
    sha: str

    @property
    def name(self) -> str:
        """What to show: never more of a path than a part of it."""
        return _name(self.path, LORA_NAMES)

    @property
    def option(self) -> str:
        """As on a command line, without the path."""
        return self.name if self.weight == 1 else f"{self.name}:{self.weight!r}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``lora_from_dict`` gives back an equal value."""
        return {"name": self.name, "reference": str(self.path), "weight": self.weight, "sha256": self.sha}


@dataclass(frozen=True)
class Embedding:
    """A textual-inversion embedding and the word that stands for it in a prompt.

    Args:
        path: absolute path of its file.
        token: the word, without blanks.
        sha: SHA-256 of the file.
    """

    path: Path
    token: str
    sha: str

    @property
    def name(self) -> str:
        """What to show: never more of a path than a part of it."""
        return _name(self.path, EMBEDDING_NAMES)

    @property
    def option(self) -> str:
        """As on a command line, without the path."""
        return f"{self.name}:{self.token}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``embedding_from_dict`` gives back an equal value."""
        return {"name": self.name, "reference": str(self.path), "token": self.token, "sha256": self.sha}


@dataclass(frozen=True)
class AddOns:
    """What is added to a model.

    Args:
        loras, embeddings: in the order in which they are added.
        fuse_loras: whether the LoRAs are added to the weights for good.
    """

    loras: tuple[Lora, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    fuse_loras: bool = False


AddOn = TypeVar("AddOn", Lora, Embedding)


def find_lora(path: str | Path, weight: float = 1.0) -> Lora:
    """A LoRA by its file, or by a folder that ``pipe.save_lora_weights`` wrote.

    Args:
        path: ``.safetensors`` of diffusers or kohya, or the folder.
        weight: see ``Lora``.

    Raises:
        FreeUValueError: no such file, damaged, no LoRA of a U-Net, or a weight outside -10 to 10.
    """
    if not (math.isfinite(weight) and abs(weight) <= MAX_WEIGHT):
        raise FreeUValueError(f"the weight of a LoRA must lie in -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, got {weight:g}")
    file = _file("--lora", Path(path), LORA_NAMES, "a .safetensors file")
    read_lora_header(file)
    return Lora(file, float(weight), file_sha(file))


def find_embedding(path: str | Path, token: str | None = None) -> Embedding:
    """An embedding by its file, or by a folder with ``learned_embeds.safetensors`` or ``.bin``.

    Args:
        path: ``.safetensors`` of diffusers or AUTOMATIC1111, or ``.pt`` and ``.bin`` that hold weights alone.
        token: the word for it; None takes that of the file or, for AUTOMATIC1111's, the name of the file.

    Raises:
        FreeUValueError: no such file, damaged, no embedding, or a word with blanks.
    """
    file = _file("--embedding", Path(path), EMBEDDING_NAMES, "a .safetensors, .pti, .pt or .bin file")
    header = read_embedding_header(file)
    word = header.token if token is None else token
    check_token(word)
    return Embedding(file, word, file_sha(file))


def parse_lora(text: str) -> Lora:
    """A LoRA from "FILE" or "FILE:WEIGHT"; errors as ``find_lora``."""
    path, weight = _split(text)
    if weight is None:
        return find_lora(path)
    try:
        number = float(weight)
    except ValueError:
        raise FreeUValueError(f"--lora {text!r}: the weight after the colon must be a number, got {weight!r}") from None
    return find_lora(path, number)


def parse_embedding(text: str) -> Embedding:
    """An embedding from "FILE" or "FILE:TOKEN"; errors as ``find_embedding``."""
    return find_embedding(*_split(text))


def parse_loras(texts: Iterable[str] | None) -> tuple[Lora, ...]:
    """The LoRAs of a command line, in order; errors as ``find_lora``."""
    return tuple(parse_lora(text) for text in texts or ())


def parse_embeddings(texts: Iterable[str] | None) -> tuple[Embedding, ...]:
    """The embeddings of a command line, in order; errors as ``find_embedding``."""
    return tuple(parse_embedding(text) for text in texts or ())


def check_together(loras: Sequence[Lora], embeddings: Sequence[Embedding], fuse_loras: bool) -> None:
    """What can be wrong with add-ons together, whatever the model is.

    Raises:
        FreeUValueError: a LoRA or a word given twice, or nothing to fuse.
    """
    if fuse_loras and not loras:
        raise FreeUValueError("--fuse-lora has nothing to fuse: give --lora FILE too")
    for place, lora in enumerate(loras):
        if any(lora.sha == other.sha for other in loras[:place]):
            raise FreeUValueError(f"the LoRA {lora.name} is given twice: give it once, with the sum of the weights")
    for place, embedding in enumerate(embeddings):
        for other in embeddings[:place]:
            # CLIP's tokenizer writes everything small: it cannot tell <R> from <r>.
            if embedding.token.lower() == other.token.lower():
                raise FreeUValueError(
                    f"two embeddings have the word {embedding.token!r} ({other.name} and {embedding.name}): "
                    "give one of them another, --embedding FILE:WORD"
                )


def check_fit(source: ModelSource, loras: Sequence[Lora], embeddings: Sequence[Embedding]) -> None:
    """Whether add-ons are as wide as a model; small files and headers are read, nothing is loaded.

    Args:
        source: the model; of one that is still on the hub nothing is known.
        loras, embeddings: what to add to it.

    Raises:
        FreeUValueError: one that was made for another kind of model, with both widths.
    """
    if not loras and not embeddings:
        return
    reads, gives = text_widths(source)
    for lora in loras:
        width = read_lora_header(lora.path).text_width
        if None not in (width, reads) and width != reads:
            raise FreeUValueError(
                f"the LoRA {lora.name} is for U-Nets that read texts of width {width}{_kind(width)}, and "
                f"{source.label} reads {reads}{_kind(reads)}: take one that was trained on the same kind of model"
            )
    for embedding in embeddings:
        widths = read_embedding_header(embedding.path).widths
        if gives and widths != gives:
            raise FreeUValueError(
                f"the embedding {embedding.name} has the width {_joined(widths)}, and the text encoder of "
                f"{source.label} {_joined(gives)}: take one that was trained on the same kind of model"
            )


def added_text(plan: Mapping[str, Any]) -> str:
    """What was added to a model, for people, from a plan as plain data; "" where nothing was."""
    loras = [f"{one['name']} (weight {one['weight']:g})" for one in plan.get("loras", ())]
    words = [str(one["token"]) for one in plan.get("embeddings", ())]
    parts = []
    if loras:
        parts.append(f"LoRA {', '.join(loras)}{', fused' if plan['fuse_loras'] else ''}")
    if words:
        parts.append(f"embedding {', '.join(words)}")
    return " and ".join(parts)


def lora_from_dict(data: Any) -> Lora:
    """Read what ``Lora.to_dict`` gave; the file need not be there. Errors name the field."""
    values = _fields("a LoRA", data, {"name": str, "reference": str, "weight": float, "sha256": str})
    weight = values["weight"]
    if not (math.isfinite(weight) and abs(weight) <= MAX_WEIGHT):
        raise FreeUValueError(f"the weight of a LoRA is not usable: {weight!r}")
    return Lora(Path(values["reference"]), weight, values["sha256"])


def embedding_from_dict(data: Any) -> Embedding:
    """Read what ``Embedding.to_dict`` gave; the file need not be there. Errors name the field."""
    values = _fields("an embedding", data, {"name": str, "reference": str, "token": str, "sha256": str})
    check_token(values["token"])
    return Embedding(Path(values["reference"]), values["token"], values["sha256"])


def moved_loras(planned: Sequence[Lora], given: Sequence[Lora] = ()) -> tuple[Lora, ...]:
    """The LoRAs of a manifest as they are now, each with the SHA-256 that its file has now.

    Args:
        planned: those of the manifest.
        given: another place for each of them, in the same order; () looks where the manifest says.

    Raises:
        FreeUValueError: a file that is not there or is no LoRA, another number of them, or another weight.
    """
    for one, other in _pairs("lora", planned, given):
        if other.weight not in (1.0, one.weight):
            raise FreeUValueError(f"the weight of {one.name} is that of the manifest, {one.weight:g}: leave it out")
    return tuple(find_lora(path, one.weight) for one, path in _places("lora", planned, given))


def moved_embeddings(planned: Sequence[Embedding], given: Sequence[Embedding] = ()) -> tuple[Embedding, ...]:
    """The embeddings of a manifest as they are now; as ``moved_loras``."""
    for one, other in _pairs("embedding", planned, given):
        if other.token not in (one.token, read_embedding_header(other.path).token):
            raise FreeUValueError(f"the word of {one.name} is that of the manifest, {one.token!r}: leave it out")
    return tuple(find_embedding(path, one.token) for one, path in _places("embedding", planned, given))


def _pairs(option: str, planned: Sequence[AddOn], given: Sequence[AddOn]) -> Iterable[tuple[AddOn, AddOn]]:
    if given and len(given) != len(planned):
        raise FreeUValueError(
            f"the manifest has {len(planned)} of --{option}, got {len(given)}: give each its place, or none"
        )
    return zip(planned, given, strict=False)


def _places(option: str, planned: Sequence[AddOn], given: Sequence[AddOn]) -> list[tuple[AddOn, Path]]:
    places = [(one, other.path) for one, other in zip(planned, given or planned, strict=True)]
    for one, path in places:
        if not path.is_file():
            raise FreeUValueError(
                f"{one.name} is not where the manifest says ({path.parent}): say where with --{option} FILE"
            )
    return places


def _kind(width: int | None) -> str:
    return f" ({WIDTHS[width]})" if width in WIDTHS else ""


def _joined(widths: Sequence[int]) -> str:
    return " and ".join(map(str, widths))


def _name(path: Path, usual: Sequence[str]) -> str:
    """The name of a file, or of its folder where every such file is called alike."""
    return path.parent.name if path.name in usual and path.parent.name else path.name


def _split(text: str) -> tuple[str, str | None]:
    """The file and what follows the last colon after which a file is there; names with colons are legal."""
    text = text.strip()
    if Path(text).expanduser().exists():
        return text, None
    places = [place for place, letter in enumerate(text) if letter == ":"]
    for place in reversed(places):
        if Path(text[:place]).expanduser().exists():
            return text[:place], text[place + 1 :]
    # Nothing is there: a drive's colon (C:\...) begins no weight.
    return (text[: places[-1]], text[places[-1] + 1 :]) if places and places[-1] > 1 else (text, None)


def _file(option: str, path: Path, usual: Sequence[str], what: str) -> Path:
    """The file that is meant, absolute."""
    path = path.expanduser()
    if path.is_dir():
        for name in usual:
            if (path / name).is_file():
                return (path / name).absolute()
        raise FreeUValueError(f"{option} {path} is a folder without {' or '.join(usual)}: name the file itself")
    if not path.is_file():
        raise FreeUValueError(f"{option} {path}: there is no such file: give {what}, or the folder that holds it")
    return path.absolute()  # not where a link leads: files of the hub's cache are called otherwise there


def _fields(what: str, data: Any, kinds: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    if not isinstance(data, Mapping) or data.keys() != kinds.keys():
        raise FreeUValueError(f"{what} must have the fields {', '.join(kinds)}")
    for name, kind in kinds.items():
        fine = isinstance(data[name], (int, float)) if kind is float else isinstance(data[name], str)
        if not fine or isinstance(data[name], bool):
            raise FreeUValueError(f"{what} has a field {name} that is not usable: {data[name]!r}")
    return dict(data)
