"""Arithmetic and output of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from freeu.pipelines.io.output import dated_folder, reserved
from freeu.pipelines.models.memory import OFFLOADS, Memory
from freeu.pipelines.options.option import Option


@dataclass(frozen=True)
class JsonOptions:
    """For commands that print a table."""

    as_json: Annotated[bool, Option("Print JSON.", names=("--json",))] = False


@dataclass(frozen=True)
class ShellOptions:
    """What a command shows of its work."""

    PANEL: ClassVar[str] = "Shell"

    quiet: Annotated[
        bool,
        Option("Print no progress and no summary: only notes, errors and what --json prints.", None, ("--quiet", "-q")),
    ] = False
    as_json: Annotated[
        bool, Option("Print JSON instead of a summary: the results, or the files that were written.", None, ("--json",))
    ] = False
    open_page: Annotated[bool, Option("Open the page, or what else there is to look at first.", None, ("--open",))] = (
        False
    )
    dry_run: Annotated[
        bool,
        Option("Check what can be checked without loading a model, and print what would be done; nothing is written."),
    ] = False


@dataclass(frozen=True)
class ReproduceOptions:
    """What is reproduced instead of a new run."""

    manifest: Annotated[
        Path | None,
        Option(
            "Reproduce the images or videos of a manifest.json, or one PNG of freeu, and say whether they are "
            "bit-identical.",
            "MANIFEST|PNG",
            ("--from",),
        ),
    ] = None


@dataclass(frozen=True)
class SpeedOptions:
    """How many images are generated at once, for commands that measure many of them."""

    PANEL: ClassVar[str] = "Running"

    batch: Annotated[
        int | None,
        Option(
            "Images that one call of the pipeline generates (default: by their size; 1 for videos).",
            "N",
            bounds=(1, 1_024),
        ),
    ] = None


@dataclass(frozen=True)
class BatchOptions:
    """How many images are generated at once, where they are to be reproduced."""

    PANEL: ClassVar[str] = "Running"

    batch: Annotated[
        int,
        Option(
            "Images that one call of the pipeline generates: quicker on accelerators, and part of what reproduces "
            "them.",
            "N",
            bounds=(1, 1_024),
        ),
    ] = 1


@dataclass(frozen=True)
class RayOptions:
    """Who generates: this process, or the workers of a Ray cluster."""

    PANEL: ClassVar[str] = "Running"

    ray: Annotated[
        str | None,
        Option(
            "Generate on the workers of a Ray cluster, HOST:PORT, ray://HOST:PORT or auto; without a value on workers "
            "of this machine, one for each GPU or --threads processors.",
            "[ADDRESS]",
            bare="local",
        ),
    ] = None


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run computes, and the folder it writes."""

    PANEL: ClassVar[str] = "Running"

    dtype: Annotated[
        str, Option("auto, float32, float16 or bfloat16 (auto: float16 on CUDA, else float32).", "TYPE")
    ] = "auto"
    device: Annotated[str, Option("auto, cpu, cuda, cuda:1, mps ...", "DEVICE")] = "auto"
    threads: Annotated[int | None, Option("Processor threads (default: torch's choice).", "N", bounds=(1, 4_096))] = (
        None
    )
    output: Annotated[
        Path | None,
        Option(
            "The folder to write (default: a new one with the time in its name).",
            "DIR",
            ("--output", "-o"),
            old=("--out",),
        ),
    ] = None

    offload: Annotated[
        str | None,
        Option(
            "Keep on the device only the network that computes (model), or only the layer (sequential: least memory, "
            "slow).",
            "|".join(OFFLOADS),
        ),
    ] = None
    vae_tiling: Annotated[bool, Option("Decode large images in tiles: less memory, the same for small ones.")] = False
    attention_slicing: Annotated[bool, Option("Compute attention head by head: less memory, slower.")] = False

    def memory(self) -> Memory:
        """How memory is saved.

        Raises:
            FreeUValueError: an unknown kind of offloading.
        """
        return Memory(self.offload, self.vae_tiling, self.attention_slicing)

    def folder(self, name: str = "freeu", dry: bool = False) -> AbstractContextManager[Path]:
        """The folder that was named, or a new one with the date and time; no other run gets it in the ``with`` block.

        Args:
            name: what the name of a new one begins with.
            dry: name it only: nothing is made.

        Raises:
            FreeUValueError: another run writes there, or it is a file.
            FreeURuntimeError: it cannot be made or written.
        """
        return nullcontext(self.output or dated_folder(name)) if dry else reserved(self.output, name)
