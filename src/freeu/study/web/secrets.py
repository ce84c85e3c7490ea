"""``secrets.json``: the signing key and the hash of the administrator's password, readable by its owner only."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.json_files import read_json

FILE = "secrets.json"
KIND, SCHEMA = "freeu-study-secrets", 1
LEAST_LETTERS, MOST_LETTERS = 8, 1_000
_COST = {"n": 2**15, "r": 8, "p": 1, "maxmem": 2**26}
_one_at_a_time = threading.Lock()  # scrypt takes 32 MiB


@dataclass(frozen=True)
class Secrets:
    """The secrets of the server.

    Args:
        key: 32 random bytes for signatures.
        password: salt and scrypt hash of the administrator's password.
    """

    key: bytes = field(repr=False)
    password: str = field(repr=False)

    def sign(self, purpose: str, text: str) -> str:
        """A signature (64 hexadecimal digits) that is valid for one purpose only."""
        return hmac.new(self.key, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()

    def signed(self, purpose: str, text: str, signature: str) -> bool:
        """Whether the signature is valid; constant time."""
        return hmac.compare_digest(self.sign(purpose, text).encode(), signature.encode(errors="replace"))

    def is_password(self, password: str) -> bool:
        """Whether this is the administrator's password; takes about 0.1 s for any input."""
        salt, _, wanted = self.password.partition("$")
        found = _scrypt(password[:MOST_LETTERS], base64.b64decode(salt))
        return hmac.compare_digest(found, base64.b64decode(wanted))


def load_or_create(folder: Path, password_file: Path | None = None) -> tuple[Secrets, str | None]:
    """Read the secrets of a study, or create them.

    Args:
        folder: of the study.
        password_file: its first line becomes the administrator's password; None generates a password for a new study
            and keeps the existing one otherwise.

    Returns:
        the secrets, and the password if it was generated, since it cannot be shown again.

    Raises:
        FreeUValueError: the password is too short or cannot be read, the secrets are damaged, or other users can read
            them.
        FreeURuntimeError: the secrets cannot be written.
    """
    path = folder / FILE
    known = _read(path) if path.exists() else None
    given = _password(password_file) if password_file else None
    if known and (given is None or known.is_password(given)):
        return known, None
    generated = None if given else secrets.token_urlsafe(12)
    password = given or generated
    assert password is not None
    # A new password gets a new key, which ends all sessions that were opened with the old password.
    fresh = Secrets(secrets.token_bytes(32), hash_password(password))
    _write(path, fresh)
    return fresh, generated


def hash_password(password: str) -> str:
    """Salt and scrypt hash of a password, in base 64."""
    salt = secrets.token_bytes(16)
    return "$".join(base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt)))


def _scrypt(password: str, salt: bytes) -> bytes:
    with _one_at_a_time:
        return hashlib.scrypt(password.encode(errors="replace"), salt=salt, dklen=32, **_COST)


def _password(path: Path) -> str:
    try:
        words = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FreeUValueError(f"cannot read --admin-password-file {path}: {error}") from None
    password = words[0].strip() if words else ""
    if not LEAST_LETTERS <= len(password) <= MOST_LETTERS:
        raise FreeUValueError(
            f"the first line of --admin-password-file {path} has {len(password)} characters: "
            f"a password needs {LEAST_LETTERS} to {MOST_LETTERS}"
        )
    return password


def _read(path: Path) -> Secrets:
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise FreeUValueError(f"other users can read {path}: run chmod 600 on it")
    try:
        data = read_json(path)
        if (data["kind"], data["schema"]) != (KIND, SCHEMA):
            raise ValueError
        found = Secrets(base64.b64decode(data["key"], validate=True), data["password"])
        salt, _, wanted = found.password.partition("$")
        sizes = [len(found.key), *(len(base64.b64decode(part, validate=True)) for part in (salt, wanted))]
        if sizes != [32, 16, 32]:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FreeUValueError(
            f"{path} is damaged: remove it, and freeu study serve creates new secrets (personal links stay valid)"
        ) from None
    return found


def _write(path: Path, found: Secrets) -> None:
    key = base64.b64encode(found.key).decode()
    write_private(path, {"kind": KIND, "schema": SCHEMA, "key": key, "password": found.password})


def write_private(path: Path, data: dict[str, Any]) -> None:
    """Write JSON that only its owner can read. The file is replaced in one step and on disk on return.

    Raises:
        FreeURuntimeError: it cannot be written.
    """
    try:
        number, part = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".part", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(path)
            _sync_folder(path.parent)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FreeURuntimeError(f"cannot write {path}: {error.strerror or error}") from None


def _sync_folder(folder: Path) -> None:
    """Have the new name on disk too. Not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
