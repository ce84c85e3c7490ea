"""FreeU over the frames of videos: what maps have in common, the low band over (T, H, W), strengths by frame."""

import pytest
import torch
from tolerances import FILTER, relative_error

from freeu.config import MASKS, OVER_TIME
from freeu.errors import FreeUValueError
from freeu.ops import filter_skip, reference, scale_backbone, structure_gain
from freeu.ops._over_time import frame_weights, smoothing, time_band

CLIPS, FRAMES = 2, 5


def features(channels=4, side=6):
    return torch.randn(CLIPS * FRAMES, channels, side, side, dtype=torch.float64)


def by_clip(x):
    return x.unflatten(0, (CLIPS, FRAMES))


def test_frame_is_the_published_map():
    h = features()
    assert torch.equal(structure_gain(h, 1.4, frames=FRAMES, over_time="frame"), structure_gain(h, 1.4))


def test_shared_map_is_identical_across_frames_and_that_of_their_mean():
    h = features()
    gain = by_clip(structure_gain(h, 1.4, frames=FRAMES, over_time="shared"))
    assert torch.equal(gain, gain[:, :1].expand_as(gain))
    assert relative_error(gain[:, 0], structure_gain(by_clip(h).mean(dim=1), 1.4)) <= 1e-12
    assert not torch.allclose(gain[0], gain[1])


def test_clip_normalises_every_frame_with_the_range_of_the_whole_clip():
    h = features()
    mean = by_clip(h.mean(dim=1))
    low, high = mean.amin(dim=(1, 2, 3), keepdim=True), mean.amax(dim=(1, 2, 3), keepdim=True)
    want = 1 + 0.4 * (mean - low) / (high - low)
    got = by_clip(structure_gain(h, 1.4, frames=FRAMES, over_time="clip"))[:, :, 0]
    assert relative_error(got, want) <= 1e-12
    assert torch.allclose(got.amax(dim=(1, 2, 3)), torch.full((CLIPS,), 1.4, dtype=torch.float64))


def test_smooth_range_moves_less_from_frame_to_frame_and_the_gain_stays_in_its_range():
    h = features(channels=1)
    # The first and second frame differ tenfold in contrast: their published gains span the same range all the same.
    h = (by_clip(h) * torch.tensor([1.0, 10.0, 1.0, 10.0, 1.0]).view(1, FRAMES, 1, 1, 1)).flatten(0, 1)
    gain = by_clip(structure_gain(h, 1.4, frames=FRAMES, over_time="smooth"))
    assert gain.min() >= 1.0
    assert gain.max() <= 1.4
    spans = (gain.amax(dim=(3, 4)) - gain.amin(dim=(3, 4))).flatten(1)
    assert (spans[:, 0] < spans[:, 1]).all(), "a frame of little contrast is amplified less than one of much"


@pytest.mark.parametrize("over_time", OVER_TIME)
def test_a_still_clip_gets_the_published_map_whatever_is_shared(over_time):
    h = torch.randn(1, 4, 6, 6, dtype=torch.float64).repeat(FRAMES, 1, 1, 1)
    got = structure_gain(h, 1.5, frames=FRAMES, over_time=over_time)
    assert relative_error(got, structure_gain(h, 1.5)) <= 1e-12


@pytest.mark.parametrize("over_time", OVER_TIME)
def test_constant_maps_have_gain_one(over_time):
    h = torch.full((FRAMES, 4, 3, 3), 0.7)
    assert torch.allclose(scale_backbone(h, 1.5, frames=FRAMES, over_time=over_time), h)


@pytest.mark.parametrize("over_time", OVER_TIME)
def test_clips_of_a_batch_do_not_see_each_other_and_one_frame_is_a_picture(over_time):
    h = features()
    both = scale_backbone(h, 1.4, frames=FRAMES, over_time=over_time)
    assert torch.equal(both[:FRAMES], scale_backbone(h[:FRAMES], 1.4, frames=FRAMES, over_time=over_time))
    assert relative_error(scale_backbone(h, 1.4, frames=1, over_time=over_time), scale_backbone(h, 1.4)) <= 1e-12


def test_halves_of_guidance_share_before_the_frames_do():
    h = features()
    gain = by_clip(structure_gain(h, 1.4, "guidance", frames=FRAMES, over_time="clip"))
    assert torch.equal(gain[0], gain[1])


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("time_threshold", [1, 2, 3])
@pytest.mark.parametrize("frames", [4, 5])
def test_the_band_over_time_equals_the_transform_over_three_axes(mask, time_threshold, frames):
    x = torch.randn(frames, 3, 8, 6, dtype=torch.float64)
    want = reference.filter_clip(x, 0.3, 2, mask, time_threshold)
    got = filter_skip(x, 0.3, 2, mask, frames=frames, time_threshold=time_threshold)
    assert relative_error(got, want) <= FILTER[torch.float64]
    with torch.no_grad():
        changed = x.clone()
        assert filter_skip(changed, 0.3, 2, mask, frames=frames, time_threshold=time_threshold, inplace=True) is changed
    assert relative_error(changed, want) <= FILTER[torch.float64]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_band_over_time_in_half_precision(dtype):
    x = torch.randn(FRAMES, 3, 8, 8).to(dtype)
    want = filter_skip(x.double(), 0.2, frames=FRAMES, time_threshold=1)
    got = filter_skip(x, 0.2, frames=FRAMES, time_threshold=1)
    assert got.dtype == dtype
    assert relative_error(got, want) <= FILTER[dtype]


def test_the_widest_band_over_time_is_the_filter_of_every_frame():
    x = features()
    got = filter_skip(x, 0.2, frames=FRAMES, time_threshold=FRAMES // 2 + 1)
    assert relative_error(got, filter_skip(x, 0.2)) <= FILTER[torch.float64]


def test_what_changes_from_frame_to_frame_is_left_alone_by_the_narrowest_band():
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    blinking = torch.cat([x, -x, x, -x])
    assert relative_error(filter_skip(blinking, 0.0, frames=4, time_threshold=1), blinking) <= 1e-12
    assert not torch.allclose(filter_skip(blinking, 0.0), blinking)


def test_gradients_flow_through_the_band_over_time():
    x = torch.randn(4, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda a, s: filter_skip(a, s, frames=2, time_threshold=1), (x, scale))


def test_projection_and_smoothing_keep_what_they_should():
    like = torch.zeros(1, dtype=torch.float64)
    band = time_band(7, 2, like)
    assert torch.allclose(band @ band, band)
    assert torch.allclose(band.sum(dim=1), torch.ones(7, dtype=torch.float64))
    assert torch.allclose(smoothing(7, like).sum(dim=1), torch.ones(7, dtype=torch.float64))


def test_strengths_of_frames_lie_on_lines_between_the_given_ones():
    like = torch.zeros(1)
    assert frame_weights((0.5,), 3, like).tolist() == [0.5, 0.5, 0.5]
    assert frame_weights((1.0, 0.0), 5, like).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert frame_weights((0.0, 1.0, 0.0), 5, like).tolist() == [0.0, 0.5, 1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: filter_skip(x, 0.5, frames=3), "divisor of the batch size 10"),
        (lambda x: filter_skip(x, 0.5, frames=5, time_threshold=4), "time_threshold must be 1 to 3 for 5 frames"),
        (lambda x: filter_skip(x, 0.5, frames=5, time_threshold=-1), "time_threshold must be 1 to 3"),
        (lambda x: scale_backbone(x, 1.5, frames=4, over_time="clip"), "divisor of the batch size 10"),
        (lambda x: scale_backbone(x, 1.5, frames=5, over_time="shred"), "shared"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(FreeUValueError, match=message):
        call(features())
