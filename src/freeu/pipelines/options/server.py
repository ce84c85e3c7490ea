"""Where a server listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from freeu.pipelines.options.option import Option


@dataclass(frozen=True)
class ServerOptions:
    """Address and port of a web application."""

    host: Annotated[str, Option("Address to listen on; 0.0.0.0 lets other machines in.", "ADDRESS")] = "127.0.0.1"
    port: Annotated[int, Option("Port; 0 takes a free one.", "N", bounds=(0, 65_535))] = 7860
