"""``--from``: the pictures or clips of a manifest once more, and whether they are equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freeu.cli.errors import CheckFailedError
from freeu.errors import FreeUValueError

ALLOWED = ("output", "model", "motion_adapter", "lora", "embedding", "control", "device", "threads")
"""What may be given beside ``--from``."""
DEFAULTS: dict[str, object] = {
    "seeds": "0",
    "negative_prompt": "",
    "dtype": "auto",
    "device": "auto",
    "no_freeu": False,
    "fuse_lora": False,
    "formats": "mp4,webp",
}
_OPTIONS = {"prompts_from": "prompts", "formats": "format"}


def make_again(path: Path, values: dict[str, Any]) -> None:
    """Make everything of a manifest again; what was given beside it must be one of ``ALLOWED``.

    Args:
        path: the manifest or its folder.
        values: the command's options by their names in Python.
    """
    from freeu.cli.options import add_ons
    from freeu.pipelines.io.output import dated_folder, refuse_foreign
    from freeu.pipelines.runs.manifest import environment_differences, read_manifest
    from freeu.pipelines.runs.reproduce import reload
    from freeu.pipelines.runs.request import check_range

    for name, value in values.items():
        if name not in ALLOWED and value not in (None, [], DEFAULTS.get(name)):
            option = "a prompt" if name == "prompts" else "--" + _OPTIONS.get(name, name).replace("_", "-")
            raise FreeUValueError(f"--from takes everything from the manifest: leave {option} out")
    check_range("--threads", values["threads"], 1, 4_096)
    added = add_ons(values)
    then = read_manifest(path)
    films = then.plan.command == "video"
    folder: Path = values["output"] or dated_folder("freeu-video" if films else "freeu")
    refuse_foreign(folder)
    base = path if path.is_dir() else path.parent
    if folder.resolve() == base.resolve():
        raise FreeUValueError(f"--output {folder} is the folder of the manifest itself: name another one")
    adapter = values.get("motion_adapter")
    if adapter is not None and then.plan.motion_adapter is None:
        raise FreeUValueError("the manifest's model has no motion adapter: leave --motion-adapter out")
    if films:
        from freeu.extras import need

        need("video", "av")
    control = values.get("control")
    if control is not None and then.plan.control is None:
        raise FreeUValueError("the manifest's model has no ControlNet: leave --control out")
    device = None if values["device"] == "auto" else values["device"]
    prepared = reload(
        then.plan,
        base,
        values["model"],
        device,
        values["threads"],
        adapter,
        added["loras"],
        added["embeddings"],
        control,
    )
    now = _made(prepared, folder, films)

    equal = [name for name, record in then.pictures.items() if now.pictures[name].sha256 == record.sha256]
    print(f"{len(equal)} of {len(then.pictures)} {then.plan.noun}s are equal to the bit to those of {path}")
    if len(equal) == len(then.pictures):
        return
    changes = environment_differences(then.environment, now.environment)
    own = ("model:", "motion_adapter:", "loras:", "embeddings:", "control:")
    changes += [change for change in then.plan.differences(now.plan) if not change.startswith(own)]
    if then.plan.model.fingerprint != now.plan.model.fingerprint:
        changes.append("the model's files are not the same")
    moved, moving = then.plan.motion_adapter, now.plan.motion_adapter
    if moved is not None and moving is not None and moved.fingerprint != moving.fingerprint:
        changes.append("the motion adapter's files are not the same")
    steered, steering = then.plan.control, now.plan.control
    if steered is not None and steering is not None and steered.fingerprint != steering.fingerprint:
        changes.append("the ControlNet's files are not the same")
    for one, other in zip(then.plan.loras, now.plan.loras, strict=True):
        changes += [f"the LoRA {one.name} is not the same file"] if one.sha != other.sha else []
    for word, anew in zip(then.plan.embeddings, now.plan.embeddings, strict=True):
        changes += [f"the embedding {word.name} is not the same file"] if word.sha != anew.sha else []
    if not changes:
        raise CheckFailedError(
            f"{then.plan.noun}s differ although model, versions, device and threads are the same: look into it"
        )
    print(f"what differs: {'; '.join(changes)}")


def _made(prepared: Any, folder: Path, films: bool) -> Any:
    if films:
        from freeu.cli.terminal import film

        return film(prepared, folder)
    from freeu.cli.terminal import draw

    return draw(prepared, folder)
