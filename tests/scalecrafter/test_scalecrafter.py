"""ScaleCrafter in a U-Net: the convolution, which ones, when, its guidance, and that nothing of it is left."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DModel
from tiny_pipelines import tiny_text_encoder, tiny_tokenizer, tiny_vae
from tiny_pipelines import tiny_unet as tiny_pipeline_unet
from torch import nn
from torch.nn import functional as F

import freeu
from conftest import guided, tiny_inputs, tiny_sdxl_unet, tiny_unet
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.scalecrafter import ScaleCrafter, enabled, recommend
from freeu.scalecrafter.convolution import redilated
from freeu.scalecrafter.dilation import convolutions_of

TWICE = ScaleCrafter(2.0, (2, 2))


@pytest.fixture
def pipe():
    """Stable Diffusion with random weights, made for images of 16x16."""
    torch.manual_seed(0)
    made = StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=tiny_text_encoder(),
        tokenizer=tiny_tokenizer(),
        unet=tiny_pipeline_unet(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def sample(pipe: Any, side: int = 32, **settings: Any) -> torch.Tensor:
    """Latents of one image."""
    settings = {"width": side, "height": side, "num_inference_steps": 4, "output_type": "latent"} | settings
    return pipe("a fox", generator=torch.Generator().manual_seed(3), **settings).images


def by_hand(conv: nn.Conv2d, x: torch.Tensor, dilation: int) -> torch.Tensor:
    """The same convolution with its taps written into a wider kernel of zeros."""
    side = 2 * dilation + 1
    wide = torch.zeros(*conv.weight.shape[:2], side, side)
    wide[..., ::dilation, ::dilation] = conv.weight
    return F.conv2d(x, wide, conv.bias, conv.stride, padding=dilation)


# -- the convolution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dilation", "stride", "size"), list(itertools.product((1, 2, 3, 4), (1, 2), ((8, 8), (7, 9))))
)
def test_a_whole_dilation_is_a_wider_kernel(dilation, stride, size):
    conv = nn.Conv2d(3, 5, 3, stride=stride, padding=1)
    x = torch.randn(2, 3, *size)
    found = redilated(conv, x, conv.weight, conv.bias, dilation)
    torch.testing.assert_close(found, by_hand(conv, x, dilation))
    assert found.shape == conv(x).shape


@pytest.mark.parametrize(("dilation", "stride", "size"), list(itertools.product((1.5, 2.5), (1, 2), ((8, 8), (7, 9)))))
def test_a_fraction_is_a_whole_dilation_of_a_larger_map(dilation, stride, size):
    conv = nn.Conv2d(3, 5, 3, stride=stride, padding=1)
    x = torch.randn(2, 3, *size)
    taps = int(dilation + 0.5)
    larger = F.interpolate(x, size=[round(side * taps / dilation) for side in size], mode="bilinear")
    expected = F.interpolate(by_hand(conv, larger, taps), size=conv(x).shape[2:], mode="bilinear")
    torch.testing.assert_close(redilated(conv, x, conv.weight, conv.bias, dilation), expected)


# -- which and when -------------------------------------------------------------------------------------------------


def names_of(unet: nn.Module, levels: tuple[int, int]) -> dict[str, int]:
    places = {module: name for name, module in unet.named_modules()}
    return {places[conv]: level for conv, level in convolutions_of(unet, levels).items()}


def test_the_convolutions_of_the_published_list():
    """The 39 of ``sd1.5_1024x1024.txt`` beside the official code: down 1 to 3, the middle, up 0 to 2."""
    expected = set()
    for block, level in ((1, 2), (2, 1), (3, 0)):
        expected |= {(f"down_blocks.{block}.resnets.{i}.conv{k}", level) for i in (0, 1) for k in (1, 2)}
        expected |= {(f"down_blocks.{block}.downsamplers.0.conv", level)} if block < 3 else set()
    expected |= {(f"mid_block.resnets.{i}.conv{k}", 0) for i in (0, 1) for k in (1, 2)}
    for level in (0, 1, 2):
        expected |= {(f"up_blocks.{level}.resnets.{i}.conv{k}", level) for i in (0, 1, 2) for k in (1, 2)}
        expected |= {(f"up_blocks.{level}.upsamplers.0.conv", level)}
    assert set(names_of(tiny_unet(), (3, 3)).items()) == expected
    assert len(expected) == 39


def test_the_convolutions_of_sdxl():
    found = names_of(tiny_sdxl_unet(), (0, 1))
    assert {name.partition(".resnets")[0].partition(".up")[0] for name in found} == {"mid_block", "up_blocks.0"}


@pytest.mark.parametrize(
    ("changes", "size", "expected"),
    [
        ({}, (1024, 1024), ScaleCrafter(2.0, (3, 3), 0.6)),
        ({}, (1280, 960), ScaleCrafter(2.5, (3, 3), 0.7)),
        ({}, (2048, 1024), ScaleCrafter(4.0, (3, 3), 0.7, "damped")),
        ({"cross_attention_dim": 1024}, (768, 512), ScaleCrafter(1.5, (3, 3), 0.4)),
        ({"cross_attention_dim": 1024}, (2048, 2048), ScaleCrafter(4.0, (2, 4), 0.74, "damped")),
    ],
)
def test_what_is_recommended(changes, size, expected):
    assert recommend(tiny_unet(**changes), *size, native=512) == expected


def test_what_is_recommended_for_sdxl():
    unet = tiny_sdxl_unet()
    unet.register_to_config(addition_embed_type="text_time")
    assert recommend(unet, 2048, 2048, native=1024) == ScaleCrafter(2.0, (0, 1), 0.6)
    assert recommend(unet, 4096, 2048, native=1024) == ScaleCrafter(4.0, (1, 3), 0.7, "damped")


def test_the_size_of_a_pipeline_is_its_own(pipe):
    assert recommend(pipe, 24, 16) == ScaleCrafter(1.5, (2, 2), 0.6)


def test_dilations_of_four_times_the_size():
    """2, 3, 4 from the outermost level in, as published; they fall with the steps, to 2, and end."""
    four = ScaleCrafter(4.0, (3, 3), 0.5)
    assert [four.dilation(level, 0.0) for level in (2, 1, 0)] == [2.0, 3.0, 4.0]
    assert [four.dilation(0, done) for done in (0.0, 0.1, 0.25, 0.49, 0.5, 0.9)] == [4.0, 4.0, 2.0, 2.0, 1.0, 1.0]
    assert [ScaleCrafter(2.5, end=1.0).dilation(level, done) for level, done in ((0, 0.0), (2, 1.0))] == [2.5, 2.5]


@pytest.mark.parametrize(("end", "expected"), [(0.5, 2), (0.6, 3), (1.0, 4), (0.01, 1)])
def test_the_steps_that_are_dilated(pipe, end, expected):
    """Of four steps; the first images differ, and a step after the end is that of the U-Net itself."""
    seen: list[torch.Tensor] = []
    hook = (
        pipe.unet.down_blocks[2]
        .resnets[0]
        .conv1.register_forward_hook(
            lambda conv, args, out: seen.append(
                (out - nn.Conv2d._conv_forward(conv, *args, conv.weight, conv.bias)).abs().max()
            )
        )
    )
    with enabled(pipe, ScaleCrafter(2.0, (2, 2), end)) as dilation:
        sample(pipe)
    hook.remove()
    assert dilation.calls == expected
    assert [bool(difference > 0) for difference in seen] == [True] * expected + [False] * (4 - expected)


# -- guidance -------------------------------------------------------------------------------------------------------


def test_noise_damped_guidance_is_its_formula():
    """e + w (c - u): c and u of the dilated U-Net, e of the one that is dilated in a level fewer."""
    unet = tiny_unet()
    pipe = guided(unet)
    x, t, text = tiny_inputs(size=32)
    weight = 7.5

    def halves(settings: ScaleCrafter) -> tuple[torch.Tensor, ...]:
        with torch.no_grad(), enabled(pipe, settings):
            return unet(x, t, text).sample.chunk(2)

    u, c = halves(ScaleCrafter(2.0, (3, 3), 1.0))
    e, _ = halves(ScaleCrafter(2.0, (2, 2), 1.0))
    given, with_prompt = halves(ScaleCrafter(2.0, (3, 3), 1.0, "damped"))
    torch.testing.assert_close(given + weight * (with_prompt - given), e + weight * (c - u))
    assert (e - u).abs().max() > 1e-3


def test_with_one_level_the_unet_itself_denoises():
    unet = tiny_unet()
    pipe = guided(unet)
    x, t, text = tiny_inputs(size=32)
    with torch.no_grad():
        plain = unet(x, t, text).sample.chunk(2)[0]
        with enabled(pipe, ScaleCrafter(2.0, (1, 1), 1.0, "damped")):
            torch.testing.assert_close(unet(x, t, text, return_dict=False)[0].chunk(2)[0], plain, rtol=0, atol=0)


def test_without_guidance_there_is_nothing_to_damp(pipe):
    found = []
    for guidance in ("plain", "damped"):
        with enabled(pipe, ScaleCrafter(2.0, (2, 2), guidance=guidance)):
            found.append(sample(pipe, guidance_scale=1.0))
    assert torch.equal(*found)


# -- nothing is left ------------------------------------------------------------------------------------------------


def traces(unet: nn.Module) -> list[Any]:
    """Everything of the modules that a patch could leave something in."""
    parts = ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")
    own = [sorted(vars(module)) for module in unet.modules()]
    convs = [(m.dilation, m.padding) for m in unet.modules() if isinstance(m, nn.Conv2d)]
    return [own, convs, [[len(getattr(m, part)) for part in parts] for m in unet.modules()]]


@pytest.mark.parametrize("settings", [TWICE, ScaleCrafter(1.5, (1, 2)), ScaleCrafter(4.0, (2, 2), 1.0, "damped")])
def test_undone_to_the_bit(pipe, settings):
    before, first = traces(pipe.unet), sample(pipe)
    for _ in range(2):
        with enabled(pipe, settings):
            changed = sample(pipe)
            assert torch.equal(sample(pipe), changed)
        assert (changed - first).abs().max() > 1e-3
        assert torch.equal(sample(pipe), first)
        assert traces(pipe.unet) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_undone_after_an_exception_within_a_convolution(pipe, error):
    settings = ScaleCrafter(2.0, (2, 2), 1.0, "damped")
    before, first = traces(pipe.unet), sample(pipe)
    with enabled(pipe, settings):
        expected = sample(pipe)

    def fail(*_: Any) -> None:
        raise error

    def interrupted() -> None:
        with enabled(pipe, settings):
            hook = pipe.unet.up_blocks[0].resnets[0].conv1.register_forward_pre_hook(fail)
            try:
                sample(pipe)
            finally:
                hook.remove()
                assert torch.equal(sample(pipe), expected)  # the block goes on as it began

    with pytest.raises(error):
        interrupted()
    assert traces(pipe.unet) == before
    assert torch.equal(sample(pipe), first)


def test_with_freeu_in_any_order(pipe):
    sites = [site.path for site in freeu.inspect(pipe).touched()]
    settings = ScaleCrafter(4.0, (2, 2), 1.0, "damped")
    with enabled(pipe, settings):
        alone = sample(pipe)
        with freeu.enabled(pipe, "sd14") as handle:
            within = sample(pipe)
            assert [site.path for site in handle.sites] == sites
            assert set(handle.verify().values()) == {8}  # two calls a step
    with freeu.enabled(pipe, "sd14") as handle:
        plain = sample(pipe)
        with enabled(pipe, settings):
            around = sample(pipe)
        assert torch.equal(sample(pipe), plain)
    assert torch.equal(within, around)
    for other in (alone, plain):
        assert (within - other).abs().max() > 1e-3


def test_freeu_in_half_of_the_steps_and_one_half_of_guidance(pipe):
    """Its settings by step and by row find their call, whichever of the two hooks is the outer one."""
    found = []
    config = freeu.preset("sd14").replace(end=0.5, guidance="conditional")
    for outer in (True, False):
        blocks = [lambda: enabled(pipe, ScaleCrafter(2.0, (2, 2), 0.7, "damped")), lambda: freeu.enabled(pipe, config)]
        first, second = blocks if outer else reversed(blocks)
        with first(), second():
            found.append(sample(pipe))
    assert torch.equal(*found)


def test_what_a_lora_adds_to_a_convolution_is_dilated_with_it(pipe):
    peft = pytest.importorskip("peft")
    settings = {"r": 2, "target_modules": ["conv1"], "init_lora_weights": False}
    x, t, text = torch.randn(2, 4, 16, 16), torch.tensor(500), torch.randn(2, 5, 16)
    pipe.unet.add_adapter(peft.LoraConfig(**settings))
    with torch.no_grad(), enabled(pipe.unet, ScaleCrafter(2.0, (2, 2), 1.0)):
        beside = pipe.unet(x, t, text).sample
    pipe.unet.fuse_lora()
    pipe.unet.unload_lora()
    with torch.no_grad(), enabled(pipe.unet, ScaleCrafter(2.0, (2, 2), 1.0)):
        fused = pipe.unet(x, t, text).sample
    torch.testing.assert_close(beside, fused, rtol=1e-4, atol=1e-5)


# -- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": 1.0}, "factor must be more than 1"),
        ({"factor": 4.5}, "factor must lie in 1 to 4, got 4.5"),
        ({"factor": 2.0, "end": 0.0}, "end must be more than 0"),
        ({"factor": 2.0, "end": 1.5}, "end must lie in 0 to 1, got 1.5"),
        ({"factor": 2.0, "levels": (0, 0)}, "levels must be two whole numbers"),
        ({"factor": 2.0, "levels": (1.5, 2)}, "levels must be two whole numbers"),
        ({"factor": 2.0, "levels": "33"}, "levels must be two whole numbers"),
        ({"factor": 2.0, "guidance": "dampd"}, "unknown guidance 'dampd': did you mean damped"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(FreeUValueError, match=message):
        ScaleCrafter(**settings)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((16, 16), "was made for 16x16: got 16x16"),
        ((8, 16), "was made for 16x16: got 8x16"),
        ((72, 16), "use sides of at most 64"),
    ],
)
def test_bad_sizes(pipe, size, message):
    with pytest.raises(FreeUValueError, match=message):
        recommend(pipe, *size)


def test_other_unets_and_unknown_sizes():
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    other = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    with pytest.raises(FreeUValueError, match="not those of UNet2DModel"):
        enabled(other, TWICE)
    with pytest.raises(FreeUValueError, match="give native=PIXELS"):
        recommend(tiny_unet(), 64, 64)
    with pytest.raises(FreeUValueError, match=r"levels \(5, 1\): this UNet2DConditionModel has 4"):
        enabled(tiny_unet(), ScaleCrafter(2.0, (5, 1)))


def test_what_cannot_be_right(pipe):
    unet = pipe.unet
    with pytest.raises(FreeURuntimeError, match="a U-Net alone does not tell"):
        enabled(unet, ScaleCrafter(2.0, (2, 2), guidance="damped"))
    with enabled(pipe, TWICE), pytest.raises(FreeURuntimeError, match="on this U-Net already"):
        enabled(unet, TWICE)
    unet.enable_gradient_checkpointing()
    x, t, text = torch.randn(2, 4, 16, 16), torch.tensor(500), torch.randn(2, 5, 16)
    with enabled(unet, TWICE), pytest.raises(FreeURuntimeError, match="gradient checkpointing"):
        unet(x, t, text)
