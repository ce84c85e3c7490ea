"""The images or videos of a study: from folders of ``freeu compare``, ``generate`` or ``video``, or plain folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from freeu.errors import FreeUValueError
from freeu.pipelines.io.inputs import short_names
from freeu.pipelines.io.output import MANIFEST, file_sha
from freeu.pipelines.io.prompts import collect_prompts
from freeu.pipelines.models.addons.add_ons import added_text
from freeu.pipelines.runs.manifest import ImageRecord, read_manifest
from freeu.pipelines.runs.plan import ARMS
from freeu.study.media.info import MediaInfo
from freeu.study.media.media import read_media_info
from freeu.study.plan.plan import CHECK_ARM, Arm, Media
from freeu.wording import counted

IMAGES, VIDEOS = (".png", ".jpg", ".jpeg", ".webp"), (".mp4",)


@dataclass(frozen=True)
class Group:
    """The files of all arms for one prompt and seed.

    Args:
        prompt: number of the prompt, from 0.
        seed: noise seed, or None where it is unknown.
        files: one per arm, in the order of the arms.
        width, height: in pixels.
    """

    prompt: int
    seed: int | None
    files: tuple[Path, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Material:
    """The images or videos of a study; every file was decoded once.

    Args:
        arms: at least 2.
        prompts: without duplicates; "" where the prompt is unknown.
        groups: at least one.
        media: "image" or "video".
        source: where the files come from and their settings, without paths.
        notes: what was excluded, and why.
    """

    arms: tuple[Arm, ...]
    prompts: tuple[str, ...]
    groups: tuple[Group, ...]
    media: Media
    source: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    """What the folders contain, before any file is opened.

    Args:
        keys: prompt number and seed of each group.
        arms: with the file of each group, and the hash of its pixels where a manifest gives it.
    """

    prompts: tuple[str, ...]
    keys: list[tuple[int, int | None]]
    arms: list[tuple[Arm, Path, list[tuple[Path, str | None]]]]
    source: list[str]
    notes: list[str]


def read_material(
    folders: Sequence[Path], prompts: str | None = None, report: Callable[[int, int], None] = lambda done, total: None
) -> Material:
    """Read and check the images or videos of a study.

    Prompts and seeds come from the manifests. Plain folders contain files of the same names (up to the suffix), and the
    i-th file by name belongs to the i-th prompt.

    Args:
        folders: one or more with a manifest, or two or more without.
        prompts: for plain folders, a file with one prompt per line, or "paper"; None shows raters no prompt.
        report: called with the number of files read and the number of all files.

    Raises:
        FreeUValueError: a folder that is incomplete or has other prompts, seeds or names than the first; a file that is
            unreadable, too large, outside its folder or of another size than the files it is compared with; images
            mixed with videos; fewer than 2 arms that differ.
    """
    if not folders:
        raise FreeUValueError(
            "a study needs folders: one folder of freeu compare, or two or more folders of images or videos"
        )
    folders = [folder.parent if folder.name == MANIFEST else folder for folder in folders]
    resolved = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, resolved, strict=True):
        if not folder.is_dir():
            raise FreeUValueError(f"{folder} is not a folder: name a folder of images or videos")
        if resolved.count(path) > 1:
            raise FreeUValueError(f"{folder} is given twice")
    planned = [(folder / MANIFEST).is_file() for folder in folders]
    if any(planned) != all(planned):
        raise FreeUValueError(
            f"{folders[planned.index(False)]} has no manifest and {folders[planned.index(True)]} has one: "
            "use folders of one kind"
        )
    names = short_names(resolved)
    if all(planned):
        if prompts is not None:
            raise FreeUValueError("the manifests contain the prompts: omit --prompts")
        found = _from_manifests(folders, names)
    else:
        found = _from_names(folders, names, prompts)
    return _verified(found, report)


def _from_manifests(folders: Sequence[Path], names: Sequence[str]) -> _Found:
    manifests = [read_manifest(folder) for folder in folders]
    first = manifests[0].plan
    found = _Found(first.prompts, [], [], [], [])
    flagged: set[tuple[int, int]] = set()
    for folder, manifest in zip(folders, manifests, strict=True):
        plan = manifest.plan
        for field in ("prompts", "seeds"):
            if getattr(plan, field) != getattr(first, field):
                raise FreeUValueError(
                    f"{folder} has other {field} than {folders[0]}, or in another order: its images cannot be paired"
                )
        if len(set(plan.prompts)) < len(plan.prompts):
            raise FreeUValueError(
                f"{folder} has a prompt twice, so raters would see a pair twice: generate each prompt once"
            )
        made = sum((folder / planned.file).is_file() for planned in plan.images())
        if not manifest.complete or made < plan.count:
            raise FreeUValueError(
                f"{folder} has {made} of its {counted(plan.count, 'image')}: give its command again to complete it"
            )
        flagged |= {(p.index, p.seed) for p in plan.images() if manifest.images[p.file].flagged}
    for index, seed in sorted(flagged):
        found.notes.append(f"excluded prompt {index + 1} with seed {seed}: a safety checker blacked out an image")
    for folder, name, manifest in zip(folders, names, manifests, strict=True):
        plan = manifest.plan
        for arm in plan.arms:
            own = [p for p in plan.images() if p.arm == arm and (p.index, p.seed) not in flagged]
            found.keys = [(planned.index, planned.seed) for planned in own]
            short, label = (arm, ARMS[arm]) if len(folders) == 1 else (f"{name}/{arm}", f"{ARMS[arm]} ({name})")
            settings = plan.config.to_dict() if plan.config is not None and arm == "freeu" else None
            files = [_recorded(folder, manifest.images[p.file]) for p in own]
            found.arms.append((Arm(short, label, settings), folder, files))
        model = plan.model.name if plan.model.kind == "hub" else Path(plan.model.name).name
        added = added_text(plan.add_ons())
        model += f" with {added}" if added else ""
        sampling = f"{counted(plan.steps, 'step')}, CFG scale {plan.guidance:g}"
        found.source.append(f"{name}: freeu {plan.command}, {model}, {sampling}")
    return found


def _recorded(folder: Path, record: ImageRecord) -> tuple[Path, str | None]:
    """The file of an image or video, and the hash of its pixels where it can be verified.

    The manifest of a video hashes the frames before encoding, so the file is verified byte for byte instead.
    """
    path = folder / record.file
    if not record.files:
        return path, record.sha256
    if file_sha(path) != record.files.get(record.file):
        raise FreeUValueError(f"{path} was changed: it is not the video in its manifest")
    return path, None


def _from_names(folders: Sequence[Path], names: Sequence[str], prompts: str | None) -> _Found:
    if len(folders) < 2:
        raise FreeUValueError(f"{folders[0]} has no manifest: name a second folder to compare with")
    files = [_by_stem(folder) for folder in folders]
    stems = sorted(files[0], key=_natural)
    for folder, other in zip(folders, files, strict=True):
        for odd in sorted(set(stems) ^ set(other), key=_natural):
            lacks, has = (folder, folders[0]) if odd in files[0] else (folders[0], folder)
            raise FreeUValueError(f"{lacks} has no file {odd!r}, but {has} has: files are paired by name")
    texts = collect_prompts((), prompts) if prompts is not None else ("",) * len(stems)
    if len(texts) != len(stems):
        raise FreeUValueError(
            f"the i-th file by name belongs to the i-th prompt, got "
            f"{counted(len(stems), 'file')} and {counted(len(texts), 'prompt')}"
        )
    shown = tuple(dict.fromkeys(texts)) if prompts is not None else texts
    # Where the prompts are unknown, each file counts as a prompt of its own.
    numbers = [shown.index(text) for text in texts] if prompts is not None else list(range(len(stems)))
    arms: list[tuple[Arm, Path, list[tuple[Path, str | None]]]] = []
    for folder, name, own in zip(folders, names, files, strict=True):
        if name == CHECK_ARM:
            raise FreeUValueError(f"{folder} has the name that studies use for attention checks: rename it")
        arms.append((Arm(name, name), folder, [(own[stem], None) for stem in stems]))
    return _Found(shown, [(number, None) for number in numbers], arms, list(names), [])


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in folder.iterdir():
        if path.suffix.lower() not in (*IMAGES, *VIDEOS) or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise FreeUValueError(f"{folder} has two files {path.stem!r}: files are paired by name, remove one of them")
        found[path.stem] = path
    if not found:
        raise FreeUValueError(f"{folder} contains no images or videos ({', '.join((*IMAGES, *VIDEOS))})")
    return found


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key with numbers in numeric order: 2 before 10."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], name


def _verified(found: _Found, report: Callable[[int, int], None]) -> Material:
    """Open every file, and exclude identical ones."""
    if not found.keys:
        raise FreeUValueError("no pair is left: " + "; ".join(found.notes))
    suffixes = {path.suffix.lower() for _, _, files in found.arms for path, _ in files}
    if suffixes & set(VIDEOS) and suffixes & set(IMAGES):
        raise FreeUValueError("images and videos cannot be compared with each other: use folders of one kind")
    media: Media = "video" if suffixes & set(VIDEOS) else "image"
    total = len(found.arms) * len(found.keys)
    infos: list[list[MediaInfo]] = []
    for _, folder, files in found.arms:
        infos.append([])
        for path, expected in files:
            info = read_media_info(path, folder)
            if expected is not None and info.sha256 != expected:
                raise FreeUValueError(f"{path} was changed: it is not the image in its manifest")
            infos[-1].append(info)
            report(sum(map(len, infos)), total)
    for number in range(len(found.keys)):
        for arm in range(1, len(found.arms)):
            one, other = infos[0][number], infos[arm][number]
            if one.shape != other.shape:
                raise FreeUValueError(
                    f"{found.arms[arm][2][number][0]} is {other}, but {found.arms[0][2][number][0]} is {one}: "
                    "compared files must have the same size"
                )
    return _distinct(found, infos, media)


def _distinct(found: _Found, infos: list[list[MediaInfo]], media: Media) -> Material:
    notes = list(found.notes)
    kept: list[int] = []
    hashes = [[info.sha256 for info in arm] for arm in infos]
    for arm, (about, _, _) in enumerate(found.arms):
        twin = next((found.arms[k][0].name for k in kept if hashes[k] == hashes[arm]), None)
        if twin is None:
            kept.append(arm)
        else:
            notes.append(f"excluded {about.name}: all its files are identical to those of {twin}")
    if len(kept) < 2:
        given = ", ".join(about.name for about, _, _ in found.arms)
        raise FreeUValueError(f"a study compares at least 2 arms that differ, got {given or 'none'}")
    groups = []
    for number, (prompt, seed) in enumerate(found.keys):
        files = tuple(found.arms[arm][2][number][0] for arm in kept)
        if len({hashes[arm][number] for arm in kept}) < len(kept):
            notes.append(f"excluded {files[0].name}: it is identical in two arms")
            continue
        info = infos[kept[0]][number]
        groups.append(Group(prompt, seed, files, info.width, info.height))
    if not groups:
        raise FreeUValueError("no pair is left: " + "; ".join(notes))
    arms = tuple(found.arms[arm][0] for arm in kept)
    return Material(arms, found.prompts, tuple(groups), media, tuple(found.source), tuple(notes))
