"""Folders of images by URL: ``s3://bucket/folder``, ``gs://``, ``hf://``, ``https://`` ... whatever fsspec reads."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError, one_line
from freeu.extras import load_package
from freeu.pipelines.io.journal import JOURNAL
from freeu.pipelines.io.output import MANIFEST

BESIDE = (MANIFEST, JOURNAL)
"""What is read besides images: which of them belongs to which prompt."""


def is_url(place: str) -> bool:
    """Whether a folder is named by a URL."""
    return "://" in place


@contextlib.contextmanager
def local_folder(place: str, option: str, suffixes: Collection[str]) -> Iterator[Path]:
    """A folder on this machine that holds the images of a folder that is named by a path or by a URL.

    Of a URL it is a copy, which is deleted at the end of the ``with`` block; its last name is that of the URL. An error
    of the block that names the copy names the URL instead.

    Args:
        place: a path, or a URL that fsspec reads. Folders inside it are not read.
        option: that named it, for messages.
        suffixes: of images, in small letters.

    Raises:
        FreeUValueError: no such protocol, or its package is not installed; nothing can be read there; no image is
            there.
    """
    if not is_url(place):
        yield Path(place)
        return
    shown = _shown(place)
    with tempfile.TemporaryDirectory(prefix="freeu-") as folder:
        copy = Path(folder, *_names(place))
        copy.mkdir(parents=True, exist_ok=True)
        _fetch(place, shown, option, suffixes, copy)
        try:
            yield copy
        except FreeUValueError as error:
            raise type(error)(str(error).replace(str(copy), shown)) from None


@contextlib.contextmanager
def local_folders(places: Collection[str], option: str, suffixes: Collection[str]) -> Iterator[list[Path]]:
    """The same of several folders, in their order.

    Raises:
        FreeUValueError: a URL is given twice, or what ``local_folder`` refuses.
    """
    for place in places:
        if is_url(place) and [*places].count(place) > 1:
            raise FreeUValueError(f"{option} {_shown(place)} is given twice")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(local_folder(place, option, suffixes)) for place in places]


def _shown(url: str) -> str:
    """A URL in a message: it may hold a password."""
    return re.sub(r"://[^/@]*@", "://...@", url)


def _names(url: str) -> list[str]:
    """What the folder of a copy is called: by as many names as there are, so that copies can be told apart."""
    words = re.split(r"[/\\]+", url.rpartition("://")[2].partition("?")[0])
    kept = [re.sub(r"[^\w.+=-]+", "-", word.rpartition("@")[2]) for word in words]
    return [word for word in kept if word.strip(".-")] or ["images"]


def _fetch(url: str, shown: str, option: str, suffixes: Collection[str], copy: Path) -> None:
    """Copy the images of a URL, and what lies beside them."""
    fs, root = _filesystem(url, shown, option)
    try:
        found = fs.ls(root, detail=True)
        files = {Path(one["name"]).name: one["name"] for one in found if one["type"] == "file"}
        wanted = {name: remote for name, remote in files.items() if Path(name).suffix.lower() in suffixes}
        wanted |= {name: files[name] for name in BESIDE if name in files}
        if wanted.keys() <= {*BESIDE}:
            raise FreeUValueError(f"{option} {shown} holds no images ({', '.join(suffixes)})")
        fs.get(list(wanted.values()), [str(copy / name) for name in wanted])
    except FreeUValueError:
        raise
    except FileNotFoundError:
        raise FreeUValueError(f"{option} {shown}: there is no such folder") from None
    except Exception as error:  # of many kinds: each protocol's package has its own
        raise FreeUValueError(f"{option} {shown} cannot be read: {one_line(error)}") from None


def _filesystem(url: str, shown: str, option: str) -> tuple[Any, str]:
    fsspec = load_package("fsspec", "fsspec")  # huggingface-hub brings it
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        # fsspec says "Install s3fs to access S3".
        package = re.match(r"(?:Please i|I)nstall (?:the )?([\w-]+)", str(error))
        fix = f"pip install {package[1]}" if package else one_line(error)
        raise FreeUValueError(f"{option} {shown}: what reads such addresses is not installed: {fix}") from None
    except ValueError as error:
        raise FreeUValueError(
            f"{option} {shown} is no address that is known here ({one_line(error)}): use a folder, s3://, gs://, "
            "hf://, https:// ..."
        ) from None
    except Exception as error:  # as above
        raise FreeUValueError(f"{option} {shown} cannot be read: {one_line(error)}") from None
    return fs, str(root)
