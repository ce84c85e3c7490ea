"""Calibrated guidance: exact on changes that are guidance, the identity for no change, and on the embedded model."""

import numpy as np
import pytest
import torch

import freeu
from freeu.errors import FreeUValueError
from freeu.evaluate import calibrate_guidance, match_guidance
from freeu.evaluate.calibration.guidance import noise_weight

PROMPTS = ("a 3d fox on a blue background", "a flat car on a red background")


def predictions(steps=3, prompts=4):
    return torch.randn(steps, prompts, 2, 4, 8, 8, generator=torch.Generator().manual_seed(5))


def test_a_change_that_is_stronger_guidance_is_recovered():
    plain = predictions()
    direction = plain[:, :, 1] - plain[:, :, 0]
    # Both predictions moved so that guided at 3 they equal the plain ones guided at 4.5.
    changed = plain + 1.5 * direction[:, :, None]
    found = match_guidance(plain, changed, 3.0, weights=[0.3, 1.0, 2.0])
    assert found.matched == pytest.approx(4.5)
    assert (found.low, found.high) == pytest.approx((4.5, 4.5))
    assert found.explained == pytest.approx(1.0)
    assert found.per_step == pytest.approx((4.5, 4.5, 4.5))


def test_no_change_keeps_the_scale():
    plain = predictions()
    found = match_guidance(plain, plain.clone(), 3.0)
    assert (found.matched, found.explained, found.explained_per_step) == (3.0, 0.0, (None, None, None))


def test_a_change_across_guidance_is_not_explained():
    plain = torch.zeros(1, 1, 2, 1, 1, 2)
    plain[0, 0, 1, 0, 0, 0] = 1.0  # guidance points along the first component
    changed = plain.clone()
    changed[0, 0, :, 0, 0, 1] += 5.0
    found = match_guidance(plain, changed, 2.0)
    assert (found.matched, found.explained) == (2.0, 0.0)


def test_by_hand_and_pooled_by_strength():
    # Step 0: d = (1, 0), change (1, 1); step 1: d = (3, 0), change (0, 0). Pooled: 1 / (1 + 9).
    plain = torch.zeros(2, 1, 2, 1, 1, 2)
    plain[0, 0, 1, 0, 0, 0], plain[1, 0, 1, 0, 0, 0] = 1.0, 3.0
    changed = plain.clone()
    changed[0] += 1.0
    found = match_guidance(plain, changed, 2.0)
    assert found.matched == pytest.approx(2.1)
    assert found.explained == pytest.approx(1.0 / (10.0 * 2.0))
    assert found.per_step == pytest.approx((3.0, 2.0))
    assert found.low is None


def test_weights_turn_other_predictions_into_noise():
    a = 0.3
    generator = torch.Generator().manual_seed(1)
    x0, eps = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    other = torch.randn(50, generator=generator, dtype=torch.float64)
    x = np.sqrt(a) * x0 + np.sqrt(1 - a) * eps
    other_x0 = (x - np.sqrt(1 - a) * other) / np.sqrt(a)
    v, other_v = np.sqrt(a) * eps - np.sqrt(1 - a) * x0, np.sqrt(a) * other - np.sqrt(1 - a) * other_x0
    torch.testing.assert_close(noise_weight("v_prediction", a) * (v - other_v), eps - other)
    torch.testing.assert_close(noise_weight("sample", a) * (x0 - other_x0), eps - other)


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_the_embedded_model(mini, scheduler, monkeypatch):
    from freeu.pipelines.models.schedulers import set_sampler

    monkeypatch.setattr(mini.pipe, "scheduler", mini.pipe.scheduler)  # the model's own comes back
    set_sampler(mini.pipe, scheduler)
    seen = []
    settings = {"guidance": 3.0, "steps": 2, "progress": seen.append}
    same = calibrate_guidance(mini.pipe, freeu.FreeUConfig(), PROMPTS, **settings)
    assert (same.matched, same.explained) == (3.0, 0.0)
    found = calibrate_guidance(mini.pipe, freeu.preset("sd14"), PROMPTS, **settings)
    assert found.matched != 3.0
    assert found.low < found.matched < found.high
    assert 0.0 < found.explained < 1.0
    assert len(found.per_step) == 2
    assert seen == [1, 2, 1, 2]
    # Only the second half of the steps: the first is left alone, so the extra calls do not confuse the schedule.
    late = calibrate_guidance(mini.pipe, freeu.preset("sd14").replace(start=0.5), PROMPTS, **settings)
    assert late.per_step[0] == 3.0
    assert late.per_step[1] == pytest.approx(found.per_step[1])
    assert not freeu.active(mini.pipe)


def test_the_trajectory_is_not_touched(mini):
    def draw():
        generator = torch.Generator().manual_seed(3)
        return mini.pipe(PROMPTS[0], num_inference_steps=2, generator=generator, output_type="pt").images

    before = draw()
    calibrate_guidance(mini.pipe, freeu.preset("sd14"), PROMPTS[:1], guidance=3.0, steps=2)
    torch.testing.assert_close(draw(), before, rtol=0, atol=0)


def test_bad_input_is_named(mini):
    config = freeu.preset("sd14")
    with pytest.raises(FreeUValueError, match="calibration needs a CFG scale above 1, got 1"):
        calibrate_guidance(mini.pipe, config, PROMPTS, guidance=1.0, steps=2)
    with pytest.raises(FreeUValueError, match="at least one prompt"):
        calibrate_guidance(mini.pipe, config, [], guidance=2.0, steps=2)
    with pytest.raises(FreeUValueError, match="2 prompts and 1 seed"):
        calibrate_guidance(mini.pipe, config, PROMPTS, guidance=2.0, steps=2, seeds=[1])
    mini.pipe.unet.register_to_config(time_cond_proj_dim=8)
    try:
        with pytest.raises(FreeUValueError, match="this U-Net takes the CFG scale as an input"):
            calibrate_guidance(mini.pipe, config, PROMPTS, guidance=2.0, steps=2)
    finally:
        mini.pipe.unet.register_to_config(time_cond_proj_dim=None)
    with pytest.raises(FreeUValueError, match="predicts 'flow_prediction'"):
        noise_weight("flow_prediction", 0.5)
    with pytest.raises(FreeUValueError, match="one shape"):
        match_guidance(predictions(), predictions(2), 2.0)
    same = predictions()
    same[:, :, 1] = same[:, :, 0]
    with pytest.raises(FreeUValueError, match="guidance has no effect here"):
        match_guidance(same, same, 2.0)
