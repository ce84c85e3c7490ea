"""The embedded model, loaded once, and the command line in this process."""

import pytest
from command_line import run_cli


@pytest.fixture
def plan(mini):
    from freeu.pipelines.runs.plan import ModelReference, Plan

    return Plan(
        command="generate",
        prompts=("a 3d fox on a blue background", "a flat cat on a red background"),
        negative_prompt="",
        seeds=(0,),
        arms=("baseline",),
        config=None,
        model=ModelReference("embedded", "mini-sd", "mini-sd", "StableDiffusionPipeline", "sha256:0"),
        task="text",
        steps=3,
        guidance=3.0,
        scheduler=None,
        width=128,
        height=128,
        image_sha=None,
        mask_sha=None,
        image_strength=None,
        dtype="float32",
        device="cpu",
        threads=1,
    )


@pytest.fixture
def run():
    """The command line."""
    return run_cli
