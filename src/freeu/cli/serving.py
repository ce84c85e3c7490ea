"""A web application on an address of this machine, for the commands that serve one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from freeu.errors import FreeUValueError
from freeu.pipelines.options.server import ServerOptions


@contextlib.contextmanager
def listening_at(server: ServerOptions) -> Iterator[socket.socket]:
    """A socket that listens, for a ``with`` block.

    Raises:
        FreeUValueError: the address cannot be listened on.
    """
    host, port = server.host, server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off; otherwise images wait 40 ms for an ACK.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        try:
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(512)
        except OSError as error:
            raise FreeUValueError(
                f"cannot listen on {host}, port {port}: {error.strerror or error}: choose another --port"
            ) from None
        yield listening


@contextlib.contextmanager
def clean_shutdown(server: Any) -> Iterator[None]:
    """Finish open requests on Ctrl-C and SIGTERM, and exit with code 0.

    Uvicorn raises the signal again after shutdown; these handlers prevent that.
    """
    with _ended_by(lambda *_: setattr(server, "should_exit", True)):
        yield


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise ``KeyboardInterrupt`` in a ``with`` block, for a server that ends by that.

    A shell starts what a script puts in the background with SIGINT ignored, and SIGTERM would leave files behind.
    """
    with _ended_by(signal.default_int_handler):
        yield


@contextlib.contextmanager
def _ended_by(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def address_of(host: str, listening: socket.socket) -> str:
    """The URL of a server, without a slash at its end."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
