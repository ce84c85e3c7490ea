"""Drawing what the figures need, once each, into a folder where an interrupted analysis goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from freeu.analysis.measure import Spectrum, spectrum
from freeu.analysis.trace import Trace, read_trace, trace, write_trace
from freeu.analysis.variants import Variant
from freeu.evaluate.statistics import picture_statistics
from freeu.metadata import png_bytes
from freeu.pipelines.draw import draw
from freeu.pipelines.loading import Loaded, quiet
from freeu.pipelines.output import OutputFolder
from freeu.pipelines.plan import Picture, Plan
from freeu.pipelines.run import deterministic, settings_of

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Drawn:
    """A finished picture with its numbers.

    Args:
        picture: which prompt and seed.
        image: the pixels.
        spectrum: of its red, green and blue planes.
        statistics: see ``freeu.evaluate.picture_statistics``.
    """

    picture: Picture
    image: Image
    spectrum: Spectrum
    statistics: dict[str, float]


class Runs:
    """Pictures and traces of every variant over the same prompts and seeds.

    Args:
        loaded: the pipeline.
        plan: prompts, seeds and settings; its arms and configuration do not matter.
        folder: where they are kept.
        form: of the curves, see ``SpectrumSum.relative_log_amplitude``.
        stages: how many steps are shown as pictures and maps.
        made_with: versions and device, for the pictures' metadata.
        report: told of every picture that is ready.
    """

    def __init__(
        self,
        loaded: Loaded,
        plan: Plan,
        folder: Path,
        form: str = "radial",
        stages: int = 6,
        made_with: dict[str, str] | None = None,
        report: Callable[[], None] = lambda: None,
    ) -> None:
        self.loaded, self.plan, self.folder, self.form, self.report = loaded, plan, folder, form, report
        self.made_with = made_with or {}
        self.shown = _spread(plan.steps, stages)
        self._drawn: dict[str, list[Drawn]] = {}
        self._traces: dict[str, list[Trace]] = {}

    def draw(self, pictures: Iterable[Variant], traces: Collection[Variant] = ()) -> None:
        """Draw what is not there yet; those in ``traces`` under the microscope, which gives the same pictures."""
        with quiet(), deterministic(self.plan.device, self.plan.threads):
            for variant in traces:
                if variant.name not in self._traces:
                    self._traces[variant.name] = [self._trace(*one) for one in self._each(variant)]
            for variant in pictures:
                if variant.name not in self._drawn:
                    self._drawn[variant.name] = [self._picture(*one) for one in self._each(variant)]

    def drawn(self, variant: Variant) -> list[Drawn]:
        """The pictures of a variant: seeds of the first prompt, of the second, and so on."""
        return self._drawn[variant.name]

    def traces(self, variant: Variant) -> list[Trace]:
        """The traces of a variant in the order of ``drawn``."""
        return self._traces[variant.name]

    @property
    def clusters(self) -> list[int]:
        """Number of the prompt of each picture."""
        return [picture.index for picture in self.plan.pictures()]

    def _each(self, variant: Variant) -> list[tuple[Variant, Plan, Picture]]:
        arm = "baseline" if variant.config is None else "freeu"
        plan = replace(self.plan, command="generate", arms=(arm,), config=variant.config)
        return [(variant, plan, picture) for picture in plan.pictures()]

    def _picture(self, variant: Variant, plan: Plan, picture: Picture) -> Drawn:
        path = self.folder / variant.name / picture.file
        found = _read_picture(path)
        if found is None:
            image, _ = draw(self.loaded.pipe, plan, picture)
            self._write_picture(path, image, plan, picture)
            found = image
        self.report()
        pixels = torch.from_numpy(np.asarray(found, dtype=np.float64) / 255.0).permute(2, 0, 1)
        return Drawn(picture, found, spectrum(pixels, self.form), picture_statistics(found))

    def _trace(self, variant: Variant, plan: Plan, picture: Picture) -> Trace:
        path = self.folder / variant.name / picture.file
        image = _read_picture(path)
        found = None if image is None else read_trace(path.with_suffix(".npz"), image)
        if found is None:
            found = trace(self.loaded.pipe, plan, picture, self.form, maps_at=self.shown, decode_at=self.shown)
            OutputFolder(path.parent).write(path.with_suffix(".npz").name, write_trace(found))
            self._write_picture(path, found.picture, plan, picture)
        self.report()
        return found

    def _write_picture(self, path: Path, image: Image, plan: Plan, picture: Picture) -> None:
        OutputFolder(path.parent).write(path.name, png_bytes(image, settings_of(plan, picture, self.made_with)))


def _spread(steps: int, count: int) -> tuple[int, ...]:
    """At most ``count`` steps, first and last among them, evenly spread."""
    return tuple(dict.fromkeys(np.linspace(0, steps - 1, count).round().astype(int).tolist()))


def _read_picture(path: Path) -> Image | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None
