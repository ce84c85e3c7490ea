"""What the studio generates: two images with everything that is shown of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from freeu.analysis.measurement.content import AMPLITUDE, FREQUENCY, Panel, Series
from freeu.analysis.measurement.measure import spectrum
from freeu.config import FreeUConfig
from freeu.metadata import png_bytes
from freeu.pipelines.models.infotext import infotext
from freeu.pipelines.pages.page import python_lines
from freeu.pipelines.runs.executors import settings_of
from freeu.pipelines.runs.plan import ARMS, INPUT_CONTROL, INPUT_IMAGE, Plan

if TYPE_CHECKING:
    from PIL.Image import Image


def plan_of_first(plan: Plan, against: FreeUConfig | None) -> Plan:
    """The plan of the first image of a pair from that of the second."""
    if against is None:
        return replace(plan, arms=("baseline",), config=None)
    return replace(plan, config=against)


@dataclass(frozen=True)
class Pair:
    """The same image without and with FreeU, or with two settings of it.

    Args:
        off, on: the images.
        plan: of the second.
        remembered: how many of the two were there already.
        notes: what a visitor should know of them, a line each.
        environment, used: versions, and parts of the pipeline, as a manifest records them.
        image_name, control_name: what the visitor calls the input image and the control image, or "".
        against: FreeU's settings of the first; None is plain sampling.
    """

    off: Image
    on: Image
    plan: Plan
    remembered: int
    notes: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    used: Mapping[str, Any] | None = None
    image_name: str = ""
    control_name: str = ""
    against: FreeUConfig | None = None

    def png(self, arm: str) -> bytes:
        """One of the images as the file that ``freeu compare`` writes, with the settings inside.

        Args:
            arm: "baseline" (the first) or "freeu".
        """
        plan = self.plan if arm == "freeu" else plan_of_first(self.plan, self.against)
        settings = settings_of(plan, next(plan.images()), self.environment or {}, self.used)
        return png_bytes(self.on if arm == "freeu" else self.off, settings, parameters=infotext(settings))

    def file_name(self, arm: str) -> str:
        """What a download of one of the images is called."""
        name = "other" if arm == "baseline" and self.against is not None else arm
        return f"freeu-s{self.plan.seeds[0]:04d}-{name}.png"

    def texts(self) -> dict[str, str]:
        """The settings to copy: "python", "json", "short" and the "command" for a shell."""
        assert self.plan.config is not None
        return {
            "python": python_lines(self.plan),
            "json": self.plan.config.to_json(indent=2),
            "short": str(self.plan.config),
            "command": self._command(),
        }

    def _command(self) -> str:
        """``freeu compare`` with the visitor's own files, where a run would name the copies in its folder."""
        found = shlex.split(replace(self.plan, command="compare", arms=tuple(ARMS)).command_line())
        if self.plan.control is not None and self.plan.control.preprocess == "canny":
            place = found.index("--preprocessor")  # which says that the copy needs none
            del found[place : place + 2]
        names = {INPUT_IMAGE: self.image_name, INPUT_CONTROL: self.control_name}
        return shlex.join(names.get(word) or word for word in found)

    def spectra(self) -> Panel:
        """Relative log amplitude of both images."""
        lines = []
        for image, label, dashed in ((self.off, ARMS["baseline"], False), (self.on, ARMS["freeu"], True)):
            pixels = torch.from_numpy(np.asarray(image, dtype=np.float64) / 255.0).permute(2, 0, 1)
            curve = spectrum(pixels).curve
            lines.append(Series(label, tuple(curve.frequency.tolist()), tuple(curve.value.tolist()), dashed=dashed))
        return Panel("Spectra of the two images", FREQUENCY, AMPLITUDE, tuple(lines))
