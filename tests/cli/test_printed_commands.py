"""Every command that freeu prints reads back as the run that printed it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from freeu.cli import main
from freeu.cli.errors import stopped
from freeu.config import FreeUConfig
from freeu.guiding import FreSca, Guiding
from freeu.pipelines.io.inputs import MAX_SEED, format_seeds, parse_seeds
from freeu.pipelines.models.memory import OFFLOADS
from freeu.pipelines.models.schedulers import PREDICTION_TYPES, SAMPLERS
from freeu.pipelines.models.weighting import WEIGHTINGS
from freeu.pipelines.options.option import shell_line
from freeu.pipelines.runs.plan import INPUT_IMAGE, INPUT_MASK, ModelReference, Plan
from freeu.scalecrafter.settings import ScaleCrafter
from freeu.schedule import Schedule

LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
WORDS = st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
ODD = st.sampled_from(
    ["--help", "-h", "--", "-", "-o", "--output", "--seeds=3", "-x fox", "$HOME", "'", '"', "a\nb", "#"]
)
TEXT = WORDS | ODD
NUMBERS = st.floats(0.01, 4, allow_nan=False)
FRACTIONS = st.floats(0.0, 1.0, allow_nan=False)


@st.composite
def scalings(draw: st.DrawFn) -> ScaleCrafter:
    """ScaleCrafter with any settings that a command line can give."""
    return ScaleCrafter(
        factor=draw(st.floats(1.01, 4.0)),
        levels=draw(st.tuples(st.integers(0, 8), st.integers(1, 8))),
        end=draw(st.floats(0.01, 1.0)),
        guidance=draw(st.sampled_from(["plain", "damped"])),
    )


@st.composite
def guidings(draw: st.DrawFn) -> Guiding:
    """Guidance interval, FreSca or both, with any settings that a command line can give."""
    first, second = sorted(draw(st.lists(FRACTIONS, min_size=2, max_size=2, unique=True)))
    scale = draw(st.sampled_from([1.0, 1000.0]))
    falling = Schedule(scale * second, scale * first, unit=draw(st.sampled_from(["timestep", "sigma"])))
    interval = draw(st.none() | st.just(Schedule(first, second)) | st.just(falling))
    bands = st.builds(FreSca, NUMBERS, NUMBERS, st.none() | st.integers(1, 64))
    return Guiding(interval, draw(st.none() | bands if interval is not None else bands))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of images as any request could have made them."""
    command = draw(st.sampled_from(["compare", "generate"]))
    arms = ("baseline", "freeu") if command == "compare" else draw(st.sampled_from([("baseline",), ("freeu",)]))
    config = FreeUConfig(b=draw(st.tuples(NUMBERS, NUMBERS)), s=draw(st.tuples(NUMBERS, NUMBERS)))
    start, end = draw(st.floats(0.0, 0.5)), draw(st.floats(0.51, 1.0))
    config = config.replace(start=start, end=end) if draw(st.booleans()) else config
    task = draw(st.sampled_from(["text", "image", "inpaint"]))
    seeds = st.lists(st.integers(0, MAX_SEED) | st.integers(0, 5), min_size=1, max_size=4, unique=True)
    return Plan(
        command=command,
        prompts=tuple(draw(st.lists(TEXT, min_size=1, max_size=3))),
        negative_prompt=draw(st.just("") | TEXT),
        seeds=tuple(draw(seeds)),
        arms=arms,
        config=config if "freeu" in arms else None,
        model=ModelReference("file", "/x", draw(TEXT), "StableDiffusionPipeline", "sha256:0"),
        task=task,
        steps=draw(st.integers(1, 1000)),
        guidance=draw(st.floats(0, 100)),
        scheduler=draw(st.none() | st.sampled_from(sorted(SAMPLERS))),
        width=8 * draw(st.integers(1, 200)),
        height=8 * draw(st.integers(1, 200)),
        image_sha="0" if task != "text" else None,
        mask_sha="0" if task == "inpaint" else None,
        image_strength=draw(FRACTIONS) if task != "text" else None,
        dtype=draw(st.sampled_from(["float32", "float16", "bfloat16"])),
        device=draw(st.sampled_from(["cpu", "cuda", "cuda:1"])),
        threads=draw(st.integers(1, 64)),
        prediction_type=draw(st.none() | st.sampled_from(PREDICTION_TYPES)),
        scalecrafter=draw(st.none() | scalings()),
        guiding=draw(st.none() | guidings()),
        guidance_rescale=draw(st.none() | FRACTIONS),
        batch=draw(st.integers(1, 1024)) if task == "text" else 1,
        offload=draw(st.none() | st.sampled_from(OFFLOADS)),
        vae_tiling=draw(st.booleans()),
        attention_slicing=draw(st.booleans()),
        weighting=draw(st.none() | st.sampled_from(WEIGHTINGS)),
    )


def asked(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The request that these words mean."""
    found: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr("freeu.cli.terminal.carry_out", lambda request, *_, **__: found.append(request))
        assert main(words) == 0
    (request,) = found
    return request


def check(request: Any, plan: Plan) -> None:
    """The request is that of the plan."""
    image = request.image
    assert (request.command, request.prompts, request.arms, request.task) == (
        plan.command,
        plan.prompts,
        plan.arms,
        plan.task,
    )
    assert parse_seeds(request.sampling.seeds) == plan.seeds
    assert (request.sampling.steps, request.sampling.guidance_scale) == (plan.steps, plan.guidance)
    assert (request.sampling.negative_prompt, request.sampling.scheduler) == (plan.negative_prompt, plan.scheduler)
    assert (request.sampling.width, request.sampling.height) == (plan.width, plan.height)
    assert (request.model.model, request.model.prediction_type) == (plan.model.name, plan.prediction_type)
    assert (request.run.dtype, request.run.device, request.run.threads) == (plan.dtype, plan.device, plan.threads)
    assert (request.run.memory(), request.batch.batch) == (plan.memory, plan.batch)
    assert request.sampling.weighting == plan.weighting
    assert image.denoising_strength == plan.image_strength
    assert image.image == (Path(INPUT_IMAGE) if plan.image_sha else None)
    assert image.mask == (Path(INPUT_MASK) if plan.mask_sha else None)
    assert (request.freeu.base() if request.freeu else None) == plan.config
    assert request.scalecrafter.scalecrafter is (plan.scalecrafter is not None)
    if plan.scalecrafter is not None:
        # The factor is that of the size.
        assert replace(plan.scalecrafter, **request.scalecrafter.changes()) == plan.scalecrafter
        assert request.scalecrafter.changes().keys() == {"levels", "end", "guidance"}
    assert request.guiding.settings() == plan.guiding
    assert request.guiding.guidance_rescale == plan.guidance_rescale


@settings(max_examples=100, deadline=None, phases=[Phase.generate])
@given(plan=plans())
def test_the_command_of_a_plan(plan):
    check(asked(shlex.split(plan.command_line())[1:], pytest.MonkeyPatch()), plan)


@settings(max_examples=60, deadline=None, phases=[Phase.generate])
@given(plan=plans(), random=st.booleans(), output=st.none() | st.sampled_from(["--output", "-o", "--out"]))
def test_the_advice_after_an_interruption(plan, random, output):
    words = shlex.split(plan.command_line())
    place = words.index("--seeds")
    if random:
        words[place + 1] = "-1"
    folder = Path("out")
    if output is not None:
        words[2:2], folder = [output, "mine"], Path("mine")
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", words)
        text = str(stopped(folder, "after 1 of 2 images", format_seeds(plan.seeds)))
    again = shlex.split(text.partition("; go on with: ")[2])
    request = asked(again[1:], monkeypatch)
    check(request, plan)
    assert request.run.output == folder


@pytest.mark.parametrize("arguments", [["a.mp4", "a fox"], ["a.mp4", "--help"], ["-a.mp4", "fox"]])
def test_arguments_that_look_like_options(arguments):
    words = shlex.split(shell_line("rerender", arguments, ["--seed", "3"]))
    assert words[:2] == ["freeu", "rerender"]
    assert ("--" in words) is any(one.startswith("-") for one in arguments)
    assert (words[words.index("--") + 1 :] if "--" in words else words[2:4]) == arguments
