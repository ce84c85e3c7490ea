"""A page of videos in pairs, in step, side by side or under a wiping slider, from disk and without network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freeu.pipelines.pages.page import first_zoom, zooms
from freeu.pipelines.pages.rendering import render

MAX_INSIDE = 24 << 20
"""Bytes of MP4 up to which the page holds the videos itself; beyond, it plays the files beside it."""


@dataclass(frozen=True)
class Pair:
    """Two videos of one size and length.

    Args:
        caption: above them, such as "seed 3".
        off, on: the MP4 on the left and on the right, in the folder of the page.
        labels: of both, in a word or two.
        names: of both, in full, for who does not see them.
    """

    caption: str
    off: Path
    on: Path
    labels: tuple[str, str] = ("without", "with FreeU")
    names: tuple[str, str] = ("Without FreeU", "With FreeU")


@dataclass(frozen=True)
class Head:
    """What stands above the videos.

    Args:
        title: of the window.
        heading: of the page.
        lead: one sentence; ``code`` follows it in the type of code.
        note: one line on the model, or "".
        again: the command that makes it all again, for the foot.
    """

    title: str
    heading: str
    lead: str
    code: str
    note: str
    again: str


def clip_page(
    head: Head,
    groups: Sequence[tuple[str, Sequence[Pair]]],
    size: tuple[int, int],
    frames: int,
    fps: float,
    settings: Sequence[tuple[str, str]],
    environment: Mapping[str, str],
    texts: Mapping[str, str],
    given: tuple[str, str, Path] | None = None,
    most: int | None = None,
) -> str:
    """Render the page.

    Args:
        groups: pairs under what they have in common, such as a prompt.
        size: width and height of every video in pixels.
        frames: of every video.
        fps: frames per second.
        settings, environment: names and values for the table.
        texts: "command", "python" and "json", to copy.
        given: heading, sentence and file (PNG) of what the videos begin with.
        most: bytes of videos that the page may hold itself; ``MAX_INSIDE`` if it is None.

    Returns:
        HTML with every MP4 inside or, if those take more, that plays the files in its folder.
    """
    most = MAX_INSIDE if most is None else most
    files = {path for _, pairs in groups for pair in pairs for path in (pair.off, pair.on)}
    inside = sum(path.stat().st_size for path in files) <= most

    def source(path: Path) -> str:
        return _data(path, "video/mp4") if inside else path.name

    def given_source(path: Path) -> str:
        return _data(path, "image/png") if inside and path.stat().st_size <= most else path.name

    zoom = first_zoom(*size)
    return render(
        "freeu.pipelines.pages",
        "video.html",
        head=head,
        groups=[
            {"text": text, "pairs": [{"of": pair, "off": source(pair.off), "on": source(pair.on)} for pair in pairs]}
            for text, pairs in groups
        ],
        width=size[0],
        height=size[1],
        frames=frames,
        fps=fps,
        inside=inside,
        given=None if given is None else {"heading": given[0], "text": given[1], "src": given_source(given[2])},
        settings=settings,
        environment=environment,
        texts=texts,
        zoom=zoom,
        zooms=zooms(zoom),
    )


def _data(path: Path, kind: str) -> str:
    return f"data:{kind};base64," + base64.b64encode(path.read_bytes()).decode()
