"""Gains of the whole skip and what s does to the mean, at every site of real U-Nets, against concatenations by hand."""

import contextlib
import copy
import pickle

import pytest
import torch
from tiny_pipelines import tiny_video_unet
from tolerances import GRADIENT, UNET, relative_error

import freeu
from conftest import guided, tiny_inputs, tiny_sdxl_unet, tiny_unet
from freeu.errors import FreeUValueError
from freeu.ops import reference

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


@contextlib.contextmanager
def concatenating(change):
    """Every concatenation of two feature maps: ``change`` gets its number in the decoder, backbone and skip."""
    cat, count = torch.cat, 0

    def changed(tensors, dim=0, **others):
        nonlocal count
        if dim == 1 and len(tensors) == 2 and all(x.dim() == 4 for x in tensors):
            tensors = change(count, *tensors)
            count += 1
        return cat(tensors, dim, **others)

    torch.cat = changed
    try:
        yield lambda: count
    finally:
        torch.cat = cat


@pytest.mark.parametrize("make", [tiny_unet, tiny_sdxl_unet])
@pytest.mark.parametrize("profile", ["official", "diffusers"])
def test_one_gain_acts_at_every_concatenation(make, profile, run):
    unet = make()
    with concatenating(lambda _, h, skip: (h, 0.78 * skip)) as count:
        want = run(unet)
        sites = count()
    assert sites == len(freeu.inspect(unet)) == {tiny_unet: 12, tiny_sdxl_unet: 9}[make]
    with freeu.enabled(unet, "skip-tuning", profile=profile) as handle:
        assert relative_error(run(unet), want) <= UNET
        assert set(handle.verify().values()) == {1}
        assert len(handle.verify()) == len(handle.sites) == sites


def test_the_ends_are_linear_over_nine_sites(run):
    unet = tiny_sdxl_unet()
    gains = torch.linspace(0.5, 1.0, 9, dtype=torch.float64).tolist()
    with concatenating(lambda number, h, skip: (h, gains[number] * skip)):
        want = run(unet)
    with freeu.enabled(unet, "skip-tuning-linear") as handle:
        assert relative_error(run(unet), want) <= UNET
        found = [handle.factors(site).g for site in freeu.inspect(unet)]
        assert found == pytest.approx(gains)
        assert len(handle.sites) == 8, "the last gain is 1: nothing to do there"
    table = freeu.inspect(unet)
    config = freeu.preset("skip-tuning-linear")
    assert [table.factors(site, config).g for site in table] == pytest.approx(gains)
    assert len(table.touched(config=config)) == 8


def test_a_gain_for_each_stage_leaves_the_other_sites(run):
    unet = tiny_unet()
    sites = freeu.inspect(unet).sites
    gains = [{1: 0.7, 2: 0.9}.get(site.stage, 1.0) for site in sites]
    assert gains.count(1.0) > 0
    with concatenating(lambda number, h, skip: (h, gains[number] * skip)):
        want = run(unet)
    with freeu.enabled(unet, skip_gain=(0.7, 0.9), b=(1, 1)):
        assert relative_error(run(unet), want) <= UNET


@pytest.mark.parametrize("dc", ["scale", "keep", "only"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_everything_together_is_the_reference_form(dc, strength, run):
    """g * (high * x + (s - high) L x) at sites of a stage, and g * x at the others."""
    unet = tiny_unet()
    sites = freeu.inspect(unet).sites
    config = freeu.FreeUConfig(**FACTORS, skip_gain=0.8, high_gain=1.1, dc=dc, strength=strength)

    def toward(factor):
        return 1.0 + strength * (factor - 1.0)

    def change(number, h, skip):
        stage = sites[number].stage
        if stage in (1, 2):
            h = reference.scale_backbone(h, toward(FACTORS["b"][stage - 1]))
            skip = reference.filter_skip(skip, toward(FACTORS["s"][stage - 1]), 1, "window", toward(1.1), dc)
        return h, toward(0.8) * skip

    with concatenating(change):
        want = run(unet)
    with freeu.enabled(unet, config):
        assert relative_error(run(unet), want) <= UNET
    handle = freeu.apply(unet, b=(1, 1), skip_gain=0.9)
    handle.update(config)
    assert relative_error(run(unet), want) <= UNET
    for twin in (copy.deepcopy(unet), pickle.loads(pickle.dumps(unet))):
        assert relative_error(run(twin), want) <= UNET
        freeu.remove_all(twin)
    handle.remove()


def test_a_site_of_its_own(run):
    unet = tiny_unet()
    path = freeu.inspect(unet).sites[-1].path
    with concatenating(lambda number, h, skip: (h, (0.5 if number == 11 else 0.8) * skip)):
        want = run(unet)
    with freeu.enabled(unet, b=(1, 1), skip_gain=0.8, sites={path: (1, 1, 0.5)}) as handle:
        assert relative_error(run(unet), want) <= UNET
        assert handle.factors(path) == freeu.Stage(g=0.5)


def test_the_conditional_half_alone():
    unet = tiny_unet()
    pipe = guided(unet)
    sample, t, text = tiny_inputs()

    def change(_, h, skip):
        return h, torch.stack([skip[0], 0.8 * skip[1]])

    with torch.no_grad():
        with concatenating(change):
            want = unet(sample, t, text).sample
        with freeu.enabled(pipe, b=(1, 1), skip_gain=0.8, guidance="conditional"):
            assert relative_error(unet(sample, t, text).sample, want) <= UNET


def test_shared_maps_are_those_of_before(unet, run):
    """A gain of the skip does not touch the backbone's operator."""
    pipe = guided(unet)
    gains = {}

    def watch(site, into):
        return site.module.register_forward_pre_hook(lambda _m, args: into.append(site.split(args[0])[0].clone()))

    site = freeu.inspect(unet).sites[0]
    for name, fields in {"plain": {}, "gain": {"skip_gain": 0.8}}.items():
        gains[name] = []
        with freeu.enabled(pipe, **FACTORS, share="guidance", **fields):
            handle = watch(site, gains[name])
            run(unet)
            handle.remove()
    assert torch.equal(gains["plain"][0], gains["gain"][0])


@pytest.mark.parametrize("dc", ["scale", "keep"])
def test_before_the_residuals_of_a_controlnet(dc):
    """The residual is added to the changed skip: the concatenation is that of a U-Net without a ControlNet, plus it."""
    unet = tiny_unet()
    sample, t, text = tiny_inputs()
    sites = freeu.inspect(unet).sites
    outputs = []
    hooks = [unet.conv_in.register_forward_hook(lambda _m, _a, out: outputs.append(out))]
    hooks += [block.register_forward_hook(lambda _m, _a, out: outputs.extend(out[1])) for block in unet.down_blocks]
    with torch.no_grad():
        unet(sample, t, text)
    for hook in hooks:
        hook.remove()
    added = [torch.randn_like(out) for out in outputs]

    def change(number, h, skip):
        residual = added[-1 - number]
        own, stage = skip - residual, sites[number].stage
        if stage in (1, 2):
            h = reference.scale_backbone(h, FACTORS["b"][stage - 1])
            own = reference.filter_skip(own, FACTORS["s"][stage - 1], dc=dc)
        return h, 0.8 * own + residual

    arguments = {"down_block_additional_residuals": added, "mid_block_additional_residual": torch.zeros(())}
    with torch.no_grad():
        with concatenating(change):
            want = unet(sample, t, text, **arguments).sample
        with freeu.enabled(unet, **FACTORS, skip_gain=0.8, dc=dc, control="before"):
            assert relative_error(unet(sample, t, text, **arguments).sample, want) <= 2 * UNET


@pytest.mark.parametrize("fields", [{"skip_gain": 0.8}, {"skip_gain": 0.8, "dc": "keep", "time_threshold": 1}])
def test_over_time(fields):
    unet, frames = tiny_video_unet().eval(), 4
    generator = torch.Generator().manual_seed(0)
    sample, words = torch.randn(1, 4, frames, 8, 8, generator=generator), torch.randn(1, 3, 16, generator=generator)
    sites = freeu.inspect(unet).sites

    def change(number, h, skip):
        s = {1: 0.6, 2: 0.2}.get(sites[number].stage, 1.0)
        if "dc" in fields:
            skip = reference.filter_clip(skip, s, dc="keep")
        elif s != 1.0:
            skip = reference.filter_skip(skip, s)
        return h, 0.8 * skip

    with torch.no_grad():
        with concatenating(change):
            want = unet(sample, torch.tensor(500), words).sample
        plain = unet(sample, torch.tensor(500), words).sample
        with freeu.enabled(unet, b=(1, 1), s=(0.6, 0.2), **fields):
            assert relative_error(unet(sample, torch.tensor(500), words).sample, want) <= UNET
        with freeu.enabled(unet, b=(1, 1), skip_gain=0.8, frame_strength=(0.0,)):
            assert torch.equal(unet(sample, torch.tensor(500), words).sample, plain)


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_gradients_and_checkpointing(reentrant):
    unet = tiny_unet((8, 16), layers_per_block=1).double()
    sample, t, text = (x.double() if x.is_floating_point() else x for x in tiny_inputs())
    fields = {**FACTORS, "skip_gain": 0.8, "dc": "keep", "b_window": (0.0, 0.6), "s_window": (0.2, 1.0)}

    def gradient():
        leaf = sample.clone().requires_grad_()
        unet(leaf, t, text).sample.square().sum().backward()
        return leaf.grad

    def change(number, h, skip):
        stage = freeu.inspect(unet).sites[number].stage
        if stage in (1, 2):
            h = reference.scale_backbone(h, FACTORS["b"][stage - 1])
            skip = reference.filter_skip(skip, FACTORS["s"][stage - 1], dc="keep")
        return h, 0.8 * skip

    with concatenating(change):
        want = gradient()
    if reentrant is not None:
        unet.enable_gradient_checkpointing(
            lambda function, *args: torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=reentrant)
        )
        unet.train()
    with freeu.enabled(unet, **fields):
        assert relative_error(gradient(), want) <= GRADIENT


def test_a_gain_and_its_ends_are_refused_together(unet):
    with freeu.enabled(unet, "skip-tuning-linear") as handle, pytest.raises(FreeUValueError, match="choose one"):
        handle.update(skip_gain=0.8)
