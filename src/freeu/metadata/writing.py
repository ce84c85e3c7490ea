"""FreeU's settings into a file, in the dialect of a tool: nothing but texts is changed, no pixel is encoded anew."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError, unknown_name
from freeu.extras import need
from freeu.foreign import comfyui, exif, others, workflow
from freeu.foreign.parameters import KEY as PARAMETERS
from freeu.foreign.parameters import Parameters, write_parameters
from freeu.foreign.png import chunks, find_texts
from freeu.metadata.fields import FREEU_FIELDS, said_in
from freeu.metadata.png import KEY, SCHEMA
from freeu.metadata.reading import DIALECTS, MOST, Found, find
from freeu.presets.named import as_config

_FEWEST = 3
_MOST_BYTES = 64 << 20
_SAMPLERS = ("KSampler", "KSamplerAdvanced")


def write(
    path: str | Path, config: FreeUConfig | str, dialect: str = "freeu", output: str | Path | None = None
) -> Path:
    """Put FreeU's settings into an image or a JSON file, as a tool writes them; prompt, seed and the like stay.

    Pixels are not encoded anew: a chunk of a PNG, or the EXIF data of a JPEG or WebP, is put in. "freeu" keeps every
    field; other dialects take what their tool can do and refuse the rest. "comfyui" puts a node FreeU or FreeU_V2
    before the sampler of a graph that is there, and takes the page's ``workflow`` out, which would say otherwise.

    Args:
        path: a PNG, JPEG, WebP or JSON file.
        config: the settings, or the name of a preset.
        dialect: "freeu", "a1111" (sd-webui-freeu), "forge", "sdnext", "comfyui" or "fooocus".
        output: where to write; the file itself by default. It is replaced in one step.

    Returns:
        the file that was written.

    Raises:
        FreeUValueError: an unknown dialect, a file that cannot be read or written, or settings that the dialect or the
            kind of file cannot hold.
    """
    path, config = Path(path), as_config(config)
    if dialect not in DIALECTS:
        raise unknown_name("dialect", dialect, DIALECTS)
    if dialect == "invokeai":
        raise FreeUValueError("invokeai: its metadata has no field for FreeU, which is a node of its workflow there")
    said = said_in(config, dialect)
    kind = exif.kind_of(path)
    found = find(path)
    if kind == "png":
        data = _png(path, _texts(path, kind, config, dialect, said, found), dialect)
    elif kind:
        data = _photo(path, kind, _texts(path, kind, config, dialect, said, found))
    else:
        data = _json(config, dialect, said, found)
    target = path if output is None else Path(output)
    _replace(target, data)
    return target


def _texts(
    path: Path, kind: str, config: FreeUConfig, dialect: str, said: Mapping[str, str], found: Found | None
) -> dict[str, str]:
    """The texts of the dialect by their keys in a PNG."""
    if dialect == "freeu":
        return {KEY: json.dumps(_ours(config, found), ensure_ascii=False)}
    if dialect == "comfyui":
        if kind != "png":
            raise FreeUValueError(f"{path}: ComfyUI's graph is put into PNG files alone")
        text = find_texts(path, {comfyui.KEY: MOST}).get(comfyui.KEY)
        try:
            graph = json.loads(text or "null")
        except (ValueError, RecursionError):
            graph = None
        return {comfyui.KEY: json.dumps(_with_node(path, graph, said))}
    about = found.parameters if found is not None else Parameters("")
    kept = {name: value for name, value in about.fields.items() if name not in FREEU_FIELDS}
    kept.setdefault("Size", "x".join(map(str, _size(path))))
    if dialect == "fooocus":
        return {PARAMETERS: json.dumps(_fooocus(about, kept, said)), others.SCHEME: "fooocus"}
    told = {**kept, **said}
    if len(told) < _FEWEST:  # a shorter line would be read as a prompt
        from freeu import __version__

        told["Version"] = f"freeu {__version__}"
    return {PARAMETERS: write_parameters(Parameters(about.prompt, about.negative_prompt, told))}


def _ours(config: FreeUConfig, found: Found | None) -> dict[str, Any]:
    """Our settings: those that are there, or what another tool said in our words."""
    if found is not None and found.ours is not None:
        return {"schema": SCHEMA, **found.ours, "config": config.to_dict()}
    data: dict[str, Any] = {"schema": SCHEMA}
    if found is not None:
        about = found.parameters
        data |= {"prompt": about.prompt, "negative_prompt": about.negative_prompt}
        width, _, height = about.fields.get("Size", "").partition("x")
        numbers = {"seed": about.fields.get("Seed", ""), "steps": about.fields.get("Steps", "")}
        numbers |= {"width": width, "height": height}
        data |= {name: int(text) for name, text in numbers.items() if text.isascii() and text.isdigit()}
        scale = about.fields.get("CFG scale", "")
        if scale.replace(".", "", 1).isdigit():
            data["guidance"] = float(scale)
        sampler = [about.fields[name] for name in ("Sampler", "Schedule type") if name in about.fields]
        data |= {"scheduler": " ".join(sampler)} if sampler else {}
    return {**data, "config": config.to_dict()}


def _fooocus(about: Parameters, kept: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
    names = {ours: keys[0] for ours, keys in others.FOOOCUS.items()}
    data = {names[name]: value for name, value in {**kept, **said}.items() if name in names}
    width, _, height = kept["Size"].partition("x")
    return data | {
        "prompt": about.prompt,
        "negative_prompt": about.negative_prompt,
        "resolution": f"({width}, {height})",
    }


def _with_node(path: Path, graph: Any, said: Mapping[str, str]) -> dict[str, Any]:
    """A graph of ComfyUI with a node of FreeU before each sampler; one that is there is changed."""
    nodes = graph if isinstance(graph, dict) else {}
    nodes = {name: node for name, node in nodes.items() if isinstance(node, dict) and "class_type" in node}
    samplers = [
        node
        for node in nodes.values()
        if node["class_type"] in _SAMPLERS
        and isinstance(node.get("inputs"), dict)
        and isinstance(node["inputs"].get("model"), list)
    ]
    if not samplers:
        raise FreeUValueError(f"{path} has no graph of ComfyUI with a KSampler to put a node of FreeU into")
    factors: dict[str, Any] = {key: float(said[key]) for key in ("b1", "b2", "s1", "s2")}
    there = [name for name, one in nodes.items() if one["class_type"] in comfyui.FREEU_NODES]
    out = json.loads(json.dumps(nodes))
    for name in there:
        link = (nodes[name].get("inputs") or {}).get("model")
        out[name] = {"class_type": said["class_type"], "inputs": {**factors, "model": link}}
    if there:
        return dict(out)
    number = max((int(name) for name in nodes if name.isascii() and name.isdigit()), default=0) + 1
    made: dict[str, str] = {}
    for one in out.values():
        if one["class_type"] in _SAMPLERS and isinstance(one["inputs"].get("model"), list):
            link = json.dumps(one["inputs"]["model"])
            made.setdefault(link, str(number + len(made)))
            one["inputs"]["model"] = [made[link], 0]
    for link, name in made.items():
        out[name] = {"class_type": said["class_type"], "inputs": {**factors, "model": json.loads(link)}}
    return dict(out)


def _json(config: FreeUConfig, dialect: str, said: Mapping[str, str], found: Found | None) -> bytes:
    """A JSON file: our configuration, or what sd-webui-freeu's API or Fooocus take."""
    data: Any
    if dialect == "freeu":
        alone = found is None or (found.ours is not None and found.ours.keys() <= {"config"})
        data = config.to_dict() if alone else _ours(config, found)
    elif dialect == "a1111":
        start, end, _ = said["FreeU Schedule"].split(", ")
        data = {"enable": True, "version": said["FreeU Version"], "start_ratio": float(start)}
        data |= {"stop_ratio": float(end), "stage_infos": json.loads(said["FreeU Stages"])}
    elif dialect == "fooocus":
        about = found.parameters if found is not None else Parameters("")
        data = _fooocus(about, {"Size": "512x512", **about.fields}, said)
    else:
        raise FreeUValueError(f"{dialect} has no JSON file of its own: give an image")
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _size(path: Path) -> tuple[int, int]:
    need("diffusers", "PIL")
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:  # Pillow raises whatever a damaged header makes it
        raise FreeUValueError(f"cannot read {path}: {type(error).__name__}") from None


def _whole(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > _MOST_BYTES:
        raise FreeUValueError(f"{path} has more than {_MOST_BYTES >> 20} MiB: make it smaller")
    return data


def _png(path: Path, texts: Mapping[str, str], dialect: str) -> bytes:
    """A PNG with texts behind its header; those of the same keys, and others that would be read first, are left out."""
    gone = {KEY} if dialect == "freeu" else {KEY, PARAMETERS, others.SCHEME}
    if dialect == "comfyui":
        gone |= {comfyui.KEY, workflow.KEY}
    heads = tuple(key.encode() + b"\0" for key in gone)
    data = _whole(path)
    out = [data[:8]]
    with path.open("rb") as file:
        for number, (kind, place, length) in enumerate(chunks(file, path)):
            if kind in (b"tEXt", b"zTXt", b"iTXt") and data[place : place + 80].startswith(heads):
                continue
            out.append(data[place - 8 : place + length + 4])
            if number == 0:
                out += [_text_chunk(key, text) for key, text in texts.items()]
    return b"".join(out)


def _text_chunk(key: str, text: str) -> bytes:
    """Latin letters as other tools write them; other scripts, and our own key, as international text."""
    kind, body = b"iTXt", key.encode() + b"\0\0\0\0\0" + text.encode()
    if key != KEY:
        with contextlib.suppress(UnicodeEncodeError):
            kind, body = b"tEXt", key.encode() + b"\0" + text.encode("latin-1")
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _photo(path: Path, kind: str, texts: Mapping[str, str]) -> bytes:
    """A JPEG or WebP with a text in the user comment of its EXIF data."""
    need("diffusers", "PIL")
    from PIL import Image

    text = texts.get(PARAMETERS) or texts[KEY]
    before = exif.find_exif(path, kind)
    tags = Image.Exif()
    try:
        if before is not None:
            tags.load(before)
        tags.get_ifd(0x8769)[exif.COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
        if others.SCHEME in texts:
            tags[exif.MAKER_NOTE] = texts[others.SCHEME]
        made = tags.tobytes().removeprefix(b"Exif\0\0")
    except Exception as error:  # Pillow raises whatever damaged EXIF data makes it
        raise FreeUValueError(f"cannot read {path}: its EXIF data is damaged ({type(error).__name__})") from None
    return (_jpeg if kind == "jpeg" else _webp)(path, _whole(path), made)


def _jpeg(path: Path, data: bytes, made: bytes) -> bytes:
    body = b"Exif\0\0" + made
    if len(body) > 65_533:
        raise FreeUValueError(f"{path}: {len(body)} bytes of settings do not fit into a JPEG, which takes 65533")
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    cuts = []
    place = 2
    with path.open("rb") as file:
        for name, start, length in exif.segments(file, path):
            if name == b"\xe1" and data[start : start + 6] == b"Exif\0\0":
                cuts.append((start - 4, start + length))
            elif name == b"\xe0" and start == 6:  # the JFIF header stays first
                place = start + length
    for begin, end in reversed(cuts):
        data = data[:begin] + data[end:]
        place -= end - begin if begin < place else 0
    return data[:place] + segment + data[place:]


def _webp(path: Path, data: bytes, made: bytes) -> bytes:
    """A WebP with EXIF data; the simple form gets the header of the extended one, which says the image's size."""
    with path.open("rb") as file:
        parts = [(name, data[place : place + length]) for name, place, length in exif.riff_chunks(file, path)]
    parts = [(name, body) for name, body in parts if name != b"EXIF"]
    if not parts:
        raise FreeUValueError(f"cannot read {path}: it is damaged, or ends early")
    if parts[0][0] == b"VP8X" and len(parts[0][1]) == 10:
        header = bytearray(parts.pop(0)[1])
    else:
        width, height = _size(path)
        header = bytearray(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        if parts[0][0] == b"VP8L" and len(parts[0][1]) > 4 and parts[0][1][4] & 0x10:
            header[0] |= 0x10  # alpha
    header[0] |= 0x08
    parts = [(b"VP8X", bytes(header)), *parts, (b"EXIF", made)]
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(one)) + one + b"\0" * (len(one) % 2) for name, one in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _replace(target: Path, data: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it."""
    name = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            name = file.name
            file.write(data)
        os.chmod(name, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.replace(name, target)
    except OSError as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        raise FreeUValueError(f"cannot write {target}: {error.strerror or error}") from None


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before
