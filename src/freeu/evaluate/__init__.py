"""Measure what FreeU does to pictures, and what would have done as much without it.

alignment.py   what a prompt asks for against what a picture shows
clip.py        CLIP score and retrieval with any CLIP
distance.py    Frechet and kernel distance between sets of features
inception.py   the features that FID is computed from
statistics.py  brightness, contrast, saturation, sharpness, share of high frequencies
diversity.py   how different pictures of one prompt are
guidance.py    the guidance scale that is as strong as FreeU
intervals.py   bootstrap intervals that resample whole prompts
embedded.py    judge and scene reader of ``freeu-zoo``
arms.py, prompts.py, experiment.py, existing.py, scoring.py, bounds.py, summary.py, results.py   ``freeu evaluate``

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freeu.evaluate.alignment import Asked, Reader, Reading, score_alignment
    from freeu.evaluate.clip import CLIP, clip_score, retrieval
    from freeu.evaluate.distance import (
        frechet_distance,
        frechet_floor,
        frechet_from_moments,
        frechet_limit,
        kernel_distance,
        kernel_distance_difference,
        kernel_distance_interval,
        kernel_distance_subsets,
    )
    from freeu.evaluate.diversity import mean_distance, pixel_diversity, vendi_score
    from freeu.evaluate.embedded import judge_path, load_reader
    from freeu.evaluate.guidance import Calibration, calibrate_guidance, match_guidance
    from freeu.evaluate.inception import Inception
    from freeu.evaluate.intervals import Estimate, mean_interval, paired_interval, share_interval
    from freeu.evaluate.statistics import picture_statistics

_HOMES = {
    "alignment": ("Asked", "Reader", "Reading", "score_alignment"),
    "clip": ("CLIP", "clip_score", "retrieval"),
    "distance": (
        "frechet_distance",
        "frechet_floor",
        "frechet_from_moments",
        "frechet_limit",
        "kernel_distance",
        "kernel_distance_difference",
        "kernel_distance_interval",
        "kernel_distance_subsets",
    ),
    "diversity": ("mean_distance", "pixel_diversity", "vendi_score"),
    "embedded": ("judge_path", "load_reader"),
    "guidance": ("Calibration", "calibrate_guidance", "match_guidance"),
    "inception": ("Inception",),
    "intervals": ("Estimate", "mean_interval", "paired_interval", "share_interval"),
    "statistics": ("picture_statistics",),
}

__all__ = [
    "CLIP",
    "Asked",
    "Calibration",
    "Estimate",
    "Inception",
    "Reader",
    "Reading",
    "calibrate_guidance",
    "clip_score",
    "frechet_distance",
    "frechet_floor",
    "frechet_from_moments",
    "frechet_limit",
    "judge_path",
    "kernel_distance",
    "kernel_distance_difference",
    "kernel_distance_interval",
    "kernel_distance_subsets",
    "load_reader",
    "match_guidance",
    "mean_distance",
    "mean_interval",
    "paired_interval",
    "picture_statistics",
    "pixel_diversity",
    "retrieval",
    "score_alignment",
    "share_interval",
    "vendi_score",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"freeu.evaluate.{home}"), name)
            return value
    raise AttributeError(f"module 'freeu.evaluate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
