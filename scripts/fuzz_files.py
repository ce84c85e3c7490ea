"""Read thousands of damaged files: each must be read, or refused in one line, at once and in bounded memory.

    python scripts/fuzz_files.py --output benchmarks/results/fuzz-files.json

Sound files of every kind are damaged from a seed and handed to the readers in a child process, which ends at a crash, a
file that takes too long, or a call that would run something. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import resource
import selectors
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KINDS = ("png", "jpg", "webp", "tif", "gif", "json", "safetensors", "ckpt", "pt", "mp4", "settings")
SECONDS, MEGABYTES = 10.0, 200
"""For one file: the child is stopped after this, and may grow by so much."""
ADDRESSES = 16 << 30
"""Bytes of address space of the child; libraries map files and threads into it."""
EXTREME = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)
RUNS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.mkdir",
    "subprocess.Popen",
    "socket.connect",
    "shutil.",
)
"""Beginnings of audit events that no reader has a reason for."""


class _Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        import os

        return os.mkdir, ("ran",)


def sound(kind: str, folder: Path) -> list[bytes]:
    """Sound files of a kind, and for pickles some that would run code."""
    import numpy as np
    import torch
    from PIL import Image
    from safetensors.torch import save

    from freeu.metadata import png_bytes

    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    found: list[bytes] = []

    def stored(image: Image.Image, form: str, **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        found.append(buffer.getvalue())

    exif = Image.Exif()
    exif[0x0112] = 6
    if kind == "png":
        found.append(png_bytes(rgb, {"prompt": "a fox", "config": {"b": [1.3, 1.4]}}))
        found.append(png_bytes(rgb, {"prompt": "a fox"}, [rgb.rotate(180), rgb]))
        for mode in ("L", "LA", "P", "RGBA", "1"):
            stored(rgb.convert(mode), "PNG")
        stored(Image.fromarray(rng.integers(0, 65536, (24, 32), dtype=np.uint16)), "PNG", exif=exif)
    elif kind in ("jpg", "webp", "gif", "tif"):
        form = {"jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "tif": "TIFF"}[kind]
        stored(rgb, form, **({} if kind == "gif" else {"exif": exif}))
        if kind in ("webp", "gif"):
            stored(rgb, form, save_all=True, append_images=[rgb.rotate(180), rgb], duration=80)
        if kind == "tif":
            stored(Image.fromarray(rng.random((24, 32), dtype=np.float32)), form, compression="tiff_lzw")
            stored(Image.fromarray(rng.integers(0, 65536, (24, 32), dtype=np.uint16)), form)
        if kind == "jpg":
            stored(rgb.convert("CMYK"), form)
    elif kind == "settings":
        found += _settings(rgb)
    elif kind == "json":
        data = Path(__file__).parents[1] / "tests" / "data" / "manifests-0.1"
        found += [path.read_bytes() for path in sorted(data.glob("*.json"))]
    elif kind == "safetensors":
        name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
        lora = {f"{name}.lora_down.weight": torch.ones(2, 8), f"{name}.lora_up.weight": torch.ones(8, 2)}
        found.append(save({**lora, f"{name}.alpha": torch.tensor(1.0)}, {"ss_network_dim": "2"}))
        found.append(save({"<R>": torch.ones(2, 16)}))
        found.append(save({"clip_l": torch.ones(1, 16), "clip_g": torch.ones(1, 32)}))
    elif kind in ("ckpt", "pt"):
        weights = {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2, 2), "<R>": torch.ones(2, 16)}
        itself: dict[str, Any] = {"<R>": torch.ones(2)}
        itself["state_dict"] = itself
        for data in (weights, {"state_dict": weights}, {"<R>": torch.ones(2, 16)}, itself, {"<R>": _Evil()}):
            for packed in (True, False):
                buffer = io.BytesIO()
                torch.save(data, buffer, _use_new_zipfile_serialization=packed)
                found.append(buffer.getvalue())
    else:
        from freeu.pipelines.io.clip_files import ClipWriter

        path = folder / "sound.mp4"
        with ClipWriter(path, "mp4", 8, 32, 24) as writer:
            for turn in range(6):
                writer.add(np.asarray(rgb.rotate(30 * turn)))
        found.append(path.read_bytes())
    return found


def _settings(image: Any) -> list[bytes]:
    """Settings as each tool writes them, in PNG, JPEG, WebP and JSON files."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    graph = {
        "3": {
            "class_type": "KSampler",
            "inputs": {"seed": 5, "steps": 20, "cfg": 7.0, "model": ["10", 0], "positive": ["6", 0]},
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}},
        "10": {
            "class_type": "FreeUExact",
            "inputs": {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2, "version": "2", "config": '{"dc": "keep"}'},
        },
    }
    flow = {
        "nodes": [
            {"id": 3, "type": "KSampler", "inputs": [{"name": "model", "type": "MODEL", "link": 1}]},
            {"id": 10, "type": "FreeU", "widgets_values": [1.2, 1.4, 0.9, 0.2], "mode": 4},
        ],
        "links": [[1, 10, 0, 3, 0, "MODEL"]],
    }
    line = "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768, "
    stages = json.dumps(json.dumps([{"backbone_factor": 1.2, "backbone_width": 0.4992}, {"skip_factor": 0.9}]))
    texts = [
        {"parameters": line + 'FreeU: "(1.01, 1.02, 0.99, 0.95)", Version: Fooocus v2'},
        {"parameters": line + f'FreeU Stages: {stages}, FreeU Schedule: "0.1, 0.8, 0.0", FreeU Version: 2'},
        {"parameters": line + "freeu_enabled: True, freeu_b1: 1.1, freeu_b2: 1.2, freeu_s1: 0.9, freeu_s2: 0.2"},
        {"parameters": json.dumps({"prompt": "a fox", "freeu": "(1.1, 1.2, 0.9, 0.2)", "resolution": "(512, 512)"})},
        {"prompt": json.dumps(graph), "workflow": json.dumps(flow)},
        {"workflow": json.dumps(flow)},
        {
            "invokeai_metadata": json.dumps({"positive_prompt": "a fox", "seed": 5, "width": 512, "height": 512}),
            "invokeai_graph": json.dumps({"nodes": {"a": {"type": "freeu", "b1": 1.2}}, "edges": []}),
        },
    ]
    found = []
    for said in texts:
        info = PngInfo()
        for number, (key, text) in enumerate(said.items()):
            info.add_text(key, text, zip=number == 1)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info)
        found.append(buffer.getvalue())
        found += [text.encode() for text in said.values() if text.startswith("{")]
        exif = Image.Exif()
        if "parameters" in said:
            exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + said["parameters"].encode("utf-16-be")
        else:
            exif[0x0110] = "prompt:" + said.get("prompt", "{}")
        for form in ("JPEG", "WEBP"):
            buffer = io.BytesIO()
            image.save(buffer, form, exif=exif)
            found.append(buffer.getvalue())
    return found


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with one to eight changes: bytes, numbers, pieces that are missing, doubled, moved or made large."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        if not out:
            break
        place = rng.randrange(len(out))
        length = rng.randint(1, max(1, len(out) // 8))
        what = rng.randrange(7)
        if what == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            out[place : place + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(EXTREME))
        elif what == 2:
            del out[place : place + length]
        elif what == 3:
            out[place:place] = out[place : place + length] * rng.randint(1, 4)
        elif what == 4:
            out[place : place + length] = rng.randbytes(length)
        elif what == 5:
            out[place:place] = rng.choice((b"[" * 5000, b"0" * 6000, b'{"a":' * 2000, bytes(2000), b"\xff" * 2000))
        elif rng.random() < 0.3:
            del out[place:]
    return bytes(out)


def case(kind: str, files: list[bytes], rng: random.Random) -> bytes:
    """A damaged file; checksums and lengths are mended in half of them, so that readers come further."""
    data = rng.choice(files)
    mend = rng.random() < 0.5
    if mend and data.startswith(b"\x89PNG"):
        parts = [[name, bytearray(body)] for name, body in _chunks(data)]
        part = rng.choice(parts)
        body = damaged(zlib.decompress(part[1]), rng) if part[0] == b"IDAT" else damaged(bytes(part[1]), rng)
        part[1] = bytearray(zlib.compress(body) if part[0] == b"IDAT" else body)
        if rng.random() < 0.2:
            parts.insert(rng.randrange(len(parts)), list(rng.choice(parts)))
        return data[:8] + b"".join(_chunk(name, bytes(body)) for name, body in parts)
    if kind == "safetensors" and mend:
        (size,) = struct.unpack("<Q", data[:8])
        head = damaged(data[8 : 8 + size], rng)
        return struct.pack("<Q", len(head)) + head + data[8 + size :]
    if kind in ("ckpt", "pt") and mend and data[:2] == b"PK":
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
            for name in old.namelist():
                new.writestr(name, damaged(old.read(name), rng) if name.endswith("data.pkl") else old.read(name))
        return buffer.getvalue()
    return damaged(data, rng)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def readers(kind: str) -> list[Callable[[Path], Any]]:
    """What freeu reads such files with."""
    from freeu.metadata import read, read_png, write
    from freeu.pipelines.io.clip_files import read_clip
    from freeu.pipelines.io.inputs import open_image, open_mask
    from freeu.pipelines.io.reading import read_header, read_pickled, readable
    from freeu.pipelines.models.addons.embedding_files import read_embedding
    from freeu.pipelines.models.addons.lora_files import read_lora_header
    from freeu.pipelines.models.addons.lora_scales import scaled_state
    from freeu.pipelines.models.sources.sources import find_model
    from freeu.pipelines.options.freeu import parse_config
    from freeu.pipelines.runs.inside import read_run
    from freeu.study.media import media

    def clip(path: Path) -> int:
        return sum(1 for _ in read_clip(path))

    def copied(path: Path) -> None:
        """Settings are put into a copy, which is read again."""
        copy = path.with_name("copy")
        write(path, "sd15", "a1111" if path.stat().st_size % 2 else "freeu", copy)
        assert read(copy).config is not None, "what was written was not read"

    def pickled(path: Path) -> Any:
        with readable(path.name):
            return read_pickled(path, "meta"), read_pickled(path)

    images = [open_image, lambda path: open_mask(path, open_image(path)), media.read_image]
    return {
        "png": [*images, read_png, read_run, clip],
        "jpg": images,
        "tif": images,
        "webp": [*images, clip],
        "gif": [*images, clip],
        "json": [read_run, lambda path: parse_config(str(path))],
        "safetensors": [
            read_header,
            read_lora_header,
            scaled_state,
            read_embedding,
            lambda path: find_model(str(path)),
        ],
        "settings": [read, copied],
        "ckpt": [pickled],
        "pt": [read_embedding],
        "mp4": [clip, lambda path: media.read_media_info(path, path.parent)],
    }[kind]


def child(kind: str, seed: int, first: int, last: int) -> None:
    """Read the cases of a kind and print a line of JSON before and after each."""
    from freeu.errors import FreeUError

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sound(kind, folder)
        path = folder / f"case.{kind}"
        todo = readers(kind)
        for data in files:  # what libraries load at their first use does not count as growth
            path.write_bytes(data)
            for read in todo:
                with contextlib.suppress(FreeUError):
                    read(path)
        ran: list[str] = []
        armed = [True]
        sys.addaudithook(lambda event, _: ran.append(event) if armed[0] and event.startswith(RUNS) else None)
        before = _peak()
        for number in range(first, last):
            print(json.dumps({"begin": number}), flush=True)
            path.write_bytes(case(kind, files, random.Random(f"{seed} {kind} {number}")))
            began, faults, refused = time.perf_counter(), [], 0
            for read in todo:
                try:
                    read(path)
                except FreeUError as error:
                    refused += 1
                    if len(str(error)) > 2000:
                        faults.append(f"a message of {len(str(error))} letters")
                except BaseException as error:
                    faults.append(f"{type(error).__name__}: {error}"[:300])
            if ran:
                faults.append(f"ran {ran[0]}")
                ran.clear()
            line = {
                "end": number,
                "readers": len(todo),
                "refused": refused,
                "faults": faults,
                "seconds": time.perf_counter() - began,
            }
            print(json.dumps({**line, "grown": _peak() - before}), flush=True)
        armed[0] = False


def _peak() -> float:
    """The most memory so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def watch(kind: str, seed: int, count: int) -> dict[str, Any]:
    """Run the cases of a kind in children, and say how they ended."""
    first, tally = 0, Counter[str]()
    slowest, grown = 0.0, 0.0
    faults: list[dict[str, Any]] = []
    while first < count:
        words = [sys.executable, __file__, "--child", kind, "--seed", str(seed), "--first", str(first)]
        process = subprocess.Popen([*words, "--count", str(count)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        at, limit = first, 120.0  # importing takes its time
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(limit):
                    process.kill()
                    faults.append({"case": at, "faults": [f"more than {limit:g} seconds"]})
                    first = at + 1
                    break
                line = process.stdout.readline()
                if not line:
                    first = count if process.wait() == 0 else at + 1
                    if process.returncode:
                        faults.append({"case": at, "faults": [f"ended with {process.returncode}"]})
                    break
                said = json.loads(line)
                if "begin" in said:
                    at, limit = said["begin"], SECONDS
                    continue
                tally["refused" if said["refused"] == said["readers"] else "read"] += 1
                slowest, grown = max(slowest, said["seconds"]), max(grown, said["grown"])
                if said["faults"]:
                    faults.append({"case": at, "faults": said["faults"]})
        process.wait()
        process.stdout.close()
    return {
        "files": count,
        "read_by_one_reader_or_more": tally["read"],
        "refused_by_all": tally["refused"],
        "slowest_seconds": round(slowest, 2),
        "most_memory_grown_mb": round(grown),
        "faults": faults,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1_050, help="files of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.seed, given.first, given.count)
        return 0
    found = {}
    for kind in given.kinds:
        found[kind] = watch(kind, given.seed, given.count)
        shown = {**found[kind], "faults": len(found[kind]["faults"])}
        print(kind, json.dumps(shown), *found[kind]["faults"][:5], sep="\n  ", flush=True)
    fine = all(not one["faults"] and one["most_memory_grown_mb"] <= MEGABYTES for one in found.values())
    only = "" if given.kinds == KINDS else f" --kinds {' '.join(given.kinds)}"
    result = {
        "command": f"python scripts/fuzz_files.py{only} --seed {given.seed} --count {given.count}",
        "limits": {"seconds": SECONDS, "memory_mb": MEGABYTES},
        "files": sum(one["files"] for one in found.values()),
        "fine": fine,
        "kinds": found,
    }
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
