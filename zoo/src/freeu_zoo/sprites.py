"""Sprites: the Fluent emoji pictures from which scenes are composed, fetched from npm and checked.

Nothing of Node is needed at run time; ``npm pack`` only downloads the two tarballs.
"""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import ZooError
from .files import sha256, write_atomically

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STYLES = ("3d", "flat")
SIZE = 256
"""Side of a stored sprite in pixels."""


@dataclass(frozen=True)
class Archive:
    """One npm tarball: what to ask for, what the file is called, what it must hash to."""

    package: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Table:
    """The noun table: ``nouns`` maps a noun to its member name in each style's archive."""

    archives: dict[str, Archive]
    nouns: dict[str, dict[str, str]]


def table() -> Table:
    """Read the table shipped with the package."""
    raw = tomllib.loads(resources.files("freeu_zoo").joinpath("data/sprites.toml").read_text("utf-8"))
    archives = {style: Archive(**raw["archives"][style]) for style in STYLES}
    return Table(archives, {noun: _members(row) for noun, row in raw["nouns"].items()})


def _members(row: dict[str, Any]) -> dict[str, str]:
    return {"3d": f"package/assets/{row['code']}.webp", "flat": f"package/icons/flat/{row['phrase']}.svg"}


def fetch(folder: Path) -> dict[str, Path]:
    """Make sure that both archives lie in ``folder``, whole; return their paths by style.

    Raises:
        ZooError: npm is missing or failed, or an archive does not have the expected SHA-256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for style, archive in table().archives.items():
        path = folder / archive.file
        if not path.exists():
            _npm_pack(archive, folder)
        found = sha256(path)
        if found != archive.sha256:
            raise ZooError(
                f"{path} is damaged or another version: SHA-256 {found[:12]}..., expected {archive.sha256[:12]}...; "
                "delete the file and run again"
            )
        paths[style] = path
    return paths


def _npm_pack(archive: Archive, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ZooError(
            f"npm was not found: install Node.js, or put {archive.file} (npm package {archive.package}) into {folder}"
        )
    # Downloaded into a folder of its own, so that an interrupted download never bears the final name.
    aside = folder / f".{archive.file}.part"
    aside.mkdir(exist_ok=True)
    try:
        command = [npm, "pack", archive.package, "--silent", "--pack-destination", str(aside)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        got = aside / archive.file
        if done.returncode != 0 or not got.exists():
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise ZooError(f"npm pack {archive.package} failed ({lines[-1]}); is the network up?")
        got.replace(folder / archive.file)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def render(data: bytes, name: str) -> Image.Image:
    """Decode an archive member (WebP or SVG) to RGBA, cropped to what is drawn, ``SIZE`` pixels on its long side."""
    if name.endswith(".svg"):
        import resvg_py

        data = bytes(resvg_py.svg_to_bytes(svg_string=data.decode("utf-8"), width=SIZE, height=SIZE))
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        raise ZooError(f"{name} is an empty picture")
    image = image.crop(box)
    scale = SIZE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def unpack(archives: dict[str, Path], folder: Path, extra: int = 0) -> None:
    """Render every noun in every style to ``folder/STYLE/NOUN.png``, and ``extra`` other emoji to ``folder/extra``.

    The others (chosen by a fixed seed) only teach the autoencoder to be general; no caption names them.

    Raises:
        ZooError: an archive cannot be read or lacks a member.
    """
    nouns = table().nouns
    for style, path in archives.items():
        try:
            with tarfile.open(path) as tar:
                members = sorted(name for name in tar.getnames() if name.startswith(_FOLDER[style]))
                wanted = {row[style]: f"{style}/{noun}" for noun, row in nouns.items()}
                missing = sorted(set(wanted) - set(members))
                if missing:
                    raise ZooError(f"{path} lacks {', '.join(missing)}")
                others = [name for name in members if name not in wanted]
                some = random.Random(0).sample(others, min(extra // len(STYLES), len(others)))
                wanted |= {name: f"extra/{style}-{Path(name).stem}" for name in some}
                for name, target in wanted.items():
                    out = folder / f"{target}.png"
                    if not out.exists():
                        file = tar.extractfile(name)
                        assert file is not None
                        write_atomically(out, render(file.read(), name).save)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ZooError(f"{path} cannot be read ({error}); delete it and run again") from error


_FOLDER = {"3d": "package/assets/", "flat": "package/icons/flat/"}


def load(folder: Path, style: str, noun: str) -> Image.Image:
    """One noun's sprite, RGBA, ``SIZE`` pixels on its long side.

    Raises:
        ZooError: the sprite was not unpacked there.
    """
    path = folder / style / f"{noun}.png"
    if not path.exists():
        raise ZooError(f"{path} is missing; run `python -m freeu_zoo.train RECIPE --stage sprites` first")
    with Image.open(path) as image:
        return image.convert("RGBA")
