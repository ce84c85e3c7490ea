"""``freeu check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freeu.cli import options as o
from freeu.cli.errors import CheckFailedError, StoppedError

Pairs = Annotated[int, typer.Option("--pairs", metavar="N", help="Timed pairs of steps (fewer on a slow model).")]
Prompt = Annotated[str, typer.Option("--prompt", metavar="TEXT", help="For the denoising run whose features are used.")]


def check(
    model: o.ModelArgument,
    preset: o.Preset = None,
    prompt: Prompt = "a red apple on a blue background",
    pairs: Pairs = 20,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
    dtype: o.DType = "auto",
    device: o.Device = "auto",
    threads: o.Threads = None,
    output: o.Output = None,
) -> None:
    """Prove FreeU on your model and machine: sites, parity with the published form, reversal, overhead.

    Writes report.md and report.json, and ends with exit code 1 if a check failed.
    """
    from freeu.extras import need_diffusers
    from freeu.pipelines.io.output import OutputFolder, dated_folder, refuse_foreign
    from freeu.pipelines.models.sources.sources import find_model, fingerprint
    from freeu.pipelines.runs.request import FreeUChoice, check_range

    choice = FreeUChoice(preset=preset)
    choice.check()
    check_range("--pairs", pairs, 3, 1_000)
    check_range("--threads", threads, 1, 4_096)
    folder: Path = output or dated_folder("freeu-check")
    refuse_foreign(folder, resumable=False)
    need_diffusers()
    source = find_model(model)

    import torch

    from freeu.pipelines.check.check import Verdict, check_model
    from freeu.pipelines.check.report import as_json, as_markdown, report_data
    from freeu.pipelines.models.loading import load, pick_device, pick_dtype, quiet
    from freeu.pipelines.runs.manifest import environment
    from freeu.pipelines.runs.run import deterministic

    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    threads = threads or torch.get_num_threads()
    loaded = load(source, dtype=dtype, device=device, variant=variant, model_config=model_config)
    config = choice.resolve(loaded.pipe)
    print(f"model {loaded.source.label}, FreeU {config} (profile {config.profile})", flush=True)

    def say(verdict: Verdict) -> None:
        print(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.name}: {verdict.text}", flush=True)

    try:
        with quiet(), deterministic(device, threads):
            step, verdicts = check_model(loaded, config, prompt, pairs, say)
    except KeyboardInterrupt:
        raise StoppedError("stopped; nothing was written: give the same command again") from None
    assert loaded.source.path is not None
    data = report_data(
        loaded,
        config,
        step,
        verdicts,
        environment(device),
        fingerprint=fingerprint(loaded.source.path),
        dtype=dtype,
        device=device,
        threads=threads,
    )
    target = OutputFolder(folder)
    target.write("report.json", as_json(data))
    target.write("report.md", as_markdown(data))
    print(f"wrote {folder / 'report.md'} and report.json")
    failed = [verdict.name for verdict in verdicts if not verdict.passed]
    if failed:
        raise CheckFailedError(f"failed: {', '.join(failed)}; the report is in {folder}")
