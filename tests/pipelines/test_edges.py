"""What a run says at its edges: cut prompts, numbers that are not finite, predictions, seeds, settings in images."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from original_layout import single_file_state
from PIL import Image
from safetensors.torch import save_file
from tiny_pipelines import save_pipeline, tiny_tokenizer, tiny_unet

from freeu.cli.errors import stopped
from freeu.errors import FreeUValueError
from freeu.metadata import read_png
from freeu.pipelines.io.inputs import MAX_SEED, format_seeds, parse_seeds
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.models.tokens import notes_on_length
from freeu.pipelines.runs.manifest import read_manifest

SHORT = ("--steps", "2", "--threads", "1")


@pytest.fixture(scope="module")
def state(sd_dir: Path) -> dict[str, Any]:
    """The weights of a single file."""
    return single_file_state(load(find_model(str(sd_dir))).pipe)


@pytest.fixture(scope="module")
def short_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads 14 letters."""
    return save_pipeline(tmp_path_factory.mktemp("models") / "short", tokenizer=tiny_tokenizer(16))


class TestLongPrompts:
    def test_what_is_cut_is_named(self, cli, short_dir, tmp_path):
        outcome = cli("generate", "a fox in the deep snow", "--model", short_dir, *SHORT, "--output", tmp_path / "out")
        assert outcome.code == 0
        line = outcome.one_line()
        assert "the text encoder reads 14 tokens of a prompt: of 'a fox in the deep snow' it does not read" in line
        # Its tokens are letters.
        assert line.endswith("does not read 'now'; --weighting a1111 reads all of it")

    def test_what_is_whole_is_not_spoken_of(self, cli, short_dir, tmp_path):
        assert cli("generate", "a fox", "--model", short_dir, *SHORT, "--output", tmp_path / "out").err == ""

    def test_the_negative_prompt_too(self, cli, short_dir, tmp_path):
        words = ("generate", "a fox", "--negative-prompt", "blurred and much too dark", "--model", short_dir, *SHORT)
        assert "of 'blurred and much too dark'" in cli(*words, "--output", tmp_path / "out").one_line()

    def test_a_sweep_too(self, cli, short_dir, tmp_path):
        words = ("sweep", "--x", "prompt=a fox|a fox in the deep snow", "--model", short_dir, *SHORT)
        assert "of 'a fox in the deep snow'" in cli(*words, "--output", tmp_path / "out").err

    def test_an_evaluation_names_three_and_counts_the_rest(self, cli, short_dir, tmp_path):
        prompts = tmp_path / "prompts.txt"
        prompts.write_text("".join(f"a fox in the deep snow {number}\n" for number in range(5)))
        words = ("evaluate", short_dir, "--prompts", prompts, "--arms", "none", "--judge", "none", *SHORT)
        outcome = cli(*words, "--seeds", "0", "--output", tmp_path / "out")
        assert outcome.code == 0, outcome.err
        assert outcome.err.count("tokens of a prompt") == 3
        assert "and 2 more notes" in outcome.err

    def test_each_encoder_by_its_own_limit(self, short_dir):
        pipe = load(find_model(str(short_dir))).pipe
        longer = tiny_tokenizer(12)
        two = SimpleNamespace(
            tokenizer=pipe.tokenizer,
            text_encoder=pipe.text_encoder,
            tokenizer_2=longer,
            text_encoder_2=pipe.text_encoder,
        )
        lines = list(notes_on_length(two, ["a fox in the deep snow", ""]))
        assert [line.split(" of a prompt")[0] for line in lines] == [
            "the text encoder reads 14 tokens",
            "the second text encoder reads 10 tokens",
        ]
        longer.model_max_length = 16
        (line,) = notes_on_length(two, ["a fox in the deep snow"])
        assert line.startswith("the text encoder and the second text encoder read 14 tokens")


class TestNotFinite:
    @pytest.mark.parametrize(("part", "name"), [("unet", "U-Net"), ("vae", "decoder of the VAE")])
    @pytest.mark.parametrize("command", ["generate", "compare"])
    def test_no_black_image(self, cli, sd_dir, tmp_path, part, name, command):
        folder = tmp_path / "broken"
        shutil.copytree(sd_dir, folder)
        file = folder / part / "diffusion_pytorch_model.safetensors"
        from safetensors.torch import load_file

        state = load_file(file)
        key = "conv_out.weight" if part == "unet" else "decoder.conv_out.weight"
        save_file({**state, key: state[key] * float("nan")}, file, {"format": "pt"})
        outcome = cli(command, "a fox", "--model", folder, *SHORT, "--output", tmp_path / "out")
        assert outcome.code == 2
        assert f"the {name} gave numbers that are not finite (NaN) in float32" in outcome.one_line()
        assert not list((tmp_path / "out").glob("*.png"))


class TestPrediction:
    @pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
    @pytest.mark.parametrize(
        ("keys", "prediction", "zero"),
        [((), "epsilon", False), (("v_pred",), "v_prediction", False), (("v_pred", "ztsnr"), "v_prediction", True)],
    )
    def test_markers_of_a_single_file(self, state, sd_dir, tmp_path, keys, prediction, zero, suffix):
        weights = {**state, **{key: torch.tensor([]) for key in keys}}
        path = tmp_path / f"model{suffix}"
        if suffix == ".ckpt":
            torch.save({"state_dict": weights}, path)
        else:
            save_file(weights, path)
        pipe = load(find_model(str(path)), model_config=sd_dir).pipe
        assert pipe.scheduler.config.prediction_type == prediction
        assert bool(pipe.scheduler.config.rescale_betas_zero_snr) is zero
        assert (float(pipe.scheduler.alphas_cumprod[-1]) < 1e-6) is zero
        given = load(find_model(str(path)), model_config=sd_dir, prediction_type="epsilon", scheduler="euler").pipe
        assert given.scheduler.config.prediction_type == "epsilon"
        assert bool(given.scheduler.config.rescale_betas_zero_snr) is zero
        if zero:
            with pytest.raises(FreeUValueError, match=r"knows no rescale_betas_zero_snr.*--scheduler euler or ddim"):
                load(find_model(str(path)), model_config=sd_dir, scheduler="heun")

    def test_the_option_changes_the_image_and_is_recorded(self, cli, sd_dir, tmp_path):
        words = ("generate", "a fox", "--model", sd_dir, *SHORT)
        for name, more in (("plain", ()), ("v", ("--prediction-type", "v_prediction"))):
            assert cli(*words, *more, "--output", tmp_path / name).code == 0
        one, other = (read_manifest(tmp_path / name) for name in ("plain", "v"))
        assert next(iter(one.images.values())).sha256 != next(iter(other.images.values())).sha256
        assert "prediction_type" not in one.plan.to_dict()
        assert other.plan.prediction_type == "v_prediction"
        assert "--prediction-type v_prediction" in other.plan.command_line()
        again = cli("generate", "--from", tmp_path / "v", "--output", tmp_path / "again")
        assert "1 of 1 image is bit-identical" in again.out
        outcome = cli(*words, "--prediction-type", "v", "--output", tmp_path / "other")
        assert (outcome.code, "did you mean" in outcome.one_line()) == (2, True) or "known: epsilon" in outcome.err


class TestFitness:
    def test_an_inpainting_unet_needs_a_mask(self, cli, tmp_path, work):
        folder = save_pipeline(tmp_path / "nine", unet=tiny_unet(in_channels=9))
        Image.new("RGB", (16, 16), "red").save(tmp_path / "image.png")
        Image.new("L", (16, 16), 255).save(tmp_path / "mask.png")
        words = ("generate", "a fox", "--model", folder, *SHORT)
        for more in ((), ("--image", tmp_path / "image.png")):
            outcome = cli(*words, *more)
            assert outcome.code == 2
            assert "nine is made for inpainting: give --image FILE and --mask FILE too" in outcome.one_line()
        assert list(work.iterdir()) == []
        more = ("--image", tmp_path / "image.png", "--mask", tmp_path / "mask.png", "--denoise", "0.9")
        assert cli(*words, *more, "--output", tmp_path / "out").code == 0

    def test_a_unet_that_reads_something_else(self, cli, tmp_path, work):
        folder = save_pipeline(tmp_path / "eight", unet=tiny_unet(in_channels=8))
        outcome = cli("generate", "a fox", "--model", folder, *SHORT)
        assert (outcome.code, list(work.iterdir())) == (2, [])
        assert "reads 8 channels, and latents have 4" in outcome.one_line()

    @pytest.mark.parametrize(
        ("begins", "what"), [("first_stage_model.", "has no VAE"), ("cond_stage_model.", "has no text encoder")]
    )
    @pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
    def test_a_single_file_without_a_part(self, cli, state, sd_dir, tmp_path, work, begins, what, suffix):
        state = {name: tensor for name, tensor in state.items() if not name.startswith(begins)}
        path = tmp_path / f"part{suffix}"
        if suffix == ".ckpt":
            torch.save(state, path)
        else:
            save_file(state, path)
        outcome = cli("generate", "a fox", "--model", path, "--model-config", sd_dir, *SHORT)
        assert (outcome.code, list(work.iterdir())) == (2, [])
        assert what in outcome.one_line()

    def test_an_argument_that_is_no_text(self, cli, work):
        outcome = cli("generate", os.fsdecode(b"a f\xffx"))
        assert (outcome.code, list(work.iterdir())) == (2, [])
        assert r"the argument 'a f\\udcffx' is not UTF-8 text" in outcome.one_line()


class TestSeeds:
    def test_as_large_as_those_of_other_tools(self, cli, sd_dir, tmp_path):
        text = f"{MAX_SEED},{2**32}"
        assert MAX_SEED == 2**64 - 1
        assert format_seeds(parse_seeds(text)) == text
        outcome = cli("generate", "a fox", "--seeds", text, "--model", sd_dir, *SHORT, "--output", tmp_path / "out")
        assert outcome.code == 0
        records = list(read_manifest(tmp_path / "out").images.values())
        assert [one.seed for one in records] == [MAX_SEED, 2**32]
        assert records[0].sha256 != records[1].sha256
        again = cli("generate", "--from", tmp_path / "out", "--output", tmp_path / "again")
        assert "2 of 2 images are bit-identical" in again.out

    def test_minus_one_is_drawn_and_recorded(self, cli, sd_dir, tmp_path):
        found = []
        for number in range(2):
            folder = tmp_path / str(number)
            words = ("generate", "a fox", "--seed", "-1", "--model", sd_dir, *SHORT, "--output", folder)
            assert cli(*words).code == 0
            (record,) = read_manifest(folder).images.values()
            assert read_png(folder / record.file)["seed"] == record.seed
            found.append(record.seed)
        assert found[0] != found[1]
        assert all(0 <= seed < 2**32 for seed in found)

    @pytest.mark.parametrize(
        ("words", "stops"),
        [
            (
                ("evaluate", "MODEL", "--prompts", "PROMPTS", "--arms", "none", "--judge", "none"),
                "freeu.evaluate.experiment.experiment.run_experiment",
            ),
            (("analyze", "MODEL", "--figure", "5"), "freeu.analysis.analyze.run_analysis"),
        ],
    )
    def test_what_goes_on_after_ctrl_c_names_the_drawn_seed(self, cli, sd_dir, tmp_path, monkeypatch, words, stops):
        def stop(*_args, **_named):
            raise KeyboardInterrupt

        monkeypatch.setattr(stops, stop)
        prompts = tmp_path / "prompts.txt"
        prompts.write_text("a fox\n")
        chosen = [str({"MODEL": sd_dir, "PROMPTS": prompts}.get(word, word)) for word in words]
        chosen += ["--seed", "-1", "--output", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["freeu", *chosen])
        outcome = cli(*chosen)
        assert outcome.code == 130
        assert re.search(r"go on with: freeu .*--seed \d+ ", outcome.err)

    @pytest.mark.parametrize("text", ["-2", str(2**64), "1,-3", "--1"])
    def test_other_numbers_are_refused(self, cli, text):
        assert cli("generate", "a fox", f"--seeds={text}").code == 2

    @pytest.mark.parametrize(
        ("given", "want"),
        [
            (["generate", "a fox"], "freeu generate 'a fox' --output out"),
            (["generate", "--seed", "2", "--", "-x"], "freeu generate --output out --seed 2 -- -x"),
            (["generate", "--seed", "-1", "a fox"], "freeu generate --seed 7,9 'a fox' --output out"),
            (["generate", "--seeds=-1,2", "a fox"], "freeu generate --seeds=7,9 'a fox' --output out"),
            (["generate", "a fox", "-o", "out"], "freeu generate 'a fox' -o out"),
            (["generate", "a fox", "--out=out"], "freeu generate 'a fox' --out=out"),
            (["generate", "-oout", "--", "--output"], "freeu generate -oout -- --output"),
            (["generate", "--", "--output"], "freeu generate --output out -- --output"),
        ],
    )
    def test_how_to_go_on(self, monkeypatch, given, want):
        monkeypatch.setattr(sys, "argv", ["freeu", *given])
        assert str(stopped(Path("out"), "after 1 of 2 images", "7,9")).partition("go on with: ")[2] == want


class TestSettingsInImages:
    @pytest.mark.parametrize("arm", ["freeu", "baseline"])
    def test_one_image_of_a_comparison_is_reproduced(self, compared, cli, sd_dir, tmp_path, arm):
        picture = tmp_path / "elsewhere.png"
        shutil.copy(compared[0] / f"p001-s0004-{arm}.png", picture)
        words = ("generate", "--from", picture, "--model", sd_dir, "--output", tmp_path / "again")
        outcome = cli(*words)
        assert (outcome.code, outcome.err) == (0, "")
        assert f"1 of 1 image is bit-identical to that of {picture}" in outcome.out
        (record,) = read_manifest(tmp_path / "again").images.values()
        assert (record.seed, record.arm) == (4, arm)

    def test_the_configuration_of_an_image(self, compared, cli, sd_dir, tmp_path):
        config = read_png(compared[0] / "p000-s0003-freeu.png")["config"]
        words = ("generate", "a fox", "--model", sd_dir, *SHORT, "--config")
        assert cli(*words, compared[0] / "p000-s0003-freeu.png", "--output", tmp_path / "out").code == 0
        assert read_manifest(tmp_path / "out").plan.config.to_dict() == config
        outcome = cli(*words, compared[0] / "p000-s0003-baseline.png", "--output", tmp_path / "other")
        assert (outcome.code, "was generated without FreeU" in outcome.one_line()) == (2, True)

    def test_a_picture_that_has_none(self, cli, sd_dir, tmp_path):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        for words in (("--from", tmp_path / "a.png"), ("a fox", "--config", tmp_path / "a.png")):
            outcome = cli("generate", *words, "--output", tmp_path / "out")
            assert (outcome.code, "holds no settings of freeu" in outcome.one_line()) == (2, True)


class TestPromptsThatAreReadOnce:
    @pytest.mark.parametrize("source", ["-", "/dev/stdin"])
    def test_standard_input(self, cli, sd_dir, tmp_path, source):
        words = ["generate", "--prompts", source, "--model", sd_dir, *SHORT, "--output", tmp_path / "out"]
        found = subprocess.run(
            [sys.executable, "-m", "freeu", *map(str, words)],
            input=b"a fox\na box\n",
            capture_output=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        assert read_manifest(tmp_path / "out").plan.prompts == ("a fox", "a box")
