"""The embedded model, loaded once, and the command line in this process."""

import contextlib
import io

import pytest


@pytest.fixture(scope="session")
def mini():
    pytest.importorskip("freeu_zoo")
    from freeu.pipelines.models.loading import load
    from freeu.pipelines.models.sources.sources import find_model

    return load(find_model(None))


@pytest.fixture
def run():
    from freeu.cli import main

    def call(*words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
        return code, out.getvalue(), err.getvalue()

    return call


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
