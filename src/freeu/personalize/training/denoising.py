"""The loss of a diffusion U-Net on given latents and prompts, for models of Stable Diffusion's kind."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
PREDICTIONS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Conditions:
    """What the U-Net is told of the prompts.

    Args:
        words: shape (batch, length, width).
        pooled: of SDXL, shape (batch, width), else None.
    """

    words: Tensor
    pooled: Tensor | None = None

    def rows(self, numbers: Sequence[int]) -> Conditions:
        """Those prompts, in that order."""
        places = list(numbers)
        return Conditions(self.words[places], self.pooled[places] if self.pooled is not None else None)

    def detached(self) -> Conditions:
        """The same, without a graph."""
        return Conditions(self.words.detach(), self.pooled.detach() if self.pooled is not None else None)


class Denoiser:
    """Noise on latents, the U-Net's answer, and how far it is from right.

    Args:
        pipe: a ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline``; its scheduler says what the U-Net predicts
            and how noise is added.
        most_snr: the gamma of min-SNR weighting (Hang et al., arXiv:2303.09556, section 3.4), usually 5: timesteps with
            a higher signal-to-noise ratio weigh less. None weighs the error of the prediction the same at all
            timesteps, as DreamBooth does (arXiv:2208.12242, Eq. 1) and the training scripts of diffusers.
        dtype: of the arithmetic inside ``arithmetic()``: "float32", or "bfloat16" by autocast.

    Raises:
        FreeUValueError: a pipeline of another kind, an inpainting model, or a scheduler whose prediction is unknown.
    """

    def __init__(self, pipe: Any, most_snr: float | None = None, dtype: str = "float32") -> None:
        from diffusers import DDPMScheduler

        kind = type(pipe).__name__
        if kind not in PIPELINES:
            raise FreeUValueError(f"{kind} cannot be trained here: use a model of {' or '.join(PIPELINES)}")
        if pipe.unet.config.in_channels != pipe.vae.config.latent_channels:
            raise FreeUValueError(
                f"this U-Net takes {pipe.unet.config.in_channels} channels and the autoencoder has "
                f"{pipe.vae.config.latent_channels}: use a text-to-image model, not one for inpainting or editing"
            )
        self.pipe = pipe
        self.schedule = DDPMScheduler.from_config(pipe.scheduler.config)
        self.prediction = str(self.schedule.config.prediction_type)
        if self.prediction not in PREDICTIONS:
            raise FreeUValueError(
                f"the model's scheduler predicts {self.prediction!r}: known are {', '.join(PREDICTIONS)}"
            )
        self.most_snr = most_snr
        self.dtype = dtype

    def arithmetic(self) -> AbstractContextManager[object]:
        """A block in which matrices are multiplied in the ``dtype``; parameters keep their own."""
        import torch

        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.dtype))

    @property
    def device(self) -> torch.device:
        found: torch.device = self.pipe.unet.device
        return found

    def conditions(self, prompts: Sequence[str]) -> Conditions:
        """What the text encoders say of prompts; with a graph if they are being trained."""
        found = self.pipe.encode_prompt(
            prompt=list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditions(found[0], found[2] if len(found) == 4 else None)

    def timesteps(self, batch: int, generator: torch.Generator) -> Tensor:
        """Timesteps of a batch, one from each of ``batch`` equal parts of the schedule, so that losses are less noisy.

        Returns:
            shape (batch,), int64, on the CPU, in random order.
        """
        import torch

        steps = int(self.schedule.config.num_train_timesteps)
        places = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        order = torch.randperm(batch, generator=generator)
        return (places * steps).long().clamp(max=steps - 1)[order]

    def error(self, latents: Tensor, conditions: Conditions, generator: torch.Generator) -> Tensor:
        """Squared error of the prediction for each latent, at timesteps and with noise that are sampled.

        Args:
            latents: shape (batch, channels, height, width), of ``examples.encode``.
            conditions: of as many prompts.
            generator: of torch, on the CPU, so that the same is generated on every device.

        Returns:
            shape (batch,), float32, weighted.
        """
        import torch

        latents = latents.to(self.device, torch.float32)
        timesteps = self.timesteps(len(latents), generator).to(self.device)
        noise = torch.randn(latents.shape, generator=generator).to(self.device)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        answer = self.predict(noisy, timesteps, conditions)
        if self.prediction == "epsilon":
            target = noise
        elif self.prediction == "v_prediction":
            target = self.schedule.get_velocity(latents, noise, timesteps)
        else:
            target = latents
        errors = (answer.float() - target).square().mean(dim=(1, 2, 3))
        return errors if self.most_snr is None else errors * self._weights(timesteps)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The U-Net's answer, shape (batch, channels, height, width)."""
        unet = self.pipe.unet
        more: dict[str, Any] = {}
        if conditions.pooled is not None:
            factor = self.pipe.vae_scale_factor
            height, width = (side * factor for side in noisy.shape[-2:])
            # Original size, upper left corner of the crop, size: of an image that was not cut.
            ids = noisy.new_tensor([[height, width, 0, 0, height, width]]).repeat(len(noisy), 1)
            more["added_cond_kwargs"] = {"text_embeds": conditions.pooled, "time_ids": ids.to(conditions.pooled.dtype)}
        found: Tensor = unet(noisy.to(unet.dtype), timesteps, encoder_hidden_states=conditions.words, **more).sample
        return found

    def _weights(self, timesteps: Tensor) -> Tensor:
        """Min-SNR weights for what the model predicts: min(SNR, gamma) in terms of the clean latent."""
        assert self.most_snr is not None
        kept = self.schedule.alphas_cumprod.to(timesteps.device)[timesteps]
        snr = kept / (1 - kept)
        weights: Tensor = snr.clamp(max=self.most_snr)
        if self.prediction == "epsilon":
            weights = weights / snr
        elif self.prediction == "v_prediction":
            weights = weights / (snr + 1)
        return weights
