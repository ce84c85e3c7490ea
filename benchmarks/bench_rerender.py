"""Consistency of re-rendered videos, the effect of each stage, and the effect of FreeU; embedded models.

    python benchmarks/bench_rerender.py [--clips 10] [--arms NAME,...|all] [--work DIR]

Each source video is a flat emoji that moves over 24 frames; it is re-rendered as 3D with the embedded Canny ControlNet,
a key frame every 8 frames. Three arms by default: frame by frame (every frame is an independent key frame), the default
stages, and these without outline, as they were before there was that stage. The others: all stages, all but each one,
no stage; with FreeU, the default stages with the presets sd14 and gentle, each before and after the ControlNet's
residuals. The noise is the same everywhere.

Measured on the written videos: residue, what is left of the object where the source has none; whether edges are where
those of the source are, and whether that lasts; the warping error by the motion of the source from one frame to the
next and over 8 frames; flicker by the output's own motion; colour drift; sharpness and its change; what the scene
reader finds of what the prompt asks for. Differences are paired by video, and their intervals resample videos.

Videos, flows and key frames are kept in the work folder, by model and settings: a second run only measures. Writes
results/NAME.json, results/NAME.md and the sheet of all videos. About 20 minutes on an idle core, most of it frame by
frame.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, conditions, save
from freeu_zoo import films
from freeu_zoo.recipe import shipped
from freeu_zoo.world import captions, clips, sprites
from freeu_zoo.world.layouts import SIZE
from freeu_zoo.world.scenes import COLOURS, Scene, visible_share
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import freeu
from freeu.evaluate.embedded import load_reader
from freeu.evaluate.experiment.scoring import Judges
from freeu.evaluate.experiment.video_scoring import measure_video, score_video_alignment
from freeu.evaluate.metrics.alignment import PromptSpec
from freeu.evaluate.metrics.outline import edge_agreement, residue
from freeu.evaluate.metrics.temporal import mean_flicker, pair_flicker
from freeu.intervals import mean_interval, paired_interval
from freeu.motion.estimate import Tracker, steady_flow
from freeu.motion.measure import Flow, Frame, warp_back
from freeu.pipelines.io.clip_files import read_clip
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs.request import Request
from freeu.rerender.denoise.settings import DEFAULT_STAGES, STAGES
from freeu.rerender.options import RerenderOptions
from freeu.rerender.request import Job, Rerender, check_rerender, prepare_rerender
from freeu.rerender.run import VIDEOS, run_rerender
from freeu.rerender.video.segments import KeyFrameChoice, segments
from freeu.rerender.video.source import frames_sha, open_source

FRAMES, EVERY, FPS = 24, 8, 8
FRAME_BY_FRAME, ALL, NONE, DEFAULT = "frame by frame", "all stages", "no stage", "default"
BEFORE = "default without outline"
SHOWN = (FRAME_BY_FRAME, BEFORE, DEFAULT)
"""The arms that are made by default and are on the sheet."""

PLACES = (0, 4, 8, 12, 16, 20, 23)
"""The frames on the sheet."""

LABEL = 110
"""Pixels across of the column that says what a row of the sheet is."""

PRESETS = ("sd14", "gentle")


@dataclass(frozen=True)
class Arm:
    """How a video is made: the stages, a key frame every so many frames, and FreeU's preset and order, if any."""

    stages: tuple[str, ...] = STAGES
    every: int = EVERY
    preset: str | None = None
    order: str = "after"


ARMS = {
    FRAME_BY_FRAME: Arm((), 1),
    BEFORE: Arm(tuple(one for one in DEFAULT_STAGES if one != "outline")),
    DEFAULT: Arm(DEFAULT_STAGES),
    ALL: Arm(),
    NONE: Arm(()),
}
ARMS |= {f"without {stage}": Arm(tuple(one for one in STAGES if one != stage)) for stage in STAGES}
ARMS |= {
    f"{DEFAULT}; {preset} {order}": Arm(DEFAULT_STAGES, preset=preset, order=order)
    for preset in PRESETS
    for order in ("after", "before")
}

MEASURES = {
    "residue": "residue",
    "edges": "edge agreement",
    "edges_last": "edge agreement, last 8 frames",
    "edges_lost": "its loss from the first 8",
    "warping": "warping error",
    "warping_far": "warping error over 8 frames",
    "flicker": "flicker",
    "colour_drift": "colour drift",
    "fading": "change of sharpness",
    "sharpness": "sharpness x 1000",
    "saturation": "saturation",
    "noun": "noun",
    "style": "style",
    "background": "background",
    "all_asked": "all attributes correct",
}
OWN_MEASURE = {
    "cross-frame": "warping_far",
    "shape": "warping_far",
    "outline": "residue",
    "pixel": "warping_far",
    "fidelity": "fading",
    "colour": "colour_drift",
}
"""The target measure of each stage; lower is better in all of these."""

Row = dict[str, float]


class Remembered:
    """The flow of one source video as ``freeu rerender`` computes it, computed once for all arms.

    For a pair of frames that a run tracks it is the flow of ``Tracker``; otherwise ``steady_flow``.

    Args:
        frames: of the video.
        path: an .npz to which ``save`` writes all flows, and from which they are read if it exists.
    """

    def __init__(self, frames: Sequence[Frame], path: Path) -> None:
        self._found: dict[tuple[bytes, bytes], Flow] = {}
        self._path = path
        if path.exists():
            self._read()
        else:
            self._track(frames)

    def _track(self, frames: Sequence[Frame]) -> None:
        scene: Tracker | None = None
        for segment in segments(frames, KeyFrameChoice(interval=EVERY)):
            first, last, within = segment.frames[0], segment.frames[-1], segment.frames[1:-1]
            scene = Tracker(first) if segment.opens or scene is None else scene
            for frame in segment.frames[1:]:
                self._keep(frame, scene.reference, scene.follow(frame))
            for reference, order in ((first, (*within, last)), (last, (*within[::-1], first))):
                tracker = Tracker(reference)
                for frame in order:
                    self._keep(frame, reference, tracker.follow(frame))

    def _keep(self, target: Frame, reference: Frame, flow: Flow) -> None:
        self._found.setdefault(_pair(target, reference), flow)

    def _read(self) -> None:
        with np.load(self._path) as file:
            for name in (name for name in file.files if name.endswith("/forward")):
                pair, _ = name.split("/")
                flow = Flow(file[name], file[f"{pair}/traceable"])
                self._found[bytes.fromhex(pair[:64]), bytes.fromhex(pair[64:])] = flow

    def save(self) -> None:
        """Write all flows so far, if the file is not there yet."""
        if self._path.exists():
            return
        arrays = {}
        for pair, flow in self._found.items():
            arrays |= {f"{b''.join(pair).hex()}/{name}": getattr(flow, name) for name in ("forward", "traceable")}
        with OutputFolder(self._path.parent).file(self._path.name) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def __call__(self, target: Any, reference: Any) -> Flow:
        key = _pair(target, reference)
        if key not in self._found:
            self._found[key] = steady_flow(target, reference)
        return self._found[key]


def _pair(target: Frame, reference: Frame) -> tuple[bytes, bytes]:
    return tuple(hashlib.sha256(frame.tobytes()).digest() for frame in (target, reference))  # type: ignore[return-value]


@dataclass
class Video:
    """A source video, and what all arms need of it."""

    path: Path
    prompt: str
    spec: PromptSpec
    frames: list[Frame]
    objects: NDArray[np.bool_]
    flow: Remembered
    steps: list[Flow]
    far: list[tuple[int, int, Flow]]


def videos(count: int, folder: Path) -> Iterator[Video]:
    """Flat emoji in motion; a new noun each, the motions in rotation, backgrounds on which it is visible."""
    world = shipped("mini-sd").world
    draw = random.Random("rerender")
    nouns = draw.sample(list(world.nouns), len(world.nouns))
    motions = [motion for motion in clips.MOTIONS if motion != "still"]
    made = 0
    for number, noun in enumerate(nouns):
        colours = [
            colour
            for colour in COLOURS
            if all(visible_share(style, noun, None, colour) >= 0.5 for style in ("flat", "3d"))
        ]
        if not colours:
            continue
        background = draw.choice(colours)
        path = folder / f"{number:02d}-{noun}.png"
        clip = films.film(noun, "flat", background, motions[made % len(motions)], FRAMES, seed=number)
        films.write(clips.images(clip), path, FPS)
        frames = list(open_source(path))
        flow = Remembered(frames, folder / f"{path.stem}-{_motion_code()}.npz")
        steps = [flow(a, b) for a, b in itertools.pairwise(frames)]
        places = [*range(0, FRAMES - 1, EVERY), FRAMES - 1]
        far = [(a, b, flow(frames[b], frames[a])) for a, b in itertools.pairwise(places)]
        prompt = captions.simple_caption(noun, "3d", background)
        spec = PromptSpec(nouns=(noun,), count=1, style="3d", background=(background,))
        flow.save()
        objects = np.array([_object(scene) for scene in clip.frames])
        yield Video(path, prompt, spec, frames, objects, flow, steps, far)
        made += 1
        if made == count:
            break


def _object(scene: Scene) -> NDArray[np.bool_]:
    """Where the object of a scene is, (H, W): at least half opaque."""
    thing = scene.things[0]
    alpha = sprites.load(scene.style, thing.noun).getchannel("A").resize((thing.width, thing.height))
    canvas = Image.new("L", (SIZE, SIZE))
    canvas.paste(alpha, (thing.left, thing.top))
    return np.asarray(canvas) >= 128


def _motion_code() -> str:
    """Eight characters that change with the code that computes flow."""
    files = sorted(Path(freeu.__file__).parent.glob("motion/*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def loaded(video: Video, folder: Path, options: argparse.Namespace) -> Job:
    """A job with model and ControlNet, from which ``varied`` makes others."""
    request = Request(
        command="generate",
        prompts=(video.prompt,),
        sampling=SamplingOptions(steps=options.steps),
        run=RunOptions(threads=options.threads),
        freeu=FreeUOptions(preset="sd14"),
        control=ControlOptions(control_weight=options.control_scale),
    )
    run = Rerender(video.path, request, RerenderOptions(options.strength, control="canny"))
    return prepare_rerender(run, check_rerender(run, folder))


def varied(job: Job, video: Video, arm: Arm) -> Job:
    """The job of an arm for another video."""
    config = None
    if arm.preset is not None:
        config = freeu.preset(arm.preset).replace(control=arm.order)
    name = "freeu" if config is not None else "baseline"
    plan = replace(job.plan, prompts=(video.prompt,), arms=(name,), config=config)
    settings = replace(job.settings, prompt=video.prompt, stages=arm.stages)
    keys = KeyFrameChoice(interval=arm.every)
    source = open_source(video.path).at(job.source.size)
    about = job.record["video"] | {"name": video.path.name, "sha256": frames_sha(source)}
    changed = {"plan": plan.to_dict(), "settings": settings.record(), "keys_by": asdict(keys), "video": about}
    return replace(
        job, record=job.record | changed, source=source, plan=plan, settings=settings, keys=keys, flow=video.flow
    )


class Counter:
    """Counts key frames."""

    def __init__(self) -> None:
        self.count = 0

    def kept(self, count: int) -> None: ...

    def key(self, arm: str, frame: int, fraction: float) -> None:
        self.count += fraction == 1.0

    def frame(self, arm: str, frame: int) -> None: ...


def measures(path: Path, video: Video, judges: Judges) -> Row:
    """All measures of one output video."""
    found = list(read_clip(path))
    measured = measure_video(found, judges)
    row: Row = {name: value for name, value in score_video_alignment(video.spec, measured).items() if value is not None}
    row["warping"] = _mean(pair_flicker(a, b, flow) for a, b, flow in zip(found, found[1:], video.steps, strict=False))
    row["warping_far"] = _mean(pair_flicker(found[b], found[a], flow) for a, b, flow in video.far)
    row["flicker"] = float(measured.values["flicker"] or 0.0)
    row["colour_drift"] = float(np.mean([_drift(found[b], found[a], flow) for a, b, flow in video.far]))
    row["saturation"] = float(measured.values["saturation"] or 0.0)
    row["sharpness"] = 1000 * float(measured.values["sharpness"] or 0.0)
    first, last = (1000 * _sharpness(found[place]) for place in (0, -1))
    before, after = (1000 * _sharpness(video.frames[place]) for place in (0, -1))
    row["fading"] = abs(float(np.log((last / first) / (after / before))))
    row["residue"] = residue(found, video.objects) or 0.0
    agreement = edge_agreement(found, video.frames)
    row["edges"], row["edges_last"] = float(agreement.mean()), float(agreement[-EVERY:].mean())
    row["edges_lost"] = float(agreement[:EVERY].mean() - agreement[-EVERY:].mean())
    return row


def _mean(pairs: Iterable[tuple[float, int]]) -> float:
    value = mean_flicker(pairs)
    assert value is not None
    return value


def _drift(later: Frame, earlier: Frame, flow: Flow) -> float:
    """Difference of the mean colours of what both frames show, in levels, mean over channels."""
    apart = (later.astype(np.float64) - warp_back(earlier, flow))[flow.traceable]
    return float(np.abs(apart.mean(axis=0)).mean())


def _sharpness(frame: Frame) -> float:
    from freeu.evaluate.metrics.statistics import image_statistics

    return float(image_statistics(frame)["sharpness"])


def against(arm: str) -> tuple[str, ...]:
    """What an arm is compared to."""
    if arm == FRAME_BY_FRAME:
        return ()
    if arm == DEFAULT:
        return FRAME_BY_FRAME, BEFORE
    if arm in (ALL, NONE, BEFORE):
        return (FRAME_BY_FRAME,)
    return (DEFAULT if ARMS[arm].preset else ALL,)


def summary(rows: dict[str, list[Row]], names: Sequence[str]) -> dict[str, Any]:
    """By arm: means, and paired differences to the arms that ``against`` names."""
    found: dict[str, Any] = {}
    for arm, mine in rows.items():
        values = {measure: [row[measure] for row in mine] for measure in MEASURES}
        mean = {measure: asdict(mean_interval(values[measure], names)) for measure in MEASURES}
        found[arm] = {"mean": mean, "difference": {}}
        for other in (other for other in against(arm) if other in rows):
            found[arm]["difference"][other] = {
                measure: asdict(paired_interval(values[measure], [row[measure] for row in rows[other]], names))
                for measure in MEASURES
            }
    return found


def table(data: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = [
        "# Rerender on the embedded models",
        "",
        f"{len(data['clips'])} videos of {FRAMES} frames, flat to 3D, key frames every {EVERY} frames; "
        f"{data['steps']} steps, denoising strength {data['strength']:g}, ControlNet weight "
        f"{data['control_scale']:g}, seed 0. "
        f"The default stages are {', '.join(data['default_stages'])}. Residue, warping error, flicker and colour "
        "drift are in levels of 255. In brackets: 95 % bootstrap intervals over videos.",
        "",
        "| arm | " + " | ".join(MEASURES.values()) + " |",
        "|---|" + "---:|" * len(MEASURES),
    ]
    for arm, numbers in data["arms"].items():
        lines.append(f"| {arm} | " + " | ".join(_short(numbers["mean"][name]["value"]) for name in MEASURES) + " |")
    lines += [
        "",
        "Differences, paired by video:",
        "",
        "| arm | to | " + " | ".join(MEASURES.values()) + " |",
        "|---|---|" + "---:|" * len(MEASURES),
    ]
    for arm, numbers in data["arms"].items():
        for other, differences in numbers["difference"].items():
            cells = [_interval(differences[name]) for name in MEASURES]
            lines.append(f"| {arm} | {other} | " + " | ".join(cells) + " |")
    timed = [f"{arm}: {seconds:.0f}" for arm, seconds in data["seconds"].items()]
    lines += ["", f"Seconds for a video, median, on {data['conditions']['cores']} thread(s): {', '.join(timed)}."]
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _interval(estimate: dict[str, Any]) -> str:
    text = f"{estimate['value']:+.3f}"
    if estimate["low"] is not None:
        text += f"<br>[{estimate['low']:+.3f}, {estimate['high']:+.3f}]"
    return text


def write_sheet(found: Sequence[Video], work: Path, path: Path) -> None:
    """Frames of all videos as PNG, a row each for the source and the arms of ``SHOWN``; multiples of 4 are smaller."""
    rows = []
    for video in found:
        shown = {"source": video.frames}
        shown |= {arm: list(read_clip(work / video.path.stem / folder_of(arm) / VIDEOS["baseline"])) for arm in SHOWN}
        for name, frames in shown.items():
            label = Image.new("RGB", (LABEL, SIZE), "white")
            words = "\n".join([video.path.stem[3:], *name.replace("default ", "default\n").split("\n")])
            ImageDraw.Draw(label).text((6, SIZE // 2 - 20), words, "black")
            rows.append(np.concatenate([np.asarray(label), *(frames[place] for place in PLACES)], axis=1))
        rows.append(np.full((6, rows[-1].shape[1], 3), 255, np.uint8))
    with OutputFolder(path.parent).file(path.name) as part:
        Image.fromarray(np.concatenate(rows[:-1]) // 4 * 4 + 1).save(part, format="PNG", optimize=True)


def folder_of(arm: str) -> str:
    """The folder of an arm's videos."""
    return arm.replace(" ", "-").replace(";", "")


def settings_folder(job: Job, work: Path) -> Path:
    """The folder of one model with one set of settings: other videos are made in another."""
    plan = {name: value for name, value in job.plan.to_dict().items() if name not in ("prompts", "arms", "config")}
    settings = {name: value for name, value in job.settings.record().items() if name not in ("prompt", "stages")}
    determined = json.dumps([plan, settings, job.record["control"], job.record["environment"]], sort_keys=True)
    return work / hashlib.sha256(determined.encode()).hexdigest()[:8]


def timed(job: Job, video: Video, arm: Arm, place: Path) -> float | None:
    """Make the video of an arm unless it is there; the seconds it took if it was made at once, now or earlier."""
    began, counter = time.perf_counter(), Counter()
    record = run_rerender(varied(job, video, arm), OutputFolder(place), counter)
    clock = place / "seconds.json"
    keys = sum(len(found) for found in record["keys"].values())
    if counter.count and counter.count == keys:
        clock.write_text(json.dumps(time.perf_counter() - began), encoding="utf-8")
    return float(json.loads(clock.read_text(encoding="utf-8"))) if clock.exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--arms", default=",".join(SHOWN), help="names, with commas, or all")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--strength", type=float, default=0.75)
    parser.add_argument("--control-scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--work", type=Path, default=Path("work/rerender"))
    parser.add_argument("--name", default="rerender", help="of the files in results and of the sheet")
    parser.add_argument("--sheet", type=Path, help="where (default: docs/images/NAME.png, if all its arms are made)")
    options = parser.parse_args()
    wanted = list(ARMS) if options.arms == "all" else options.arms.split(",")
    judges = Judges(reader=load_reader())
    rows: dict[str, list[Row]] = {name: [] for name in wanted}
    seconds: dict[str, list[float]] = {name: [] for name in wanted}
    found: list[Video] = []
    for video in videos(options.clips, options.work / "videos"):
        if not found:
            job = loaded(video, options.work / "none", options)
            work = settings_folder(job, options.work)
        found.append(video)
        for name in wanted:
            place = work / video.path.stem / folder_of(name)
            took = timed(job, video, ARMS[name], place)
            seconds[name] += [took] if took is not None else []
            kind = "baseline" if ARMS[name].preset is None else "freeu"
            rows[name].append(measures(place / VIDEOS[kind], video, judges))
            print(f"{video.path.stem}: {name}, {took or 0:.0f} s", flush=True)
    data = {
        "conditions": conditions(),
        "clips": {video.path.stem: video.prompt for video in found},
        "steps": options.steps,
        "strength": options.strength,
        "control_scale": options.control_scale,
        "own_measure": OWN_MEASURE,
        "default_stages": DEFAULT_STAGES,
        "seconds": {name: float(np.median(value)) for name, value in seconds.items() if value},
        "arms": summary(rows, [video.path.stem for video in found]),
        "rows": rows,
    }
    path = save(options.name, data)
    with OutputFolder(RESULTS).file(f"{options.name}.md") as part:
        part.write_text(table(data), encoding="utf-8")
    print(table(data))
    print(f"wrote {path} and {path.with_suffix('.md')}")
    if set(SHOWN) <= set(wanted):
        write_sheet(found, work, options.sheet or RESULTS.parents[1] / "docs" / "images" / f"{options.name}.png")


if __name__ == "__main__":
    main()
