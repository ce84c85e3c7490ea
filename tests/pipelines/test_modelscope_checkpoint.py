"""Original ModelScope checkpoints: the real classes of the ``modelscope`` package write them, freeu reads them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_pipelines as tiny
import tolerances
import torch
from modelscope.models.multi_modal.video_synthesis.autoencoder import AutoencoderKL
from modelscope.models.multi_modal.video_synthesis.diffusion import GaussianDiffusion, beta_schedule
from torch import Tensor, nn

import freeu
from freeu.errors import FreeUValueError
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.modelscope import pipeline as modelscope_pipeline
from freeu.pipelines.models.modelscope.weights import convert_unet
from freeu.pipelines.models.sources.modelscope_files import read_configuration
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.runs.manifest import read_manifest

WIDTH, POSITIONS, VOCABULARY, LAYERS = 1024, 16, 600, 3
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
CONFIGURATION: dict[str, Any] = {
    "framework": "pytorch",
    "task": "text-to-video-synthesis",
    "model": {
        "type": "latent-text-to-video-synthesis",
        "model_args": {
            "ckpt_clip": "open_clip_pytorch_model.bin",
            "ckpt_unet": "text2video_pytorch_model.pth",
            "ckpt_autoencoder": "VQGAN_autoencoder.pth",
            "max_frames": 5,
            "tiny_gpu": 1,
        },
        "model_cfg": {
            "unet_in_dim": 4,
            "unet_dim": 32,
            "unet_y_dim": 768,
            "unet_context_dim": WIDTH,
            "unet_out_dim": 4,
            "unet_dim_mult": [1, 2, 4],
            "unet_num_heads": 8,
            "unet_head_dim": 16,
            "unet_res_blocks": 1,
            "unet_attn_scales": [0.5, 0.25],
            "unet_dropout": 0.1,
            "temporal_attention": "True",
            "num_timesteps": 1000,
            "mean_type": "eps",
            "var_type": "fixed_small",
            "loss_type": "mse",
        },
    },
    "pipeline": {"type": "latent-text-to-video-synthesis"},
}
SMALL = ("--width", "32", "--height", "16", "--steps", "2", "--threads", "1", "--format", "mp4")


def stir(model: Any, seed: int = 5) -> Any:
    """Norms begin as ones and zeros: every weight must matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return model.eval()


def configuration(**changes: Any) -> dict[str, Any]:
    """The content of ``configuration.json`` with other values, wherever they stand in it."""
    data: dict[str, Any] = json.loads(json.dumps(CONFIGURATION))
    for key, value in changes.items():
        section = next(part for part in (data, *data["model"].values()) if isinstance(part, dict) and key in part)
        if value is KeyError:
            del section[key]
        else:
            section[key] = value
    return data


def original_unet(**changes: Any) -> Any:
    return stir(tiny.tiny_modelscope_unet(**{"num_heads": 8} | changes))


def exact_unet(**changes: Any) -> Any:
    """The same in float64; its embedding of the time is float32 as ever, and would not go into the next layer."""
    unet = original_unet(**changes).double()
    unet.time_embed.register_forward_pre_hook(lambda _, args: (args[0].double(),))
    return unet


class Layer(nn.Module):
    """A layer of open_clip's text tower, with its names."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, WIDTH // 64, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(WIDTH, 48), "c_proj": nn.Linear(48, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        ahead = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        x = x + self.attn(normed, normed, normed, attn_mask=ahead, need_weights=False)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class TextTower(nn.Module):
    """open_clip's text tower as far as ModelScope runs it: up to the last layer but one, then the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(POSITIONS, WIDTH))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(Layer() for _ in range(LAYERS))})
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, 8))
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.visual = nn.Linear(2, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        layers: Any = self.transformer["resblocks"]
        for layer in layers[:-1]:
            x = layer(x)
        found: Tensor = self.ln_final(x)
        return found


class Original:
    """A whole tiny model of ModelScope's and open_clip's classes, and its checkpoint in a folder."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.unet = original_unet()
        self.vae = stir(AutoencoderKL(VAE, 4))
        self.text = stir(TextTower())
        folder.mkdir()
        (folder / "configuration.json").write_text(json.dumps(CONFIGURATION))
        torch.save(self.unet.state_dict(), folder / "text2video_pytorch_model.pth")
        stored = {f"first_stage_model.{key}": value for key, value in self.vae.state_dict().items()}
        torch.save({"state_dict": {**stored, "model.ema": torch.zeros(1)}}, folder / "VQGAN_autoencoder.pth")
        torch.save(self.text.state_dict(), folder / "open_clip_pytorch_model.bin")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return Original(tmp_path_factory.mktemp("original") / "tiny-modelscope")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers directory with a tokenizer and a text encoder of another depth and another activation."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=WIDTH // 64,
        max_position_embeddings=POSITIONS,
    )
    folder = tmp_path_factory.mktemp("texts") / "diffusers"
    unet = tiny.tiny_video_unet()
    return tiny.save_pipeline(folder, "TextToVideoSDPipeline", unet=unet, text_encoder=CLIPTextModel(config))


@pytest.fixture
def copy(original: Original, tmp_path: Path) -> Path:
    """A checkpoint to spoil; the files are links."""
    return Path(shutil.copytree(original.folder, tmp_path / "spoilt", copy_function=os.link))


def rewrite(folder: Path, name: str, data: Any) -> None:
    """Another content for a file of a copy; the link goes first, so that the original keeps its own."""
    (folder / name).unlink()
    if name.endswith(".json"):
        (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
    else:
        torch.save(data, folder / name)


# -- the parts against the originals --------------------------------------------------------------------------------

SHAPES = {
    "as the small one": ({}, {}),
    "two layers": ({"num_res_blocks": 2}, {"unet_res_blocks": 2}),
    "attention everywhere": ({"attn_scales": [1, 0.5, 0.25]}, {"unet_attn_scales": [1, 0.5, 0.25]}),
    "attention at the top": ({"attn_scales": [1.0]}, {"unet_attn_scales": [1.0]}),
    "attention in the middle alone": ({"attn_scales": []}, {"unet_attn_scales": []}),
    "four levels as the published one": (
        {"dim_mult": [1, 2, 4, 4], "attn_scales": [1, 0.5, 0.25], "head_dim": 32, "num_res_blocks": 2},
        {"unet_dim_mult": [1, 2, 4, 4], "unet_attn_scales": [1, 0.5, 0.25], "unet_head_dim": 32, "unet_res_blocks": 2},
    ),
    "one level": (
        {"dim": 64, "dim_mult": [1], "attn_scales": [1]},
        {"unet_dim": 64, "unet_dim_mult": [1], "unet_attn_scales": [1]},
    ),
    "other widths and latents": (
        {"dim_mult": [1, 3], "attn_scales": [0.5], "in_dim": 3, "out_dim": 3},
        {"unet_dim_mult": [1, 3], "unet_attn_scales": [0.5], "unet_in_dim": 3, "unet_out_dim": 3},
    ),
    "heads by default": (
        {"dim": 256, "num_heads": None, "dim_mult": [1], "attn_scales": []},
        {"unet_dim": 256, "unet_num_heads": None, "unet_dim_mult": [1], "unet_attn_scales": []},
    ),
}


def converted(unet: Any, folder: Path, **changes: Any) -> Any:
    """The U-Net of diffusers for an original one; the folder lends its file names."""
    from diffusers import UNet3DConditionModel

    files = read_configuration(folder, configuration(**changes), "tiny")
    with torch.device("meta"):
        model = UNet3DConditionModel.from_config(files.unet_config)
    model.load_state_dict(convert_unet(unet.state_dict(), files), strict=True, assign=True)
    return model.eval()


def both(theirs: Any, ours: Any, channels: int = 4, times: tuple[int, int] = (3, 1)) -> tuple[Tensor, Tensor]:
    """One call of each on the same input, float64: two videos of three frames."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, channels, 3, 8, 8, generator=generator, dtype=torch.float64)
    text = torch.randn(2, 5, WIDTH, generator=generator, dtype=torch.float64)
    t = torch.tensor(times)
    with torch.no_grad():
        return theirs(x, t, text), ours(x, t, text, return_dict=False)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_converted_unet_gives_the_same(shape: str, original: Original) -> None:
    theirs, ours = SHAPES[shape]
    channels = theirs.get("in_dim", 4)
    unet = exact_unet(**theirs)
    model = converted(unet, original.folder, **ours)
    want, got = both(unet, model, channels)
    assert want.std() > 0.01
    # Both take sines of the time in float32, which for early times differ by 1e-7: a wrong constant in a norm is more.
    assert tolerances.relative_error(got, want) < tolerances.UNET / 100
    late, got = both(unet, model, channels, (981, 41))
    assert tolerances.relative_error(late, want) > 100 * tolerances.UNET, "the time matters"
    assert tolerances.relative_error(got, late) < tolerances.UNET


def test_the_published_shape_is_that_of_the_class_in_diffusers(original: Original) -> None:
    """Names and shapes alone: no memory is taken."""
    from diffusers import UNet3DConditionModel

    theirs = {"dim": 320, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "head_dim": 64, "attn_scales": [1, 0.5, 0.25]}
    ours = {"unet_dim": 320, "unet_dim_mult": [1, 2, 4, 4], "unet_res_blocks": 2, "unet_head_dim": 64}
    files = read_configuration(original.folder, configuration(**ours, unet_attn_scales=[1, 0.5, 0.25]), "published")
    with torch.device("meta"):
        unet = tiny.tiny_modelscope_unet(num_heads=8, **theirs)
        want = UNet3DConditionModel().state_dict()
    got = convert_unet(unet.state_dict(), files)
    assert {key: value.shape for key, value in got.items()} == {key: value.shape for key, value in want.items()}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("profile", ["official", "diffusers"])
def test_freeu_does_the_same_to_both(profile: str, version: int, original: Original) -> None:
    unet = exact_unet()
    ours = converted(unet, original.folder)
    plain, _ = both(unet, ours)
    factors: dict[str, Any] = {"b": (1.4, 1.6), "s": (0.9, 0.2), "version": version, "profile": profile}
    with freeu.enabled(unet, **factors) as one, freeu.enabled(ours, **factors) as other:
        want, got = both(unet, ours)
        assert len(one.sites) == len(other.sites) > 0
    assert tolerances.relative_error(want, plain) > 100 * tolerances.UNET, "FreeU changes the output"
    assert tolerances.relative_error(got, want) < tolerances.UNET / 100


@pytest.fixture(scope="module")
def pipe(original: Original, texts: Path) -> Any:
    return load(find_model(str(original.folder)), model_config=texts).pipe


def test_the_autoencoder_gives_the_same(pipe: Any, original: Original) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = original.vae.decode(latents)
        assert tolerances.relative_error(pipe.vae.decode(latents).sample, want) < tolerances.UNET
        moments = original.vae.encode(want).parameters
        assert tolerances.relative_error(pipe.vae.encode(want).latent_dist.parameters, moments) < tolerances.UNET
    assert pipe.vae.config.scaling_factor == 0.18215


def test_the_text_encoder_gives_what_the_last_layer_but_one_gives(pipe: Any, original: Original) -> None:
    words = pipe.tokenizer("a fox", padding="max_length", max_length=pipe.tokenizer.model_max_length, truncation=True)
    assert len(words.input_ids) == POSITIONS
    assert words.input_ids[-1] == 0, "open_clip fills up with token 0"
    tokens = torch.tensor([words.input_ids])
    with torch.no_grad():
        assert tolerances.relative_error(pipe.text_encoder(tokens)[0], original.text(tokens)) < tolerances.UNET


@pytest.mark.parametrize("steps", [4, 5])
def test_the_whole_draws_what_the_original_draws(steps: int, pipe: Any, original: Original) -> None:
    options = {"padding": "max_length", "max_length": POSITIONS, "return_tensors": "pt"}
    with torch.no_grad():
        text, empty = (original.text(pipe.tokenizer(words, **options).input_ids) for words in ("a fox", ""))
    betas = beta_schedule("linear_sd", 1000, init_beta=0.00085, last_beta=0.0120)
    sampler = GaussianDiffusion(betas, mean_type="eps", var_type="fixed_small", rescale_timesteps=False)
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    conditions = [{"y": text}, {"y": empty}]
    want = sampler.ddim_sample_loop(noise, original.unet, conditions, guide_scale=9.0, ddim_timesteps=steps, eta=0.0)
    shape = {"num_frames": 3, "height": 16, "width": 16, "num_inference_steps": steps, "guidance_scale": 9.0}
    got = pipe("a fox", latents=noise, output_type="latent", **shape).frames
    # A whole run multiplies the rounding of one call of the U-Net by guidance and by the steps.
    assert tolerances.relative_error(got, want) < 50 * tolerances.UNET


# -- the command ----------------------------------------------------------------------------------------------------


def test_from_end_to_end(original: Original, texts: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    words = ("--model", original.folder, "--model-config", texts, "--b", "1.4,1.4", "--output", tmp_path / "out")
    outcome = cli("video", "a fox", *words, *SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    manifest = read_manifest(tmp_path / "out")
    plan = manifest.plan
    assert (plan.model.kind, plan.model.name, plan.model.class_name) == (
        "directory",
        "tiny-modelscope",
        "TextToVideoSDPipeline",
    )
    assert plan.model.fingerprint.startswith("sha256:")
    assert (plan.frames, plan.task) == (5, "video"), "frames are those of configuration.json"
    off, on = manifest.images.values()
    assert off.sha256 != on.sha256
    outcome = cli("generate", "--from", tmp_path / "out", "--output", tmp_path / "again")
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 of 2 videos are bit-identical" in outcome.out


def test_weights_may_be_safetensors(pipe: Any, original: Original, copy: Path, texts: Path) -> None:
    from safetensors.torch import save_file

    save_file(original.unet.state_dict(), copy / "unet.safetensors")
    rewrite(copy, "configuration.json", configuration(ckpt_unet="unet.safetensors"))
    again = load(find_model(str(copy)), model_config=texts).pipe.unet.state_dict()
    assert all(torch.equal(again[key], value) for key, value in pipe.unet.state_dict().items())


def test_it_begins_with_a_video_too(original: Original, texts: Path) -> None:
    loaded = load(find_model(str(original.folder)), "video-to-video", dtype="bfloat16", model_config=texts)
    assert type(loaded.pipe).__name__ == "VideoToVideoSDPipeline"
    assert {part.dtype for part in (loaded.pipe.unet, loaded.pipe.vae, loaded.pipe.text_encoder)} == {torch.bfloat16}


def test_inspect_needs_no_weights(original: Original, cli: Callable[..., Any]) -> None:
    outcome = cli("inspect", original.folder, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    data = json.loads(outcome.out)
    want = freeu.inspect(original.unet)
    assert data["unet"] == "UNet3DConditionModel"
    assert [site["backbone_channels"] for site in data["sites"]] == [site.backbone_channels for site in want.sites]


def test_commands_for_pictures_refuse_it(original: Original, cli: Callable[..., Any], tmp_path: Path) -> None:
    outcome = cli("compare", "a fox", "--model", original.folder, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "(TextToVideoSDPipeline) generates video" in outcome.one_line()
    with pytest.raises(FreeUValueError, match="cannot do image-to-image"):
        load(find_model(str(original.folder)), "image")


# -- what is wrong with a checkpoint --------------------------------------------------------------------------------

REFUSED = {
    "unet_context_dim": (768, "must be 1024"),
    "mean_type": ("x0", "must be 'eps'"),
    "var_type": ("learned_range", "must be 'fixed_small'"),
    "temporal_attention": ("False", "must be 'True'"),
    "unet_dim_mult": ([2, 4], "must begin with 1"),
    "unet_dim": (40, "must be a multiple of 32"),
    "unet_num_heads": (4, "must come to 8"),
    "unet_head_dim": (48, "must divide the 64 channels"),
    "unet_attn_scales": ("all", "must be a list of scales"),
    "unet_out_dim": (8, "must be 4, as unet_in_dim"),
    "unet_res_blocks": (0, "must be a whole number of at least 1"),
    "num_timesteps": (KeyError, "must be a whole number of at least 1, got nothing"),
    "max_frames": (True, "must be a whole number of at least 1, got True"),
    "ckpt_unet": ("../model.pth", "must be the name of a file in that folder"),
    "task": ("image-classification", "is a model of ModelScope for 'image-classification'"),
    "model": ([], "model must be a JSON object"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_wrong_configuration_is_refused_by_name(
    key: str, copy: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    value, told = REFUSED[key]
    rewrite(copy, "configuration.json", configuration(**{key: value}))
    outcome = cli("video", "a fox", "--model", copy, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert told in outcome.one_line()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["ckpt_clip", "ckpt_unet", "ckpt_autoencoder"])
def test_a_missing_file_is_named(key: str, copy: Path) -> None:
    name = CONFIGURATION["model"]["model_args"][key]
    (copy / name).unlink()
    with pytest.raises(FreeUValueError, match=rf"spoilt has no {name}, which configuration\.json names \({key}\)"):
        find_model(str(copy))


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("key", ["ckpt_clip", "ckpt_unet", "ckpt_autoencoder"])
def test_code_in_a_file_is_refused_and_does_not_run(
    key: str, copy: Path, texts: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    name = CONFIGURATION["model"]["model_args"][key]
    rewrite(copy, name, {"weight": torch.zeros(1), "more": Evil(tmp_path / "ran")})
    outcome = cli("video", "a fox", "--model", copy, "--model-config", texts, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert f"cannot load spoilt/{name}: it holds more than weights" in outcome.one_line()
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_are_named(original: Original, copy: Path, texts: Path) -> None:
    def problem() -> str:
        with pytest.raises(FreeUValueError) as caught:
            load(find_model(str(copy)), model_config=texts)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    weights = original.unet.state_dict()
    unet = "text2video_pytorch_model.pth"
    rewrite(copy, unet, {key: value for key, value in weights.items() if key != "out.2.bias"})
    assert problem().endswith("does not fit configuration.json: 1 weights are missing, such as conv_out.bias")
    rewrite(copy, unet, {**weights, "input_blocks.1.2.more.weight": torch.zeros(1)})
    assert "have no place in a U-Net of that shape, such as input_blocks.1.2.more.weight" in problem()
    rewrite(copy, unet, {**weights, "fps_embedding.0.weight": torch.zeros(1)})
    assert "is conditioned on frames per second" in problem()
    rewrite(copy, unet, {**weights, "out.2.bias": torch.zeros(5)})
    assert "1 weights are of another shape, such as conv_out.bias" in problem()
    rewrite(copy, unet, [1, 2])
    assert "text2video_pytorch_model.pth holds no weights by name" in problem()
    (copy / unet).write_bytes((original.folder / unet).read_bytes()[:5000])
    assert "cannot load spoilt/text2video_pytorch_model.pth" in problem()
    (copy / unet).write_bytes(b"")
    assert "cannot load spoilt/text2video_pytorch_model.pth: it is empty" in problem()
    rewrite(copy, unet, {**weights, "epoch": 3})
    rewrite(copy, "VQGAN_autoencoder.pth", weights)
    assert "VQGAN_autoencoder.pth is no autoencoder of the kind" in problem()
    odd = {key: torch.zeros(()) for key in original.vae.state_dict()}
    rewrite(copy, "VQGAN_autoencoder.pth", odd)
    assert "cannot load spoilt/VQGAN_autoencoder.pth" in problem()
    rewrite(copy, "VQGAN_autoencoder.pth", AutoencoderKL({**VAE, "z_channels": 3}, 3).state_dict())
    assert "has latents of 3 channels and text2video_pytorch_model.pth takes 4" in problem()
    rewrite(copy, "open_clip_pytorch_model.bin", weights)
    assert "open_clip_pytorch_model.bin is no text encoder of open_clip" in problem()
    odd = {key: torch.zeros(8, 8) for key in original.text.state_dict()}
    rewrite(copy, "open_clip_pytorch_model.bin", odd)
    assert "makes embeddings of 8 numbers, and the U-Net takes 1024" in problem()


def test_without_a_tokenizer_the_fix_is_told(
    original: Original, sd_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_model(str(original.folder))
    with pytest.raises(FreeUValueError, match=r"does not fit .*tiny-sd/text_encoder/config\.json"):
        load(source, model_config=sd_dir)
    with pytest.raises(FreeUValueError, match=r"--model-config .* has no tokenizer/ or no text_encoder/config\.json"):
        load(source, model_config=tmp_path)
    with pytest.raises(FreeUValueError, match="leave --variant out"):
        load(source, variant="fp16", model_config=sd_dir)

    def unreachable(name: str) -> None:
        raise FreeUValueError(f"{name}: the hub cannot be reached")

    monkeypatch.setattr(modelscope_pipeline, "check_hub", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        FreeUValueError, match="not in the local cache and the hub cannot be reached: give --model-config"
    ):
        load(source)


def test_the_local_cache_of_the_hub_serves(
    original: Original, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / f"models--{modelscope_pipeline.TEXT_MODELS[1].replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    shutil.copytree(texts, place / "snapshots" / "abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert load(find_model(str(original.folder))).pipe.tokenizer.model_max_length == POSITIONS
