"""What survives the way into latents and back."""

from __future__ import annotations

import numpy as np
import torch

from freeu.rerender.denoise.encoding import Autoencoder


def test_frames_and_pictures(pipe, film):
    codec = Autoencoder(pipe)
    picture = codec.tensor(film[0])
    assert picture.shape == (1, 3, 32, 32)
    assert picture.abs().max() <= 1.0
    np.testing.assert_array_equal(codec.frame(picture), film[0])


@torch.no_grad()
def test_latents_are_what_diffusers_makes(pipe, film):
    codec = Autoencoder(pipe)
    picture = codec.tensor(film[0])
    scale = pipe.vae.config.scaling_factor
    assert torch.equal(codec.encode(picture), pipe.vae.encode(picture).latent_dist.mean * scale)
    latents = codec.encode(picture)
    assert torch.equal(codec.decode(latents), pipe.vae.decode(latents / scale).sample)


@torch.no_grad()
def test_faithful_encoding_loses_less_and_goes_on_doing_so(mini, scenes):
    """Over one round trip, and over five as in a video whose key frames are made of one another."""
    codec = Autoencoder(mini)
    picture = codec.tensor(scenes[0])
    losses = {}
    for encode in (codec.encode, codec.encode_faithfully):
        again, losses[encode.__name__] = picture, []
        for _ in range(5):
            again = codec.decode(encode(again)).clamp(-1.0, 1.0)
            losses[encode.__name__].append(float((again - picture).abs().mean()))
    plain, faithful = losses["encode"], losses["encode_faithfully"]
    assert faithful[0] < 0.9 * plain[0]
    assert faithful[4] < 0.8 * plain[4]


@torch.no_grad()
def test_faithful_encoding_takes_only_what_helps(mini, scenes):
    codec = Autoencoder(mini)
    picture = codec.tensor(scenes[0])
    plain = codec.encode(picture)
    compensated = 2 * plain - codec.encode(codec.decode(plain))
    got = codec.encode_faithfully(picture)
    changed = (got != plain).any(1)
    assert 0.3 < changed.float().mean() < 1.0
    assert torch.equal(got, torch.where(changed[:, None], compensated, plain))
