"""LoRAs and embeddings on the command line: what is recorded and shown, reproduced, noticed, and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_add_ons as made
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_pipelines import save_pipeline, tiny_svd_pipeline, tiny_text_encoder, tiny_unet

from freeu.metadata import KEY
from freeu.pipelines.io.prompts import notes_on_tokens, without
from freeu.pipelines.models.addons.add_ons import find_embedding, find_lora, parse_embedding, parse_lora
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.pages.page import add_on_lines
from freeu.pipelines.runs.manifest import read_manifest
from freeu.pipelines.runs.plan import OF_ADD_ONS

SHORT = ("--steps", "2", "--threads", "1")


@pytest.fixture(scope="module")
def files(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two LoRAs, ``style/`` and ``kohya.safetensors``, and two embeddings, ``word`` and ``toy``."""
    folder = tmp_path_factory.mktemp("private") / "files"
    pipe = load(find_model(str(sd_dir))).pipe
    made.save_diffusers(made.lora_state(pipe, seed=1), folder / "style")
    made.save_kohya(made.lora_state(pipe, seed=2, text=()), folder / "kohya.safetensors", alpha=1)
    save_file({"<R>": torch.randn(2, 16)}, folder / "word.safetensors")
    save_file({"emb_params": torch.randn(1, 16)}, folder / "toy.safetensors")
    return folder


def options(files: Path) -> tuple[Any, ...]:
    return (
        *("--lora", f"{files / 'style'}:0.7", "--lora", files / "kohya.safetensors"),
        *("--embedding", files / "word.safetensors", "--embedding", f"{files / 'toy.safetensors'}:<toy>"),
    )


@pytest.fixture(scope="module")
def run(sd_dir: Path, files: Path, tmp_path_factory: pytest.TempPathFactory, cli: Callable[..., Any]) -> Any:
    """One comparison with all four, in a folder."""
    folder = tmp_path_factory.mktemp("runs") / "added"
    words = ("compare", "a <R> fox with a <toy>", *options(files), "--model", sd_dir, *SHORT)
    return folder, cli(*words, "--output", folder)


def test_what_was_added_is_recorded_and_shown(run, files):
    folder, outcome = run
    assert (outcome.code, outcome.err) == (0, "")
    added = "LoRA style (weight 0.7), kohya.safetensors (weight 1) and embedding <R>, <toy>"
    assert f"with {added}" in outcome.out
    plan = read_manifest(folder).plan
    assert [(one.name, one.weight) for one in plan.loras] == [("style", 0.7), ("kohya.safetensors", 1.0)]
    assert [(one.name, one.token) for one in plan.embeddings] == [
        ("word.safetensors", "<R>"),
        ("toy.safetensors", "<toy>"),
    ]
    assert plan.loras[0] == find_lora(files / "style", 0.7)
    line = plan.command_line()
    assert "--lora style:0.7 --lora kohya.safetensors --embedding 'word.safetensors:<R>'" in line
    page = (folder / "compare.html").read_text()
    for text in ("style, weight 0.7", "kohya.safetensors, weight 1", "&lt;R&gt; (from word.safetensors)"):
        assert text in page
    assert "pipe.load_lora_weights(&#34;style&#34;, adapter_name=&#34;lora_0&#34;)" in page
    with Image.open(folder / "p000-s0000-freeu.png") as picture:
        inside = picture.text[KEY]
    record = json.loads(inside)
    assert record["loras"][0] == {"name": "style", "weight": 0.7, "sha256": plan.loras[0].sha}
    assert record["embeddings"][1]["token"] == "<toy>"
    for text in (inside, page, line):
        assert str(files.parent) not in text


def test_the_lines_of_python_load_the_same(run, files, sd_dir, work):
    for name in ("style", "kohya.safetensors", "word.safetensors", "toy.safetensors"):
        (work / name).symlink_to(files / name)
    plan = read_manifest(run[0]).plan
    pipe = load(find_model(str(sd_dir))).pipe
    with pytest.warns(UserWarning, match="peft_config"):
        exec("\n".join(add_on_lines(plan)), {"pipe": pipe})
    same = load(find_model(str(sd_dir)), loras=plan.loras, embeddings=plan.embeddings).pipe
    settings = {"num_inference_steps": 2, "output_type": "latent"}
    found = [one("a <toy>", generator=torch.Generator().manual_seed(0), **settings).images for one in (pipe, same)]
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_made_again_to_the_bit(run, cli, tmp_path):
    folder, _ = run
    outcome = cli("generate", "--from", folder, "--output", tmp_path / "again")
    assert outcome.code == 0
    assert "2 of 2 images are bit-identical" in outcome.out


def test_an_interrupted_run_goes_on_and_another_weight_does_not(run, cli, sd_dir, files, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run[0], folder)
    (folder / "p000-s0000-freeu.png").unlink()
    words = ("compare", "a <R> fox with a <toy>", "--model", sd_dir, *SHORT, "--output", folder)
    assert cli(*words, *options(files)).code == 0
    assert (folder / "p000-s0000-freeu.png").read_bytes() == (run[0] / "p000-s0000-freeu.png").read_bytes()
    other = cli(*words, *options(files)[2:])
    assert other.code == 2
    assert "holds another run (loras: " in other.one_line()
    assert "holds another run (fuse_loras: False, True)" in cli(*words, *options(files), "--fuse-lora").one_line()


def test_files_that_moved_or_changed(cli, sd_dir, files, tmp_path):
    place, there = tmp_path / "place", tmp_path / "there"
    shutil.copytree(files, place)
    words = ("generate", "a <R>", "--model", sd_dir, *SHORT, "--output", tmp_path / "first")
    added = ("--lora", place / "kohya.safetensors", "--embedding", place / "word.safetensors")
    assert cli(*words, *added).code == 0
    place.rename(there)
    again = ("generate", "--from", tmp_path / "first", "--output")
    gone = cli(*again, tmp_path / "none")
    assert gone.code == 2
    assert "kohya.safetensors is not where the manifest says" in gone.one_line()
    assert "--lora FILE" in gone.one_line()
    assert not (tmp_path / "none").exists()
    where = ("--lora", there / "kohya.safetensors", "--embedding", there / "word.safetensors")
    moved = cli(*again, tmp_path / "second", *where)
    assert (moved.code, "1 of 1 image is bit-identical" in moved.out) == (0, True)
    changed = load_file(there / "kohya.safetensors")
    save_file({name: tensor * 2 for name, tensor in changed.items()}, there / "kohya.safetensors")
    told = cli(*again, tmp_path / "third", *where)
    assert told.code == 0
    assert "0 of 1 image is bit-identical" in told.out
    assert "what differs: the LoRA kohya.safetensors is not the same file" in told.out
    weight = cli(*again, tmp_path / "none", "--lora", f"{there / 'kohya.safetensors'}:2", *where[2:])
    assert "the weight of kohya.safetensors is that of the manifest, 1: leave it out" in weight.one_line()
    fewer = cli(*again, tmp_path / "none", "--lora", there / "style", *where)
    assert "the manifest has 1 of --lora, got 2" in fewer.one_line()
    word = cli(*again, tmp_path / "none", *where[:2], "--embedding", f"{there / 'word.safetensors'}:<S>")
    assert "the word of word.safetensors is that of the manifest, '<R>'" in word.one_line()


def test_runs_without_add_ons_say_nothing_of_them(compared):
    plan = json.loads((compared[0] / "manifest.json").read_text())["plan"]
    assert not plan.keys() & set(OF_ADD_ONS)
    with Image.open(compared[0] / "p000-s0003-freeu.png") as picture:
        assert not json.loads(picture.text[KEY]).keys() & set(OF_ADD_ONS)


def test_a_damaged_record_is_named(run, tmp_path, cli):
    data = json.loads((run[0] / "manifest.json").read_text())
    for field, value, message in (
        ("weight", "a lot", "a LoRA has a field weight that is not usable"),
        ("weight", 1e9, "the weight of a LoRA is not usable"),
        ("reference", 7, "a LoRA has a field reference"),
    ):
        wrong = json.loads(json.dumps(data))
        wrong["plan"]["loras"][0][field] = value
        (tmp_path / "manifest.json").write_text(json.dumps(wrong))
        assert message in cli("generate", "--from", tmp_path, "--output", tmp_path / "none").one_line()


def test_a_sweep(cli, sd_dir, files, tmp_path):
    words = ("sweep", "a <R>", "--x", "preset=off,sd14", *options(files), "--fuse-lora", "--model", sd_dir, *SHORT)
    assert cli(*words, "--output", tmp_path / "out").code == 0
    record = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert record["plan"]["fuse_loras"] is True
    assert len(record["pictures"]) == 2
    assert "LoRA style (weight 0.7), kohya.safetensors (weight 1), fused" in (tmp_path / "out/sweep.html").read_text()


def test_an_evaluation(cli, sd_dir, files, tmp_path):
    (tmp_path / "prompts.txt").write_text("a <R>\na <toy>\n")
    words = ("evaluate", sd_dir, "--prompts", tmp_path / "prompts.txt", "--arms", "none,sd14", "--judge", "none")
    outcome = cli(*words, *options(files), *SHORT, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / "table.md").read_text().startswith("# tiny-sd with LoRA style (weight 0.7)")
    there = cli("evaluate", "--prompts", tmp_path / "prompts.txt", "--images", tmp_path, *options(files)[:2])
    assert "--images are there already: leave --lora out" in there.one_line()


def test_a_video_with_a_word(cli, video_dir, files, tmp_path):
    words = ("video", "a <R>", "--model", video_dir, "--embedding", files / "word.safetensors", *SHORT)
    outcome = cli(*words, "--frames", "2", "--format", "mp4", "--output", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert "with embedding <R>" in outcome.out
    assert "&lt;R&gt; (from word.safetensors)" in (tmp_path / "out" / "video.html").read_text()
    again = cli("video", "--from", tmp_path / "out", "--output", tmp_path / "again")
    assert "2 of 2 videos are bit-identical" in again.out
    lora = cli(*words, "--lora", files / "style", "--output", tmp_path / "none")
    assert "diffusers loads no LoRA into a UNet3DConditionModel: leave --lora out" in lora.one_line()
    assert not (tmp_path / "none").exists()


def test_pipelines_without_loaders(cli, files, tmp_path):
    tiny_svd_pipeline().save_pretrained(tmp_path / "svd")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    words = ("video", "--model", tmp_path / "svd", "--image", tmp_path / "a.png", "--output", tmp_path / "out")
    outcome = cli(*words, "--embedding", files / "word.safetensors")
    assert "diffusers loads no embedding into a StableVideoDiffusionPipeline" in outcome.one_line()


class TestNames:
    def test_colons(self, files, work):
        shutil.copy(files / "kohya.safetensors", work / "a:0.5")
        shutil.copy(files / "kohya.safetensors", work / "b:c.safetensors")
        shutil.copy(files / "word.safetensors", work / "w.safetensors")
        assert parse_lora("b:c.safetensors").weight == 1
        lora = parse_lora("b:c.safetensors:-0.5")
        assert (lora.name, lora.weight, lora.path) == ("b:c.safetensors", -0.5, work / "b:c.safetensors")
        assert parse_embedding("w.safetensors:<a:b>").token == "<a:b>"
        assert parse_embedding("w.safetensors").token == "<R>"

    def test_links_are_called_as_they_are(self, files, work):
        """As in the hub's cache, where files without a suffix lie behind them."""
        shutil.copy(files / "kohya.safetensors", work / "0f1e")
        (work / "style.safetensors").symlink_to("0f1e")
        assert find_lora("style.safetensors").path == work / "style.safetensors"

    def test_folders_show_their_own_name(self, files, work):
        (work / "mine").mkdir()
        shutil.copy(files / "word.safetensors", work / "mine" / "learned_embeds.safetensors")
        assert find_embedding("mine").name == "mine"
        assert find_lora(files / "style").option == "style"
        assert find_lora(files / "style", 0.25).option == "style:0.25"


def test_notes_on_words():
    def notes(*texts: str) -> list[str]:
        return list(notes_on_tokens(texts, {"zz": "z.pt"}))

    assert notes("a zz", "") == []
    assert notes("", "a ZZ") == []
    assert notes("a fox") == ["no prompt has the word 'zz' of the embedding z.pt: it changes nothing"]
    assert notes("a Pizza, zz") == ["the word 'zz' of the embedding z.pt is read inside 'Pizza' too"]
    assert list(notes_on_tokens(["cat<R>"], {"<R>": "r"})) == []
    assert without("a <r> fox <R>s", ["<R>"]).split() == ["a", "fox", "s"]


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


def _lora(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path, Path], None]:
    def write(files: Path, path: Path) -> None:
        state = load_file(files / "style" / "pytorch_lora_weights.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in change(state).items()}, path)

    return write


def _metadata(text: str) -> Callable[[Path, Path], None]:
    def write(files: Path, path: Path) -> None:
        state = load_file(files / "style" / "pytorch_lora_weights.safetensors")
        save_file(state, path, metadata={"format": "pt", "lora_adapter_metadata": text})

    return write


def _embedding(**tensors: torch.Tensor) -> Callable[[Path, Path], None]:
    return lambda files, path: save_file(tensors, path)


def _first(state: dict[str, torch.Tensor], part: str) -> str:
    return next(name for name in state if part in name)


def _wide(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: torch.cat([t, t], 1) if "attn2.to_k.lora.down" in n else t for n, t in state.items()}


def _other_side(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: torch.cat([t, t], 1) if "attn1.to_q.lora.down" in n else t for n, t in state.items()}


def _elsewhere(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.replace("up_blocks.1", "up_blocks.7"): t for n, t in state.items()}


def _nowhere(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.replace("up_blocks.1", "up_blocks.7"): t for n, t in state.items() if "up_blocks.1" in n}


def _not_finite(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = _first(state, "text_encoder.")
    return state | {name: torch.full_like(state[name], float("inf"))}


def _half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    gone = _first(state, "lora.up")
    return {n: t for n, t in state.items() if n != gone}


def _ranks(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = _first(state, "lora.up")
    return state | {name: state[name][:, :1]}


LORAS: dict[str, tuple[Any, str]] = {
    "another width": (_lora(_wide), "is for U-Nets that read texts of width 32, and tiny-sd reads 16"),
    "another inner width": (_lora(_other_side), "attn1.to_q has the shape [2, 32], and here [2, 16]"),
    "more than fits": (_lora(_elsewhere), "92 of its 124 matrices have a place there"),
    "nothing fits": (_lora(_nowhere), "was made for another kind of model than this StableDiffusionPipeline: nothing"),
    "not finite": (_lora(_not_finite), "holds numbers that are not finite in torch.float32"),
    "half a pair": (_lora(_half), "is damaged: 'unet.down_blocks.1."),
    "two ranks": (_lora(_ranks), "have the shapes [2, 16] and [16, 1]"),
    "names that would be skipped": (
        _lora(lambda state: {n.removeprefix("unet."): t for n, t in state.items() if n.startswith("unet.")}),
        "which diffusers would skip: names must begin with unet.",
    ),
    "peft's own": (
        _lora(lambda state: {f"base_model.model.{n}": t for n, t in state.items()}),
        "is in PEFT's own layout: save it with pipe.save_lora_weights",
    ),
    "a transformer's": (
        _lora(lambda state: {n.replace("unet.", "transformer."): t for n, t in state.items()}),
        "is a LoRA for a diffusion transformer (DiT)",
    ),
    "a loha": (_embedding(**{"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}), "is a LoHa, which diffusers cannot load"),
    "a dora": (_embedding(**{"lora_unet_x.dora_scale": torch.zeros(2, 2)}), "is a DoRA in kohya's format"),
    "an embedding": (_embedding(emb_params=torch.zeros(1, 16)), "looks like an embedding, no LoRA"),
    "a checkpoint": (_embedding(**{"model.diffusion_model.out.0.weight": torch.zeros(2)}), "give it with --model"),
    "something else": (_embedding(**{f"a.{n}.b": torch.zeros(2) for n in range(3)}), "is no LoRA: no lora_down"),
    "part of a file": (
        lambda files, path: path.write_bytes((files / "kohya.safetensors").read_bytes()[:-9]),
        "is no safetensors file, or only part of one",
    ),
    "metadata of another form": (_metadata("[1]"), "the LoRA bad.safetensors"),
    "metadata that is no json": (_metadata("{"), "the LoRA bad.safetensors"),
    "metadata of no lora": (_metadata('{"unet.r": 2, "unet.no_such_option": 3}'), "the LoRA bad.safetensors"),
    "no safetensors": (lambda files, path: path.write_text("a LoRA"), "is no safetensors file"),
}


@pytest.mark.parametrize("case", LORAS)
def test_a_lora_that_is_none_or_another(case, files, sd_dir, cli, tmp_path):
    write, message = LORAS[case]
    write(files, tmp_path / "bad.safetensors")
    words = ("compare", "a fox", "--lora", tmp_path / "bad.safetensors", "--model", sd_dir, *SHORT)
    outcome = cli(*words, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert "bad.safetensors" in outcome.one_line()
    assert not (tmp_path / "out").exists()


EMBEDDINGS: dict[str, tuple[Any, str]] = {
    "another width": (_embedding(**{"<w>": torch.zeros(24)}), "has the width 24, and the text encoder of tiny-sd 16"),
    "not finite": (_embedding(**{"<w>": torch.full((16,), float("nan"))}), "holds numbers that are not finite"),
    "two words": (_embedding(a=torch.zeros(16), b=torch.zeros(16)), "holds 2 embeddings (a, b ...): one word a file"),
    "a known word": (_embedding(a=torch.zeros(16)), "the word 'a' is in the vocabulary of StableDiffusionPipeline"),
    "a word with blanks": (_embedding(**{"my cat": torch.zeros(16)}), "no blanks, got 'my cat'"),
    "no vector": (_embedding(**{"<w>": torch.zeros(2, 2, 4)}), "has the shape [2, 2, 4]"),
    "too many": (_embedding(**{"<w>": torch.zeros(76, 16)}), "holds 76 vectors"),
    "for sdxl": (_embedding(clip_l=torch.zeros(1, 16), clip_g=torch.zeros(1, 16)), "has the width 16 and 16"),
    "a lora": (lambda files, path: shutil.copy(files / "kohya.safetensors", path), "is a LoRA, no embedding"),
    "a model": (_embedding(**{"a.weight": torch.zeros(2), "b.weight": torch.zeros(2)}), "is no embedding"),
    "part of a file": (
        lambda files, path: path.write_bytes((files / "word.safetensors").read_bytes()[:-9]),
        "is no safetensors file, or only part of one",
    ),
}


@pytest.mark.parametrize("case", EMBEDDINGS)
def test_an_embedding_that_is_none_or_another(case, files, sd_dir, cli, tmp_path):
    write, message = EMBEDDINGS[case]
    write(files, tmp_path / "bad.safetensors")
    words = ("compare", "a fox", "--embedding", tmp_path / "bad.safetensors", "--model", sd_dir, *SHORT)
    outcome = cli(*words, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_pickles_with_code_are_refused_and_run_nothing(cli, tmp_path, sd_dir):
    torch.save({"<w>": torch.zeros(16), "more": _Code(tmp_path / "ran")}, tmp_path / "bad.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "bad.pt").read_bytes()[:200])
    torch.save([1, 2], tmp_path / "list.bin")
    for name, message in (
        ("bad.pt", "holds more than weights"),
        ("cut.pt", "cannot load cut.pt"),
        ("list.bin", "holds no weights by name"),
    ):
        outcome = cli("compare", "a <w>", "--embedding", tmp_path / name, "--model", sd_dir)
        assert (outcome.code, message in outcome.one_line()) == (2, True)
    assert not (tmp_path / "ran").exists()


def test_words_of_the_command_line(cli, files, sd_dir, tmp_path):
    lora, word = files / "kohya.safetensors", files / "word.safetensors"
    for words, message in (
        (("--lora", tmp_path / "none.safetensors"), "there is no such file: give a .safetensors file, or the folder"),
        (("--lora", tmp_path / "none.safetensors:0.5"), "none.safetensors: there is no such file"),
        (("--lora", tmp_path), "is a folder without pytorch_lora_weights.safetensors"),
        (("--lora", f"{lora}:much"), "the weight after the colon must be a number, got 'much'"),
        (("--lora", f"{lora}:nan"), "must lie in -10 to 10, got nan"),
        (("--lora", f"{lora}:11"), "must lie in -10 to 10, got 11"),
        (("--lora", lora, "--lora", f"{lora}:2"), "the LoRA kohya.safetensors is given twice"),
        (("--lora", files / "word.safetensors:1"), "looks like an embedding"),
        (("--fuse-lora",), "--fuse-lora has nothing to fuse: give --lora FILE too"),
        (("--embedding", tmp_path / "none.pt"), "there is no such file: give a .safetensors, .pti, .pt or .bin file"),
        (("--embedding", f"{word}:"), "1 to 100 letters and no blanks, got ''"),
        (
            ("--embedding", word, "--embedding", f"{files / 'toy.safetensors'}:<r>"),
            "two embeddings have the word '<r>'",
        ),
    ):
        outcome = cli("compare", "a fox", *words, "--model", sd_dir, "--output", tmp_path / "out")
        assert outcome.code == 2, words
        assert message in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_sdxl_and_sd_are_told_apart(cli, files, tmp_path):
    """Equal widths, so that only what is loaded can tell: a LoRA for both text encoders, a model that has one."""
    wide = save_pipeline(tmp_path / "wide", unet=tiny_unet(cross_attention_dim=16), text_encoder=tiny_text_encoder())
    state = load_file(files / "kohya.safetensors")
    te = {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.zeros(2, 16)}
    te["lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"] = torch.zeros(16, 2)
    save_file(state | te, tmp_path / "xl.safetensors")
    outcome = cli("compare", "a fox", "--lora", tmp_path / "xl.safetensors", "--model", wide, *SHORT)
    assert "matrices have a place there" in outcome.one_line()
