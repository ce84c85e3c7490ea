"""FreeU on the model of a web UI: through a patch on a clone in the Forge family, through hooks in A1111."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import freeu
from freeu import FreeUConfig, FreeUValueError
from freeu.core.calls import Weights
from freeu.output_blocks import FreeUPatch, find_sites


class Run:
    """One generation: what FreeU is on, and at which step it is.

    A host has one at a time, as it generates one after another.
    """

    def __init__(self) -> None:
        self._config: FreeUConfig | None = None
        self._handle: Any = None
        self._position = 0.0
        self._weights: tuple[float, float] | None = None

    def begin(self, sd_model: Any, config: FreeUConfig) -> None:
        """Put FreeU on a model for the sampling that follows. Called again (for a hires pass) it replaces the first.

        Args:
            sd_model: of the processing (``p.sd_model``): it has ``forge_objects.unet``, or it is CompVis' or sgm's.
            config: the settings.

        Raises:
            NoSitesError: no U-Net: a transformer such as Flux.
            FreeUValueError: a setting that this host cannot serve.
        """
        self.end()
        if config.timed and config.unit == "timestep":
            raise FreeUValueError("a schedule by timestep is not told by this host: use unit=fraction or unit=sigma")
        self._config = config
        self._position = 0.0
        self._weights = None
        objects = getattr(sd_model, "forge_objects", None)
        if objects is not None:
            # The host makes forge_objects anew for the next sampling, so nothing has to be undone.
            unet = objects.unet.clone()
            if not config.identity:
                unet.set_model_output_block_patch(FreeUPatch(config, find_sites(unet), self))
            objects.unet = unet
            return
        if config.guidance != "both" or config.share != "none":
            raise FreeUValueError(
                "guidance=conditional and share=guidance need a host that says which rows of a batch see the prompt, "
                "and this one does not: leave them out"
            )
        if config.windows:
            raise FreeUValueError("b_window and s_window work in Forge alone: use start and end here")
        # The processing hands over CompVis' LatentDiffusion: its U-Net is called by way of a wrapper.
        self._handle = freeu.apply(sd_model.model.diffusion_model, _at(config, 0.0) if config.timed else config)

    def step(self, done: int, steps: int, sigma: Any) -> None:
        """Tell of the step that begins.

        Args:
            done: steps before it.
            steps: of the whole sampling.
            sigma: its noise level, of any shape.
        """
        config = self._config
        if config is None or not config.timed:
            return
        self._position = float(sigma.flatten()[0]) if config.unit == "sigma" else done / max(steps, 1)
        weights = config.weights(self._position)
        if self._handle is not None and weights != self._weights:
            self._handle.update(_at(config, self._position))
        self._weights = weights

    def weights(self, _options: Mapping[str, Any], _begins: bool) -> Weights:
        """How much FreeU acts in the step under way, 0..1, on backbone and skip: what ``FreeUPatch`` asks."""
        config = self._config
        return Weights(*config.weights(self._position)) if config is not None and config.timed else Weights(1.0, 1.0)

    def end(self) -> None:
        """Take FreeU off again, to the bit. Does nothing where there is none."""
        handle, self._handle, self._config = self._handle, None, None
        if handle is not None:
            handle.remove()

    def check(self) -> None:
        """Prove that hooks fired, once images are there.

        Raises:
            FreeURuntimeError: they did not: something else computes the U-Net, such as a TensorRT engine.
        """
        if self._handle is not None and not (self._config is not None and self._config.timed):
            self._handle.verify()


def _at(config: FreeUConfig, position: float) -> FreeUConfig:
    """The configuration at one position of its schedule, itself without a schedule."""
    weight, _ = config.weights(position)
    return config.replace(start=0.0, end=1.0, ramp=0.0, unit="fraction", strength=config.strength * weight)
