"""FreeU over time on a whole video U-Net: what the sites really get, frame by frame."""

import pytest
import torch
from tiny_pipelines import tiny_video_unet
from tolerances import UNET, relative_error

import freeu
from conftest import tiny_inputs, tiny_unet
from freeu.adapters import adapter_for
from freeu.config import OVER_TIME
from freeu.core.capture import Capture
from freeu.ops import filter_skip, structure_gain

FRAMES = 4
FACTORS = {"b": (1.5, 1.6), "s": (0.6, 0.2)}


@pytest.fixture(scope="module")
def video_unet():
    return tiny_video_unet().eval()


def run(unet, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(2, 4, FRAMES, 8, 8, generator=generator)
    words = torch.randn(2, 3, 16, generator=generator)
    with torch.no_grad():
        return unet(sample, torch.tensor(500), words).sample


def gains_and_skips(unet, **fields):
    """By site: how much each pixel of the first half of the backbone grew, (videos, frames, H, W), and both skips."""
    seen = {}

    def look(features):
        if features.part != "fused":
            seen[features.site.path, features.part, features.changed] = features.tensor.clone()

    sites = freeu.inspect(unet).sites
    with freeu.enabled(unet, **FACTORS, **fields), Capture(unet, sites, adapter_for(unet).host, look):
        run(unet)
    found = {}
    for site in freeu.inspect(unet).touched():
        half = site.backbone_channels // 2
        before, after = (seen[site.path, "backbone", changed].double()[:, :half] for changed in (False, True))
        found[site.path] = (
            # All channels of a pixel grew alike: the projection on what they were says how much.
            ((after * before).sum(1) / before.square().sum(1)).unflatten(0, (2, FRAMES)),
            seen[site.path, "backbone", False],
            (seen[site.path, "skip", False], seen[site.path, "skip", True]),
            site,
        )
    return found


def test_the_shared_map_is_identical_across_the_frames_of_a_clip_at_every_site(video_unet):
    for gain, *_ in gains_and_skips(video_unet, over_time="shared").values():
        assert relative_error(gain, gain[:, :1].expand_as(gain)) <= 1e-4
    each = gains_and_skips(video_unet, over_time="frame")
    assert any(relative_error(gain, gain[:, :1].expand_as(gain)) > 1e-2 for gain, *_ in each.values())


@pytest.mark.parametrize("over_time", OVER_TIME)
def test_every_site_gets_the_map_that_the_operator_makes(video_unet, over_time):
    for gain, before, _, site in gains_and_skips(video_unet, over_time=over_time).values():
        b = FACTORS["b"][site.stage - 1]
        want = structure_gain(before, b, frames=FRAMES, over_time=over_time)[:, 0]
        assert relative_error(gain.flatten(0, 1), want) <= 1e-3


def test_every_site_gets_the_filter_over_time(video_unet):
    for *_, (before, after), site in gains_and_skips(video_unet, time_threshold=1).values():
        want = filter_skip(before, FACTORS["s"][site.stage - 1], frames=FRAMES, time_threshold=1)
        assert relative_error(after, want) <= UNET


def test_strength_by_frame_lies_between_the_identity_and_the_whole(video_unet):
    whole, half = gains_and_skips(video_unet), gains_and_skips(video_unet, frame_strength=(1.0, 0.0))
    for path, (gain, _, (before, after), _) in half.items():
        assert relative_error(gain[:, -1], torch.ones_like(gain[:, -1])) <= 1e-4
        if path == next(iter(half)):  # what later sites get has passed through layers over time
            assert relative_error(gain[:, 0], whole[path][0][:, 0]) <= 1e-4
        before, after = (skip.unflatten(0, (2, FRAMES)) for skip in (before, after))
        assert torch.equal(after[:, -1], before[:, -1])
        assert not torch.equal(after[:, 0], before[:, 0])


@pytest.mark.parametrize(
    "fields",
    [
        {"over_time": "shared"},
        {"over_time": "clip"},
        {"over_time": "smooth"},
        {"time_threshold": 2},
        {"frame_strength": (1.0, 0.5)},
    ],
)
def test_each_way_changes_the_video_and_leaves_no_trace(video_unet, fields):
    before = run(video_unet)
    with freeu.enabled(video_unet, **FACTORS):
        published = run(video_unet)
    with freeu.enabled(video_unet, **FACTORS, **fields) as handle:
        changed = run(video_unet)
        handle.verify()
        handle.update(over_time="frame", time_threshold=0, frame_strength=())
        assert torch.equal(run(video_unet), published)
    assert not torch.equal(changed, published)
    assert not torch.equal(changed, before)
    assert torch.equal(run(video_unet), before)


def test_gradients_reach_the_latents_through_every_way(video_unet):
    sample = torch.randn(1, 4, FRAMES, 8, 8, requires_grad=True)
    words = torch.randn(1, 3, 16)
    with freeu.enabled(video_unet, **FACTORS, over_time="clip", time_threshold=1, frame_strength=(1.0, 0.5)):
        grown = video_unet(sample, torch.tensor(500), words).sample
    grown.square().mean().backward()
    with (
        torch.no_grad(),
        freeu.enabled(video_unet, **FACTORS, over_time="clip", time_threshold=1, frame_strength=(1.0, 0.5)),
    ):
        assert relative_error(video_unet(sample, torch.tensor(500), words).sample, grown.detach()) <= UNET
    assert torch.isfinite(sample.grad).all()
    assert sample.grad.abs().max() > 0


def test_still_pictures_have_nothing_to_share():
    unet = tiny_unet().eval()
    sample = tiny_inputs()
    with torch.no_grad():
        with freeu.enabled(unet, **FACTORS):
            published = unet(*sample).sample
        with freeu.enabled(unet, **FACTORS, over_time="shared", time_threshold=2, frame_strength=(0.5,)):
            assert torch.equal(unet(*sample).sample, published)
