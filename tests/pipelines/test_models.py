"""Kinds of models and of work: XL, LCM, image-to-image, inpainting, schedulers, number formats, the embedded model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.metadata import read_png
from freeu.pipelines.io.inputs import fit_size, open_image, open_mask, pixel_sha
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.schedulers import SAMPLERS, fresh_scheduler, sampler_name, set_sampler
from freeu.pipelines.models.sources.sources import describe_directory, find_model, fingerprint
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.runs.manifest import read_manifest

QUICK = ("--steps", "2", "--threads", "1")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image of 24x40 with two colours."""
    image = Image.new("RGB", (24, 40), "navy")
    image.paste((240, 120, 0), (6, 6, 18, 24))
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Its upper half white."""
    image = Image.new("L", (24, 40))
    image.paste(255, (0, 0, 24, 18))
    image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_image_to_image_and_inpainting(
    sd_dir: Path, photo: Path, mask: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    for name, extra in (("i2i", ()), ("inpaint", ("--mask", mask))):
        folder = tmp_path / name
        words = ("compare", "a fox", "--model", sd_dir, "--image", photo, *extra, "--denoising-strength", "0.9", *QUICK)
        outcome = cli(*words, "--output", folder)
        assert (outcome.code, outcome.err) == (0, "")
        manifest = read_manifest(folder)
        # The native area is 16 x 16, the shape that of the photo, sides multiples of 8.
        assert (manifest.plan.width, manifest.plan.height) == (16, 24)
        with Image.open(folder / "p000-s0000-freeu.png") as image:
            assert image.size == (16, 24)
        off, on = manifest.images.values()
        assert off.sha256 != on.sha256
        assert (folder / "input-mask.png").exists() == bool(extra)
        assert read_png(folder / "p000-s0000-freeu.png")["image_sha256"] == manifest.plan.image_sha
        assert "Input image" in (folder / "compare.html").read_text(encoding="utf-8")

        again = tmp_path / f"{name}-again"
        outcome = cli("generate", "--from", folder, "--output", again)
        assert outcome.code == 0
        assert "2 of 2 images are bit-identical" in outcome.out
    Image.new("RGB", (16, 24)).save(tmp_path / "inpaint" / "input-image.png")
    outcome = cli("generate", "--from", tmp_path / "inpaint", "--output", tmp_path / "other")
    assert outcome.code == 2
    assert "is not the image that the manifest names" in outcome.one_line()
    assert not (tmp_path / "other").exists()


def test_a_strength_that_leaves_no_step_is_refused(
    sd_dir: Path, photo: Path, cli: Callable[..., Any], work: Path
) -> None:
    outcome = cli("compare", "a", "--model", sd_dir, "--image", photo, "--denoising-strength", "0.3", *QUICK)
    assert outcome.code == 2
    assert "leaves none of 2 steps to do: raise it to 0.51 or more" in outcome.one_line()
    assert list(work.iterdir()) == []


def test_sizes_of_input_pictures() -> None:
    assert fit_size((512, 512), 512, 8) == (512, 512)
    assert fit_size((4000, 3000), 512, 8) == (592, 440)
    assert fit_size((10, 1000), 64, 8) == (8, 640)


def test_transparent_pictures_lie_on_white_and_masks_must_fit(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    image = Image.new("RGB", (5, 4))
    with pytest.raises(FreeUValueError, match="got 4x4 for an image of 5x4"):
        open_mask(tmp_path / "clear.png", image)
    Image.new("L", (5, 4)).save(tmp_path / "black.png")
    with pytest.raises(FreeUValueError, match="black everywhere"):
        open_mask(tmp_path / "black.png", image)


def test_xl_and_lcm_load_by_their_own_classes(
    make_pipeline: Callable[..., Path], parts: Any, cli: Callable[..., Any], tmp_path: Path
) -> None:
    import diffusers

    xl = make_pipeline(
        "xl",
        "StableDiffusionXLPipeline",
        text_encoder_2=parts.text_encoder("CLIPTextModelWithProjection", projection_dim=16),
        tokenizer_2=parts.tokenizer(),
        unet=parts.unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 6 * 4,
        ),
        force_zeros_for_empty_prompt=True,
    )
    lcm = make_pipeline(
        "lcm",
        "LatentConsistencyModelPipeline",
        unet=parts.unet(time_cond_proj_dim=8),
        scheduler=diffusers.LCMScheduler(beta_schedule="scaled_linear"),
    )
    for model, name in ((xl, "StableDiffusionXLPipeline"), (lcm, "LatentConsistencyModelPipeline")):
        folder = tmp_path / f"{name}-out"
        outcome = cli("compare", "a fox", "--model", model, *QUICK, "--output", folder)
        assert (outcome.code, outcome.err) == (0, "")
        manifest = read_manifest(folder)
        assert manifest.plan.model.class_name == name
        off, on = manifest.images.values()
        assert off.sha256 != on.sha256


def test_every_sampler_draws(sd_dir: Path) -> None:
    pipe = load(find_model(str(sd_dir))).pipe
    own = pipe.scheduler
    for name in SAMPLERS:
        pipe.scheduler = own
        set_sampler(pipe, name)
        assert type(pipe.scheduler).__name__ == SAMPLERS[name].cls
        fresh_scheduler(pipe)
        pipe("a", num_inference_steps=2, output_type="latent")
    assert sampler_name("DPM++ 2M Karras") == "dpm++2m-karras"
    assert sampler_name("Euler a") == "euler-a"
    with pytest.raises(FreeUValueError, match="did you mean euler"):
        sampler_name("eulr")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str, sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    outcome = cli("generate", "a", "--model", sd_dir, "--dtype", dtype, *QUICK, "--output", tmp_path / "o")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{dtype} on cpu" in outcome.out


def test_a_variant_of_the_weights(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    pipe = load(find_model(str(sd_dir))).pipe
    pipe.save_pretrained(tmp_path / "model", variant="fp16")
    assert cli("generate", "a", "--model", tmp_path / "model", *QUICK, "--output", tmp_path / "x").code == 2
    words = ("--model", tmp_path / "model", "--variant", "fp16", *QUICK)
    assert cli("generate", "a", *words, "--output", tmp_path / "o").code == 0


def test_damaged_weights_are_named_in_one_line(sd_dir: Path, cli: Callable[..., Any], work: Path) -> None:
    broken = work / "broken"
    shutil.copytree(sd_dir, broken)
    weights = next((broken / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    outcome = cli("compare", "a fox", "--model", broken)
    assert outcome.code == 2
    assert outcome.one_line().startswith("freeu: cannot load broken: ")
    assert [path.name for path in work.iterdir()] == ["broken"]


@pytest.mark.parametrize(("part", "name"), [("text_encoder", "CLIPTextModel"), ("unet", "UNet2DConditionModel")])
def test_missing_weights_are_not_made_up(
    part: str, name: str, sd_dir: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(sd_dir, folder)
    (path,) = (folder / part).glob("*.safetensors")
    weights = load_file(path)
    weights.pop(min(weights))
    save_file(weights, path, {"format": "pt"})
    outcome = cli("generate", "a fox", "--model", folder, *QUICK, "--output", tmp_path / "images")
    assert outcome.code == 2
    assert outcome.one_line().startswith(f"freeu: model lacks weights of its {name}: ")
    assert not (tmp_path / "images").exists()


def test_fingerprints_follow_the_weights_and_not_the_place(sd_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sd_dir, copy)
    assert fingerprint(copy) == fingerprint(sd_dir)
    weights = next((copy / "vae").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(copy) != fingerprint(sd_dir)


def test_a_moved_model_is_found_with_model_and_a_changed_one_is_told(
    compared: tuple[Path, Any], sd_dir: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(sd_dir, moved)
    outcome = cli("generate", "--from", compared[0], "--model", moved, "--output", tmp_path / "o")
    assert outcome.code == 0
    assert "8 of 8 images are bit-identical" in outcome.out
    data = json.loads((moved / "scheduler" / "scheduler_config.json").read_text())
    data["beta_end"] = 0.05
    (moved / "scheduler" / "scheduler_config.json").write_text(json.dumps(data))
    outcome = cli("generate", "--from", compared[0], "--model", moved, "--output", tmp_path / "p")
    assert outcome.code == 0
    assert "0 of 8 images are bit-identical" in outcome.out
    assert "the model's files are not the same" in outcome.out


@pytest.fixture
def world(sd_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model as if it were embedded, with a world of one noun."""
    folder = tmp_path / "mini-test"
    shutil.copytree(sd_dir, folder)
    about = {
        "name": "mini-test",
        "description": "One fox",
        "native_size": 24,
        "default_steps": 2,
        "default_guidance_scale": 2.0,
        "nouns": ["fox", "fire engine"],
        "styles": ["3d"],
        "colours": ["blue"],
    }
    (folder / "freeu-zoo.json").write_text(json.dumps(about))
    monkeypatch.setattr("freeu_zoo.models", lambda: {"mini-test": folder})
    return folder


def test_the_embedded_model_says_so_and_names_what_it_cannot_draw(
    world: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("compare", "a 3d fire engine on a blue background", "Aragorn with a fox", "--model", "mini-test")
    outcome = cli(*words, "--threads", "1", "--output", tmp_path / "o")
    assert outcome.code == 0
    assert "embedded miniature model mini-test (One fox); --model takes your own." in outcome.out
    assert "2 steps, CFG scale 2" in outcome.out
    assert "24x24" in outcome.out
    assert "cannot generate 'aragorn' (in 'Aragorn with a fox')" in outcome.one_line()
    assert "embedded miniature model" in (tmp_path / "o" / "compare.html").read_text(encoding="utf-8")


def test_unknown_names_come_with_near_ones(world: Path, work: Path) -> None:
    with pytest.raises(FreeUValueError, match="did you mean mini-test"):
        find_model("mini-tset")
    shutil.copytree(world, work / "my-model")
    with pytest.raises(FreeUValueError, match=r"did you mean my-model\?"):
        find_model("my-modle")
    with pytest.raises(FreeUValueError, match=r"did you mean .*my-model\?"):
        find_model(str(work / "my-modell"))


def test_a_recommendation_follows_the_family(sd_dir: Path) -> None:
    loaded = load(find_model(str(sd_dir)))
    choice = FreeUOptions(freeu_strength=0.5, end=0.5)
    config = choice.resolve(loaded.pipe)
    assert (config.b, config.strength, config.end) == ((1.3, 1.4), 0.5, 0.5)
    assert FreeUOptions(preset="sdxl-v1").resolve(loaded.pipe).version == 1
    assert FreeUOptions(config='{"b": [1.1, 1.2]}').resolve(loaded.pipe).b == (1.1, 1.2)
    with pytest.raises(FreeUValueError, match="--preset and --b/--s say the same thing twice"):
        FreeUOptions(preset="sdxl", b="1,1").base()


def test_a_directory_that_is_no_model_says_what_it_is(tmp_path: Path) -> None:
    def write(name: str, data: dict[str, Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
        return path.parent

    dit = write("dit/model_index.json", {"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]})
    vae = write("sd/vae/config.json", {"_class_name": "AutoencoderKL"})
    write("sd/model_index.json", {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "X"]})
    bare = write("transformer/config.json", {"_class_name": "SD3Transformer2DModel"})
    for folder, words in (
        (dit, r"dit \(FluxPipeline\) is a diffusion transformer \(DiT\): .* Use a U-Net model"),
        (vae, r"vae \(AutoencoderKL\) is a VAE: .*; this one belongs to .*sd$"),
        (bare, r"is a diffusion transformer"),
        (tmp_path, "neither model_index.json nor config.json"),
    ):
        with pytest.raises(FreeUValueError, match=words):
            find_model(str(folder))
    assert describe_directory(tmp_path / "sd", find_model(str(tmp_path / "sd"))).whole


def test_pixel_sha_ignores_compression(tmp_path: Path) -> None:
    image = Image.effect_noise((9, 7), 50).convert("RGB")
    image.save(tmp_path / "a.png", compress_level=0)
    image.save(tmp_path / "b.png", compress_level=9)
    shas = {pixel_sha(open_image(tmp_path / name)) for name in ("a.png", "b.png")}
    assert shas == {pixel_sha(image)}
    assert pixel_sha(image.transpose(Image.Transpose.ROTATE_90)) not in shas
