"""The denoising loss of a U-Net on latents and prompts, for Stable Diffusion and SDXL."""

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
class PromptEmbeddings:
    """Encoded prompts.

    Args:
        embeds: shape (batch, length, width).
        pooled: of SDXL, shape (batch, width), else None.
    """

    embeds: Tensor
    pooled: Tensor | None = None

    def rows(self, numbers: Sequence[int]) -> PromptEmbeddings:
        """The prompts of these indices, in that order."""
        chosen = list(numbers)
        return PromptEmbeddings(self.embeds[chosen], self.pooled[chosen] if self.pooled is not None else None)

    def detached(self) -> PromptEmbeddings:
        """The same, without gradients."""
        return PromptEmbeddings(self.embeds.detach(), self.pooled.detach() if self.pooled is not None else None)


class Denoiser:
    """Noises latents, runs the U-Net on them, and gives the error of its prediction.

    Args:
        pipe: a ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline``; its scheduler says what the U-Net predicts
            and how noise is added.
        snr_gamma: of min-SNR weighting (Hang et al., arXiv:2303.09556, section 3.4), usually 5: timesteps with a higher
            signal-to-noise ratio weigh less. None weighs all timesteps alike, as DreamBooth (arXiv:2208.12242, Eq. 1)
            and the training scripts of diffusers do.
        dtype: inside ``autocast()``: "float32" or "bfloat16".

    Raises:
        FreeUValueError: an unsupported pipeline, an inpainting model, or an unknown prediction type.
    """

    def __init__(self, pipe: Any, snr_gamma: float | None = None, dtype: str = "float32") -> None:
        from diffusers import DDPMScheduler

        kind = type(pipe).__name__
        if kind not in PIPELINES:
            raise FreeUValueError(f"{kind} cannot be trained here: use a model of {' or '.join(PIPELINES)}")
        if pipe.unet.config.in_channels != pipe.vae.config.latent_channels:
            raise FreeUValueError(
                f"this U-Net takes {pipe.unet.config.in_channels} channels and the VAE has "
                f"{pipe.vae.config.latent_channels}: use a text-to-image model, not one for inpainting or editing"
            )
        self.pipe = pipe
        self.schedule = DDPMScheduler.from_config(pipe.scheduler.config)
        self.prediction = str(self.schedule.config.prediction_type)
        if self.prediction not in PREDICTIONS:
            raise FreeUValueError(
                f"the model's scheduler predicts {self.prediction!r}: known are {', '.join(PREDICTIONS)}"
            )
        self.snr_gamma = snr_gamma
        self.dtype = dtype

    def autocast(self) -> AbstractContextManager[object]:
        """A ``with`` block that computes in ``dtype``; parameters keep their own."""
        import torch

        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.dtype))

    @property
    def device(self) -> torch.device:
        found: torch.device = self.pipe.unet.device
        return found

    def encode_prompts(self, prompts: Sequence[str]) -> PromptEmbeddings:
        """The encoded prompts; with gradients if the text encoders are trained."""
        found = self.pipe.encode_prompt(
            prompt=list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return PromptEmbeddings(found[0], found[2] if len(found) == 4 else None)

    def timesteps(self, batch: int, generator: torch.Generator) -> Tensor:
        """Timesteps of a batch, stratified: one from each of ``batch`` equal parts of the schedule.

        Returns:
            shape (batch,), int64, on the CPU, in random order.
        """
        import torch

        steps = int(self.schedule.config.num_train_timesteps)
        places = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        order = torch.randperm(batch, generator=generator)
        return (places * steps).long().clamp(max=steps - 1)[order]

    def loss(self, latents: Tensor, embeddings: PromptEmbeddings, generator: torch.Generator) -> Tensor:
        """Squared error of the prediction for each latent, at sampled timesteps and with sampled noise.

        Args:
            latents: shape (batch, channels, height, width), of ``examples.encode``.
            embeddings: of as many prompts.
            generator: a torch generator on the CPU, so that every device samples the same.

        Returns:
            shape (batch,), float32, weighted.
        """
        import torch

        latents = latents.to(self.device, torch.float32)
        timesteps = self.timesteps(len(latents), generator).to(self.device)
        noise = torch.randn(latents.shape, generator=generator).to(self.device)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        prediction = self.predict(noisy, timesteps, embeddings)
        if self.prediction == "epsilon":
            target = noise
        elif self.prediction == "v_prediction":
            target = self.schedule.get_velocity(latents, noise, timesteps)
        else:
            target = latents
        errors = (prediction.float() - target).square().mean(dim=(1, 2, 3))
        return errors if self.snr_gamma is None else errors * self._weights(timesteps)

    def predict(self, noisy: Tensor, timesteps: Tensor, embeddings: PromptEmbeddings) -> Tensor:
        """The U-Net's prediction, shape (batch, channels, height, width)."""
        unet = self.pipe.unet
        more: dict[str, Any] = {}
        if embeddings.pooled is not None:
            factor = self.pipe.vae_scale_factor
            height, width = (side * factor for side in noisy.shape[-2:])
            # Original size, top left corner of the crop, target size: of an image that was not cropped.
            ids = noisy.new_tensor([[height, width, 0, 0, height, width]]).repeat(len(noisy), 1)
            more["added_cond_kwargs"] = {"text_embeds": embeddings.pooled, "time_ids": ids.to(embeddings.pooled.dtype)}
        found: Tensor = unet(noisy.to(unet.dtype), timesteps, encoder_hidden_states=embeddings.embeds, **more).sample
        return found

    def _weights(self, timesteps: Tensor) -> Tensor:
        """Min-SNR weights for what the model predicts: min(SNR, gamma) in terms of the clean latent."""
        assert self.snr_gamma is not None
        kept = self.schedule.alphas_cumprod.to(timesteps.device)[timesteps]
        snr = kept / (1 - kept)
        weights: Tensor = snr.clamp(max=self.snr_gamma)
        if self.prediction == "epsilon":
            weights = weights / snr
        elif self.prediction == "v_prediction":
            weights = weights / (snr + 1)
        return weights
