"""What scores images, for commands that measure them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from freeu.cli.shell import tell
from freeu.errors import FreeUValueError
from freeu.pipelines.options.option import Option
from freeu.pipelines.options.sampling import PromptOptions

if TYPE_CHECKING:
    from freeu.evaluate.experiment.prompts import Prompt
    from freeu.pipelines.options.model import ModelOptions
    from freeu.pipelines.options.run import RunOptions, SpeedOptions
    from freeu.pipelines.options.sampling import SamplingOptions
    from freeu.pipelines.runs.request import Request


@dataclass(frozen=True)
class ScoringOptions:
    """What scores the outputs, and against what."""

    PANEL: ClassVar[str] = "Scoring"

    reference: Annotated[
        str | None,
        Option(
            "Real images, or real videos, for FID and KID; a folder, or its URL (s3://, gs://, hf:// ...).", "DIR|URL"
        ),
    ] = None
    reference_matches: Annotated[
        bool,
        Option("The i-th image of --reference shows the i-th prompt: score them too, as the ceiling."),
    ] = False
    judge: Annotated[
        str | None, Option("A CLIP for CLIP score and features (default: the embedded one).", "DIR|none")
    ] = None
    features: Annotated[str, Option("Features of distances and diversity.", "clip|inception")] = "clip"
    reader: Annotated[
        bool,
        Option("Score alignment where prompts say what they ask for.", names=("--reader/--no-reader",)),
    ] = True
    metric: Annotated[
        list[str] | None,
        Option(
            "Another metric of images, such as pickscore=DIR, or package.module:function; may be given several times.",
            "NAME[=PATH]",
        ),
    ] = None


def measured_request(
    prompts: Sequence[Prompt],
    sampling: SamplingOptions,
    model: ModelOptions,
    run: RunOptions,
    speed: SpeedOptions | None = None,
    **more: Any,
) -> Request:
    """What a command that measures asks of the model.

    Args:
        prompts: those with a negative prompt of their own are generated with that.
        sampling, model, run, speed: of the command.
        more: other fields of the request.
    """
    from freeu.evaluate.experiment.prompts import negatives_of
    from freeu.pipelines.runs.request import Request

    texts = PromptOptions([prompt.text for prompt in prompts]).collect()
    negatives = negatives_of(prompts, sampling.negative_prompt)
    added = model.add_ons()
    return Request("generate", texts, sampling, model, run, add_ons=added, speed=speed, negatives=negatives, **more)


def check_features(scoring: ScoringOptions) -> None:
    """Raise ``FreeUValueError`` for features that there are not."""
    if scoring.features not in ("clip", "inception"):
        raise FreeUValueError(f"--features must be clip or inception, got {scoring.features!r}")


def judges_of(
    prompts: Any, scoring: ScoringOptions, device: str, with_reference: bool, videos: bool
) -> tuple[Any, dict[str, str | None]]:
    """What scores, and its names; whatever is left out on its own is said on standard error."""
    from freeu.evaluate.embedded import judge_path, load_reader
    from freeu.evaluate.experiment.plugged import plugged_metrics
    from freeu.evaluate.experiment.scoring import Judges
    from freeu.evaluate.experiment.summary import MEASURES
    from freeu.evaluate.metrics.alignment import check_readable
    from freeu.evaluate.metrics.clip import CLIP
    from freeu.evaluate.metrics.inception import Inception
    from freeu.evaluate.metrics.plugins.registry import find_metrics
    from freeu.pipelines.models.loading import pick_device

    judge, features = scoring.judge, scoring.features
    # Matching references are worth having for alignment alone.
    distances = with_reference and not scoring.reference_matches
    place = pick_device(device)
    found = Judges(metrics=find_metrics(scoring.metric or (), place))
    plugged_metrics(found.metrics, MEASURES, videos=videos, matches=scoring.reference_matches)
    if judge != "none":
        try:
            found.clip = CLIP(judge or judge_path(), device=place)
        except FreeUValueError as error:
            if judge is not None or (distances and features == "clip"):
                raise
            tell(f"no CLIP score: {error}")
    if features == "inception":
        found.inception = Inception(device=place)
    if distances and found.features is None:
        raise FreeUValueError("--reference needs features: leave --judge none out, or give --features inception")
    if scoring.reader and any(prompt.spec is not None for prompt in prompts):
        found.reader = load_reader(place)
        for prompt in prompts:
            if prompt.spec is not None:
                check_readable(prompt.spec, found.reader)
    names = {
        "clip": found.clip.name if found.clip else None,
        "features": features if found.features else None,
        "reader": "freeu-zoo" if found.reader else None,
    }
    return found, names


def check_kinds(video: bool, real: Sequence[Path]) -> None:
    """Refuse a reference of the other kind than what the model makes, and videos without what measures them."""
    from freeu.evaluate.experiment.video_files import are_videos
    from freeu.extras import need

    if video:
        need("video", "cv2")
    if real and video != (videos_given := are_videos(real)):
        has, wants = ("videos", "images") if videos_given else ("images", "videos")
        raise FreeUValueError(f"--reference holds {has}, and this model makes {wants}: give {wants}")
