"""Optical flow on videos of known motion, and the frames between two key frames made with it.

    python benchmarks/bench_flow.py

Endpoint error and occlusion of plain DIS and of ``steady_flow``, 1, 4 and 8 frames apart; how close the frames between
two key frames are to those of the video, with its own key frames (identity) and with key frames whose colours drift
(blend), compared with a gradient-domain blend. Writes results/flow.json and results/flow.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import known_videos
import numpy as np
import scipy.fft
from common import RESULTS, conditions, save
from known_videos import KnownVideo
from numpy.typing import NDArray

from freeu.motion.estimate import along
from freeu.motion.measure import Flow, optical_flow
from freeu.rerender.video import blend as blending
from freeu.rerender.video import propagate as propagation
from freeu.rerender.video.propagate import propagate

APART = (1, 4, 8)
COUNT = 9
SCREEN = 0.02  # weight of the colours against the gradients in the gradient-domain blend

Floats = NDArray[np.float64]


def psnr(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB; 99 for equal frames."""
    error = float(np.square(got.astype(np.float64) - want).mean())
    return 99.0 if error == 0.0 else 10.0 * float(np.log10(255.0**2 / error))


def flow_row(video: KnownVideo, apart: int, method: str) -> dict[str, Any]:
    """Errors of the flow from the video's first frame to the one so many frames later."""
    frames = video.frames[: apart + 1]
    start = time.perf_counter()
    flow: Flow = optical_flow(frames[0], frames[-1]) if method == "DIS" else along(frames)
    seconds = time.perf_counter() - start
    truth, visible = video.truth(0, apart)
    miss = np.linalg.norm(flow.forward - truth, axis=2)
    hit = float((~visible & ~flow.traceable).sum())
    return {
        "film": video.name,
        "apart": apart,
        "method": method,
        "error_px": float(miss[visible].mean()),
        "off_by_1px": float((miss[visible] > 1.0).mean()),
        "hidden": float((~visible).mean()),
        "precision": hit / max(1.0, float((~flow.traceable).sum())),
        "recall": hit / max(1.0, float((~visible).sum())),
        "seconds": seconds,
    }


def identity_row(video: KnownVideo, method: str) -> dict[str, Any]:
    """How close the frames between are to those of the video if the key frames are its own."""
    estimator = optical_flow if method == "DIS" else None
    generated = list(propagate(video.frames, video.frames[0], video.frames[-1], estimator))
    ratios = [psnr(got, want) for got, want in zip(generated[1:-1], video.frames[1:-1], strict=True)]
    held = [psnr(video.frames[0 if step < COUNT // 2 else -1], video.frames[step]) for step in range(1, COUNT - 1)]
    return {
        "film": video.name,
        "method": method,
        "mean_db": np.mean(ratios),
        "worst_db": min(ratios),
        "held_db": np.mean(held),
    }


def recoloured(frame: NDArray[np.uint8], time: float) -> Floats:
    """A frame in colours that drift in time from one key frame to the other, and vary over the image."""
    values, rows = frame.astype(np.float64), np.linspace(-1.0, 1.0, frame.shape[0])[:, None, None]
    first = 128.0 + 0.75 * (values - 128.0) * (1.0, 0.9, 0.8) + (12.0, -4.0, 6.0) * rows
    last = 128.0 + 0.75 * (values - 128.0) * (0.85, 0.9, 1.0) + (-8.0, 10.0, 4.0) - (6.0, 2.0, -8.0) * rows
    return np.asarray((1.0 - time) * first + time * last)


def plain_blend(before: Any, after: Any, seen_before: Any, seen_after: Any, time: float) -> NDArray[np.uint8]:
    """Weights by time and visibility alone: no colours matched, no contrast restored."""
    return np.asarray(np.clip(np.rint(_mixed(before, after, seen_before, seen_after, time)), 0, 255), np.uint8)


def _mixed(before: Any, after: Any, seen_before: Any, seen_after: Any, time: float) -> Floats:
    ahead, behind = time * (seen_after + 1e-3), (1.0 - time) * (seen_before + 1e-3)
    share = (ahead / (ahead + behind))[..., None]
    return np.asarray((1.0 - share) * before + share * after, np.float64)


def gradient_blend(before: Any, after: Any, seen_before: Any, seen_after: Any, time: float) -> NDArray[np.uint8]:
    """Gradients of the one with the larger weight, colours of the mixture: screened Poisson by cosine transform."""
    colours = _mixed(before, after, seen_before, seen_after, time)
    later = (time * (seen_after + 1e-3) > (1.0 - time) * (seen_before + 1e-3))[..., None]
    divergence = np.zeros_like(colours)
    for axis in (0, 1):
        steps = np.diff(np.where(later, after, before), axis=axis)
        # At a border between the two neither's gradient is valid: take the mean.
        both = np.diff(later.astype(int), axis=axis) != 0
        steps = np.where(both, (np.diff(before, axis=axis) + np.diff(after, axis=axis)) / 2.0, steps)
        pad = [(0, 0)] * 3
        pad[axis] = (1, 1)
        divergence += np.diff(np.pad(steps, pad), axis=axis)
    height, width = colours.shape[:2]
    rows, columns = (2.0 - 2.0 * np.cos(np.pi * np.arange(side) / side) for side in (height, width))
    spectrum = scipy.fft.dctn(SCREEN * colours - divergence, axes=(0, 1), norm="ortho")
    solved = scipy.fft.idctn(
        spectrum / (SCREEN + rows[:, None, None] + columns[None, :, None]), axes=(0, 1), norm="ortho"
    )
    return np.asarray(np.clip(np.rint(solved), 0, 255), np.uint8)


BLENDS: dict[str, Callable[..., NDArray[np.uint8]]] = {
    "weights only": plain_blend,
    "gradient domain": gradient_blend,
    "colours matched": blending.blend,
}


def blend_rows(video: KnownVideo) -> list[dict[str, Any]]:
    """Each blend on key frames whose colours drift, compared with the video in the colours of each moment."""
    first, last = (
        np.clip(np.rint(recoloured(video.frames[end], float(-end))), 0, 255).astype(np.uint8) for end in (0, -1)
    )
    flows = [(along(video.frames[step::-1]), along(video.frames[step:])) for step in (2, 4, 6)]
    rows = []
    for name, blend in BLENDS.items():
        ratios, contrasts = [], []
        for step, (back, forth) in zip((2, 4, 6), flows, strict=True):
            frame, moment = video.frames[step], step / (COUNT - 1)
            weights = [propagation.confidence(frame, video.frames[end], flow) for end, flow in ((0, back), (-1, forth))]
            warped = [propagation.warped_key(key, flow) for key, flow in ((first, back), (last, forth))]
            got = blend(*warped, *weights, moment)
            ratios.append(psnr(got, recoloured(frame, moment)))
            # Independent detail: noise that the two key frames do not share.
            draws = np.random.default_rng(step)
            noisy = [part + 12.0 * draws.standard_normal(part.shape).astype(np.float32) for part in warped]
            added = blend(*[np.asarray(part, np.float32) for part in noisy], *weights, moment).astype(np.float64) - got
            contrasts.append(float(added.std()) / 12.0)
        rows.append({"film": video.name, "blend": name, "mean_db": np.mean(ratios), "detail_kept": np.mean(contrasts)})
    return rows


def mean(rows: list[dict[str, Any]], key: str, **where: Any) -> float:
    """Mean of a column over the rows that match."""
    return float(np.mean([row[key] for row in rows if all(row[name] == value for name, value in where.items())]))


def tables(data: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Flow on videos of known motion",
        "",
        "Made by `python benchmarks/bench_flow.py`; all rows in flow.json.",
        "",
    ]
    lines += [
        "| videos | frames apart | endpoint error px, DIS | steady | off by > 1 px, DIS | steady |"
        " occluded: precision, DIS | steady | recall, DIS | steady |",
        "|---" * 10 + "|",
    ]
    for kind in ("textured", "emoji"):
        for apart in APART:
            cells = []
            for key in ("error_px", "off_by_1px", "precision", "recall"):
                for method in ("DIS", "steady"):
                    value = mean(data["flow"], key, kind=kind, apart=apart, method=method)
                    cells.append(f"{100 * value:.1f} %" if key == "off_by_1px" else f"{value:.2f}")
            lines.append(f"| {kind} | {apart} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"The video's own key frames, {COUNT - 1} apart: PSNR in dB of the frames between; *held* repeats the nearer"
        " key frame.",
        "",
        "| video | held | DIS mean | worst | steady mean | worst |",
        "|---" * 6 + "|",
    ]
    for video in dict.fromkeys(row["film"] for row in data["identity"]):
        cells = [f"{mean(data['identity'], 'held_db', film=video):.1f}"]
        for method in ("DIS", "steady"):
            cells += [
                f"{mean(data['identity'], key, film=video, method=method):.1f}" for key in ("mean_db", "worst_db")
            ]
        lines.append(f"| {video} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Key frames whose colours drift: PSNR in dB to the video in the colours of each moment; contrast left of detail"
        " that the key frames do not share.",
        "",
        "| blend | textured dB | emoji dB | textured detail | emoji detail |",
        "|---" * 5 + "|",
    ]
    for name in BLENDS:
        cells = [
            f"{mean(data['blend'], key, kind=kind, blend=name):.2f}"
            for key in ("mean_db", "detail_kept")
            for kind in ("textured", "emoji")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    cv2.setNumThreads(1)
    data: dict[str, Any] = {
        "conditions": conditions() | {"opencv": cv2.__version__},
        "flow": [],
        "identity": [],
        "blend": [],
    }
    groups = {"textured": known_videos.textured_videos(COUNT), "emoji": known_videos.emoji_videos(8, COUNT)}
    for kind, videos in groups.items():
        for video in videos:
            for method in ("DIS", "steady"):
                data["flow"] += [flow_row(video, apart, method) | {"kind": kind} for apart in APART]
                data["identity"].append(identity_row(video, method) | {"kind": kind})
            data["blend"] += [row | {"kind": kind} for row in blend_rows(video)]
            print(video.name, flush=True)
    save("flow", data)
    (RESULTS / "flow.md").write_text(tables(data))
    print(tables(data))


if __name__ == "__main__":
    main()
