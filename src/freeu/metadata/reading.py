"""What a file says of how an image was made: one reader for every dialect and container."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.foreign import comfyui, exif, others, workflow
from freeu.foreign.parameters import KEY as PARAMETERS
from freeu.foreign.parameters import MAX_CHARACTERS as MOST_PARAMETERS
from freeu.foreign.parameters import Parameters, read_parameters
from freeu.foreign.png import find_texts
from freeu.json_files import parse_json
from freeu.metadata.fields import FREEU_FIELDS, freeu_form, freeu_of, of_extension
from freeu.metadata.png import SCHEMA, find_settings
from freeu.presets.files import KIND as PRESET

DIALECTS = ("freeu", "a1111", "forge", "sdnext", "comfyui", "fooocus", "invokeai")
MOST = comfyui.MAX_CHARACTERS
_MOST_BYTES, _MOST_VALUES = 8 << 20, 300_000
"""Of a JSON file."""
_TEXTS = {
    PARAMETERS: MOST_PARAMETERS,
    comfyui.KEY: MOST,
    workflow.KEY: MOST,
    others.SCHEME: 100,
    others.INVOKEAI: MOST,
    others.INVOKEAI_GRAPH: MOST,
}
"""Texts of a PNG, and the most characters of each."""
_TAKEN = {"Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model", "Version", *FREEU_FIELDS}
_MOST_NAMED, _LONGEST = 8, 80
_CONFIG = {item.name for item in fields(FreeUConfig)} | {"schema"}


@dataclass(frozen=True)
class Metadata:
    """What a file says; None, or "" for a prompt, where it does not say it.

    Args:
        dialect: of the file, a name of ``DIALECTS``.
        prompt, negative_prompt: with line ends.
        seed: a whole number from 0 to 2**64 - 1.
        steps: of the sampler, at least 1.
        guidance_scale: of classifier-free guidance, 0 to 100.
        width, height: of the image in pixels.
        sampler: by the name that the tool gives it, its schedule behind it.
        model: its name.
        config: FreeU's settings; None where there are none, or none that freeu has words for (see ``notes``).
        notes: what was not understood or not taken, a line each.
    """

    dialect: str
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    sampler: str | None = None
    model: str | None = None
    config: FreeUConfig | None = None
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``freeu metadata --json`` prints it."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        return data | {"config": None if self.config is None else self.config.to_dict(), "notes": list(self.notes)}


@dataclass(frozen=True)
class Found:
    """Settings as they stand in a file.

    Args:
        dialect: a name of ``DIALECTS``.
        parameters: in the words of A1111.
        ours: what freeu wrote, whole; None in other dialects.
    """

    dialect: str
    parameters: Parameters
    ours: Mapping[str, Any] | None = None


def read(path: str | Path) -> Metadata:
    """What a PNG, JPEG, WebP or JSON file says of how an image was made.

    Reads what freeu, A1111, Forge, sd-webui-freeu, SD.Next, ComfyUI (graph or workflow), Fooocus and InvokeAI write,
    and FreeU's settings alone, as a configuration or preset in JSON. Of several in one file the first of ``freeu``,
    ``parameters``, ``prompt``, ``workflow`` and ``invokeai_metadata`` is taken. Nothing is evaluated.

    Args:
        path: of the file.

    Raises:
        FreeUValueError: the file cannot be read, is of no such kind, is damaged, or holds no settings.
    """
    path = Path(path)
    found = find(path)
    if found is None:
        raise FreeUValueError(
            f"{path} holds no settings: neither those of freeu nor of A1111, ComfyUI, Fooocus or InvokeAI"
        )
    return _told(found)


def find(path: Path) -> Found | None:
    """The settings in a file; None where a sound image or JSON file has none. Errors as ``read``."""
    kind = exif.kind_of(path)
    if kind == "png":
        ours = find_settings(path)
        if ours is not None:
            return Found("freeu", parameters_of(ours), ours)
        return _of_texts(path, find_texts(path, _TEXTS))
    if kind:
        return _of_exif(path, kind)
    return _of_json(path, _file_json(path))


def _of_exif(path: Path, kind: str) -> Found | None:
    data = exif.find_exif(path, kind)
    tags = exif.texts_of(data) if data is not None else {}
    comment = tags.get(exif.COMMENT, "")
    if len(comment) > MOST_PARAMETERS:
        raise FreeUValueError(f"{path}: its comment has more than {MOST_PARAMETERS} characters; settings have few")
    texts = {PARAMETERS: comment, others.SCHEME: tags.get(exif.MAKER_NOTE, "")}
    for tag in (exif.MODEL, exif.MAKE):  # ComfyUI: "prompt:{...}" and "workflow:{...}"
        name, colon, value = tags.get(tag, "").partition(":")
        if colon and name in (comfyui.KEY, workflow.KEY):
            texts[name] = value[: MOST + 1]
    return _of_texts(path, texts)


def _of_texts(path: Path, texts: Mapping[str, str]) -> Found | None:
    """The first of an image's texts that is understood."""
    text = texts.get(PARAMETERS, "").strip()
    if text:
        found = _of_parameters(path, text)
        if found is not None:
            return found
    for key, read_it in ((comfyui.KEY, comfyui.read_graph), (workflow.KEY, _of_workflow)):
        if key in texts:
            graph = read_it(_json(path, key, texts[key]))
            if graph is not None and (graph.prompt or graph.fields):
                return Found("comfyui", graph)
    if others.INVOKEAI in texts or others.INVOKEAI_GRAPH in texts:
        data, graph_text = (texts.get(key, "{}") for key in (others.INVOKEAI, others.INVOKEAI_GRAPH))
        about = _json(path, others.INVOKEAI, data)
        if isinstance(about, dict):
            return Found("invokeai", others.read_invokeai(about, _json(path, others.INVOKEAI_GRAPH, graph_text)))
    return None


def _of_parameters(path: Path, text: str) -> Found | None:
    """The text of A1111 and its kin, JSON of Fooocus or, in a JPEG, of freeu; None where it says nothing."""
    if text.startswith("{"):
        try:
            return _of_json(path, parse_json(text, "the settings", _nothing))
        except FreeUValueError:
            pass  # a prompt may begin with a brace
    found = read_parameters(text)
    return Found(_dialect(found.fields), found) if found.prompt or found.fields else None


def _dialect(said: Mapping[str, str]) -> str:
    version = said.get("Version", "")
    form = freeu_form(said)
    if form is not None:
        return form
    if said.get("App") == "SD.Next":
        return "sdnext"
    for begin in ("freeu", "Fooocus"):
        if version.startswith(begin):
            return begin.lower()
    return "forge" if version.startswith(("f", "neo")) else "a1111"


def _of_workflow(data: Any) -> Parameters | None:
    return comfyui.read_graph(workflow.graph_of(data)) if workflow.is_workflow(data) else None


def _nothing(_: str) -> None:
    """ComfyUI writes NaN, which no standard has."""


def _json(path: Path, key: str, text: str) -> Any:
    if len(text) > MOST:
        raise FreeUValueError(f"{path}: its text {key!r} has more than {MOST} characters")
    return parse_json(text, f"the text {key!r} in {path}", _nothing, most_values=_MOST_VALUES)


def _file_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    if data.lstrip()[:1] not in (b"{", b"["):
        raise FreeUValueError(f"{path} is no PNG, JPEG, WebP or JSON file")
    return parse_json(data, str(path), _nothing, most_bytes=_MOST_BYTES, most_values=_MOST_VALUES)


def _of_json(path: Path, data: Any) -> Found | None:
    """JSON data of any tool, by what it holds."""
    if not isinstance(data, dict):
        return None
    if data.get("kind") == PRESET:
        about = {"config": data.get("config"), "steps": data.get("steps"), "guidance": data.get("guidance")}
        return Found("freeu", parameters_of(about), about)
    if data and data.keys() <= _CONFIG and data.keys() - {"schema"}:
        return Found("freeu", parameters_of({"config": data}), {"config": data})
    if workflow.is_workflow(data):
        return _graph(_of_workflow(data))
    graph = data["prompt"] if isinstance(data.get("prompt"), dict) else data  # as ComfyUI's API takes it, or alone
    if any(isinstance(node, dict) and "class_type" in node for node in graph.values()):
        return _graph(comfyui.read_graph(graph))
    if others.is_invokeai_graph(data):
        return Found("invokeai", others.read_invokeai({}, data))
    if others.is_invokeai(data):
        return Found("invokeai", others.read_invokeai(data, data.get("graph")))
    if "stage_infos" in data or "alwayson_scripts" in data:
        return Found("a1111", _of_api(data))
    if others.is_fooocus(data):
        return Found("fooocus", others.read_fooocus(data))
    if data.get("schema") == SCHEMA and {"prompt", "config"} & data.keys():
        return Found("freeu", parameters_of(data), data)
    return None


def _graph(found: Parameters | None) -> Found | None:
    return Found("comfyui", found) if found is not None and (found.prompt or found.fields) else None


def _of_api(data: Mapping[str, Any]) -> Parameters:
    """What the API of A1111 is sent, or sd-webui-freeu's part of it alone."""
    keys = {"Steps": "steps", "Sampler": "sampler_name", "CFG scale": "cfg_scale", "Seed": "seed"}
    said = {name: str(data[key]) for name, key in keys.items() if _plain(data.get(key))}
    if _plain(data.get("width")) and _plain(data.get("height")):
        said["Size"] = f"{data['width']}x{data['height']}"
    own: Any = data
    if "stage_infos" not in data:
        for key in ("alwayson_scripts", "freeu", "args"):
            own = own.get(key) if isinstance(own, dict) else None
        own = own[0] if isinstance(own, list) and own else own
    if isinstance(own, dict) and "stage_infos" in own:
        said |= of_extension(own)
    wanted, unwanted = (data.get(key) for key in ("prompt", "negative_prompt"))
    return Parameters(wanted if isinstance(wanted, str) else "", unwanted if isinstance(unwanted, str) else "", said)


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def parameters_of(ours: Mapping[str, Any]) -> Parameters:
    """What freeu wrote, in the words of A1111; FreeU's settings as JSON text, unchecked."""
    names = {"Steps": "steps", "Sampler": "scheduler", "CFG scale": "guidance", "Seed": "seed"}
    said = {name: str(ours[key]) for name, key in names.items() if _plain(ours.get(key))}
    if _plain(ours.get("width")) and _plain(ours.get("height")):
        said["Size"] = f"{ours['width']}x{ours['height']}"
    model = ours.get("model")
    if isinstance(model, dict) and isinstance(model.get("name"), str):
        said["Model"] = model["name"]
    wanted, unwanted = (ours.get(key) for key in ("prompt", "negative_prompt"))
    return Parameters(wanted if isinstance(wanted, str) else "", unwanted if isinstance(unwanted, str) else "", said)


def config_of(found: Found) -> FreeUConfig | None:
    """FreeU's settings of a file.

    Raises:
        FreeUValueError: settings that are damaged, or that freeu has no words for.
    """
    if found.ours is None:
        return freeu_of(found.parameters.fields)
    data = found.ours.get("config")
    if data is not None and not isinstance(data, Mapping):
        raise FreeUValueError("config is no object")
    return None if data is None else FreeUConfig.from_dict(data)


def _told(found: Found) -> Metadata:
    said, notes = found.parameters.fields, []

    def number(name: str, kind: Callable[[str], Any], low: float, high: float) -> Any:
        text = said.get(name)
        if text is None:
            return None
        try:
            value = kind(text[:40])
            if low <= value <= high:
                return value
        except ValueError:
            pass
        notes.append(f"{name} is no number from {low:g} to {high:g}: {_short(text)}")
        return None

    width, cross, height = said.get("Size", "").partition("x")
    sides: tuple[int | None, int | None] = (None, None)
    if cross:
        if all(side.isascii() and side.isdigit() and len(side) < 8 and int(side) > 0 for side in (width, height)):
            sides = (int(width), int(height))
        else:
            notes.append(f"Size is none: {_short(said['Size'])}")
    config = None
    try:
        config = config_of(found)
    except FreeUValueError as error:
        notes.append(f"FreeU: {_short(str(error))}")
    rest = [name for name in said if name not in _TAKEN]
    if rest:
        more = f" and {len(rest) - _MOST_NAMED} more" if len(rest) > _MOST_NAMED else ""
        notes.append(f"not taken: {', '.join(map(_short, rest[:_MOST_NAMED]))}{more}")
    schedule = said.get("Schedule type", "")
    sampler = " ".join(filter(None, (said.get("Sampler", ""), schedule)))
    return Metadata(
        found.dialect,
        found.parameters.prompt,
        found.parameters.negative_prompt,
        seed=number("Seed", int, 0, 2**64 - 1),
        steps=number("Steps", int, 1, 10_000),
        guidance_scale=number("CFG scale", float, 0.0, 100.0),
        width=sides[0],
        height=sides[1],
        sampler=sampler or None,
        model=said.get("Model"),
        config=config,
        notes=tuple(notes),
    )


def _short(text: str) -> str:
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return short if short.isprintable() else json.dumps(short)
