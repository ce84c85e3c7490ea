"""The diffusers adapter against the concatenations that really happen, and against diffusers' own FreeU."""

import pytest
import torch
from tiny_pipelines import tiny_video_unet
from tolerances import UNET, relative_error
from torch.overrides import TorchFunctionMode

import freeu
from conftest import tiny_inputs, tiny_sdxl_unet, tiny_unet
from freeu.errors import FreeURuntimeError, NoSitesError


class Concatenations(TorchFunctionMode):
    """Records the operands' channels of every concatenation along the channels of feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.cat and kwargs.get("dim", args[1] if len(args) > 1 else 0) == 1 and args[0][0].dim() == 4:
            backbone, skip = args[0]
            self.seen.append((backbone.shape[1], skip.shape[1]))
        return function(*args, **kwargs)


CONDITIONAL = {
    "sd15": {},
    "simple": {
        "down_block_types": ("SimpleCrossAttnDownBlock2D",) * 3 + ("ResnetDownsampleBlock2D",),
        "up_block_types": ("ResnetUpsampleBlock2D",) + ("SimpleCrossAttnUpBlock2D",) * 3,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    },
    "attention": {
        "down_block_types": ("AttnDownBlock2D",) * 4,
        "up_block_types": ("AttnUpBlock2D",) * 4,
    },
    "k": {
        "block_out_channels": (32, 32, 64, 64),
        "down_block_types": ("KDownBlock2D",) + ("KCrossAttnDownBlock2D",) * 3,
        "up_block_types": ("KCrossAttnUpBlock2D",) * 3 + ("KUpBlock2D",),
        "mid_block_type": None,
        "resnet_time_scale_shift": "scale_shift",
        "time_embedding_type": "fourier",
        "timestep_post_act": "gelu",
        "act_fn": "gelu",
        "conv_in_kernel": 1,
        "conv_out_kernel": 1,
        "norm_num_groups": None,
        "attention_head_dim": 4,
    },
}


def expected(model) -> list[tuple[int, int]]:
    return [(site.backbone_channels, site.skip_channels) for site in freeu.inspect(model)]


@pytest.mark.parametrize("name", CONDITIONAL)
def test_sites_are_the_real_concatenations(name, run):
    model = tiny_unet(**CONDITIONAL[name])
    with Concatenations() as record:
        run(model)
    assert expected(model) == record.seen
    assert len(record.seen) == (3 if name == "k" else 12)


def test_sites_of_sdxl(run):
    model = tiny_sdxl_unet()
    with Concatenations() as record:
        run(model)
    assert expected(model) == record.seen
    assert len(record.seen) == 9


UNCONDITIONAL = {
    "ddpm": (("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")),
    "skip": (("SkipDownBlock2D", "AttnSkipDownBlock2D"), ("AttnSkipUpBlock2D", "SkipUpBlock2D")),
    "resnet": (("ResnetDownsampleBlock2D", "DownBlock2D"), ("UpBlock2D", "ResnetUpsampleBlock2D")),
}


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_unconditional_unets(name):
    from diffusers import UNet2DModel

    down, up = UNCONDITIONAL[name]
    model = UNet2DModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=down,
        up_block_types=up,
        attention_head_dim=8,
        norm_num_groups=8,
    ).eval()
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        with Concatenations() as record:
            before = model(x, 10).sample
        early = model(x, 990).sample
        assert expected(model) == record.seen
        with freeu.enabled(model, b=(1.3, 1.4), s=(0.9, 0.2), start=0.5) as handle:
            assert not torch.equal(model(x, 10).sample, before)
            assert torch.equal(model(x, 990).sample, early)
            handle.verify()
        assert torch.equal(model(x, 10).sample, before)


def test_video_unet():
    """ModelScope's: every frame is a sample of the batch at the sites, with a map of its own."""
    model = tiny_video_unet(layers_per_block=2).eval()
    clip, text = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 5, 16)

    def call(timestep=10):
        with torch.no_grad():
            return model(clip, timestep, text, return_dict=False)[0]

    with Concatenations() as record:
        before = call()
    early = call(990)
    assert expected(model) == record.seen
    assert len(record.seen) == 9
    with freeu.enabled(model, b=(1.3, 1.4), s=(0.9, 0.2), start=0.5) as handle:
        assert not torch.equal(call(), before)
        assert torch.equal(call(990), early)
        handle.verify()
    assert torch.equal(call(), before)
    # diffusers has version 1 at its first two up-blocks.
    with freeu.enabled(model, b=(1.2, 1.4), s=(0.9, 0.2), version=1, profile="diffusers"):
        ours = call()
    model.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    assert relative_error(ours, call()) <= UNET
    model.disable_freeu()
    assert torch.equal(call(), before)


def shaped_like(widths, **changes):
    """A U-Net of full width, on the meta device: nothing is computed on it."""
    with torch.device("meta"):
        return tiny_unet(widths, norm_num_groups=32, cross_attention_dim=768, attention_head_dim=8, **changes)


def test_counts_on_the_shape_of_stable_diffusion_15():
    table = freeu.inspect(shaped_like((320, 640, 1280, 1280)))
    assert len(table.sites) == 12
    assert [site.backbone_channels for site in table] == [1280] * 7 + [640] * 3 + [320] * 2
    assert {name: len(table.touched(name)) for name in ("official", "diffusers", "comfyui", "a1111")} == {
        "official": 10,
        "diffusers": 6,
        "comfyui": 10,
        "a1111": 10,
    }
    assert not table.unsure


def test_counts_on_the_shape_of_sdxl():
    table = freeu.inspect(
        shaped_like(
            (320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        )
    )
    assert [site.backbone_channels for site in table] == [1280] * 4 + [640] * 3 + [320] * 2
    assert len(table.touched("official")) == 7
    assert len(table.touched("diffusers")) == 6


def test_inspect_prints_a_table():
    text = str(freeu.inspect(tiny_unet()))
    assert "up_blocks.2.resnets.0  CrossAttnUpBlock2D  32" in text
    assert "12 concatenations" in text
    assert "10 touched" in text
    assert "6 touched" in text


@pytest.mark.parametrize("build", [tiny_unet, tiny_sdxl_unet])
@pytest.mark.parametrize("factors", [((1.3, 1.4), (0.9, 0.2)), ((0.8, 1.1), (1.2, 0.6))])
def test_profile_diffusers_equals_enable_freeu(build, factors, run):
    model = build()
    (b1, b2), (s1, s2) = factors
    model.enable_freeu(s1=s1, s2=s2, b1=b1, b2=b2)
    want = run(model)
    model.disable_freeu()
    with freeu.enabled(model, b=(b1, b2), s=(s1, s2), profile="diffusers") as handle:
        assert relative_error(run(model), want) <= UNET
        assert len(handle.sites) == 6


def test_never_twice(unet, run):
    unet.enable_freeu(s1=0.9, s2=0.2, b1=1.3, b2=1.4)
    with pytest.raises(FreeURuntimeError, match=r"would act a second time: call pipe.disable_freeu\(\)"):
        freeu.apply(unet)
    unet.disable_freeu()
    with freeu.enabled(unet):
        unet.enable_freeu(s1=0.9, s2=0.2, b1=1.3, b2=1.4)
        with pytest.raises(FreeURuntimeError, match="would act a second time"):
            run(unet)


def test_residuals_of_a_controlnet_are_filtered_with_the_skip(unet):
    """FreeU comes after the residuals, as in every pipeline of diffusers."""
    sample, t, text = tiny_inputs()
    with torch.no_grad():
        down = [
            torch.zeros(2, c, s, s)
            for c, s in zip(
                [8, 8, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32], [16, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2], strict=True
            )
        ]
        middle = torch.zeros(2, 32, 2, 2)
        with freeu.enabled(unet, b=(1.3, 1.4), s=(0.9, 0.2)):
            plain = unet(sample, t, text).sample
            zero = unet(
                sample, t, text, down_block_additional_residuals=down, mid_block_additional_residual=middle
            ).sample
            assert torch.equal(plain, zero)
            for residual in down:
                residual += 1.0
            other = unet(
                sample, t, text, down_block_additional_residuals=down, mid_block_additional_residual=middle
            ).sample
            assert not torch.equal(plain, other)


def test_models_without_skips_are_refused_with_advice():
    from diffusers import AutoencoderTiny, ControlNetModel, DiTTransformer2DModel

    vae = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    with pytest.raises(NoSitesError, match=r"is a VAE.*Pass the pipeline or its U-Net"):
        freeu.apply(vae)
    dit = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, num_layers=1, sample_size=8, norm_num_groups=4
    )
    with pytest.raises(NoSitesError, match="diffusion transformer: it has no decoder with skip concatenation"):
        freeu.inspect(dit)
    with pytest.raises(NoSitesError, match="apply FreeU to the pipeline"):
        freeu.apply(
            ControlNetModel(
                block_out_channels=(8, 16),
                down_block_types=("DownBlock2D",) * 2,
                layers_per_block=1,
                norm_num_groups=4,
                cross_attention_dim=8,
                attention_head_dim=4,
            )
        )
    with pytest.raises(NoSitesError, match="Linear has no skip concatenation"):
        freeu.apply(torch.nn.Linear(2, 2))
    with pytest.raises(NoSitesError, match="str has no U-Net"):
        freeu.apply("model")


def test_recommend_goes_by_the_models_configuration():
    assert freeu.recommend(tiny_unet(cross_attention_dim=2048)) == freeu.preset("sdxl")
    assert freeu.recommend(tiny_unet(cross_attention_dim=1024)) == freeu.preset("sd21")
    assert freeu.recommend(tiny_unet(cross_attention_dim=768)) == freeu.preset("sd14")
    named = tiny_unet(cross_attention_dim=768)
    named._internal_dict = type(named.config)(dict(named.config, _name_or_path="somebody/stable-diffusion-v1-5"))
    assert freeu.recommend(named) == freeu.preset("sd15")
    with freeu.enabled(tiny_unet()) as handle:
        assert handle.config == freeu.preset("sd14")


@pytest.mark.parametrize(
    ("path", "preset"),
    [
        ("/models/2024-11-5-sd14", "sd14"),
        ("/models/2024-1-5/sd14", "sd14"),
        ("/models/sd15", "sd15"),
        ("sd-legacy/stable-diffusion-v1-5", "sd15"),
        ("/cache/models--runwayml--stable-diffusion-v1-5/snapshots/12", "sd15"),
        ("/models/v1.5-pruned", "sd15"),
        ("/models/sd1545", "sd14"),
    ],
)
def test_recommend_tells_a_name_from_a_date(path, preset):
    unet = tiny_unet(cross_attention_dim=768)
    unet.register_to_config(_name_or_path=path)
    assert freeu.recommend(unet) == freeu.preset(preset)


def test_a_lora_on_convolutions_hides_no_site(run):
    peft = pytest.importorskip("peft")
    model = tiny_unet()
    before = [(site.path, site.backbone_channels, site.skip_channels) for site in freeu.inspect(model).sites]
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["conv1", "conv2", "to_q"]))
    assert [(site.path, site.backbone_channels, site.skip_channels) for site in freeu.inspect(model).sites] == before
    plain = run(model)
    with freeu.enabled(model, b=(1.3, 1.4), s=(0.9, 0.2)) as handle:
        changed = run(model)
        handle.verify()
    assert not torch.equal(changed, plain)
    assert torch.equal(run(model), plain)
