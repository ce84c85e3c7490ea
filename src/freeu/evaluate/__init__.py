"""Measure what FreeU does to images, and what would have done as much without it.

alignment.py   what a prompt asks for against what an image shows
clip.py        CLIP score and retrieval with any CLIP
distance.py    Frechet and kernel distance between sets of features
inception.py   the features that FID is computed from
statistics.py  brightness, contrast, saturation, sharpness, share of high frequencies
diversity.py   how different images of one prompt are
motion.py, temporal.py, consistency.py, video_distance.py   measures of videos, over time
fidelity.py    how much images look like one subject
guidance.py    the CFG scale that is as strong as FreeU
intervals.py   bootstrap intervals that resample whole prompts
embedded.py    judge and scene reader of ``freeu-zoo``
arms.py, prompts.py, experiment.py, existing.py, scoring.py, bounds.py, summary.py, results.py, clip_drawing.py,
clip_scoring.py   ``freeu evaluate``

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freeu.evaluate.embedded import judge_path, load_reader
    from freeu.evaluate.experiment.clip_scoring import Seen, measure_clip, score_clip_alignment
    from freeu.evaluate.experiment.guidance import Calibration, calibrate_guidance, match_guidance
    from freeu.evaluate.experiment.scoring import Judges
    from freeu.evaluate.metrics.alignment import Asked, Reader, Reading, score_alignment
    from freeu.evaluate.metrics.clip import CLIP, clip_score, retrieval
    from freeu.evaluate.metrics.consistency import frame_consistency, subject_and_ground
    from freeu.evaluate.metrics.distance import (
        frechet_distance,
        frechet_floor,
        frechet_from_moments,
        frechet_limit,
        kernel_distance,
        kernel_distance_difference,
        kernel_distance_interval,
        kernel_distance_subsets,
    )
    from freeu.evaluate.metrics.diversity import mean_distance, pixel_diversity, vendi_score
    from freeu.evaluate.metrics.fidelity import subject_fidelity
    from freeu.evaluate.metrics.inception import Inception
    from freeu.evaluate.metrics.statistics import picture_statistics
    from freeu.evaluate.metrics.temporal import (
        fast_share,
        flicker,
        frame_difference,
        temporal_spectrum,
        traceable_share,
    )
    from freeu.evaluate.metrics.video_distance import clip_features, frechet_video_distance, kernel_video_distance
    from freeu.intervals import Estimate, mean_interval, paired_interval, share_interval
    from freeu.motion.measure import (
        DIRECTIONS,
        MOTIONS,
        Flow,
        Movement,
        motion_strength,
        optical_flow,
        subject_movement,
        warp_back,
    )

_HOMES = {
    "freeu.evaluate.embedded": (
        "judge_path",
        "load_reader",
    ),
    "freeu.evaluate.experiment.clip_scoring": (
        "Seen",
        "measure_clip",
        "score_clip_alignment",
    ),
    "freeu.evaluate.experiment.guidance": (
        "Calibration",
        "calibrate_guidance",
        "match_guidance",
    ),
    "freeu.evaluate.experiment.scoring": ("Judges",),
    "freeu.evaluate.metrics.alignment": (
        "Asked",
        "Reader",
        "Reading",
        "score_alignment",
    ),
    "freeu.evaluate.metrics.clip": (
        "CLIP",
        "clip_score",
        "retrieval",
    ),
    "freeu.evaluate.metrics.consistency": (
        "frame_consistency",
        "subject_and_ground",
    ),
    "freeu.evaluate.metrics.distance": (
        "frechet_distance",
        "frechet_floor",
        "frechet_from_moments",
        "frechet_limit",
        "kernel_distance",
        "kernel_distance_difference",
        "kernel_distance_interval",
        "kernel_distance_subsets",
    ),
    "freeu.evaluate.metrics.diversity": (
        "mean_distance",
        "pixel_diversity",
        "vendi_score",
    ),
    "freeu.evaluate.metrics.fidelity": ("subject_fidelity",),
    "freeu.evaluate.metrics.inception": ("Inception",),
    "freeu.evaluate.metrics.statistics": ("picture_statistics",),
    "freeu.evaluate.metrics.temporal": (
        "fast_share",
        "flicker",
        "frame_difference",
        "temporal_spectrum",
        "traceable_share",
    ),
    "freeu.evaluate.metrics.video_distance": (
        "clip_features",
        "frechet_video_distance",
        "kernel_video_distance",
    ),
    "freeu.intervals": (
        "Estimate",
        "mean_interval",
        "paired_interval",
        "share_interval",
    ),
    "freeu.motion.measure": (
        "DIRECTIONS",
        "MOTIONS",
        "Flow",
        "Movement",
        "motion_strength",
        "optical_flow",
        "subject_movement",
        "warp_back",
    ),
}

__all__ = [
    "CLIP",
    "DIRECTIONS",
    "MOTIONS",
    "Asked",
    "Calibration",
    "Estimate",
    "Flow",
    "Inception",
    "Judges",
    "Movement",
    "Reader",
    "Reading",
    "Seen",
    "calibrate_guidance",
    "clip_features",
    "clip_score",
    "fast_share",
    "flicker",
    "frame_consistency",
    "frame_difference",
    "frechet_distance",
    "frechet_floor",
    "frechet_from_moments",
    "frechet_limit",
    "frechet_video_distance",
    "judge_path",
    "kernel_distance",
    "kernel_distance_difference",
    "kernel_distance_interval",
    "kernel_distance_subsets",
    "kernel_video_distance",
    "load_reader",
    "match_guidance",
    "mean_distance",
    "mean_interval",
    "measure_clip",
    "motion_strength",
    "optical_flow",
    "paired_interval",
    "picture_statistics",
    "pixel_diversity",
    "retrieval",
    "score_alignment",
    "score_clip_alignment",
    "share_interval",
    "subject_and_ground",
    "subject_fidelity",
    "subject_movement",
    "temporal_spectrum",
    "traceable_share",
    "vendi_score",
    "warp_back",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(home), name)
            return value
    raise AttributeError(f"module 'freeu.evaluate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
