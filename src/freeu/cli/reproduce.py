"""``--from``: the images or videos of a manifest once more, and whether they are bit-identical."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.cli.errors import CheckFailedError
from freeu.cli.shell import loading, say, written
from freeu.errors import FreeUValueError
from freeu.pipelines.options.run import RayOptions, ShellOptions
from freeu.wording import counted

if TYPE_CHECKING:
    from freeu.pipelines.runs.manifest import Manifest

ALLOWED = (
    "--output",
    "--model",
    "--model-config",
    "--variant",
    "--motion-adapter",
    "--lora",
    "--embedding",
    "--controlnet",
    "--device",
    "--offload",
    "--threads",
)
"""What may be given beside ``--from``."""


def reproduce(
    path: Path, *groups: Any, name: str, ray: RayOptions = RayOptions(), shell: ShellOptions = ShellOptions()
) -> None:
    """Reproduce everything of a manifest; what was given beside it must be one of ``ALLOWED``.

    Args:
        path: the manifest or its folder, or a PNG of freeu.
        groups: all options of the command.
        name: what a new folder is called.
        ray: who generates.
        shell: whether what is needed is only looked for, and what would be made is shown.
    """
    from freeu.cli.terminal import images_of, produce, who_generates
    from freeu.pipelines.io.output import refuse_foreign
    from freeu.pipelines.options.control import ControlOptions
    from freeu.pipelines.options.model import ModelOptions
    from freeu.pipelines.options.option import check_bounds, given_flags
    from freeu.pipelines.options.run import RunOptions
    from freeu.pipelines.options.video import VideoOptions
    from freeu.pipelines.runs.inside import read_run
    from freeu.pipelines.runs.reproduce import Elsewhere, recover, reload

    for flag in given_flags(*groups):
        if flag not in ALLOWED:
            what = "the prompt" if flag == "PROMPT" else flag
            raise FreeUValueError(f"--from takes everything from the manifest: leave {what} out")
    by_type = {type(options): options for options in groups}
    run, model = by_type[RunOptions], by_type[ModelOptions]
    adapter = by_type.get(VideoOptions, VideoOptions()).motion_adapter
    control = by_type.get(ControlOptions, ControlOptions()).control
    check_bounds(run)
    run.memory()
    model.check()
    then = read_run(path)
    with run.folder(name, shell.dry_run) as folder:
        refuse_foreign(folder)
        base = path if path.is_dir() else path.parent
        if folder.resolve() == base.resolve():
            raise FreeUValueError(f"--output {folder} is the folder of the manifest itself: name another one")
        if adapter is not None and then.plan.motion_adapter is None:
            raise FreeUValueError("the manifest's model has no motion adapter: leave --motion-adapter out")
        if control is not None and then.plan.control is None:
            raise FreeUValueError("the manifest's model has no ControlNet: leave --controlnet out")
        if then.plan.command == "video":
            from freeu.extras import need

            need("video", "av")
        elsewhere = Elsewhere(
            model=model.model,
            motion_adapter=adapter,
            control=control,
            model_config=model.model_config,
            variant=model.variant,
            add_ons=model.add_ons(),
            device=None if run.device == "auto" else run.device,
            threads=run.threads,
            offload=run.offload,
        )
        if shell.dry_run:
            from freeu.cli.dry_run import show_plan

            show_plan(then.plan, recover(then.plan, base, elsewhere).source, folder)
            return
        with who_generates(ray) as executor:
            loading(elsewhere.model or then.plan.model.name)
            now, names = produce(reload(then.plan, base, elsewhere), folder, executor)
        equal = _equal(then, now)
        whole = counted(len(then.images), then.plan.noun)
        same, those = ("is", "that") if len(then.images) == 1 else ("are", "those")
        say(f"{len(equal)} of {whole} {same} bit-identical to {those} of {path}")
        written(folder, *names, images=images_of(now, folder), bit_identical=equal)
        _explain(then, now, equal)


def _equal(then: Manifest, now: Manifest) -> list[str]:
    """The files of two runs of one plan that are bit-identical."""
    return [name for name, record in then.images.items() if now.images[name].sha256 == record.sha256]


def _explain(then: Manifest, now: Manifest, equal: list[str]) -> None:
    """Say what differs between two runs of one plan, where not all files are equal."""
    from freeu.pipelines.runs.manifest import differences

    if len(equal) == len(then.images):
        return
    changes = differences(then, now)
    if not changes:
        raise CheckFailedError(
            f"{then.plan.noun}s differ although model, versions, device and threads are the same: look into it"
        )
    say(f"what differs: {'; '.join(changes)}")
