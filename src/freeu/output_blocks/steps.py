"""When FreeU acts: the window of the node's widgets, and the schedule of the settings, by the noise level of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from freeu.config import FreeUConfig
from freeu.core.calls import Weights
from freeu.errors import FreeURuntimeError, FreeUValueError

_WHOLE = Weights(1.0, 1.0)
_NOTHING = Weights(0.0, 0.0)


class Steps:
    """The weights of a step.

    Args:
        config: whose schedules count.
        model_sampling: of the model; turns percent into sigma, and sigma into timestep.
        start, end: of the node, in percent of the model's noise schedule (0..1) as in ComfyUI's own nodes; ``end``
            itself is outside, but for 1.

    Raises:
        FreeUValueError: start not below end.
    """

    def __init__(self, config: FreeUConfig, model_sampling: Any, start: float = 0.0, end: float = 1.0) -> None:
        if not 0.0 <= start < end <= 1.0:
            raise FreeUValueError(f"start must be smaller than end, both in 0 to 1, got start={start:g} end={end:g}")
        self.config = config
        self.model_sampling = model_sampling
        self.always = start == 0.0 and end == 1.0 and not config.timed
        if not self.always:
            self.first = float(model_sampling.percent_to_sigma(start))
            self.last = float(model_sampling.percent_to_sigma(end))
        self._known: tuple[Tensor | None, Weights] = (None, _WHOLE)

    def weights(self, options: Mapping[str, Any], begins: bool) -> Weights:
        """How much FreeU acts in this call, 0..1: on the backbone, and on the skip.

        Args:
            options: ``transformer_options`` of the core, with ``sigmas`` and ``sample_sigmas``.
            begins: whether this is the first site of a call; the others have the same answer, which costs a copy from
                the device.

        Raises:
            FreeURuntimeError: the core does not say at which noise level it is.
        """
        if self.always:
            return _WHOLE
        sigmas = options.get("sigmas")
        if sigmas is None:
            raise FreeURuntimeError(
                "a schedule needs the noise level, and this sampler gives its model none (transformer_options has no "
                "sigmas): use start=0, end=1"
            )
        known, weights = self._known
        if begins or known is not sigmas:
            weights = self._at(float(sigmas.flatten()[0]), options)
            self._known = (sigmas, weights)
        return weights

    def _at(self, sigma: float, options: Mapping[str, Any]) -> Weights:
        if sigma > self.first or (sigma <= self.last and self.last > 0.0):
            return _NOTHING
        return Weights(*self.config.weights(self._position(sigma, options))) if self.config.timed else _WHOLE

    def _position(self, sigma: float, options: Mapping[str, Any]) -> float:
        """Where a noise level stands in the unit of the settings' schedule."""
        if self.config.unit == "sigma":
            return sigma
        sampled = options.get("sample_sigmas")
        if self.config.unit == "timestep":
            return float(self.model_sampling.timestep(options["sigmas"].flatten()[:1]))
        if sampled is None or len(sampled) < 2:
            raise FreeURuntimeError(
                "a schedule by fraction needs the sampler's steps, and it tells none (transformer_options has no "
                "sample_sigmas): use the node's start and end, or unit=sigma"
            )
        # A sampler of second order asks between two steps as well: that belongs to the step it is in.
        done = sum(level >= sigma * (1.0 - 1e-5) for level in sampled.tolist()) - 1
        return float(max(0, done) / (len(sampled) - 1))
