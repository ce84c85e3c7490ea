"""Subject and prompt fidelity of DreamBooth, and the effect of FreeU on it, on the embedded model.

    python benchmarks/bench_dreambooth.py [--subjects bear,owl,...] [--prompts 20] [--seeds 0-1] [--work DIR]

For each subject a LoRA is trained on five images, and 20 prompts (other backgrounds, other styles, several of it,
next to objects that the model knows) are generated with the LoRA at weight 1: without FreeU, with the presets sd14 and
gentle, and with a CFG scale as strong as sd14; then, with the first seed alone, at weights 0.5 and 1.3 and without the
LoRA, without FreeU and with sd14, to see whether FreeU changes more, such as saturation, with a LoRA.
The scene reader names what is in the images, the judge measures the similarity to the five images. Differences are
paired by prompt and seed, and their intervals resample whole prompts. Every step resumes; images and trainings stay in
--work. Writes results/dreambooth.json and results/dreambooth.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, conditions, save, write_sheet
from freeu_zoo import subjects

from freeu.evaluate.embedded import judge_path, load_reader
from freeu.evaluate.experiment.arms import parse_arms
from freeu.evaluate.experiment.experiment import Experiment, run_experiment
from freeu.evaluate.experiment.prompts import Prompt, read_prompts
from freeu.evaluate.experiment.scoring import Judges, features_of_files, images_in
from freeu.evaluate.metrics.clip import CLIP, clip_score
from freeu.evaluate.metrics.fidelity import subject_fidelity
from freeu.intervals import mean_interval, paired_interval
from freeu.personalize.dreambooth.dreambooth import CLASS_FOLDER, train
from freeu.personalize.dreambooth.settings import DreamBooth
from freeu.personalize.dreambooth.subjects import find_subject
from freeu.pipelines.io.inputs import parse_seeds
from freeu.pipelines.models.addons.add_ons import AddOns
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs.prepare import prepare
from freeu.pipelines.runs.request import Request, Sources

SUBJECTS = ("bear", "owl", "swan", "pear", "tractor")
WEIGHTS = {1.0: "none,sd14,gentle,calibrated:sd14", 0.5: "none,sd14", 1.3: "none,sd14", 0.0: "none,sd14"}
"""Arms by the weight of the LoRA; 0 is the model without it."""
MEASURES = (
    "subject_fidelity",
    "noun",
    "background",
    "style",
    "count",
    "relation",
    "all_asked",
    "clip_score",
    "saturation",
    "contrast",
    "feature_diversity",
)
SHOWN = {"noun": "nouns", "all_asked": "all attributes correct", "feature_diversity": "diversity of seeds"}

Row = dict[str, Any]


def trained_folder(name: str, folder: Path, options: argparse.Namespace) -> Path:
    """The folder of a subject's training, which is finished when this returns."""
    subjects.write(folder, name, prompts=options.prompts)
    settings = DreamBooth(
        folder,
        subjects.CLASSES[name],
        steps=options.steps,
        batch=2,
        layers="all",
        train_text_encoder=True,
        learning_rate=options.rate,
        class_images=options.class_images,
        threads=options.threads,
    )
    print(f"{name}: training", flush=True)
    return train(settings, folder / "training").folder


def values_of(name: str, folder: Path, weight: float, judges: Judges, options: argparse.Namespace) -> list[Row]:
    """The values of every image of a subject with its LoRA at a weight, under all arms."""
    training = trained_folder(name, folder, options)
    subject = find_subject(training, weight or 1.0)
    prompts: tuple[Prompt, ...] = read_prompts(str(folder / "prompts.jsonl"))
    request = Request(
        command="generate",
        prompts=tuple(prompt.text for prompt in prompts),
        sampling=SamplingOptions(
            seeds=options.seeds if weight == 1.0 else str(parse_seeds(options.seeds)[0]), steps=options.image_steps
        ),
        model=ModelOptions(subject.model),
        run=RunOptions(threads=options.threads),
        # Fused, an image takes half the time.
        add_ons=AddOns(subject.loras if weight else (), fuse_loras=bool(weight)),
    )
    prepared = prepare(request, Sources(find_model(subject.model)))
    experiment = Experiment(
        prompts,
        parse_arms(WEIGHTS[weight]),
        prepared.plan,
        judges,
        {"reader": "freeu-zoo", "clip": "freeu-zoo", "features": "freeu-zoo"},
        images_in(folder / "scenes", "--reference"),
        reference_matches=True,
    )
    place = folder / f"weight-{weight:g}"
    results = run_experiment(prepared.loaded, experiment, place, say=lambda text: print(f"{name}: {text}", flush=True))
    real = examples(folder, judges)
    assert judges.clip is not None
    features = features_of_files(judges.clip, [place / row["file"] for row in results["pictures"]])
    # The judge knows the subject by its own noun, so images are scored against the caption of the real scene.
    texts = [prompt.text.replace(f"{subject.token} {subject.class_noun}", name) for prompt in prompts]
    captions = judges.clip.text_features(texts)[[row["prompt"] for row in results["pictures"]]]
    rows: list[Row] = []
    measured = zip(results["pictures"], subject_fidelity(features, real), clip_score(features, captions), strict=True)
    for row, fidelity, score in measured:
        values = {**row["values"], "subject_fidelity": float(fidelity), "clip_score": float(score)}
        cluster = f"{name}/{row['prompt']}"
        rows.append({"weight": weight, "arm": row["arm"], "cluster": cluster, "seed": row["seed"], "values": values})
    return with_diversity(rows, features)


def with_diversity(rows: list[Row], features: Any) -> list[Row]:
    """Rows with the mean cosine distance between an image and the other seeds of its prompt added."""
    for number, row in enumerate(rows):
        same = [
            other
            for other, one in enumerate(rows)
            if other != number and (one["arm"], one["cluster"]) == (row["arm"], row["cluster"])
        ]
        if same:
            row["values"]["feature_diversity"] = float(1.0 - (features[same] @ features[number]).mean())
    return rows


def examples(folder: Path, judges: Judges) -> Any:
    """Features of the training images."""
    assert judges.clip is not None
    return features_of_files(judges.clip, images_in(folder, "the subject"))


def bounds(folder: Path, judges: Judges) -> dict[str, list[float]]:
    """Subject fidelity of real scenes that are no training images, and of class images."""
    assert judges.clip is not None
    real = examples(folder, judges)
    alone = [prompt.layout == "single" for prompt in read_prompts(str(folder / "prompts.jsonl"))]
    scenes = [path for path, one in zip(images_in(folder / "scenes", "scenes"), alone, strict=True) if one]
    of_class = images_in(folder / "training" / CLASS_FOLDER, "class")
    return {
        "real scenes": subject_fidelity(features_of_files(judges.clip, scenes), real).tolist(),
        "the class": subject_fidelity(features_of_files(judges.clip, of_class), real).tolist(),
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """By weight and arm: means, and paired differences to "none" at the same weight and to "none" at full weight.

    ``beyond_model`` is how much larger a difference to "none" is than that of the same arm without the LoRA.
    """
    found: dict[str, Any] = {}
    keys = list(dict.fromkeys((row["weight"], row["arm"]) for row in rows))
    for weight, arm in keys:
        mine = [row for row in rows if (row["weight"], row["arm"]) == (weight, arm)]
        base = [row for row in rows if (row["weight"], row["arm"]) == (weight, "none")]
        pairs = {(row["cluster"], row["seed"]) for row in mine}
        full = [
            row
            for row in rows
            if (row["weight"], row["arm"]) == (1.0, "none") and (row["cluster"], row["seed"]) in pairs
        ]
        place = found.setdefault(f"{weight:g}", {})[arm] = {"mean": {}, "difference": {}, "to_full_weight": {}}
        if weight and arm != "none":
            place["beyond_model"] = beyond_model(rows, weight, arm)
        for measure in MEASURES:
            values = [row["values"].get(measure) for row in mine]
            if all(value is None for value in values):
                continue
            clusters = [row["cluster"] for row in mine]
            place["mean"][measure] = asdict(mean_interval(values, clusters))
            for key, other, wanted in (("difference", base, arm != "none"), ("to_full_weight", full, weight != 1.0)):
                if wanted and [row["cluster"] for row in other] == clusters:
                    theirs = [row["values"].get(measure) for row in other]
                    place[key][measure] = asdict(paired_interval(values, theirs, clusters))
    return found


def beyond_model(rows: Sequence[Row], weight: float, arm: str) -> dict[str, Any]:
    """How much more FreeU changes with a LoRA than without: differences of paired differences."""
    values = {(row["weight"], row["arm"], row["cluster"], row["seed"]): row["values"] for row in rows}
    both = [
        (cluster, seed)
        for one, name, cluster, seed in values
        if (one, name) == (weight, arm) and (0.0, arm, cluster, seed) in values
    ]

    def changes(at: float, measure: str) -> list[float | None]:
        pairs = [[values[at, name, cluster, seed].get(measure) for name in (arm, "none")] for cluster, seed in both]
        return [None if on is None or off is None else on - off for on, off in pairs]

    found = {}
    for measure in MEASURES:
        with_it, without = changes(weight, measure), changes(0.0, measure)
        if any(a is not None and b is not None for a, b in zip(with_it, without, strict=True)):
            found[measure] = asdict(paired_interval(with_it, without, [cluster for cluster, _ in both]))
    return found


def table(data: dict[str, Any]) -> str:
    """The numbers as Markdown: means, and differences to no FreeU with their intervals."""
    measures = [
        name for name in MEASURES if any(name in arm["mean"] for arms in data["arms"].values() for arm in arms.values())
    ]
    lines = [
        "# DreamBooth on the embedded model",
        "",
        f"{len(data['subjects'])} subjects ({', '.join(data['subjects'])}), {data['prompts']} prompts each, seeds "
        f"{data['seeds']}; {data['training']}.",
        "",
        "Subject fidelity lies between "
        + " and ".join(f"{value['value']:.3f} ({name})" for name, value in reversed(data["bounds"].items()))
        + ". Each cell is the mean; below it, for an arm with FreeU or another CFG scale, the paired difference to "
        "none at the same weight of the LoRA, with its 95 % interval.",
        "",
        "| LoRA weight | arm | " + " | ".join(SHOWN.get(name, name.replace("_", " ")) for name in measures) + " |",
        "|---|---|" + "---:|" * len(measures),
    ]
    for weight, arms in data["arms"].items():
        for arm, numbers in arms.items():
            cells = [_cell(numbers, name) for name in measures]
            lines.append(f"| {weight} | {arm} | " + " | ".join(cells) + " |")
    beyond = ("saturation", "contrast", "all_asked")
    lines += [
        "",
        "How much more FreeU changes with the LoRA than without it, at the same prompts and seed:",
        "",
        "| LoRA weight | arm | " + " | ".join(SHOWN.get(name, name.replace("_", " ")) for name in beyond) + " |",
        "|---|---|" + "---:|" * len(beyond),
    ]
    for weight, arms in data["arms"].items():
        for arm, numbers in arms.items():
            if numbers.get("beyond_model"):
                cells = [_interval(numbers["beyond_model"].get(name)) for name in beyond]
                lines.append(f"| {weight} | {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(estimate: dict[str, Any] | None) -> str:
    if estimate is None or estimate["low"] is None:
        return "-"
    return f"{estimate['value']:+.3f} ({estimate['low']:+.3f} to {estimate['high']:+.3f})"


def _cell(numbers: dict[str, Any], measure: str) -> str:
    mean, difference = numbers["mean"].get(measure), numbers["difference"].get(measure)
    if mean is None:
        return "-"
    text = f"{mean['value']:.3f}"
    if difference is not None and difference["low"] is not None:
        text += f"<br>{_interval(difference)}"
    return text


def pooled(parts: Iterable[tuple[str, dict[str, list[float]]]]) -> dict[str, Any]:
    """The bounds of all subjects together, with intervals over subjects."""
    values: dict[str, list[float]] = {}
    clusters: dict[str, list[str]] = {}
    for name, found in parts:
        for bound, numbers in found.items():
            values.setdefault(bound, []).extend(numbers)
            clusters.setdefault(bound, []).extend([name] * len(numbers))
    return {bound: asdict(mean_interval(numbers, clusters[bound])) for bound, numbers in values.items()}


def shown(folder: Path) -> list[tuple[str, Path]]:
    """The first two prompts of a subject, seed 0, each without FreeU and with sd14."""
    results = json.loads((folder / "weight-1" / "results.json").read_text())
    files = {(row["prompt"], row["arm"]): row["file"] for row in results["pictures"] if row["seed"] == 0}
    prompts = read_prompts(str(folder / "prompts.jsonl"))
    return [
        (f"{prompts[number].text}; {arm}", folder / "weight-1" / files[number, arm])
        for number in (0, 1)
        for arm in ("none", "sd14")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help=f"of {', '.join(subjects.CLASSES)}")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--seeds", default="0-1")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate (default: 2e-3)")
    parser.add_argument("--class-images", type=int, default=30)
    parser.add_argument("--image-steps", type=int, default=None, help="denoising steps (default: the model's)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--work", type=Path, default=Path("work/dreambooth"))
    parser.add_argument("--name", default="dreambooth", help="of the files in results")
    parser.add_argument("--sheet", type=Path, help="a PNG to write: the first two prompts of each subject")
    options = parser.parse_args()
    names = options.subjects.split(",")
    judges = Judges(reader=load_reader(), clip=CLIP(judge_path()))
    rows: list[Row] = []
    found: list[tuple[str, dict[str, list[float]]]] = []
    trained: dict[str, Any] = {}
    for name in names:
        folder = options.work / name
        for weight in WEIGHTS:
            rows += values_of(name, folder, weight, judges, options)
        found.append((name, bounds(folder, judges)))
        record = json.loads((folder / "training" / "training.json").read_text())
        losses = record["losses"][-max(1, len(record["losses"]) // 10) :]
        trained[name] = {
            "class": subjects.CLASSES[name],
            "seconds": record["seconds"],
            "last_losses": {part: float(np.mean([row[part] for row in losses])) for part in ("subject", "prior")},
        }
    identity = record["identity"]
    data = {
        "conditions": conditions(),
        "subjects": names,
        "trained": trained,
        "prompts": options.prompts,
        "seeds": options.seeds,
        "training": f"{options.steps} steps of {identity['batch']} images and as many of the class, "
        f"{options.class_images} class images, learning rate {record['learning_rate']:.2g}",
        "identity": {key: identity[key] for key in ("learns", "text encoder", "batch", "size", "dtype")},
        "bounds": pooled(found),
        "bounds_by_subject": {name: {key: float(np.mean(value)) for key, value in one.items()} for name, one in found},
        "arms": summary(rows),
        "by_subject": {name: summary([row for row in rows if row["cluster"].startswith(f"{name}/")]) for name in names},
    }
    path = save(options.name, data)
    text = RESULTS / f"{options.name}.md"
    part = text.with_suffix(".part")
    part.write_text(table(data), encoding="utf-8")
    part.replace(text)
    print(table(data))
    print(f"wrote {path} and {text}")
    if options.sheet:
        images = [image for name in names for image in shown(options.work / name)]
        write_sheet(images, "The first two prompts of each subject, seed 0, LoRA weight 1", options.sheet)


if __name__ == "__main__":
    main()
