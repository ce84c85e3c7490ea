"""FreeU before and after the residuals of a ControlNet, against skips that were caught before anything was added."""

import inspect
from collections.abc import Sequence

import diffusers
import pytest
import torch
from tiny_pipelines import tiny_motion_unet, tiny_video_unet
from tolerances import GRADIENT, UNET, relative_error

import freeu
from conftest import guided, tiny_inputs, tiny_sdxl_unet, tiny_unet
from freeu.adapters.diffusers import _RESIDUALS
from freeu.ops import reference

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


class Skips:
    """The skips that a U-Net's sites see, and the order of the encoder's outputs they are.

    Args:
        call: runs the model without residuals.
    """

    def __init__(self, model, call) -> None:
        self.outputs: list[torch.Tensor] = []  # of the encoder, in its order
        self.at: dict[str, torch.Tensor] = {}
        handles = [model.conv_in.register_forward_hook(lambda _m, _a, out: self.outputs.append(out))]
        for block in model.down_blocks:
            handles.append(block.register_forward_hook(lambda _m, _a, out: self.outputs.extend(out[1])))
        for site in freeu.inspect(model):
            handles.append(site.module.register_forward_pre_hook(self._see(site)))
        call()
        for handle in handles:
            handle.remove()

    def _see(self, site):
        def hook(_module, args):
            self.at[site.path] = site.split(args[0])[1].clone()

        return hook

    def number(self, path: str) -> int:
        """Which of the encoder's outputs a site's skip is."""
        return next(i for i, out in enumerate(self.outputs) if _same(out, self.at[path]))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def residuals(skips: Skips) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(out.shape, generator=generator).to(out.dtype) for out in skips.outputs]


def call(model, down: Sequence[torch.Tensor] | None = None, middle=None, t=500, batch=2):
    sample, _, text = tiny_inputs(batch)
    if down is not None and middle is None:
        middle = torch.zeros(())
    with torch.no_grad():
        return model(sample, t, text, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample


def before(model, run, skips: Skips, down, factors=((1.3, 0.9), (1.4, 0.2)), halves: bool = False) -> torch.Tensor:
    """The skip alone is filtered as published, and what the ControlNet gave is added to that."""
    handles = []
    for site in freeu.inspect(model):
        if site.stage not in (1, 2):
            continue

        def hook(_module, args, site=site):
            h, skip = site.split(args[0])
            own, residual = skips.at[site.path], down[skips.number(site.path)].expand_as(skip)
            changed = torch.cat(reference.freeu(h, own, *factors[site.stage - 1], 2), dim=1)
            changed[:, site.backbone_channels :] += residual
            if halves:
                changed[: len(changed) // 2] = args[0][: len(changed) // 2]
            return (changed, *args[1:])

        handles.append(site.module.register_forward_pre_hook(hook))
    out = run()
    for handle in handles:
        handle.remove()
    return out


@pytest.fixture
def controlled(unet):
    skips = Skips(unet, lambda: call(unet))
    return unet, skips, residuals(skips)


@pytest.mark.parametrize("build", [tiny_unet, tiny_sdxl_unet])
def test_the_skip_is_filtered_before_the_residual_is_added(build):
    model = build()
    skips = Skips(model, lambda: call(model))
    down = residuals(skips)
    want = before(model, lambda: call(model, down), skips, down)
    with freeu.enabled(model, **FACTORS) as handle:
        after = call(model, down)
        handle.update(control="before")
        assert relative_error(call(model, down), want) <= UNET
        handle.update(control="after")
        assert torch.equal(call(model, down), after)
    assert relative_error(after, want) > 1e-3


def test_without_residuals_the_order_changes_no_bit(controlled):
    model, _, down = controlled
    with freeu.enabled(model, **FACTORS) as handle:
        want, zero = call(model), call(model, [torch.zeros_like(one) for one in down])
        handle.update(control="before")
        call(model, down)
        assert torch.equal(call(model), want), "the residuals of the last call were used again"
        assert torch.equal(call(model, [torch.zeros_like(one) for one in down]), zero)


def test_residuals_are_not_kept(controlled):
    model, _, down = controlled
    with freeu.enabled(model, **FACTORS, control="before") as handle:
        call(model, down)
        assert handle._calls.traced.residuals == ()


def test_conditional_half_alone(controlled):
    model, skips, down = controlled
    want = before(model, lambda: call(model, down), skips, down, halves=True)
    pipe = guided(model)
    with freeu.enabled(pipe, **FACTORS, control="before", guidance="conditional"):
        assert relative_error(call(model, down), want) <= UNET


def test_strength_and_schedule_weigh_the_correction_too(controlled):
    model, skips, down = controlled
    half = [(1 + 0.5 * (b - 1), 1 + 0.5 * (s - 1)) for b, s in ((1.3, 0.9), (1.4, 0.2))]
    want = before(model, lambda: call(model, down), skips, down, half)
    plain = call(model, down, t=900)
    with freeu.enabled(model, **FACTORS, control="before", strength=0.5):
        assert relative_error(call(model, down), want) <= UNET
    # In the middle of the ramp: 1 - 500 / 1000 lies between 0.4 and 0.6.
    with freeu.enabled(model, **FACTORS, control="before", start=0.4, ramp=0.2):
        assert relative_error(call(model, down), want) <= UNET
        assert torch.equal(call(model, down, t=900), plain), "before the start"


def test_residuals_of_one_number_a_channel(controlled):
    """A ControlNet with ``global_pool_conditions`` gives (B, C, 1, 1)."""
    model, skips, down = controlled
    down = [one.mean(dim=(2, 3), keepdim=True) for one in down]
    want = before(model, lambda: call(model, down), skips, down)
    with freeu.enabled(model, **FACTORS, control="before", guidance="both"):
        assert relative_error(call(model, down), want) <= UNET


def test_out_of_place_it_is_the_same_and_gradients_reach_the_residuals(controlled):
    model, _, down = controlled
    model.double()
    sample, t, text = (x.double() if x.is_floating_point() else x for x in tiny_inputs())
    down = [one.double().requires_grad_() for one in down]
    settings = {"mid_block_additional_residual": torch.zeros(()), "return_dict": False}

    def run():
        return model(sample, t, text, down_block_additional_residuals=down, **settings)[0]

    with freeu.enabled(model, **FACTORS, control="before"):
        with torch.no_grad():
            inplace = run()
        out = run()
        assert relative_error(out.detach(), inplace) <= GRADIENT
        gradients = torch.autograd.grad(out.square().sum(), down)
        model.enable_gradient_checkpointing()
        model.train()
        again = torch.autograd.grad(run().square().sum(), down)
    for one, other in zip(gradients, again, strict=True):
        assert one.any()
        assert relative_error(other, one) <= GRADIENT


# Tracing imports modules of torch that warn about themselves.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_compiled_code_gives_back_the_residuals_too():
    from torch._dynamo.testing import CompileCounterWithBackend

    model = tiny_unet((8, 16), layers_per_block=1)
    skips = Skips(model, lambda: call(model))
    down = residuals(skips)
    double = [2.0 * one for one in down]
    want = {}
    for control in ("before", "after"):
        with freeu.enabled(model, **FACTORS, control=control):
            want[control] = call(model, down), call(model, double)
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    try:
        with freeu.enabled(model, **FACTORS, control="before") as handle:
            compiled = torch.compile(model, backend=counter, fullgraph=True)
            for values, wanted in zip((down, double), want["before"], strict=True):
                assert relative_error(call(compiled, values), wanted) <= UNET
            handle.verify()
            assert counter.frame_count == 1, "something was compiled again"
            handle.update(control="after")
            assert relative_error(call(compiled, down), want["after"][0]) <= UNET
    finally:
        torch._dynamo.reset()


def test_what_a_t2i_adapter_adds_is_left_to_the_filter(controlled):
    model, _, _ = controlled
    sample, t, text = tiny_inputs()
    shapes = [(8, 16), (16, 8), (32, 4), (32, 2)]
    features = [torch.randn(2, channels, side, side) for channels, side in shapes]

    def run(**settings):
        with torch.no_grad():
            return model(sample, t, text, **settings).sample

    with freeu.enabled(model, **FACTORS) as handle:
        want = run(down_intrablock_additional_residuals=list(features))
        handle.update(control="before")
        assert torch.equal(run(down_intrablock_additional_residuals=list(features)), want)


@pytest.mark.parametrize("name", _RESIDUALS)
def test_positions_of_the_arguments(name):
    place, both = _RESIDUALS[name]
    forward = getattr(diffusers, name).forward
    names = list(inspect.signature(forward).parameters)[1:]
    assert names[place : place + 2] == ["down_block_additional_residuals", "mid_block_additional_residual"]
    # The one U-Net that reads the first argument without the second as a T2I-Adapter's.
    assert both == ("intrablock" in inspect.getsource(forward))


def test_residuals_by_position(controlled):
    model, _, down = controlled
    sample, _, text = tiny_inputs()
    with freeu.enabled(model, **FACTORS, control="before"), torch.no_grad():
        want = call(model, down)
        got = model(sample, torch.tensor(500), text, None, None, None, None, None, down, torch.zeros(())).sample
    assert torch.equal(got, want)


@pytest.mark.parametrize("build", [tiny_video_unet, tiny_motion_unet])
def test_clips(build):
    model = build(layers_per_block=2).eval()
    clip, text = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 5, 16)
    if build is tiny_motion_unet:
        text = text.repeat_interleave(3, dim=0)

    def run(down=None):
        settings = {} if down is None else {"down_block_additional_residuals": down}
        with torch.no_grad():
            return model(clip, 10, text, return_dict=False, **settings)[0]

    skips = Skips(model, run)
    skips.outputs = _with_first(model, skips)
    down = residuals(skips)
    want = before(model, lambda: run(down), skips, down)
    with freeu.enabled(model, **FACTORS, control="before", version=2) as handle:
        assert relative_error(run(down), want) <= UNET
        handle.update(frame_strength=(1.0, 1.0))
        assert relative_error(run(down), want) <= UNET
        handle.update(frame_strength=(), time_threshold=1)
        assert not torch.equal(run(down), want)


def _with_first(model, skips: Skips) -> list[torch.Tensor]:
    """The encoder's outputs, the first as it comes from the temporal layer behind ``conv_in``."""
    last = freeu.inspect(model).sites[-1]
    return [skips.at[last.path], *skips.outputs[1:]]
