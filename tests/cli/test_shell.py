"""What people type: names of other tools, short forms, and what is said before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_cli

from freeu.cli.shell import quiet, result, say, speaking, written
from freeu.errors import FreeUValueError
from freeu.pipelines.io.prompt_lines import common_settings, read_line
from freeu.pipelines.io.prompt_sources import Row
from freeu.pipelines.models.schedulers import check_sampler, sampler_name, sampler_of
from freeu.pipelines.options.run import ShellOptions
from freeu.pipelines.options.sampling import PromptOptions, SamplingOptions, with_lines


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dpmpp_2m", "dpm++2m"),
        ("euler_ancestral", "euler-a"),
        ("Euler a", "euler-a"),
        ("DPM++ 2M Karras", "dpm++2m-karras"),
        ("dpmpp_2m_sde_gpu", "dpm++2m-sde"),
        ("dpmpp_2m karras", "dpm++2m-karras"),
        ("dpmpp_2m sgm_uniform", "dpm++2m-sgm-uniform"),
        ("euler simple", "euler-sgm-uniform"),
        ("euler normal", "euler"),
        ("LMS Karras", "lms-karras"),
        ("DPM2 a Karras", "dpm2-a-karras"),
        ("uni_pc_bh2", "unipc"),
        ("PLMS", "pndm"),
        ("heun exponential", "heun-exponential"),
        ("ddim sgm_uniform", "ddim-sgm-uniform"),
    ],
)
def test_samplers_of_comfyui_and_a1111(name: str, expected: str) -> None:
    assert sampler_name(name) == expected
    assert sampler_name(expected) == expected
    assert sampler_of(name) == sampler_of(expected)


def test_a_schedule_adds_its_settings() -> None:
    assert sampler_of("euler karras").settings == {"use_karras_sigmas": True}
    assert sampler_of("dpm++2m-sde-exponential").settings == {
        "algorithm_type": "sde-dpmsolver++",
        "use_exponential_sigmas": True,
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DPM++ SDE Karras", "the nearest is dpm++2s-karras"),
        ("dpmpp_3m_sde_gpu", "the nearest is dpm++2m-sde"),
        ("dpmpp_2s_ancestral", "the nearest is dpm++2s"),
        ("euler_cfg_pp", "the nearest is euler"),
        ("karras", "belongs to a sampler: write both"),
        ("euler_ancestral karras", "euler-a has no karras sigmas"),
        ("eulr", "did you mean euler"),
    ],
)
def test_samplers_that_there_are_not(name: str, message: str) -> None:
    with pytest.raises(FreeUValueError, match=message.replace("+", r"\+")):
        check_sampler(name)


def test_a_sampler_that_needs_scipy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("lms", "euler beta"):
        with pytest.raises(FreeUValueError, match=r"scipy is not installed: pip install 'freeu\[eval\]'"):
            check_sampler(name)
    check_sampler("euler karras")


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ({"seeds": "7", "num_images": 4}, "7-10"),
        ({"num_images": 1}, "0"),
        ({"seeds": "3-5", "num_images": 3}, "3-5"),  # the command that goes on with an interrupted one
    ],
)
def test_images_per_prompt_are_seeds(given: dict[str, object], seeds: str) -> None:
    options = SamplingOptions(**given)  # type: ignore[arg-type]
    options.check()
    assert (options.seeds, options.num_images) == (seeds, None)


def test_random_seeds_count_on() -> None:
    first, last = SamplingOptions(seeds="-1", num_images=3).seeds.split("-")
    assert int(last) - int(first) == 2


@pytest.mark.parametrize(
    ("size", "sides"), [("512x768", (512, 768)), ("512×768", (512, 768)), ("640", (640, 640)), ("8 X 16", (8, 16))]
)
def test_a_size_is_width_and_height(size: str, sides: tuple[int, int]) -> None:
    options = SamplingOptions(size=size)
    options.check()
    assert (options.width, options.height, options.size) == (*sides, None)


HINTS = [
    (("compare", "a", "--cfg-scale", "3"), "did you mean --cfg?"),
    (("compare", "a", "--guidance_scale", "3"), "did you mean --guidance-scale?"),
    (("compare", "a", "--batch_size", "3"), "did you mean --batch?"),
    (("compare", "a", "--n-iter", "3"), "did you mean -n?"),
    (("compare", "--prompt", "a"), "the prompt is given without an option"),
    (("compare", "a", "--lowvram"), "did you mean --offload sequential?"),
    (("compare", "a", "--fp16"), "did you mean --dtype float16?"),
    (("compare", "a", "--ckpt", "x"), "did you mean --model?"),
    (("presets", "--ckpt", "x"), "No such option: --ckpt"),  # it has no --model
    (("compare", "a", "--seds", "3"), "--seeds"),  # by spelling, where nobody knows a meaning
]


@pytest.mark.parametrize(("words", "message"), HINTS)
def test_hints_go_by_meaning(words: tuple[str, ...], message: str) -> None:
    outcome = run_cli(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.one_line()


BAD = [
    (("--size", "512x"), "--size must look like 512x768 or 512, got '512x'"),
    (("--size", "512", "--width", "512"), "say the same thing twice"),
    (("-n", "0"), "--num-images must lie in 1 to 10000, got 0"),
    (("-n", "4", "--seeds", "0-2"), "--num-images 4 counts on from one seed, got --seeds 0-2"),
    (("--offload", "modl"), "unknown --offload 'modl': did you mean model?"),
    (("--batch", "0"), "--batch must lie in 1 to 1024, got 0"),
    (("--image", "x.png", "--batch", "2"), "only text-to-image without a ControlNet generates several at once"),
    (("--weighting", "a111"), "unknown --weighting 'a111': did you mean a1111?"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_one_line_and_nothing_loaded_or_written(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    outcome = run_cli("compare", "a fox", *words, "--output", tmp_path / "out")
    assert (outcome.code, outcome.out, outcome.loading) == (2, "", ())
    assert message in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_what_is_loaded_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    pytest.importorskip("freeu_zoo")
    code = """
import sys
import freeu.cli.terminal as terminal
def loading(what):
    print("loading", what, "torch" in sys.modules)
    raise KeyboardInterrupt
terminal.loading = loading
from freeu.cli import main
main(["compare", "a 3d fox", "--output", sys.argv[1]])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "loading mini-sd False\n"
    assert not (tmp_path / "out").exists()


def test_the_manner_of_a_command_ends_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    with speaking(ShellOptions(quiet=True)):
        say("a summary")
        assert quiet()
    with speaking(ShellOptions(as_json=True)):
        say("a summary")
        result({"found": 1})
    say("seen")
    result({"found": 2})
    assert capsys.readouterr().out == '{\n  "found": 1\n}\nseen\n'
    assert not quiet()


@pytest.mark.parametrize("opened", [True, False])
def test_open(
    opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: seen.append(address) or opened)
    with speaking(ShellOptions(open_page=True)):
        written(tmp_path, "compare.html", "grid.png")
    written(tmp_path, "not.html")
    assert seen == [(tmp_path / "compare.html").resolve().as_uri()]
    assert ("no browser to open here" in capsys.readouterr().err) is not opened


def test_completion_knows_the_options() -> None:
    environment = {"_FREEU_COMPLETE": "complete_bash", "COMP_WORDS": "freeu compare --offl", "COMP_CWORD": "2"}
    import os

    done = subprocess.run(
        [sys.executable, "-m", "freeu"], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.stdout.split() == ["--offload"]


# -- lines of a file of prompts -------------------------------------------------------------------------------------


def _row(text: str) -> Row:
    return Row(text, "p.txt", "line", 3)


def test_lines_of_a1111() -> None:
    line = read_line(
        _row('--prompt "a (red:1.2) fox" --negative_prompt "blurry, old" --seed 5 --cfg_scale=7 --steps 9'), False
    )
    assert (line.text, line.negative) == ("a (red:1.2) fox", "blurry, old")
    assert line.settings == {"seed": "5", "cfg_scale": 7.0, "steps": 9}
    assert read_line(_row("a fox -- or two"), False).text == "a fox -- or two"
    assert read_line(_row('{"prompt": "a fox", "negative_prompt": "old"}'), True).negative == "old"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('--prompt "a fox', "p.txt, line 3 has a quotation mark that is not closed"),
        ("--prompt a --cfgscale 3", "p.txt, line 3: unknown word '--cfgscale': did you mean --cfg_scale"),
        ("--prompt a --steps many", "p.txt, line 3: --steps needs a number, got 'many'"),
        ("--seed 3", "p.txt, line 3 has no --prompt"),
    ],
)
def test_lines_that_are_none(text: str, message: str) -> None:
    with pytest.raises(FreeUValueError) as caught:
        read_line(_row(text), False)
    assert message in str(caught.value)


def test_settings_of_lines_reach_the_run(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("--prompt a --cfg_scale 7 --seed 3\n--prompt b --negative_prompt old --cfg_scale 7 --seed 3\n")
    prompts = PromptOptions(prompts_from=str(file))
    sampling, negatives = with_lines(SamplingOptions(steps=5, negative_prompt="red"), prompts.lines())
    assert (sampling.guidance_scale, sampling.seeds, sampling.steps) == (7.0, "3", 5)
    assert negatives == ("red", "old")
    typed, _ = with_lines(SamplingOptions(guidance_scale=2.0), prompts.lines())
    assert typed.guidance_scale == 2.0
    with pytest.raises(FreeUValueError, match="says more than a prompt"):
        prompts.collect()
    file.write_text("--prompt a --negative_prompt old\n--prompt b --negative_prompt old\n")
    assert with_lines(SamplingOptions(), prompts.lines()) == (SamplingOptions(negative_prompt="old"), ())
    file.write_text("--prompt a --steps 3\n--prompt b\n")
    with pytest.raises(FreeUValueError, match=r"p.txt, line 2 has another --steps than p.txt, line 1"):
        common_settings(prompts.lines())
