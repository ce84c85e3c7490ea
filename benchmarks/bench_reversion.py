"""Whether a trained token for a relation works with other nouns, and the effect of FreeU, on the embedded model.

    python benchmarks/bench_reversion.py [--relations inside,behind,...] [--prompts 24] [--seeds 0-1] [--work DIR]

For each relation a token is trained on 10 scenes, and 24 prompts with nouns that are in none of them are generated with

- reversion: the token trained by ReVersion, with the words that name the relation left out of the positives,
- reversion-all: the same with all prepositions among the positives,
- plain: the token trained by plain textual inversion,
- and: the word "and", the initial embedding: what chance gives,
- own: the model's own words for the relation, which it was trained on: what is possible,

all without FreeU, and the first one with the presets sd14 and gentle as well. The scene reader recognizes the relation.
Every step resumes; the images stay in --work. Writes results/reversion.json and results/reversion.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, conditions, save, write_sheet
from freeu_zoo import relations
from freeu_zoo.recipe import shipped
from freeu_zoo.world import captions

from freeu.evaluate.embedded import load_reader
from freeu.evaluate.experiment.arms import parse_arms
from freeu.evaluate.experiment.experiment import Experiment, run_experiment
from freeu.evaluate.experiment.prompts import Prompt, read_prompts
from freeu.evaluate.experiment.scoring import Judges
from freeu.evaluate.metrics.alignment import INVERSE, PromptSpec, Reader, Reading
from freeu.intervals import mean_interval, paired_interval
from freeu.personalize.reversion.exemplars import read_exemplars
from freeu.personalize.reversion.reversion import KIND, Inversion
from freeu.personalize.reversion.settings import Settings
from freeu.personalize.training.record import read_record
from freeu.pipelines.io.inputs import open_image
from freeu.pipelines.models.addons.add_ons import AddOns, find_embedding
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.request import Request, Sources

TOKEN, START = "<R>", "and"
RELATIONS = ("left of", "above", "on", "inside", "behind")
ARMS = {"reversion": "none,sd14,gentle"}
"""Arms by way; others are without FreeU."""
WAYS: dict[str, Callable[[Settings], Settings]] = {
    "reversion": lambda settings: settings,
    "reversion-all": lambda settings: replace(settings, left_out=()),
    "plain": lambda settings: replace(settings.plain(), left_out=()),
}
"""Ways to train a token."""
MEASURES = ("relation", "relation_read", "relation_given_nouns", "noun_strict", "noun", "style", "background")


def own_words(relation: str) -> tuple[str, ...]:
    """Prepositions in the phrases for a relation and for its inverse, which would name it as well."""
    phrases = captions.PHRASES[relation] + captions.PHRASES.get(INVERSE.get(relation, ""), ())
    return tuple(dict.fromkeys(word for phrase in phrases for word in phrase.split() if word != "the"))


def request(prompts: Sequence[Prompt], seeds: str, embedding: Path | None) -> Prepared:
    """The embedded model, with a trained token or without."""
    wanted = Request(
        command="generate",
        prompts=tuple(prompt.text for prompt in prompts),
        sampling=SamplingOptions(seeds=seeds),
        run=RunOptions(threads=torch.get_num_threads()),
        add_ons=AddOns(embeddings=() if embedding is None else (find_embedding(embedding),)),
    )
    return prepare(wanted, Sources(find_model(None)))


def train_token(exemplars: Path, folder: Path, settings: Settings, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Train a token, or resume its training; returns its record."""
    record = read_record(folder, KIND)
    if record is None or not record["complete"]:
        prepared = request(prompts[:4], "0", None)
        run = Inversion(prepared.loaded, prepared.plan, read_exemplars(exemplars, TOKEN), settings, folder)
        run.resume()
        run.train()
        record = read_record(folder, KIND)
    assert record is not None
    return record


def relation_read(spec: PromptSpec, reading: Reading) -> float:
    """Whether the relation is correct, with at least one of the two nouns correct and in its role.

    Stricter measures also count misread nouns, which are frequent for small objects inside others; this one measures
    the relation itself.
    """
    if len(reading.nouns) != 2 or reading.relation is None:
        return 0.0
    wanted, nouns = spec.relation, tuple(reading.nouns)
    if wanted in INVERSE and wanted != reading.relation:
        wanted, nouns = INVERSE[wanted], nouns[::-1]
    stands = wanted == reading.relation
    return float(stands and any(a == b for a, b in zip(spec.nouns, nouns, strict=True)))


def generate_and_score(
    prepared: Prepared, prompts: Sequence[Prompt], reader: Reader, folder: Path, arms: str = "none"
) -> dict[str, Any]:
    """Generate and score one token under its arms: values by arm and measure, in the order of prompts and seeds."""
    experiment = Experiment(
        tuple(prompts),
        parse_arms(arms),
        prepared.plan,
        Judges(reader=reader),
        {"reader": "freeu-zoo", "clip": None, "features": None},
        [],
    )
    results = run_experiment(prepared.loaded, experiment, folder, say=lambda text: print(f"  {text}", flush=True))
    found: dict[str, Any] = {}
    for row in results["pictures"]:
        spec = prompts[row["prompt"]].spec
        assert spec is not None
        (reading,) = reader.read([open_image(folder / row["file"])])
        values = row["values"] | {"relation_read": relation_read(spec, reading)}
        arm = found.setdefault(row["arm"], {name: [] for name in ("prompt", "seed", *MEASURES)})
        arm["prompt"].append(row["prompt"])
        arm["seed"].append(row["seed"])
        for name in MEASURES:
            arm[name].append(values.get(name))
    return found


def estimates(values: dict[str, dict[str, Any]], label: str) -> dict[str, Any]:
    """Means of every way and arm, and paired differences, over whole prompts; ``label`` names their clusters."""
    found: dict[str, Any] = {"means": {}, "freeu_minus_none": {}, "reversion_minus": {}}
    for way, arms in values.items():
        for arm, columns in arms.items():
            means = found["means"].setdefault(way, {}).setdefault(arm, {})
            for name in MEASURES:
                if any(value is not None for value in columns[name]):
                    means[name] = asdict(mean_interval(columns[name], columns[label]))
            if arm != "none":
                found["freeu_minus_none"].setdefault(way, {})[arm] = _paired(columns, arms["none"], label)
        if way != "reversion" and "reversion" in values:
            found["reversion_minus"][way] = _paired(values["reversion"]["none"], arms["none"], label)
    return found


def _paired(columns: dict[str, Any], baseline: dict[str, Any], label: str) -> dict[str, Any]:
    found = {}
    for name in MEASURES:
        pairs = zip(columns[name], baseline[name], strict=True)
        if any(a is not None and b is not None for a, b in pairs):
            found[name] = asdict(paired_interval(columns[name], baseline[name], columns[label]))
    return found


def pooled(by_relation: dict[str, Any]) -> dict[str, Any]:
    """The values of all relations together, a cluster for each prompt of each."""
    found: dict[str, Any] = {}
    for relation, values in by_relation.items():
        for way, arms in values.items():
            for arm, columns in arms.items():
                own = found.setdefault(way, {}).setdefault(arm, {name: [] for name in ("cluster", *MEASURES)})
                own["cluster"] += [f"{relation}/{prompt}" for prompt in columns["prompt"]]
                for name in MEASURES:
                    own[name] += columns[name]
    return found


def table(data: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# A token for a relation, with nouns that were not in its training images",
        "",
        f"mini-sd, {data['prompts']} prompts for each relation, seeds {data['seeds']}; percent, with 95 % intervals",
        "over prompts. `relation`: both nouns and the relation correct. `relation read`: relation correct, at least",
        "one noun correct. `given nouns`: `relation` among images with both nouns correct. `nouns`: both and no other.",
    ]
    for name, part in {"all relations": data["all"], **data["by_relation"]}.items():
        lines += ["", f"## {name}", "", "| token | FreeU | relation | relation read | given nouns | nouns |"]
        lines.append("|---|---|---|---|---|---|")
        for way, arms in part["means"].items():
            for arm, means in arms.items():
                cells = [
                    _percent(means.get(name))
                    for name in ("relation", "relation_read", "relation_given_nouns", "noun_strict")
                ]
                lines.append(f"| {way} | {arm} | {' | '.join(cells)} |")
        lines += ["", "| difference | relation | relation read | nouns |", "|---|---|---|---|"]
        rows = [(f"reversion - {way}", found) for way, found in part["reversion_minus"].items()]
        rows += [
            (f"{way}: {arm} - none", found)
            for way, arms in part["freeu_minus_none"].items()
            for arm, found in arms.items()
        ]
        for label, found in rows:
            cells = [_percent(found.get(name), sign="+") for name in ("relation", "relation_read", "noun_strict")]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _percent(estimate: dict[str, Any] | None, sign: str = "") -> str:
    if estimate is None:
        return "-"
    value = f"{100 * estimate['value']:{sign}.1f}"
    if estimate["low"] is None:
        return value
    return f"{value} [{100 * estimate['low']:{sign}.1f}, {100 * estimate['high']:{sign}.1f}]"


SHOWN = (("reversion", "none"), ("reversion", "sd14"), ("plain", "none"), ("own", "none"))
"""Tokens and arms of the sheet."""


def shown(place: Path, prompts: Sequence[Prompt]) -> list[tuple[str, Path]]:
    """The first two prompts of a relation, seed 0, under ``SHOWN``."""
    found = []
    for number in (0, 1):
        for way, arm in SHOWN:
            folder = place / f"{way}-pictures"
            rows = json.loads((folder / "results.json").read_text())["pictures"]
            (file,) = (r["file"] for r in rows if (r["prompt"], r["arm"], r["seed"]) == (number, arm, 0))
            word = "its own words" if way == "own" else way
            found.append((f"{prompts[number].text}; {word}{'' if arm == 'none' else ', ' + arm}", folder / file))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--relations", default=",".join(RELATIONS))
    parser.add_argument("--ways", default=",".join(WAYS), help="how tokens are trained")
    parser.add_argument("--exemplars", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--seeds", default="0-1")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="of each training")
    parser.add_argument("--work", type=Path, default=Path("reversion-work"), help="where images and trainings are kept")
    parser.add_argument("--name", default="reversion", help="of the files in results/")
    parser.add_argument("--sheet", type=Path, help="a PNG to write: the first two prompts of each relation")
    options = parser.parse_args()
    sheet: list[tuple[str, Path]] = []
    reader = load_reader()
    world = shipped("mini-sd").world
    values: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for relation in options.relations.split(","):
        place = options.work / relation.replace(" ", "-")
        if not (place / "exemplars").exists():
            part = place / "exemplars.part"
            shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
            relations.write(world, part, relation, options.exemplars, options.prompts, TOKEN)
            part.rename(place / "exemplars")
        prompts = read_prompts(str(place / "exemplars" / "prompts.jsonl"))
        settings = Settings(token=TOKEN, start_word=START, steps=options.steps, left_out=own_words(relation))
        values[relation], training[relation] = {}, {}
        for way in options.ways.split(","):
            print(f"{relation}: training {way}", flush=True)
            record = train_token(place / "exemplars", place / way, WAYS[way](settings), prompts)
            training[relation][way] = {name: record[name] for name in ("settings", "seconds", "losses", "embedding")}
            prepared = request(prompts, options.seeds, place / way)
            values[relation][way] = generate_and_score(
                prepared, prompts, reader, place / f"{way}-pictures", ARMS.get(way, "none")
            )
        for way, words in (("and", START), ("own", captions.PHRASES[relation][0])):
            print(f"{relation}: {words}", flush=True)
            said = [dataclasses.replace(one, text=one.text.replace(TOKEN, words)) for one in prompts]
            prepared = request(said, options.seeds, None)
            values[relation][way] = generate_and_score(prepared, said, reader, place / f"{way}-pictures")
        sheet += shown(place, prompts) if options.sheet else []
    data = {
        "conditions": conditions(),
        "model": "mini-sd",
        "exemplars": options.exemplars,
        "prompts": options.prompts,
        "seeds": options.seeds,
        "left_out_of_the_positives": {name: list(own_words(name)) for name in values},
        "training": training,
        "all": estimates(pooled(values), "cluster"),
        "by_relation": {name: estimates(found, "prompt") for name, found in values.items()},
        "values": values,
    }
    path = save(options.name, data)
    report = RESULTS / f"{options.name}.md"
    part = report.with_suffix(".part")
    part.write_text(table(data), encoding="utf-8")
    part.replace(report)
    print(json.dumps({way: arms["none"].get("relation") for way, arms in data["all"]["means"].items()}, indent=1))
    print(f"written to {path} and {report}")
    if options.sheet:
        write_sheet(sheet, "The first two prompts of each relation, seed 0", options.sheet)


if __name__ == "__main__":
    main()
