"""``freeu check``."""

from __future__ import annotations

from typing import Annotated

import typer

from freeu.cli.bundles import Only, Without
from freeu.cli.errors import CheckFailedError, StoppedError
from freeu.cli.shell import loading, say, written
from freeu.errors import FreeUValueError
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.model import ModelOptions, NamedModel
from freeu.pipelines.options.run import RunOptions, ShellOptions


def check(
    named: NamedModel,
    freeu: Annotated[FreeUOptions, Only("preset")],
    files: Annotated[ModelOptions, Only("model_config", "variant")],
    run: Annotated[RunOptions, Without("vae_tiling")],
    shell: Annotated[ShellOptions, Without("open_page")],
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="TEXT", help="Prompt of the denoising run whose features are used.")
    ] = "a red apple on a blue background",
    pairs: Annotated[
        int, typer.Option("--pairs", metavar="N", help="Timed pairs of steps (fewer on a slow model).")
    ] = 20,
) -> None:
    """Validate FreeU on your model and machine: sites, parity with the published form, restoration, overhead.

    Writes report.md and report.json, and ends with exit code 1 if a check failed.
    """
    from freeu.extras import need_diffusers
    from freeu.pipelines.io.output import OutputFolder, refuse_foreign
    from freeu.pipelines.models.sources.sources import find_model, fingerprint
    from freeu.pipelines.options.option import check_bounds, check_range

    freeu.check()
    check_range("--pairs", pairs, 3, 1_000)
    check_bounds(run)
    memory = run.memory()
    if memory.offload == "sequential":
        raise FreeUValueError("--offload sequential would be what is timed here: use --offload model")
    with run.folder("freeu-check", shell.dry_run) as folder:
        refuse_foreign(folder, resumable=False)
        need_diffusers()
        source = find_model(named.model)
        if shell.dry_run:
            from freeu.cli.dry_run import freeu_text, show

            text = freeu_text(freeu)
            show(
                {"model": source.label, "freeu": text, "prompt": prompt, "pairs": pairs, "folder": str(folder)},
                f"model: {source.label}",
                "checks: sites, parity, restoration, overhead",
                f"FreeU: {text}",
                f"prompt: {prompt}",
                f"timed pairs of steps: {pairs} at most",
                f"folder: {folder}",
            )
            return
        loading(source.label)

        import torch

        from freeu.pipelines.check.check import Verdict, check_model
        from freeu.pipelines.check.report import as_json, as_markdown, report_data
        from freeu.pipelines.models.loading import load, pick_device, pick_dtype, quiet
        from freeu.pipelines.runs.manifest import environment
        from freeu.pipelines.runs.run import deterministic

        device = pick_device(run.device)
        dtype = pick_dtype(run.dtype, device)
        threads = run.threads or torch.get_num_threads()
        loaded = load(
            source,
            dtype=dtype,
            device=device,
            variant=files.variant,
            model_config=files.model_config,
            memory=memory,
        )
        config = freeu.resolve(loaded.pipe)
        say(f"model {loaded.source.label}, FreeU {config} (profile {config.profile})")

        def told(verdict: Verdict) -> None:
            say(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.name}: {verdict.text}")

        try:
            with quiet(), deterministic(device, threads):
                step, verdicts = check_model(loaded, config, prompt, pairs, told)
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
        say(f"wrote {folder / 'report.md'} and report.json")
        written(folder, "report.md", "report.json", report=data)
        failed = [verdict.name for verdict in verdicts if not verdict.passed]
        if failed:
            raise CheckFailedError(f"failed: {', '.join(failed)}; the report is in {folder}")
