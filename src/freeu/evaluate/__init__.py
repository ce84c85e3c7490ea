"""Measure what FreeU does to images and videos, and compare it with stronger guidance.

metrics      alignment of image and prompt, CLIP score, FID and KID, statistics, diversity, consistency over time; in
             ``plugins`` metrics of other packages and of the user
experiment   ``freeu evaluate``: the same prompts and seeds generated under several arms, scored and summarized
tracking     results for wandb, mlflow and tensorboard
embedded.py  the judge (a CLIP) and the scene reader of ``freeu-zoo``

An *arm* is one way of generating (without FreeU, with a preset, with another CFG scale); a *judge* is a network whose
features are compared; a *reader* names what an image shows. Optical flow is in ``freeu.motion``, bootstrap intervals in
``freeu.intervals``. Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freeu.extras import need
from freeu.lazy import load_name

if TYPE_CHECKING:
    from freeu.evaluate.calibration.effective import (
        EffectiveScale,
        NeutralScale,
        effective_scale,
        neutral_scale,
        projected_scale,
    )
    from freeu.evaluate.calibration.guidance import Calibration, calibrate_guidance, match_guidance
    from freeu.evaluate.embedded import judge_path, load_reader
    from freeu.evaluate.experiment.scoring import Judges
    from freeu.evaluate.experiment.video_scoring import VideoMeasurement, measure_video, score_video_alignment
    from freeu.evaluate.metrics.alignment import PromptSpec, Reader, Reading, score_alignment
    from freeu.evaluate.metrics.clip import CLIP, clip_score, retrieval
    from freeu.evaluate.metrics.consistency import frame_consistency, split_subject
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
    from freeu.evaluate.metrics.outline import edge_agreement, residue
    from freeu.evaluate.metrics.plugins.metric import Metric, MetricPlugin
    from freeu.evaluate.metrics.plugins.registry import find_metric, metric_plugins
    from freeu.evaluate.metrics.statistics import image_statistics
    from freeu.evaluate.metrics.temporal import (
        fast_share,
        flicker,
        frame_difference,
        temporal_spectrum,
        traceable_share,
    )
    from freeu.evaluate.metrics.video_distance import frechet_video_distance, kernel_video_distance, video_features
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
    "freeu.evaluate.experiment.video_scoring": (
        "VideoMeasurement",
        "measure_video",
        "score_video_alignment",
    ),
    "freeu.evaluate.calibration.effective": (
        "EffectiveScale",
        "NeutralScale",
        "effective_scale",
        "neutral_scale",
        "projected_scale",
    ),
    "freeu.evaluate.calibration.guidance": (
        "Calibration",
        "calibrate_guidance",
        "match_guidance",
    ),
    "freeu.evaluate.experiment.scoring": ("Judges",),
    "freeu.evaluate.metrics.alignment": (
        "PromptSpec",
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
        "split_subject",
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
    "freeu.evaluate.metrics.outline": ("edge_agreement", "residue"),
    "freeu.evaluate.metrics.plugins.metric": (
        "Metric",
        "MetricPlugin",
    ),
    "freeu.evaluate.metrics.plugins.registry": (
        "find_metric",
        "metric_plugins",
    ),
    "freeu.evaluate.metrics.statistics": ("image_statistics",),
    "freeu.evaluate.metrics.temporal": (
        "fast_share",
        "flicker",
        "frame_difference",
        "temporal_spectrum",
        "traceable_share",
    ),
    "freeu.evaluate.metrics.video_distance": (
        "video_features",
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
    "Calibration",
    "EffectiveScale",
    "Estimate",
    "Flow",
    "Inception",
    "Judges",
    "Metric",
    "MetricPlugin",
    "Movement",
    "NeutralScale",
    "PromptSpec",
    "Reader",
    "Reading",
    "VideoMeasurement",
    "calibrate_guidance",
    "clip_score",
    "edge_agreement",
    "effective_scale",
    "fast_share",
    "find_metric",
    "flicker",
    "frame_consistency",
    "frame_difference",
    "frechet_distance",
    "frechet_floor",
    "frechet_from_moments",
    "frechet_limit",
    "frechet_video_distance",
    "image_statistics",
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
    "measure_video",
    "metric_plugins",
    "motion_strength",
    "neutral_scale",
    "optical_flow",
    "paired_interval",
    "pixel_diversity",
    "projected_scale",
    "residue",
    "retrieval",
    "score_alignment",
    "score_video_alignment",
    "share_interval",
    "split_subject",
    "subject_fidelity",
    "subject_movement",
    "temporal_spectrum",
    "traceable_share",
    "vendi_score",
    "video_features",
    "warp_back",
]


_RENAMED = {
    "Asked": "PromptSpec",
    "Seen": "VideoMeasurement",
    "clip_features": "video_features",
    "measure_clip": "measure_video",
    "picture_statistics": "image_statistics",
    "score_clip_alignment": "score_video_alignment",
    "subject_and_ground": "split_subject",
}
"""Names of version 0.1."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        need("eval", "numpy", "scipy")
    return load_name(__name__, name, _HOMES, _RENAMED)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
