"""The handle: reversal to the bit, nesting, exceptions, copies, autograd, memory."""

import copy
import functools
import gc

import pytest
import torch
from tolerances import UNET, relative_error

import freeu
from conftest import tiny_inputs, tiny_unet
from freeu.errors import FreeURuntimeError, FreeUValueError, NoEffectWarning
from freeu.ops import reference

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


def hooks(model: torch.nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.modules())


def oracle(model, run, b=(1.3, 1.4), s=(0.9, 0.2), version=2):
    """The published version on the concatenated features, at stages 1 and 2 by channel count."""
    factors = {4 * 8: (b[0], s[0]), 2 * 8: (b[1], s[1])}
    handles = []
    for site in freeu.inspect(model):
        if site.backbone_channels in factors:

            def hook(module, args, site=site):
                h, skip = site.split(args[0])
                changed = reference.freeu(h, skip, *factors[site.backbone_channels], version)
                return (torch.cat(changed, dim=1), *args[1:])

            handles.append(site.module.register_forward_pre_hook(hook))
    out = run(model)
    for handle in handles:
        handle.remove()
    return out


@pytest.mark.parametrize("version", [1, 2])
def test_a_whole_unet_equals_the_published_operator(unet, run, version):
    want = oracle(unet, run, version=version)
    with freeu.enabled(unet, **FACTORS, version=version):
        assert relative_error(run(unet), want) <= UNET


def test_reversal_to_the_bit(unet, run):
    before, state = run(unet), vars(unet).keys()
    handle = freeu.apply(unet, **FACTORS)
    assert not torch.equal(run(unet), before)
    handle.remove()
    handle.remove()
    assert torch.equal(run(unet), before)
    assert hooks(unet) == 0
    assert vars(unet).keys() == state


def test_apply_freeu_is_apply(unet, run):
    with freeu.enabled(unet, **FACTORS):
        want = run(unet)
    with freeu.apply_freeu(unet, freeu.FreeUConfig(**FACTORS)) as handle:
        assert torch.equal(run(unet), want)
        assert handle.verify()
    with freeu.apply_freeu(unet, "sd15") as handle:
        assert handle.config == freeu.preset("sd15")
    with pytest.raises(FreeUValueError, match="FreeUConfig or the name of a preset"):
        freeu.apply_freeu(unet, None)


def test_detached_and_attached_again(unet, run):
    before = run(unet)
    outer = freeu.apply(unet, b=(1.1, 1.2))
    with_outer = run(unet)
    handle = freeu.apply(unet, **FACTORS)
    want = run(unet)
    with pytest.raises(FreeURuntimeError, match="last in, first out"):
        outer.detach()
    for calls in (2, 3):
        handle.detach()
        handle.detach()
        assert freeu.active(unet) == (outer,)
        assert torch.equal(run(unet), with_outer)
        handle.attach()
        handle.attach()
        assert torch.equal(run(unet), want)
        assert set(handle.verify().values()) == {calls}
    freeu.remove_all(unet)
    assert torch.equal(run(unet), before)
    assert hooks(unet) == 0


def test_remove_all_takes_every_handle_and_nothing_else(unet, run):
    before, seen = run(unet), []
    other = unet.register_forward_hook(lambda *_: seen.append(1))
    handles = [freeu.apply(unet, **FACTORS), freeu.apply(unet, b=(1.2, 1.2)), freeu.enabled(unet, b=(1.0, 1.0))]
    freeu.remove_all(unet)
    assert [repr(handle).split(":")[0] for handle in handles] == ["<freeu.Handle removed"] * 3
    assert freeu.active(unet) == ()
    assert torch.equal(run(unet), before)
    assert seen, "hooks of others stay"
    freeu.remove_all(unet)
    other.remove()


def test_reversal_after_an_exception(unet, run):
    before = run(unet)

    def fail():
        with freeu.enabled(unet, **FACTORS):
            run(unet)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(run(unet), before)
    with freeu.enabled(unet, **FACTORS), pytest.raises((RuntimeError, ValueError)):
        unet(torch.randn(1, 3, 16, 16), 1, torch.randn(1, 5, 8))
    assert torch.equal(run(unet), before)


def test_an_exception_takes_inner_handles_along(unet, run):
    before = run(unet)

    def fail():
        with freeu.enabled(unet, **FACTORS):
            freeu.apply(unet, b=(1.1, 1.2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert freeu.active(unet) == ()
    assert torch.equal(run(unet), before)


def test_unknown_arguments_are_named(unet):
    with pytest.raises(FreeUValueError, match="unknown argument 'treshold': did you mean threshold"):
        freeu.apply(unet, **FACTORS, treshold=2)
    with pytest.raises(FreeUValueError, match="unknown preset 'sd25'"):
        freeu.apply(unet, "sd25")
    assert freeu.active(unet) == ()


def test_factors_by_stage_as_other_tools_name_them(unet):
    published = freeu.FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))
    for words, wanted in (
        ({"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}, published),
        ({"b2": 1.4, "version": 1}, freeu.FreeUConfig(b=(1.0, 1.4), version=1)),
        ({"config": "sd14", "s2": 0.5}, published.replace(s=(0.9, 0.5))),
        ({"config": "sd14", "b3": 1.1}, published.replace(b=(1.3, 1.4, 1.1), s=(0.9, 0.2, 1.0))),
    ):
        with freeu.enabled(unet, **words) as handle:
            assert handle.config == wanted, words
    with pytest.raises(FreeUValueError, match=r"b=\(1.3, 1.4\) and b1 say the same thing twice"):
        freeu.apply(unet, b=(1.3, 1.4), b1=1.2)


def test_nested_handles_replace_and_restore(unet, run):
    before = run(unet)
    with freeu.enabled(unet, **FACTORS) as outer:
        one = run(unet)
        with freeu.enabled(unet, b=(1.1, 1.0), s=(1.0, 1.0)) as inner:
            two = run(unet)
            assert inner.active
            assert not outer.active
            with pytest.raises(FreeURuntimeError, match="last in, first out"):
                outer.remove()
            with freeu.enabled(unet, b=(1.0, 1.0)):
                assert torch.equal(run(unet), before), "the identity replaces what lies outside"
        assert torch.equal(run(unet), one)
        assert freeu.active(unet) == (outer,)
    assert torch.equal(run(unet), before)
    with freeu.enabled(unet, b=(1.1, 1.0)):
        assert torch.equal(run(unet), two)


def test_a_covered_handle_can_be_updated(unet, run):
    with freeu.enabled(unet, b=(1.1, 1.2)):
        want = run(unet)
    outer = freeu.apply(unet, **FACTORS)
    inner = freeu.apply(unet, b=(1.5, 1.6))
    outer.update(b=(1.1, 1.2), s=(1.0, 1.0))
    inner.remove()
    assert torch.equal(run(unet), want)
    outer.remove()


def test_a_thousand_cycles_leave_nothing(unet, run):
    before = run(unet)

    def cycle() -> int:
        for _ in range(500):
            freeu.apply(unet, **FACTORS).remove()
        gc.collect()
        return len(gc.get_objects())

    first, second = cycle(), cycle()
    assert second - first < 50
    assert torch.equal(run(unet), before)


def test_identity_installs_no_hook(unet, run):
    before = run(unet)
    with freeu.enabled(unet, b=(1.0, 1.0), s=(1.0, 1.0)) as handle:
        assert hooks(unet) == 0
        assert handle.sites == ()
        assert handle.verify() == {}
        assert torch.equal(run(unet), before)
    with freeu.enabled(unet, **FACTORS, strength=0.0):
        assert hooks(unet) == 0


@pytest.mark.parametrize("factors", [{"b": (0.0, 1.0), "s": (1.0, 1.0)}, {"b": (1.0, 1.0), "s": (0.0, 0.0)}])
@pytest.mark.parametrize("version", [1, 2])
def test_zeros_do_what_the_formula_says(unet, run, factors, version):
    want = oracle(unet, run, **factors, version=version)
    with freeu.enabled(unet, **factors, version=version):
        assert relative_error(run(unet), want) <= UNET


def test_update_changes_factors_and_sites(unet, run):
    before = run(unet)
    with freeu.enabled(unet, b=(1.1, 1.2), s=(0.8, 0.7), version=1) as fresh:
        want, sites = run(unet), fresh.sites
    with freeu.enabled(unet, b=(1.3, 1.0)) as handle:
        assert len(handle.sites) == 7
        handle.update(b=(1.1, 1.2), s=(0.8, 0.7), version=1)
        assert [site.path for site in handle.sites] == [site.path for site in sites]
        assert torch.equal(run(unet), want)
        handle.update(b=(1.0, 1.0), s=(1.0, 1.0))
        assert hooks(unet) == 0
        assert torch.equal(run(unet), before)
        with pytest.raises(FreeUValueError, match="strength must lie in 0 to 1"):
            handle.update(strength=2.0)
    with pytest.raises(FreeURuntimeError, match="was removed"):
        handle.update(b=(1.1, 1.2))


def test_update_takes_what_apply_takes(unet):
    with freeu.enabled(unet, b=(1.1, 1.1)) as handle:
        assert handle.update("sd14", end=0.5).config == freeu.preset("sd14").replace(end=0.5)
        assert handle.update("sd14", b1=1.2).config == freeu.preset("sd14").replace(b=(1.2, 1.4))
        assert handle.update(freeu.preset("sd15")).config == freeu.preset("sd15")
        for arguments, fields, message in (
            (("sd99",), {}, "unknown preset 'sd99'"),
            ((5,), {}, "expected a FreeUConfig or the name of a preset, got 5"),
            ((), {"strenght": 1}, "did you mean strength"),
        ):
            for call in (handle.update, functools.partial(freeu.apply, unet)):
                with pytest.raises(FreeUValueError, match=message):
                    call(*arguments, **fields)
        assert handle.config == freeu.preset("sd15")


def test_factors_of_single_sites(unet, run):
    path = "up_blocks.3.resnets.2"
    before = run(unet)
    with freeu.enabled(unet, b={path: 1.5}, s={path: 0.5}) as handle:
        assert [site.path for site in handle.sites] == [path]
        assert handle.factors(path) == freeu.Stage(1.5, 0.5)
        assert not torch.equal(run(unet), before)
    with pytest.raises(
        FreeUValueError, match=r"unknown site 'up_blocks.3.resnet.2': did you mean up_blocks.3.resnets.2"
    ):
        freeu.apply(unet, b={"up_blocks.3.resnet.2": 1.5})


def test_high_gain_alone_touches_the_stages(unet, run):
    before = run(unet)
    with freeu.enabled(unet, b=(1.0, 1.0), s=(1.0, 1.0), high_gain=1.2) as handle:
        assert len(handle.sites) == 10
        assert not torch.equal(run(unet), before)


def test_verify_counts_and_complains(unet, run):
    with freeu.enabled(unet, **FACTORS) as handle:
        with pytest.raises(FreeURuntimeError, match="10 of 10 sites never fired: up_blocks"):
            handle.verify()
        run(unet)
        run(unet)
        assert set(handle.verify().values()) == {2}
        assert len(handle.verify()) == 10


def test_verify_counts_changes_and_not_calls(unet, run):
    with freeu.enabled(unet, **FACTORS, start=0.9) as handle:
        run(unet, 500)
        with pytest.raises(FreeURuntimeError, match=r"in 1 call: no step fell in the interval from 0\.9 to 1") as error:
            handle.verify()
        assert "\n" not in str(error.value)
        run(unet, 50)
        run(unet, 600)
        assert set(handle.verify().values()) == {1}


def test_no_effect_is_loud():
    narrow = tiny_unet((8, 8), layers_per_block=1)
    with pytest.warns(NoEffectWarning, match=r"backbone widths \[8\], base width 8"):
        freeu.apply(narrow, **FACTORS).remove()


def test_deepcopy_takes_freeu_along_and_stays_apart(unet, run):
    before = run(unet)
    handle = freeu.apply(unet, **FACTORS)
    want = run(unet)
    twin = copy.deepcopy(unet)
    handle.remove()
    assert torch.equal(run(unet), before)
    assert torch.equal(run(twin), want)
    (copied,) = freeu.active(twin)
    copied.verify()
    copied.remove()
    assert torch.equal(run(twin), before)
    assert hooks(twin) == 0


def test_to_after_apply(unet):
    sample, t, text = (x.double() if x.is_floating_point() else x for x in tiny_inputs())
    double = copy.deepcopy(unet).double()
    with torch.no_grad(), freeu.enabled(double, **FACTORS):
        want = double(sample, t, text).sample
    with torch.no_grad(), freeu.enabled(unet, **FACTORS) as handle:
        unet.to(torch.float64)
        assert torch.equal(unet(sample, t, text).sample, want)
        handle.verify()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(unet, dtype):
    sample, t, text = (x.to(dtype) if x.is_floating_point() else x for x in tiny_inputs())
    unet.to(dtype)
    with torch.no_grad(), freeu.enabled(unet, **FACTORS):
        assert unet(sample, t, text).sample.isfinite().all()


def test_channels_last(unet, run):
    with freeu.enabled(unet, **FACTORS):
        want = run(unet)
        assert relative_error(run(unet.to(memory_format=torch.channels_last)), want) <= 1e-5


def gradients(model, x, t, text):
    x = x.clone().requires_grad_()
    model.zero_grad()
    model(x, t, text).sample.square().sum().backward()
    return [x.grad, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def test_autograd_equals_the_oracle(unet):
    inputs = tiny_inputs()
    unet = unet.double()
    x, t, text = inputs[0].double(), inputs[1], inputs[2].double()
    want = oracle(unet, lambda model: gradients(model, x, t, text))
    with freeu.enabled(unet, **FACTORS):
        got = gradients(unet, x, t, text)
    assert len(got) == len(want) > 50
    for one, other in zip(got, want, strict=True):
        assert relative_error(one, other) <= 1e-9 or (one - other).abs().max() <= 1e-12


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_applies_freeu_once(unet, reentrant):
    """Reentrant checkpointing runs each block twice, first without grad mode: in place would act twice."""
    from torch.utils.checkpoint import checkpoint

    x, t, text = tiny_inputs()
    with freeu.enabled(unet, **FACTORS):
        want = gradients(unet, x, t, text)
        unet.enable_gradient_checkpointing(lambda f, *args: checkpoint(f, *args, use_reentrant=reentrant))
        unet.train()
        got = gradients(unet, x, t, text)
    for one, other in zip(got, want, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_inference_mode(unet, run):
    with freeu.enabled(unet, **FACTORS):
        want = run(unet)
        with torch.inference_mode():
            assert torch.equal(run(unet), want)


def test_a_site_that_changed_is_refused(unet, run):
    with freeu.enabled(unet, **FACTORS):
        site = freeu.inspect(unet).sites[0]
        with pytest.raises(FreeURuntimeError, match=r"up_blocks.0.resnets.0 should receive 32 \+ 32 = 64 channels"):
            site.module(torch.randn(1, 60, 2, 2), torch.randn(1, 32))


def test_saving_is_unaffected(unet):
    keys = list(unet.state_dict())
    with freeu.enabled(unet, **FACTORS):
        assert list(unet.state_dict()) == keys


def test_repr_says_the_state(unet):
    handle = freeu.apply(unet, **FACTORS)
    assert "active: 10 of 12 sites" in repr(handle)
    handle.remove()
    assert "removed" in repr(handle)
