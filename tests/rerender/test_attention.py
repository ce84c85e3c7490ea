"""Attention to other key frames: what it computes, and that nothing of it stays behind."""

from __future__ import annotations

import pytest
import torch
from tolerances import UNET, relative_error

import freeu
from freeu.errors import FreeUValueError
from freeu.rerender.denoise.attention import CrossFrame, decoder_attention

FACTORS = {"b": (1.4, 1.6), "s": (0.9, 0.2)}


def inputs(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(sample, timestep, words), the two halves of guidance in one batch."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(2, 4, 16, 16, generator=generator)
    words = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(9))
    return sample, torch.tensor(400), words


@pytest.fixture
def unet(make_pipe):
    return make_pipe().unet.eval()


@torch.no_grad()
def output(unet, seed):
    sample, time, words = inputs(seed)
    return unet(sample, time, words, return_dict=False)[0]


@torch.no_grad()
def through(unet, seed, references=()):
    """The output and what was recorded of one call that takes part."""
    cross = CrossFrame(unet, references)
    with cross():
        return output(unet, seed), cross.recorded


class FromPaper:
    """softmax(Q K^T / sqrt(d)) V with Q of the frame and K, V of the first and the previous key frame, written out."""

    def __init__(self, kept: dict[str, list[torch.Tensor]], path: str) -> None:
        self.context = torch.cat(kept[path], dim=1)

    def __call__(self, layer, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        batch, places, width = hidden_states.shape

        def heads(values):
            return values.reshape(batch, -1, layer.heads, width // layer.heads).transpose(1, 2)

        query = heads(layer.to_q(hidden_states))
        key, value = heads(layer.to_k(self.context)), heads(layer.to_v(self.context))
        weights = (query @ key.transpose(-1, -2) / (width // layer.heads) ** 0.5).softmax(-1)
        return layer.to_out[0]((weights @ value).transpose(1, 2).reshape(batch, places, width))


def test_recording_changes_nothing(unet):
    before = output(unet, 0)
    got, recorded = through(unet, 0)
    assert torch.equal(got, before)
    assert list(recorded) == list(decoder_attention(unet))
    assert {path.split(".")[1] for path in recorded} == {"0", "1"}
    shapes = {path: [tuple(features.shape) for features in found] for path, found in recorded.items()}
    assert shapes["up_blocks.0.attentions.0.transformer_blocks.0.attn1"] == [(2, 16, 32)]
    assert shapes["up_blocks.1.attentions.0.transformer_blocks.0.attn1"] == [(2, 64, 16)]


def test_it_is_the_attention_of_the_paper(unet):
    first, previous = through(unet, 1)[1], through(unet, 2)[1]
    got, _ = through(unet, 0, [first, previous])
    for path, layer in decoder_attention(unet).items():
        layer.set_processor(FromPaper({path: [first[path][0], previous[path][0]]}, path))
    assert relative_error(got, output(unet, 0)) < UNET


def test_a_frame_that_looks_at_itself_is_as_ever(unet):
    before, own = through(unet, 0)
    assert relative_error(through(unet, 0, [own])[0], before) < UNET
    assert relative_error(through(unet, 0, [own, own])[0], before) < UNET
    assert relative_error(through(unet, 0, [through(unet, 1)[1]])[0], before) > 100 * UNET


def test_every_call_has_its_own_features(unet):
    kept = CrossFrame(unet)
    for seed in (1, 2):
        with kept():
            output(unet, seed)
    cross = CrossFrame(unet, [kept.recorded])
    wanted = [through(unet, 0, [through(unet, seed)[1]])[0] for seed in (1, 2)]
    for number in range(2):
        with cross():
            assert torch.equal(output(unet, 0), wanted[number])


def test_nothing_stays_behind(unet):
    before = output(unet, 0)
    cross = CrossFrame(unet, [through(unet, 1)[1]])
    with pytest.raises(RuntimeError, match="stopped"), cross():
        raise RuntimeError("stopped")
    assert not any(module._forward_pre_hooks for module in unet.modules())
    assert torch.equal(output(unet, 0), before)


def test_layers_that_are_passed_by_are_reported(unet):
    """A block that is skipped would be a key frame that looks nowhere, and nobody would know."""
    unet.up_blocks[0].forward = lambda hidden_states, **_: torch.nn.functional.interpolate(
        hidden_states, scale_factor=2
    )
    with pytest.raises(freeu.FreeURuntimeError, match=r"did not reach up_blocks.0\.attentions\.0"):
        through(unet, 0)


def test_it_goes_together_with_freeu_in_any_order(unet):
    plain = output(unet, 0)
    with freeu.enabled(unet, **FACTORS):
        first = through(unet, 1)[1]
        freed = output(unet, 0)
        inner, _ = through(unet, 0, [first])
    cross = CrossFrame(unet, [first])
    manager = cross()
    manager.__enter__()
    handle = freeu.apply(unet, **FACTORS)
    outer = output(unet, 0)
    assert handle.verify()
    manager.__exit__(None, None, None)  # the first to come is the first to go
    assert torch.equal(outer, inner)
    assert torch.equal(output(unet, 0), freed)
    assert not torch.equal(inner, freed)
    handle.remove()
    assert torch.equal(output(unet, 0), plain)


def test_models_it_cannot_do():
    from tiny_pipelines import tiny_unet

    blocks = {
        "up_block_types": ("UpBlock2D",) * 3,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    }
    with pytest.raises(FreeUValueError, match="no self-attention in its decoder: disable the stage cross-frame"):
        decoder_attention(tiny_unet(**blocks))
    unet = tiny_unet()
    unet.fuse_qkv_projections()
    with pytest.raises(FreeUValueError, match=r"are fused: call pipe.unfuse_qkv_projections\(\) first"):
        decoder_attention(unet)
