"""Encode images to latents and decode them, with as little loss as the VAE allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class Autoencoder:
    """The VAE of a pipeline.

    Images are tensors (1, 3, H, W) in -1..1 of the VAE's dtype, latents are scaled as the U-Net expects them.

    Args:
        pipe: a Stable Diffusion pipeline of diffusers.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def tensor(self, frame: NDArray[Any]) -> Tensor:
        """A frame with values in 0..255, (H, W, 3), as an image."""
        import torch

        image = torch.from_numpy(np.ascontiguousarray(frame, dtype=np.float32) / 127.5 - 1.0)
        vae = self.pipe.vae
        return image.permute(2, 0, 1)[None].to(self.pipe._execution_device, vae.dtype)

    def frame(self, image: Tensor) -> NDArray[np.uint8]:
        """An image as a frame, uint8 (H, W, 3), rounded as diffusers does."""
        found: NDArray[np.uint8] = self.pipe.image_processor.postprocess(image, output_type="np")[0]
        return (found * 255).round().astype(np.uint8)

    def encode(self, image: Tensor) -> Tensor:
        """The latents of an image, (1, C, h, w); the mean if the VAE has a distribution."""
        vae = self.pipe.vae
        found = vae.encode(image)
        latents: Tensor = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return latents * float(vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to an image; values may lie slightly outside -1..1."""
        vae = self.pipe.vae
        found: Tensor = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        return found

    def encode_faithfully(self, image: Tensor) -> Tensor:
        """Fidelity-oriented image encoding (section 4.1): compensate the loss of a round trip in advance.

        With x = E(I) and x' = E(D(x)), the loss of a second encoding, x - x', estimates that of the first, and
        x + (x - x') is used instead of x. The paper does so except where the compensated image is further than a fixed
        threshold from I; here it is done for the latent pixels whose image region it brings nearer to I than x does, so
        that there is no threshold. Costs two encodings and two decodings.

        Returns:
            latents, (1, C, h, w).
        """
        import torch
        from torch.nn.functional import adaptive_avg_pool2d

        plain = self.encode(image)
        plainly = self.decode(plain)
        compensated = 2 * plain - self.encode(plainly)
        size = (plain.shape[-2], plain.shape[-1])
        misses = [
            adaptive_avg_pool2d((back.float() - image.float()).abs().mean(1, keepdim=True), size)
            for back in (plainly, self.decode(compensated))
        ]
        return torch.where(misses[1] < misses[0], compensated, plain)
