"""LoRAs and embeddings in pipelines: both layouts, weights, fusing, words, FreeU on top, and bits that come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_add_ons as made
import pytest
import torch
from original_layout import original_unet_key, single_file_state
from tiny_pipelines import save_pipeline, tiny_motion_adapter, tiny_text_encoder, tiny_tokenizer, tiny_unet
from tolerances import MERGED, relative_error

import freeu
from freeu.pipelines.models.addons.add_ons import find_embedding, find_lora
from freeu.pipelines.models.addons.attaching import expand
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.families import find_adapter
from freeu.pipelines.models.sources.sources import find_model

FACTORS = freeu.FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))
PROMPT = "a red fox"


def opened(folder: Path, **options: Any) -> Any:
    return load(find_model(str(folder)), options.pop("task", "text"), **options).pipe


def drawn(pipe: Any, prompt: str = PROMPT, **options: Any) -> torch.Tensor:
    """Latents of two steps; every bit follows from the pipeline."""
    generator = torch.Generator().manual_seed(0)
    settings = {"num_inference_steps": 2, "output_type": "latent", "generator": generator} | options
    found = pipe(prompt, **settings)
    return found.images if hasattr(found, "images") else found.frames


@pytest.fixture(scope="module")
def state(sd_dir: Path) -> dict[str, torch.Tensor]:
    return made.lora_state(opened(sd_dir), seed=1)


@pytest.fixture(scope="module")
def lora_dir(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``save_lora_weights`` wrote."""
    return made.save_diffusers(state, tmp_path_factory.mktemp("loras") / "style")


@pytest.fixture(scope="module")
def plain(sd_dir: Path) -> torch.Tensor:
    """What the model generates with nothing added."""
    return drawn(opened(sd_dir))


def by_hand(folder: Path, *parts: tuple[dict[str, torch.Tensor], float]) -> Any:
    """The pipeline with LoRAs added to its weights as their definition says."""
    pipe = opened(folder)
    for found, scale in parts:
        made.merge(pipe, found, scale)
    return pipe


class TestLora:
    def test_it_is_added_as_its_definition_says(self, sd_dir, lora_dir, state, plain):
        got = drawn(opened(sd_dir, loras=[find_lora(lora_dir)]))
        assert relative_error(got, drawn(by_hand(sd_dir, (state, 1.0)))) < MERGED
        assert relative_error(got, plain) > 0.01

    @pytest.mark.parametrize("fuse", [False, True])
    def test_weights_scale_and_add_up(self, sd_dir, lora_dir, state, tmp_path, fuse):
        other = made.lora_state(opened(sd_dir), seed=2, rank=3, text=())
        file = made.save_kohya(other, tmp_path / "other.safetensors", alpha=3)
        loras = [find_lora(lora_dir, 0.7), find_lora(file, -1.5)]
        pipe = opened(sd_dir, loras=loras, fuse_loras=fuse)
        assert relative_error(drawn(pipe), drawn(by_hand(sd_dir, (state, 0.7), (other, -1.5)))) < MERGED

    def test_weight_zero_is_no_lora(self, sd_dir, lora_dir, plain):
        torch.testing.assert_close(drawn(opened(sd_dir, loras=[find_lora(lora_dir, 0.0)])), plain, rtol=0, atol=0)

    def test_kohya_and_diffusers_files_draw_the_same(self, sd_dir, lora_dir, state, tmp_path):
        kohya = made.save_kohya(state, tmp_path / "kohya.safetensors", alpha=2)
        one, other = (drawn(opened(sd_dir, loras=[find_lora(path, 0.8)])) for path in (lora_dir, kohya))
        torch.testing.assert_close(one, other, rtol=0, atol=0)

    def test_files_that_diffusers_converts_to_kohya(self, sd_dir, lora_dir, state, tmp_path):
        from diffusers.utils import convert_state_dict_to_kohya
        from safetensors.torch import save_file

        unet = {name: tensor for name, tensor in state.items() if name.startswith("unet.")}
        save_file(convert_state_dict_to_kohya(unet), tmp_path / "kohya.safetensors")
        got = drawn(opened(sd_dir, loras=[find_lora(tmp_path / "kohya.safetensors")]))
        assert relative_error(got, drawn(by_hand(sd_dir, (unet, 1.0)))) < MERGED

    @pytest.mark.parametrize("layout", ["kohya", "diffusers"])
    def test_alpha_over_rank_scales(self, sd_dir, state, tmp_path, layout):
        if layout == "kohya":
            path = made.save_kohya(state, tmp_path / "half.safetensors", alpha=1)
        else:
            path = made.save_diffusers(state, tmp_path / "half", alpha=1)
        got = drawn(opened(sd_dir, loras=[find_lora(path)]))
        assert relative_error(got, drawn(by_hand(sd_dir, (state, 0.5)))) < MERGED

    def test_convolutions_of_both_layouts(self, sd_dir, tmp_path):
        found = made.lora_state(opened(sd_dir), seed=3, targets=made.CONVOLUTIONS, text=())
        want = drawn(by_hand(sd_dir, (found, 1.0)))
        for path in (
            made.save_diffusers(found, tmp_path / "conv"),
            made.save_kohya(found, tmp_path / "conv.safetensors", alpha=2),
        ):
            assert relative_error(drawn(opened(sd_dir, loras=[find_lora(path)])), want) < MERGED

    def test_the_weights_of_the_model_stay(self, sd_dir, lora_dir):
        """Even where transformers reports them as newly initialised."""
        pipe, bare = opened(sd_dir, loras=[find_lora(lora_dir)]), opened(sd_dir)
        for part in ("unet", "text_encoder", "vae"):
            got = {name.replace(".base_layer", ""): t for name, t in getattr(pipe, part).state_dict().items()}
            for name, tensor in getattr(bare, part).state_dict().items():
                torch.testing.assert_close(got[name], tensor, rtol=0, atol=0)

    def test_fused_leaves_a_plain_model(self, sd_dir, lora_dir):
        pipe = opened(sd_dir, loras=[find_lora(lora_dir, 0.6)], fuse_loras=True)
        bare = opened(sd_dir)
        assert pipe.unet.state_dict().keys() == bare.unet.state_dict().keys()
        assert pipe.text_encoder.state_dict().keys() == bare.text_encoder.state_dict().keys()

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_half_precision(self, sd_dir, lora_dir, dtype):
        for fuse in (False, True):
            pipe = opened(sd_dir, loras=[find_lora(lora_dir)], dtype=dtype, fuse_loras=fuse)
            assert {str(weight.dtype) for weight in pipe.unet.parameters()} == {f"torch.{dtype}"}
            assert drawn(pipe).isfinite().all()

    def test_sdxl_with_both_text_encoders(self, tmp_path):
        folder = sdxl(tmp_path / "xl")
        found = made.lora_state(opened(folder), seed=4)
        assert {name.partition(".")[0] for name in found} == {"unet", "text_encoder", "text_encoder_2"}
        path = made.save_kohya(found, tmp_path / "xl.safetensors", alpha=2, text="te1")
        want = drawn(by_hand(folder, (found, 0.5)))
        for fuse in (False, True):
            pipe = opened(folder, loras=[find_lora(path, 0.5)], fuse_loras=fuse)
            assert relative_error(drawn(pipe), want) < MERGED

    def test_sdxl_under_the_names_of_its_own_code(self, tmp_path):
        """As kohya's trainer for SDXL calls them: ``lora_unet_input_blocks_4_1_...``."""
        folder = sdxl(tmp_path / "xl")
        layers = opened(folder).unet.config.layers_per_block
        found = made.lora_state(opened(folder), seed=5, text=())
        path = tmp_path / "xl.safetensors"
        made.save_kohya(found, path, 1, rename=lambda module: original_unet_key(f"{module}.weight", layers)[:-7])
        assert (
            relative_error(drawn(opened(folder, loras=[find_lora(path)])), drawn(by_hand(folder, (found, 0.5))))
            < MERGED
        )

    @pytest.mark.parametrize("fuse", [False, True])
    def test_dora_in_the_layout_of_diffusers(self, sd_dir, tmp_path, fuse):
        from peft import LoraConfig, get_peft_model_state_dict

        pipe = opened(sd_dir)
        config = LoraConfig(r=2, lora_alpha=2, use_dora=True, target_modules=["to_k"], init_lora_weights=False)
        pipe.unet.add_adapter(config)
        with torch.no_grad():
            for name, weight in pipe.unet.named_parameters():
                if "magnitude" in name:
                    weight *= 1.3
        state = {f"unet.{name}": tensor for name, tensor in get_peft_model_state_dict(pipe.unet).items()}
        lora = find_lora(made.save_diffusers(state, tmp_path / "dora"))
        assert relative_error(drawn(opened(sd_dir, loras=[lora], fuse_loras=fuse)), drawn(pipe)) < MERGED

    def test_image_to_image(self, sd_dir, lora_dir, state):
        from PIL import Image

        options = {"image": Image.new("RGB", (16, 16), "red"), "strength": 1.0}
        got = drawn(opened(sd_dir, task="image", loras=[find_lora(lora_dir)]), **options)
        pipe = opened(sd_dir, task="image")
        made.merge(pipe, state, 1.0)
        assert relative_error(got, drawn(pipe, **options)) < MERGED

    def test_animatediff(self, sd_dir, lora_dir, state, tmp_path):
        """A LoRA for Stable Diffusion, on what a motion adapter makes of it."""
        adapter = tmp_path / "motion"
        tiny_motion_adapter().save_pretrained(adapter)
        options = {"num_frames": 2, "height": 16, "width": 16}
        found = []
        for folder, loras in ((sd_dir, [find_lora(lora_dir)]), (merged_dir(sd_dir, state, tmp_path), [])):
            pipe = opened(folder, task="video", motion_adapter=find_adapter(str(adapter)), loras=loras)
            found.append(drawn(pipe, **options))
        assert relative_error(*found) < MERGED


def merged_dir(folder: Path, state: dict[str, torch.Tensor], place: Path) -> Path:
    """The directory of a pipeline with a LoRA in its weights."""
    by_hand(folder, (state, 1.0)).save_pretrained(place / "merged")
    return place / "merged"


class TestFreeUOnTop:
    @pytest.mark.parametrize("fuse", [False, True])
    def test_freeu_acts_and_comes_off_to_the_bit(self, sd_dir, lora_dir, fuse):
        pipe = opened(sd_dir, loras=[find_lora(lora_dir)], fuse_loras=fuse)
        before = drawn(pipe)
        with freeu.enabled(pipe, FACTORS) as handle:
            within = drawn(pipe)
            handle.verify()
            sites = len(handle.sites)
        assert sites == len(freeu.apply(opened(sd_dir), FACTORS).sites)
        assert not torch.equal(within, before)
        torch.testing.assert_close(drawn(pipe), before, rtol=0, atol=0)

    def test_it_is_freeu_of_the_merged_model(self, sd_dir, lora_dir, state):
        found = []
        for pipe in (opened(sd_dir, loras=[find_lora(lora_dir)]), by_hand(sd_dir, (state, 1.0))):
            with freeu.enabled(pipe, FACTORS):
                found.append(drawn(pipe))
        assert relative_error(*found) < MERGED

    def test_the_lora_comes_off_under_freeu(self, sd_dir, lora_dir, plain):
        pipe = opened(sd_dir, loras=[find_lora(lora_dir)])
        with freeu.enabled(pipe, FACTORS):
            drawn(pipe)
            pipe.unload_lora_weights()
            within = drawn(pipe)
        torch.testing.assert_close(drawn(pipe), plain, rtol=0, atol=0)
        with freeu.enabled(opened(sd_dir), FACTORS), freeu.enabled(pipe, FACTORS):
            torch.testing.assert_close(within, drawn(pipe), rtol=0, atol=0)

    def test_the_recommendation_stays(self, sd_dir, lora_dir):
        assert freeu.recommend(opened(sd_dir, loras=[find_lora(lora_dir)])) == freeu.recommend(opened(sd_dir))


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    from safetensors.torch import save_file

    save_file(tensors, path)
    return path


def vectors(count: int = 1, width: int = 16, seed: int = 0) -> torch.Tensor:
    return 0.5 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def with_rows(folder: Path, rows: torch.Tensor) -> tuple[Any, list[str]]:
    """A pipeline whose vocabulary has new words of one vector each, put there by hand, and the words."""
    pipe = opened(folder)
    words = [f"<new-{number}>" for number in range(len(rows))]
    pipe.tokenizer.add_tokens(words)
    table = pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer), mean_resizing=False)
    with torch.no_grad():
        table.weight[-len(rows) :] = rows
    return pipe, words


class TestEmbedding:
    @pytest.mark.parametrize(
        ("name", "key", "token"),
        [
            ("learned_embeds.safetensors", "<R>", "<R>"),
            ("flat.safetensors", "<moon>", "<moon>"),
            ("Easy-Word.safetensors", "emb_params", "Easy-Word"),
        ],
    )
    @pytest.mark.parametrize("count", [1, 3])
    def test_every_vector_of_a_word_is_read(self, sd_dir, tmp_path, name, key, token, count):
        rows = vectors(count)
        tensor = rows[0] if name == "flat.safetensors" and count == 1 else rows
        found = find_embedding(saved(tmp_path / name, {key: tensor}))
        assert found.token == token
        pipe, words = with_rows(sd_dir, rows)
        want = drawn(pipe, f"fox {' '.join(words)} box")
        got = opened(sd_dir, embeddings=[found])
        torch.testing.assert_close(drawn(got, f"fox {token} box"), want, rtol=0, atol=0)
        # The tokenizer of CLIP writes everything small.
        torch.testing.assert_close(drawn(got, f"fox {token.swapcase()} box"), want, rtol=0, atol=0)
        assert not torch.equal(drawn(got, "fox box"), want)

    @pytest.mark.parametrize("layout", ["a1111", "diffusers"])
    def test_pickled_weights(self, sd_dir, tmp_path, layout):
        rows = vectors(2)
        path = tmp_path / "old-word.pt"
        parameter = torch.nn.Parameter(rows)
        data = {"string_to_token": {"*": 265}, "string_to_param": {"*": parameter}, "name": "inside", "step": 7}
        torch.save(data if layout == "a1111" else {"<old>": rows}, path)
        found = find_embedding(path)
        assert found.token == ("old-word" if layout == "a1111" else "<old>")
        pipe, words = with_rows(sd_dir, rows)
        got = drawn(opened(sd_dir, embeddings=[found]), f"a {found.token}")
        torch.testing.assert_close(got, drawn(pipe, f"a {' '.join(words)}"), rtol=0, atol=0)

    def test_as_diffusers_does_for_small_words(self, sd_dir, tmp_path):
        path = saved(tmp_path / "learned_embeds.safetensors", {"<toy>": vectors(3)})
        pipe = opened(sd_dir)
        pipe.load_textual_inversion(str(path))
        got = opened(sd_dir, embeddings=[find_embedding(path)])
        torch.testing.assert_close(drawn(got, "a <toy> fox"), drawn(pipe, "a <toy> fox"), rtol=0, atol=0)

    def test_negative_prompts_and_several_words(self, sd_dir, tmp_path):
        rows = vectors(3)
        files = [
            saved(tmp_path / "a.safetensors", {"<bad>": rows[:2]}),
            saved(tmp_path / "b.safetensors", {"<bad>er": rows[2:]}),
        ]
        pipe, (one, two, three) = with_rows(sd_dir, rows)
        want = drawn(pipe, f"a {three} fox", negative_prompt=f"{one} {two}")
        got = opened(sd_dir, embeddings=[find_embedding(file) for file in files])
        torch.testing.assert_close(drawn(got, "a <bad>er fox", negative_prompt="<bad>"), want, rtol=0, atol=0)

    def test_another_word_for_it(self, sd_dir, tmp_path):
        path = saved(tmp_path / "a.safetensors", {"<old>": vectors()})
        got = opened(sd_dir, embeddings=[find_embedding(path, "<new>")])
        assert "<new>" in got.tokenizer.get_vocab()
        assert "<old>" not in got.tokenizer.get_vocab()

    @pytest.mark.parametrize("suffix", [".safetensors", ".pti"])
    @pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
    def test_sdxl_takes_one_for_each_text_encoder(self, tmp_path, names, suffix):
        folder = sdxl(tmp_path / "xl")
        tensors = {names[1]: vectors(2, seed=2), names[0]: vectors(2, seed=1)}
        path = saved(tmp_path / f"both{suffix}", tensors)
        pipe = opened(folder, embeddings=[find_embedding(path)])
        for suffix, seed in (("", 1), ("_2", 2)):
            place = getattr(pipe, f"tokenizer{suffix}").convert_tokens_to_ids(["both", "both_1"])
            table = getattr(pipe, f"text_encoder{suffix}").get_input_embeddings().weight
            torch.testing.assert_close(table[place], vectors(2, seed=seed), rtol=0, atol=0)
        assert not torch.equal(drawn(pipe, "a both fox"), drawn(pipe, "a fox"))

    def test_clips(self, video_dir, tmp_path):
        rows = vectors(2)
        word = find_embedding(saved(tmp_path / "a.safetensors", {"<R>": rows}))
        options = {"num_frames": 2, "height": 16, "width": 16}
        pipe, words = with_rows(video_dir, rows)
        got = drawn(opened(video_dir, embeddings=[word]), "a <R>", **options)
        torch.testing.assert_close(got, drawn(pipe, f"a {' '.join(words)}", **options), rtol=0, atol=0)

    def test_with_a_lora_and_freeu(self, sd_dir, lora_dir, state, tmp_path):
        rows = vectors(2)
        path = saved(tmp_path / "a.safetensors", {"<R>": rows})
        got = opened(sd_dir, loras=[find_lora(lora_dir)], embeddings=[find_embedding(path)])
        pipe, words = with_rows(sd_dir, rows)
        made.merge(pipe, state, 1.0)
        with freeu.enabled(got, FACTORS), freeu.enabled(pipe, FACTORS):
            assert relative_error(drawn(got, "a <R>"), drawn(pipe, f"a {' '.join(words)}")) < MERGED


@pytest.mark.parametrize(
    ("prompt", "want"),
    [
        ("a <r> box", "a <R> <R>_1 box"),
        ("<R>, <R>", "<R> <R>_1, <R> <R>_1"),
        ("<R>_1 <R>er", "<R>_1 <R>er"),
        ("no word", "no word"),
    ],
)
def test_words_are_followed_by_their_other_vectors(prompt, want):
    assert expand(prompt, {"<R>": 2, "<R>er": 1}, any_case=True) == want


def test_a_tokenizer_that_tells_large_from_small():
    assert expand("<r> <R>", {"<R>": 2}, any_case=False) == "<r> <R> <R>_1"


def sdxl(folder: Path) -> Path:
    """A StableDiffusionXLPipeline directory."""
    import transformers  # noqa: F401  the text encoders are its own

    return save_pipeline(
        folder,
        "StableDiffusionXLPipeline",
        unet=tiny_unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=8 * 6 + 16,
        ),
        text_encoder_2=tiny_text_encoder("CLIPTextModelWithProjection", projection_dim=16),
        tokenizer_2=tiny_tokenizer(),
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_single_file_checkpoints_take_both(sd_dir, state, tmp_path, suffix):
    """Such as a DreamBooth checkpoint: every weight is another than in the model that gives the configuration."""
    tuned = opened(sd_dir)
    with torch.no_grad():
        for weight in tuned.unet.parameters():
            weight += 0.01 * torch.randn(weight.shape)
    weights = single_file_state(tuned)
    file = tmp_path / f"subject{suffix}"
    if suffix == ".ckpt":
        torch.save({"state_dict": weights, "global_step": 1}, file)
    else:
        saved(file, weights)
    rows = vectors(2)
    kohya = made.save_kohya(state, tmp_path / "style.safetensors", alpha=2)
    word = find_embedding(saved(tmp_path / "a.safetensors", {"<R>": rows}))
    lora = find_lora(kohya, 0.7)
    got = opened(file, model_config=sd_dir, loras=[lora], embeddings=[word])
    pipe, words = with_rows(sd_dir, rows)
    pipe.unet.load_state_dict(tuned.unet.state_dict())
    made.merge(pipe, state, 0.7)
    assert relative_error(drawn(got, "a <R>"), drawn(pipe, f"a {' '.join(words)}")) < MERGED
