"""From the latents of a video to its frames, a few at a time: memory does not grow with the number of frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError
from freeu.pipelines.models.sources.families import family_of
from freeu.pipelines.runs.generate import not_finite
from freeu.wording import counted

if TYPE_CHECKING:
    import torch

    from freeu.pipelines.io.clip_files import Frame


def decode_frames(pipe: Any, latents: torch.Tensor, chunk: int) -> Iterator[Frame]:
    """The frames of a video in order, as diffusers' own post-processing gives them: height x width x 3, RGB, uint8.

    The pipeline's own ``decode_latents`` decodes each chunk; where that looks at neighbours (Stable Video Diffusion's
    temporal decoder), it sees those of its chunk, just as in diffusers with that ``decode_chunk_size``.

    Args:
        pipe: the pipeline that made them.
        latents: of one video, as its ``output_type="latent"`` gives them.
        chunk: frames that are decoded, and in memory, at once.

    Raises:
        FreeURuntimeError: the device has too little memory for a chunk; the decoder gives numbers that are not finite.
    """
    import torch

    family = family_of(type(pipe).__name__)
    assert family is not None
    assert latents.shape[0] == 1, "one video at a time"
    axis = 1 if family.frames_first else 2
    if pipe.vae.dtype != latents.dtype:
        # Stable Video Diffusion encodes in float32 and casts back only where it decodes by itself.
        pipe.vae.to(latents.dtype)
    for start in range(0, latents.shape[axis], chunk):
        part = latents.narrow(axis, start, min(chunk, latents.shape[axis] - start))
        try:
            with torch.no_grad():
                more = (part.shape[axis], chunk) if family.frames_first else ()
                pixels = pipe.decode_latents(part, *more)[0]
        except torch.OutOfMemoryError:
            raise FreeURuntimeError(
                f"out of memory while decoding {counted(chunk, 'frame')} at once: give a smaller --decode-chunk"
            ) from None
        if not bool(pixels.isfinite().all()):
            raise not_finite("decoder of the VAE", str(latents.dtype).removeprefix("torch."))
        # As VaeImageProcessor: to 0..1, to float32, then to the nearest of 256 values.
        pixels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).cpu().float()
        yield from (pixels.numpy() * 255).round().astype("uint8")
