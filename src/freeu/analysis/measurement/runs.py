"""Generate what the figures need, each once, in a folder from which an interrupted analysis resumes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from freeu.analysis.measurement.measure import Spectrum, spectrum
from freeu.analysis.measurement.trace import Trace, read_trace, trace, write_trace
from freeu.analysis.measurement.variants import Variant
from freeu.config import FreeUConfig
from freeu.evaluate.metrics.statistics import STATISTICS, image_statistics
from freeu.pipelines.io.frames import Frames, frames_bytes, middle, read_frames
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.runs.executors import settings_of
from freeu.pipelines.runs.generate import generate_frames
from freeu.pipelines.runs.plan import Plan, PlannedImage
from freeu.pipelines.runs.run import deterministic

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Generated:
    """A generated image or video with its measures.

    Args:
        planned: which prompt and seed.
        frames: the image, or the frames of a video.
        spectrum: of the red, green and blue planes of all frames.
        statistics: see ``freeu.evaluate.image_statistics``; means over frames.
    """

    planned: PlannedImage
    frames: Frames
    spectrum: Spectrum
    statistics: dict[str, float]

    @property
    def image(self) -> Image:
        """The image, or the middle frame of the video."""
        return middle(self.frames)


class Runs:
    """Images and traces of every variant over the same prompts and seeds.

    Args:
        loaded: the pipeline.
        plan: prompts, seeds and settings; its arms and configuration are ignored.
        folder: where they are kept.
        form: of the curves, see ``SpectrumSum.relative_log_amplitude``.
        stages: how many steps are shown as images and maps.
        made_with: versions and device, for the images' metadata.
        report: called after each image.
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
        # By configuration: figures have different names for the same one.
        self._generated: dict[FreeUConfig | None, list[Generated]] = {}
        self._traces: dict[FreeUConfig | None, list[Trace]] = {}

    def generate(self, images: Iterable[Variant], traces: Collection[Variant] = ()) -> None:
        """Generate what is missing; variants in ``traces`` are measured while they generate the same images."""
        with quiet(), deterministic(self.plan.device, self.plan.threads):
            for variant in traces:
                if variant.config not in self._traces:
                    self._traces[variant.config] = [self._trace(*one) for one in self._each(variant)]
            for variant in images:
                if variant.config not in self._generated:
                    self._generated[variant.config] = [self._image(*one) for one in self._each(variant)]

    def generated(self, variant: Variant) -> list[Generated]:
        """The images of a variant: seeds of the first prompt, of the second, and so on."""
        return self._generated[variant.config]

    def traces(self, variant: Variant) -> list[Trace]:
        """The traces of a variant in the order of ``generated``."""
        return self._traces[variant.config]

    @property
    def clusters(self) -> tuple[int, ...]:
        """Number of the prompt of each image."""
        return tuple(planned.index for planned in self.plan.images())

    def _each(self, variant: Variant) -> list[tuple[Variant, Plan, PlannedImage]]:
        arm = "baseline" if variant.config is None else "freeu"
        plan = replace(self.plan, command="generate", arms=(arm,), config=variant.config)
        return [(variant, plan, planned) for planned in plan.images()]

    def _image(self, variant: Variant, plan: Plan, planned: PlannedImage) -> Generated:
        path = self.folder / variant.name / planned.file
        found = self._read(path)
        if found is None:
            found, _ = generate_frames(self.loaded.pipe, plan, planned)
            self._write(path, found, plan, planned)
        self.report()
        pixels = torch.from_numpy(np.array([np.asarray(frame) for frame in found]) / 255.0).permute(0, 3, 1, 2)
        each = [image_statistics(frame) for frame in found]
        statistics = {name: float(np.mean([one[name] for one in each])) for name in STATISTICS}
        return Generated(planned, found, spectrum(pixels, self.form), statistics)

    def _trace(self, variant: Variant, plan: Plan, planned: PlannedImage) -> Trace:
        path = self.folder / variant.name / planned.file
        frames = self._read(path)
        found = None if frames is None else read_trace(path.with_suffix(".npz"), frames)
        if found is None:
            found = trace(self.loaded.pipe, plan, planned, self.form, maps_at=self.shown, decode_at=self.shown)
            OutputFolder(path.parent).write(path.with_suffix(".npz").name, write_trace(found))
            self._write(path, found.frames, plan, planned)
        self.report()
        return found

    def _read(self, path: Path) -> Frames | None:
        """What an interrupted analysis left there, if it is complete."""
        found = read_frames(path)
        return found if found is not None and len(found) == (self.plan.frames or 1) else None

    def _write(self, path: Path, frames: Frames, plan: Plan, planned: PlannedImage) -> None:
        OutputFolder(path.parent).write(path.name, frames_bytes(frames, settings_of(plan, planned, self.made_with)))


def _spread(steps: int, count: int) -> tuple[int, ...]:
    """At most ``count`` steps, first and last among them, evenly spread."""
    return tuple(dict.fromkeys(np.linspace(0, steps - 1, count).round().astype(int).tolist()))
