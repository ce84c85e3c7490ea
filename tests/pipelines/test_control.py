"""ControlNets on the command line: found, checked, attached, recorded, reproduced, and refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_pipelines import save_pipeline, tiny_controlnet, tiny_text_encoder, tiny_tokenizer, tiny_unet

import freeu
from freeu.errors import FreeUValueError
from freeu.metadata import KEY
from freeu.pipelines.io.inputs import pixel_sha
from freeu.pipelines.models.control import files as control_files
from freeu.pipelines.models.control.control import attach_control, canny, condition
from freeu.pipelines.models.control.files import find_control, load_control
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.runs.manifest import read_manifest
from freeu.pipelines.runs.plan import INPUT_CONTROL, Plan

SHORT = ("--steps", "2", "--threads", "1", "--width", "16", "--height", "16")


@pytest.fixture(scope="module")
def files(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ControlNet ``edges/``, the same as ``edges.safetensors``, and an image ``square.png``."""
    folder = tmp_path_factory.mktemp("private") / "files"
    unet = load(find_model(str(sd_dir))).pipe.unet
    tiny_controlnet(unet).save_pretrained(folder / "edges")
    shutil.copy(folder / "edges" / "diffusion_pytorch_model.safetensors", folder / "edges.safetensors")
    picture = np.full((40, 40, 3), 255, np.uint8)
    picture[10:30, 10:30] = (200, 30, 30)
    Image.fromarray(picture).save(folder / "square.png")
    return folder


@pytest.fixture(scope="module")
def run(sd_dir: Path, files: Path, tmp_path_factory: pytest.TempPathFactory, cli: Callable[..., Any]) -> Any:
    """One comparison with the ControlNet, in a folder."""
    folder = tmp_path_factory.mktemp("runs") / "steered"
    options = ("--controlnet", files / "edges", "--control-image", files / "square.png", "--controlnet-weight", "0.8")
    return folder, cli("compare", "a fox", *options, "--model", sd_dir, *SHORT, "--output", folder)


def test_what_steers_is_recorded_and_shown(run, files):
    folder, outcome = run
    assert (outcome.code, outcome.err) == (0, "")
    assert "with ControlNet edges, scale 0.8, canny edges (100, 200)" in outcome.out
    plan = read_manifest(folder).plan
    assert plan.model.class_name == "StableDiffusionControlNetPipeline"
    assert (plan.control.name, plan.control.scale, plan.control.preprocess) == ("edges", 0.8, "canny")
    with Image.open(folder / INPUT_CONTROL) as kept:
        assert pixel_sha(kept) == plan.control.sha
        assert set(np.unique(np.asarray(kept))) == {0, 255}, "edges, and nothing between"
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    words = "--controlnet edges --control-image input-control.png --preprocessor none --controlnet-weight 0.8"
    assert words in plan.command_line()
    with Image.open(folder / "p000-s0000-freeu.png") as picture:
        inside = picture.text[KEY]
    assert json.loads(inside)["control"]["fingerprint"] == plan.control.fingerprint
    page = (folder / "compare.html").read_text()
    assert "Same images at a shell (in this folder)" in page
    assert "What the ControlNet read" in page
    for text in (inside, page):
        assert str(files.parent) not in text


def test_a_run_without_says_nothing_of_it(compared):
    assert "control" not in json.loads((compared[0] / "manifest.json").read_text())["plan"]
    assert not (compared[0] / INPUT_CONTROL).exists()
    plain = (compared[0] / "compare.html").read_text()
    assert "What the ControlNet read" not in plain
    assert "in this folder" not in plain


def test_the_picture_steers_and_so_does_the_order(run, cli, sd_dir, files, tmp_path):
    def drawn(name: str, *options: Any) -> dict[str, str]:
        words = ("compare", "a fox", "--controlnet", files / "edges", "--control-image", files / "square.png", *options)
        outcome = cli(*words, "--model", sd_dir, *SHORT, "--output", tmp_path / name)
        assert outcome.code == 0, outcome.err
        return {one.arm: one.sha256 for one in read_manifest(tmp_path / name).images.values()}

    usual = {one.arm: one.sha256 for one in read_manifest(run[0]).images.values()}
    before = drawn("before", "--controlnet-weight", "0.8", "--skip-filter-order", "before")
    assert before["baseline"] == usual["baseline"]
    assert before["freeu"] != usual["freeu"]
    assert read_manifest(tmp_path / "before").plan.config.control == "before"
    whole = drawn("whole", "--controlnet-weight", "0.8", "--preprocessor", "none")
    assert whole["baseline"] != usual["baseline"]
    half = drawn("half", "--controlnet-weight", "0.8", "--controlnet-end", "0.5")
    nothing = drawn("nothing", "--controlnet-weight", "0")
    assert len({usual["baseline"], half["baseline"], nothing["baseline"]}) == 3


def test_made_again_to_the_bit(run, cli, tmp_path):
    outcome = cli("generate", "--from", run[0], "--output", tmp_path / "again")
    assert outcome.code == 0, outcome.err
    assert "2 of 2 images are bit-identical" in outcome.out
    assert (tmp_path / "again" / INPUT_CONTROL).read_bytes() == (run[0] / INPUT_CONTROL).read_bytes()


def test_made_again_with_one_that_moved_or_changed(run, cli, files, tmp_path):
    outcome = cli(
        "generate", "--from", run[0], "--controlnet", files / "edges.safetensors", "--output", tmp_path / "file"
    )
    assert outcome.code == 0, outcome.err
    assert "2 of 2 images are bit-identical" in outcome.out
    changed = tmp_path / "edges"
    shutil.copytree(files / "edges", changed)
    weights = load_file(changed / "diffusion_pytorch_model.safetensors")
    save_file({k: 2 * v for k, v in weights.items()}, changed / "diffusion_pytorch_model.safetensors")
    outcome = cli("generate", "--from", run[0], "--controlnet", changed, "--output", tmp_path / "other")
    assert "what differs: the ControlNet's files are not the same" in outcome.out
    spoilt = tmp_path / "spoilt"
    shutil.copytree(run[0], spoilt)
    Image.new("RGB", (16, 16)).save(spoilt / INPUT_CONTROL)
    outcome = cli("generate", "--from", spoilt, "--output", tmp_path / "never")
    assert outcome.code == 2
    assert "input-control.png is not the image that the manifest names" in outcome.one_line()


def test_image_to_image_and_inpainting(cli, sd_dir, files, tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ("generate", "a fox", "--controlnet", files / "edges", "--control-image", files / "square.png")
    begun = ("--image", files / "square.png", "--denoising-strength", "0.9", "--model", sd_dir, *SHORT)
    for name, more in (("Img2Img", ()), ("Inpaint", ("--mask", tmp_path / "mask.png"))):
        folder = tmp_path / name
        outcome = cli(*words, *begun, *more, "--output", folder)
        assert outcome.code == 0, outcome.err
        assert read_manifest(folder).plan.model.class_name == f"StableDiffusionControlNet{name}Pipeline"
        again = cli("generate", "--from", folder, "--output", tmp_path / f"{name}-again")
        assert "1 of 1 image is bit-identical" in again.out, again.err


def xl(folder: Path) -> Path:
    unet = tiny_unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4,
        cross_attention_dim=32,
    )
    return save_pipeline(
        folder,
        "StableDiffusionXLPipeline",
        unet=unet,
        text_encoder_2=tiny_text_encoder("CLIPTextModelWithProjection", projection_dim=16),
        tokenizer_2=tiny_tokenizer(),
    )


def test_sdxl(cli, files, tmp_path):
    model = xl(tmp_path / "tiny-xl")
    tiny_controlnet(load(find_model(str(model))).pipe.unet).save_pretrained(tmp_path / "edges")
    words = ("generate", "a fox", "--controlnet", tmp_path / "edges", "--control-image", files / "square.png")
    outcome = cli(*words, "--model", model, *SHORT, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert read_manifest(tmp_path / "out").plan.model.class_name == "StableDiffusionXLControlNetPipeline"
    wrong = ("generate", "a fox", "--controlnet", files / "edges", "--control-image", files / "square.png")
    outcome = cli(*wrong, "--model", model, *SHORT, "--output", tmp_path / "never")
    assert outcome.code == 2
    assert "has a text width of 16, and the U-Net of tiny-xl 32: take one" in outcome.one_line()
    assert not (tmp_path / "never").exists()


def test_freeu_finds_the_unet_of_the_pipeline_and_shares_it(sd_dir, files):
    pipe = load(find_model(str(sd_dir))).pipe
    steered = attach_control(pipe, load_control(find_control(str(files / "edges")), pipe.unet, torch.float32))
    assert steered.unet is pipe.unet
    assert steered.vae is pipe.vae
    with freeu.enabled(steered, "sd15", control="before") as handle:
        steered("a fox", canny(Image.new("RGB", (16, 16))), num_inference_steps=1, height=16, width=16)
        handle.verify()


def test_an_autoencoder_of_another_class_is_shared_too(cli, files, tmp_path):
    """diffusers would leave out a VAE that is no AutoencoderKL, such as that of the embedded model."""
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    model = save_pipeline(tmp_path / "tiny", vae=vae)
    words = ("generate", "a fox", "--controlnet", files / "edges", "--control-image", files / "square.png")
    outcome = cli(*words, "--model", model, *SHORT, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err


def test_the_shape_of_the_picture_is_that_of_its_drawing(cli, sd_dir, files, tmp_path):
    Image.new("RGB", (80, 20), "red").save(tmp_path / "wide.png")
    words = ("generate", "a fox", "--controlnet", files / "edges", "--control-image", tmp_path / "wide.png")
    outcome = cli(*words, "--model", sd_dir, "--steps", "2", "--threads", "1", "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    plan = read_manifest(tmp_path / "out").plan
    assert (plan.width, plan.height) == (32, 8)


# -- what is refused ------------------------------------------------------------------------------------------------

FITTING: dict[str, tuple[dict[str, Any], str]] = {
    "widths": ({"block_out_channels": (8, 16, 16)}, "has widths 8-16-16, and the U-Net of tiny-sd 8-16-32"),
    "layers": ({"layers_per_block": 2}, "has layers per block 2, and the U-Net of tiny-sd 1"),
    "text": ({"cross_attention_dim": 24}, "has a text width of 24, and the U-Net of tiny-sd 16"),
    "latents": ({"in_channels": 8, "out_channels": 8}, "takes latents of 8 channels, and tiny-sd has 4"),
}


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("single", [False, True])
def test_one_for_another_architecture(name, single, cli, sd_dir, files, tmp_path):
    changes, message = FITTING[name]
    folder = tmp_path / "other"
    tiny_controlnet(tiny_unet(**changes)).save_pretrained(folder)
    place = folder / "diffusion_pytorch_model.safetensors" if single else folder
    words = ("compare", "a fox", "--model", sd_dir, "--controlnet", place, "--control-image", files / "square.png")
    outcome = cli(*words, *SHORT, "--output", tmp_path / "never")
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert not (tmp_path / "never").exists()


def test_latents_of_another_size(cli, sd_dir, files, tmp_path):
    tiny_controlnet(tiny_unet(), (4, 4, 4)).save_pretrained(tmp_path / "edges")
    words = ("compare", "a fox", "--model", sd_dir, "--controlnet", tmp_path / "edges")
    outcome = cli(*words, "--control-image", files / "square.png", *SHORT, "--output", tmp_path / "never")
    assert outcome.code == 2
    assert "makes its image 4 times smaller, and the latents of StableDiffusionPipeline are 2" in outcome.one_line()
    assert not (tmp_path / "never").exists()


def test_weights_that_are_not_all_there(sd_dir, files, tmp_path):
    unet = load(find_model(str(sd_dir))).pipe.unet
    folder = tmp_path / "edges"
    shutil.copytree(files / "edges", folder)
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    del weights["controlnet_mid_block.weight"]
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FreeUValueError, match=r"are not those of its configuration \(controlnet_mid_block.weight\)"):
        load_control(find_control(str(folder)), unet, torch.float32)
    with pytest.raises(FreeUValueError, match="tensors, and one for this U-Net"):
        load_control(find_control(str(folder / "diffusion_pytorch_model.safetensors")), unet, torch.float32)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((files / "edges.safetensors").read_bytes()[:-100])
    with pytest.raises(FreeUValueError, match="no safetensors file, or only part of one"):
        find_control(str(cut))


def original(name: str, layers: int) -> str:
    """The name of a tensor of diffusers in the layout that ControlNets were published in."""
    for old, new in (
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("controlnet_cond_embedding.conv_in", "input_hint_block.0"),
        ("controlnet_cond_embedding.conv_out", "input_hint_block.14"),
        ("controlnet_mid_block", "middle_block_out.0"),
        ("mid_block.resnets.0", "middle_block.0"),
        ("mid_block.attentions.0", "middle_block.1"),
        ("mid_block.resnets.1", "middle_block.2"),
        ("norm1", "in_layers.0"),
        ("conv1", "in_layers.2"),
        ("norm2", "out_layers.0"),
        ("conv2", "out_layers.3"),
        ("time_emb_proj", "emb_layers.1"),
        ("conv_shortcut", "skip_connection"),
    ):
        if "transformer_blocks" not in name or not old.startswith("norm"):
            name = name.replace(old, new)
    name = re.sub(r"^conv_in", "input_blocks.0.0", name)
    name = re.sub(r"^controlnet_cond_embedding.blocks.(\d)", lambda m: f"input_hint_block.{2 * int(m[1]) + 2}", name)
    name = re.sub(r"^controlnet_down_blocks.(\d)", r"zero_convs.\1.0", name)
    part = re.match(r"down_blocks\.(\d)\.(resnets|attentions|downsamplers)\.(\d)(\.conv)?", name)
    if part is None:
        return name
    place = 1 + int(part[1]) * (layers + 1) + (layers if part[2] == "downsamplers" else int(part[3]))
    kind = {"resnets": "0", "attentions": "1", "downsamplers": "0.op"}[part[2]]
    return f"input_blocks.{place}.{kind}{name[part.end() :]}"


def test_a_single_file_of_the_original_layout(tmp_path):
    unet = tiny_unet()
    want = tiny_controlnet(unet, (16, 32, 96, 256)).state_dict()
    path = tmp_path / "control.safetensors"
    save_file({f"control_model.{original(name, 1)}": one for name, one in want.items()}, path)
    got = load_control(find_control(str(path)), unet, torch.float32).state_dict()
    assert got.keys() == want.keys()
    for name, one in want.items():
        assert torch.equal(got[name], one), name
    with pytest.raises(FreeUValueError, match="has a text width of 16, and the U-Net of this model 24"):
        load_control(find_control(str(path)), tiny_unet(cross_attention_dim=24), torch.float32)
    with pytest.raises(FreeUValueError, match="tensors, and one for this U-Net"):
        load_control(find_control(str(path)), tiny_unet(layers_per_block=2), torch.float32)
    with pytest.raises(FreeUValueError, match=r"cannot load the ControlNet control.safetensors"):
        load_control(find_control(str(path)), tiny_unet(block_out_channels=(8, 24, 32)), torch.float32)


def test_a_directory_and_its_file_hold_the_same(sd_dir, files):
    unet = load(find_model(str(sd_dir))).pipe.unet
    single, whole = (
        load_control(find_control(str(files / name)), unet, torch.float16).state_dict()
        for name in ("edges.safetensors", "edges")
    )
    for name, one in whole.items():
        assert one.dtype == torch.float16
        assert torch.equal(single[name], one), name


def test_the_variant_in_half_precision_alone(sd_dir, files, tmp_path):
    unet = load(find_model(str(sd_dir))).pipe.unet
    load_control(find_control(str(files / "edges")), unet, torch.float16).save_pretrained(tmp_path, variant="fp16")
    assert [item.name for item in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.fp16.safetensors"]
    assert load_control(find_control(str(tmp_path)), unet, torch.float32).dtype == torch.float32


def test_names(files, tmp_path, sd_dir, monkeypatch):
    monkeypatch.setattr(control_files, "embedded_controls", dict)
    with pytest.raises(FreeUValueError, match="no ControlNet 'canny': this installation of freeu-zoo holds none: give"):
        find_control("canny")
    monkeypatch.setattr(control_files, "embedded_controls", lambda: {"canny": files / "edges"})
    found = find_control("canny")
    assert (found.kind, found.label, found.path) == ("embedded", "canny", files / "edges")
    with pytest.raises(FreeUValueError, match="no ControlNet 'cany': embedded: canny; else give a diffusers directory"):
        find_control("cany")
    with pytest.raises(FreeUValueError, match="is a whole pipeline, no ControlNet"):
        find_control(str(sd_dir))
    with pytest.raises(FreeUValueError, match="is of the class UNet2DConditionModel, no ControlNetModel"):
        find_control(str(sd_dir / "unet"))
    with pytest.raises(FreeUValueError, match="is no ControlNet: nothing in it reads"):
        find_control(str(sd_dir / "unet" / "diffusion_pytorch_model.safetensors"))
    (tmp_path / "edges.pth").write_bytes(b"")
    with pytest.raises(FreeUValueError, match=r"edges.pth is no .safetensors file"):
        find_control(str(tmp_path / "edges.pth"))


def test_the_zoo_names_its_own_by_what_it_reads(files, tmp_path, monkeypatch):
    import freeu_zoo

    shutil.copytree(files / "edges", tmp_path / "mini-canny")
    monkeypatch.setattr(freeu_zoo, "control_path", lambda: tmp_path / "mini-canny", raising=False)
    assert control_files.embedded_controls() == dict.fromkeys(("canny", "mini-canny"), tmp_path / "mini-canny")


def test_edges():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[8:24, 8:24] = 255
    edges = np.asarray(condition(Image.fromarray(picture), (32, 32)))
    assert edges.shape == (32, 32, 3)
    found = np.argwhere(edges[..., 0])
    assert len(found) >= 4 * 14
    assert ((np.abs(found - 7.5) <= 1.5) | (np.abs(found - 23.5) <= 1.5)).any(axis=1).all(), "at the square's sides"
    assert not np.asarray(canny(Image.new("L", (16, 16), 128))).any()
    same = condition(Image.fromarray(picture), (16, 16), "none")
    assert (same.size, same.mode) == ((16, 16), "RGB")
    with pytest.raises(FreeUValueError, match="0 <= low < high, got 200 and 100"):
        canny(Image.new("RGB", (16, 16)), 200, 100)
    with pytest.raises(FreeUValueError, match="unknown preprocess 'cany': did you mean canny"):
        condition(Image.new("RGB", (16, 16)), (16, 16), "cany")
