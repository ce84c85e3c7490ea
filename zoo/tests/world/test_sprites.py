from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")

from freeu_zoo.errors import ZooError
from freeu_zoo.world import scenes, sprites
from PIL import Image

NOUNS = sprites.table().nouns
DRAWN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<path fill-rule="evenodd" d="M8 4h16v8h-16z m4 2v4h8v-4z" fill="#212121"/></svg>'
)
"""A frame in the manner of the line drawings: 16 wide, 8 high, with a hole."""


def test_table_is_consistent() -> None:
    assert len(NOUNS) >= 150
    assert len({row.code for row in NOUNS.values()}) == len({row.phrase for row in NOUNS.values()}) == len(NOUNS)
    assert not set(NOUNS) & set(scenes.COLOURS)
    for noun, row in NOUNS.items():
        assert all(re.fullmatch("[a-z]+", word) for text in (noun, sprites.plural(noun)) for word in text.split())
        assert re.fullmatch(r"[0-9a-f]{4,5}(-fe0f)?", row.code), noun
        assert re.fullmatch("[a-z]+", row.group), noun
    assert "elephant" in NOUNS


def test_no_form_of_a_noun_is_a_form_of_another() -> None:
    forms = [form for noun in NOUNS for form in {noun, sprites.plural(noun)}]
    assert len(set(forms)) == len(forms)


def test_every_style_names_its_archive() -> None:
    table = sprites.table()
    assert tuple(table.styles) == sprites.STYLES == ("3d", "flat", "line")
    assert {style.archive for style in table.styles.values()} == set(table.archives)
    assert table.member("3d", "dog") == "package/assets/1f436.webp"
    assert table.member("flat", "dog") == "package/icons/flat/dog-face.svg"
    assert table.member("line", "dog") == "package/icons/high-contrast/dog-face.svg"


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("cat", "cats"),
        ("fox", "foxes"),
        ("bus", "buses"),
        ("church", "churches"),
        ("strawberry", "strawberries"),
        ("key", "keys"),
        ("cactus", "cactuses"),
        ("fish", "fish"),
        ("sheep", "sheep"),
        ("mouse", "mice"),
        ("leaf", "leaves"),
        ("tooth", "teeth"),
    ],
)
def test_plural(noun: str, plural: str) -> None:
    assert sprites.plural(noun) == plural


@pytest.mark.parametrize("style", sprites.STYLES)
def test_every_noun_has_a_picture(style: str) -> None:
    for noun in NOUNS:
        sprite = sprites.load(style, noun)
        assert sprite.mode == "RGBA"
        assert max(sprite.size) == sprites.SIZE, noun
        alpha = np.asarray(sprite.getchannel("A"))
        assert (alpha.min(), alpha.max()) == (0, 255), noun
        assert (alpha > 128).mean() > 0.05, noun
        left, top, right, bottom = sprite.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox() or (0, 0, 0, 0)
        margins = (left, top, sprite.width - right, sprite.height - bottom)
        assert max(margins) <= 2, f"{noun} is not cropped: {margins}"


def test_line_drawings_are_black_alone() -> None:
    for noun in NOUNS:
        pixels = np.asarray(sprites.load("line", noun))
        assert pixels[..., :3][pixels[..., 3] > 128].max() < 64, noun


@pytest.mark.parametrize("style", sprites.STYLES)
def test_no_two_nouns_share_a_picture(style: str) -> None:
    seen = {sprites.load(style, noun).tobytes() for noun in NOUNS}
    assert len(seen) == len(NOUNS)


def test_unknown_noun_is_said() -> None:
    with pytest.raises(ZooError, match="no sprite of 'teacher' in style 'flat'"):
        sprites.load("flat", "teacher")


def test_render_crops_and_keeps_holes() -> None:
    pytest.importorskip("resvg_py")
    image = sprites.render(DRAWN.encode(), "frame.svg")
    assert (image.mode, image.size) == ("RGBA", (sprites.SIZE, sprites.SIZE // 2))
    assert image.getpixel((sprites.SIZE // 2, sprites.SIZE // 4)) == (0, 0, 0, 0)
    assert image.getpixel((8, 8)) == (0x21, 0x21, 0x21, 255)


def test_empty_picture_is_said() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (9, 9)).save(buffer, "PNG")
    with pytest.raises(ZooError, match="is an empty image"):
        sprites.render(buffer.getvalue(), "nothing.png")


def test_missing_npm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ZooError, match="npm was not found"):
        sprites.fetch(tmp_path)


def test_damaged_archive_is_said(tmp_path: Path) -> None:
    for archive in sprites.table().archives.values():
        (tmp_path / archive.file).write_bytes(b"half a download")
    with pytest.raises(ZooError, match="is damaged or another version"):
        sprites.fetch(tmp_path)


def test_archive_that_lacks_a_picture_is_said(tmp_path: Path) -> None:
    paths = {}
    for name, archive in sprites.table().archives.items():
        paths[name] = tmp_path / archive.file
        with tarfile.open(paths[name], "w:gz"):
            pass
    with pytest.raises(ZooError, match=r"lacks .*package/assets/1f436\.webp"):
        sprites.build_packs(paths, tmp_path)
    assert not list(tmp_path.glob("*.zip"))
