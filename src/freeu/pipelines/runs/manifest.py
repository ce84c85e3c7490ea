"""``manifest.json``: what was made, from what, with what; enough to make it again and to see whether it is the same."""

from __future__ import annotations

import json
import platform
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.json_files import read_json
from freeu.pipelines.io.journal import read_journal
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.runs.plan import Plan

SCHEMA = 1
KIND = "freeu-manifest"
PACKAGES = ("freeu", "torch", "diffusers", "transformers")


@dataclass(frozen=True)
class ImageRecord:
    """One image or video that was made.

    Args:
        file: its name in the folder.
        prompt, seed, arm: as in ``plan.PlannedImage``.
        sha256: of its pixels (``inputs.pixel_sha``), or of the pixels of all frames before they were encoded
            (``decoding.FramesSha``).
        seconds: how long its pipeline call took.
        flagged: True if the model's own safety checker blacked it out.
        files: of a video, the SHA-256 of the bytes of each of its files by name; empty for an image.
    """

    file: str
    prompt: str
    seed: int
    arm: str
    sha256: str
    seconds: float
    flagged: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = asdict(self)
        if not self.files:
            del data["files"]
        return data


@dataclass
class Manifest:
    """A run: its plan, the environment, the images made so far, and what the pipeline really used.

    Args:
        used: sampler, VAE and text encoders, as ``used.used_parts`` gives them; empty in manifests of before.
    """

    plan: Plan
    environment: dict[str, str]
    images: dict[str, ImageRecord] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return all(planned.file in self.images for planned in self.plan.images())

    def to_json(self) -> str:
        """The text of ``manifest.json``, images in the plan's order."""
        records = [self.images[p.file] for p in self.plan.images() if p.file in self.images]
        data = {
            "kind": KIND,
            "schema": SCHEMA,
            "complete": self.complete,
            "plan": self.plan.to_dict(),
            "environment": self.environment,
            **({"used": self.used} if self.used else {}),
            "pictures": [record.to_dict() for record in records],
        }
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, and what its run has made since it was written; ``path`` is the file or its folder.

    Raises:
        FreeUValueError: it cannot be read, is no manifest, is damaged (saying where), or has a newer schema.
    """
    path = path / MANIFEST if path.is_dir() else path
    data = read_json(path)
    if data.get("kind") != KIND:
        raise FreeUValueError(f'{path} is not a manifest of freeu: it lacks "kind": "{KIND}"')
    if data.get("schema") != SCHEMA:
        raise FreeUValueError(f"{path} has schema {data.get('schema')!r}, not {SCHEMA}: a newer freeu may read it")
    try:
        plan = Plan.from_dict(data.get("plan"))
        environment = _strings(data.get("environment"))
        used = parts_of(data.get("used", {}))
        records = _records(data.get("pictures")) | _records(read_journal(path.parent))
    except (FreeUValueError, TypeError) as error:
        raise FreeUValueError(f"the manifest {path} is damaged: {error}") from None
    planned = {planned.file for planned in plan.images()}
    for name in records:
        if name not in planned:
            raise FreeUValueError(f"the manifest {path} is damaged: image {name!r} is not in its plan")
    return Manifest(plan, environment, records, used)


def _strings(data: Any) -> dict[str, str]:
    if not isinstance(data, Mapping) or not all(isinstance(value, str) for value in data.values()):
        raise FreeUValueError("environment and files must be objects of texts")
    return dict(data)


def parts_of(data: Any) -> dict[str, Any]:
    """What a file says of the parts that were used, by their names; anything else raises ``FreeUValueError``."""
    if not isinstance(data, Mapping) or not all(isinstance(value, Mapping) for value in data.values()):
        raise FreeUValueError("used must be an object of objects")
    return {name: dict(value) for name, value in data.items()}


def _records(data: Any) -> dict[str, ImageRecord]:
    if not isinstance(data, list):
        raise FreeUValueError("images must be a list")
    known = {item.name for item in fields(ImageRecord)}
    records: dict[str, ImageRecord] = {}
    for entry in data:
        if not isinstance(entry, Mapping) or not known - {"files"} <= entry.keys() <= known:
            raise FreeUValueError(f"an image must have the fields {', '.join(sorted(known))}")
        if not isinstance(entry["file"], str) or not isinstance(entry["sha256"], str):
            raise FreeUValueError("an image's file and sha256 must be texts")
        # Names are joined to the folder later: one with a path in it could lead elsewhere.
        if any(Path(name).name != name for name in _strings(entry.get("files", {}))):
            raise FreeUValueError("files of a video must be plain names")
        records[entry["file"]] = ImageRecord(**entry)
    return records


def as_json(data: Mapping[str, Any]) -> str:
    """The text of a file; numbers that JSON cannot hold raise ``ValueError``."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def claim(
    output: OutputFolder,
    record: dict[str, Any],
    what: str,
    kept: Collection[str] = (),
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Begin a long run in its folder, or go on with the same one: write its manifest.

    Args:
        output: the folder.
        record: everything that decides the run; its "kind" tells it from other files.
        what: what to call it in messages.
        kept: fields in which an earlier run left something; they are taken over from there.
        beside: fields that are recorded and need not be those of an earlier run, which may lack them.

    Returns:
        the record, with what was kept and what stands beside it.

    Raises:
        FreeUValueError: the folder belongs to something else, or to such a run with other settings.
    """
    path = output.path / MANIFEST
    if path.exists():
        then = read_json(path)
        if then.get("kind") != record["kind"]:
            raise FreeUValueError(f"--output {output.path} holds something else: name a folder that does not exist yet")
        now = json.loads(as_json(record))
        other = [name for name in now if name not in kept and then.get(name) != now[name]]
        if other or not all(isinstance(then.get(name), type(now[name])) for name in kept):
            raise FreeUValueError(
                f"--output {output.path} holds another {what} (other {', '.join(other)}): "
                "name a folder that does not exist yet"
            )
        record |= {name: then[name] for name in kept}
    record |= beside or {}
    output.write(MANIFEST, as_json(record))
    return record


def environment(device: str) -> dict[str, str]:
    """What besides the plan can change the last bits: versions, system, processor or accelerator."""
    import torch

    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["torch"] = torch.__version__  # with its build, such as +cpu
    if device.startswith("cuda"):
        found["accelerator"] = torch.cuda.get_device_name(device)
    else:
        found["cpu"] = torch.backends.cpu.get_cpu_capability()
    return found


def made_with(plan: Plan) -> dict[str, str]:
    """The environment of a plan: with the library that weights its prompts, if they are weighted."""
    found = environment(plan.device)
    return found | ({"compel": version("compel")} if plan.weighting is not None else {})


def environment_differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two environments, as "torch 2.12.0 then, 2.13.0 now"."""
    names: Iterable[str] = dict.fromkeys([*then, *now])
    return [
        f"{name} {then.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in names
        if then.get(name) != now.get(name)
    ]


def differences(then: Manifest, now: Manifest) -> list[str]:
    """What can explain that two runs of one plan differ: versions, settings, and files that are not the same."""
    found = environment_differences(then.environment, now.environment)
    # Where a network lies does not change what it computes; whether its files are the same is asked below.
    elsewhere = ("model:", "motion_adapter:", "loras:", "embeddings:", "control:")
    found += [change for change in then.plan.differences(now.plan) if not change.startswith(elsewhere)]
    for what, one, other in (
        ("model", then.plan.model, now.plan.model),
        ("motion adapter", then.plan.motion_adapter, now.plan.motion_adapter),
        ("ControlNet", then.plan.control, now.plan.control),
    ):
        if one is not None and other is not None and one.fingerprint != other.fingerprint:
            found.append(f"the {what}'s files are not the same")
    if then.used and now.used:
        for name in dict.fromkeys([*then.used, *now.used]):
            one, other = then.used.get(name), now.used.get(name)
            if one != other:
                found.append(f"the {name.replace('_', ' ')} is not the same: {_class(one)} then, {_class(other)} now")
    added = [*zip(then.plan.loras, now.plan.loras, strict=True)]
    words = [*zip(then.plan.embeddings, now.plan.embeddings, strict=True)]
    found += [f"the LoRA {one.name} is not the same file" for one, other in added if one.sha != other.sha]
    found += [f"the embedding {one.name} is not the same file" for one, other in words if one.sha != other.sha]
    return found


def _class(part: Mapping[str, Any] | None) -> str:
    return str(part.get("class", "unknown")) if part else "none"
