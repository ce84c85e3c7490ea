"""Every family of video U-Nets: sites against the real concatenations, FreeU against its published form."""

import copy

import pytest
import torch
from tolerances import UNET, relative_error
from torch.overrides import TorchFunctionMode
from video_families import CLIPS, FAMILIES, FRAMES

import freeu
from freeu.adapters import adapter_for
from freeu.core.capture import PARTS, Capture
from freeu.errors import FreeURuntimeError, NoEffectWarning
from freeu.ops import reference

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


class Published(TorchFunctionMode):
    """FreeU as the official listing has it: at every concatenation of feature maps, by the backbone's channels."""

    def __init__(self, base, acting=True):
        super().__init__()
        self.base, self.acting = base, acting
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.cat and kwargs.get("dim", args[1] if len(args) > 1 else 0) == 1 and args[0][0].dim() == 4:
            backbone, skip = args[0]
            self.seen.append((backbone.shape[1], skip.shape[1]))
            stage = {4 * self.base: 0, 2 * self.base: 1}.get(backbone.shape[1])
            if self.acting and stage is not None:
                backbone = reference.scale_backbone(backbone, FACTORS["b"][stage])
                skip = reference.filter_skip(skip, FACTORS["s"][stage])
                return function([backbone, skip], dim=1)
        return function(*args, **kwargs)


@pytest.mark.parametrize("layers", [1, 2])
def test_sites_are_the_real_concatenations(family, layers):
    model = family.model(**{family.layers: layers})
    sites = list(freeu.inspect(model))
    with Published(family.base, acting=False) as record:
        family(model)
    assert [(site.backbone_channels, site.skip_channels) for site in sites] == record.seen
    assert len(sites) == 3 * (layers + 1)
    assert [site.block for site in sites] == [block for block in range(3) for _ in range(layers + 1)]
    assert [site.block_type for site in sites[:: layers + 1]] == list(family.blocks)
    assert sites[0].path == family.prefix
    for site in sites:
        module = getattr(site.module, "module", site.module)  # behind its stand-in, for those called by keyword
        assert model.get_submodule(site.path) is module


def test_stages_under_each_profile(family):
    table = freeu.inspect(family.model())
    assert {site.model_channels for site in table} == {family.base}
    assert [site.stage for site in table] == [1, 1, 1, 2, 2, 3]
    assert len(table.touched("official")) == 5
    by_index = [1, 1, 2, 2, None, None] if family.by_index else [None] * 6
    assert [site.stage_in("diffusers") for site in table] == by_index
    assert len(table.touched("diffusers")) == family.by_index


def test_freeu_equals_its_published_form(family):
    model = family.model()
    with Published(family.base):
        want = family(model)
    assert relative_error(want, family(model)) > 1e-3, "FreeU would not be seen in this comparison"
    with freeu.enabled(model, **FACTORS):
        assert relative_error(family(model), want) <= UNET
    # Out of place, as guidance through the U-Net and training need it.
    with freeu.enabled(model, **FACTORS):
        sample = family.sample().requires_grad_()
        got = family.run(model, sample=sample)
        assert relative_error(got.detach(), want) <= UNET
        got.square().sum().backward()
        assert sample.grad.isfinite().all()
        assert sample.grad.any()


def test_applied_counted_nested_and_restored_to_the_bit(family):
    model = family.model()
    before = family(model)
    hooks = sum(len(m._forward_pre_hooks) for m in model.modules())
    with freeu.enabled(model, **FACTORS) as outer:
        changed = family(model)
        assert not torch.equal(changed, before)
        assert changed.isfinite().all()
        with freeu.enabled(model, b=(1.1, 1.0), s=(1.0, 0.5), sites={family.prefix: (1.2, 0.7)}) as inner:
            other = family(model)
            assert not torch.equal(other, changed)
            assert not torch.equal(other, before)
            assert set(inner.verify().values()) == {1}
        assert torch.equal(family(model), changed)
        assert outer.verify() == {site.path: 2 for site in freeu.inspect(model).touched()}
        assert family.prefix in outer.verify()
    assert torch.equal(family(model), before)
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks


def test_a_deep_copy_takes_freeu_along_and_stays_apart(family):
    model = family.model()
    before = family(model)
    handle = freeu.apply(model, **FACTORS)
    changed = family(model)
    twin = copy.deepcopy(model)
    handle.remove()
    assert torch.equal(family(model), before)
    assert torch.equal(family(twin), changed)
    (copied,) = freeu.active(twin)
    assert set(copied.verify().values()) == {2}
    assert set(handle.verify().values()) == {1}
    copied.remove()
    assert torch.equal(family(twin), before)


def test_a_schedule_reads_the_timestep(family):
    model = family.model()
    if adapter_for(model).host.continuous:
        with pytest.raises(FreeURuntimeError, match="do not tell how much of the denoising is done"):
            freeu.apply(model, **FACTORS, start=0.5)
        return
    early, late = family(model, 900), family(model, 100)
    with freeu.enabled(model, **FACTORS, start=0.5):
        assert torch.equal(family(model, 900), early)
        assert not torch.equal(family(model, 100), late)
    with freeu.enabled(model, **FACTORS, end=0.5):
        assert not torch.equal(family(model, 900), early)
        assert torch.equal(family(model, 100), late)


@pytest.mark.parametrize(("unit", "half"), [("fraction", 0.5), ("sigma", 1.0)])
def test_timesteps_that_are_a_function_of_the_noise_level(unit, half):
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.01,
        sigma_max=100.0,
        timestep_spacing="leading",
        prediction_type="v_prediction",
    )
    scheduler.set_timesteps(5)
    family = FAMILIES["UNetSpatioTemporalConditionModel"]
    model = family.model()
    before = [family(model, float(t)) for t in scheduler.timesteps]
    edges = {"start": half} if unit == "fraction" else {"start": half, "end": 0.0}
    with freeu.enabled(model, **FACTORS, **edges, unit=unit, scheduler=scheduler):
        changed = [
            not torch.equal(family(model, float(t)), x) for t, x in zip(scheduler.timesteps, before, strict=True)
        ]
    sigmas = scheduler.sigmas[:-1].tolist()
    assert changed == ([False, False, False, True, True] if unit == "fraction" else [sigma <= 1.0 for sigma in sigmas])
    assert True in changed
    assert False in changed


def test_halves_of_guidance_in_calls_of_their_own_cannot_be_told_apart():
    model = FAMILIES["UNetSD"].model()
    with pytest.raises(FreeURuntimeError, match="once for each"):
        freeu.apply(model, **FACTORS, guidance="conditional")
    assert freeu.active(model) == ()


def test_arguments_are_found_by_name_and_by_place(family):
    host = adapter_for(family.model()).host
    sample = family.sample(frames=5)
    names = ("x", "t") if family.layers == "num_res_blocks" else ("sample", "timestep")
    for args, kwargs in (
        ((sample, 7), {}),
        ((sample,), {names[1]: 7}),
        ((), dict(zip(names, (sample, 7), strict=True))),
    ):
        assert host.sample(args, kwargs) is sample
        assert host.timestep(args, kwargs) == 7
        assert host.frames(args, kwargs) == 5


def test_capture_sees_backbone_and_skip_of_clips_whose_frames_are_rows_in_a_row(family):
    model = family.model()
    adapter = adapter_for(model)
    sites = adapter.find_sites(model)
    with torch.no_grad():
        for parameter in model.parameters():
            # Layers that begin as zeros would hide whether frames of one video see the other's.
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0.0, 0.05)

    def features(sample, **conditions):
        seen = {}
        with Capture(model, sites, adapter.host, lambda f: seen.setdefault((f.site.path, f.part), f.tensor.clone())):
            family(model, sample=sample, **conditions)
        return seen

    both = features(family.sample())
    assert list(both) == [(site.path, part) for site in sites for part in PARTS]
    rows = family.conditions(CLIPS)
    for clip in range(CLIPS):
        # Conditions of one video, or of each of its frames.
        mine = {name: value.chunk(CLIPS)[clip] for name, value in rows.items()}
        alone = features(family.sample()[clip : clip + 1], **mine)
        for key, tensor in both.items():
            assert len(tensor) == CLIPS * FRAMES
            part = tensor[clip * FRAMES : (clip + 1) * FRAMES]
            assert relative_error(part, alone[key]) <= 1e-5, key
    for site in sites:
        assert both[site.path, "backbone"].shape[1] == site.backbone_channels
        assert both[site.path, "skip"].shape[1] == site.skip_channels


@pytest.mark.parametrize("name", ["UNet3DConditionModel", "UNetMotionModel", "I2VGenXLUNet"])
def test_profile_diffusers_equals_enable_freeu(name):
    family = FAMILIES[name]
    model = family.model()
    model.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    want = family(model)
    with pytest.raises(FreeURuntimeError, match="would act a second time"):
        freeu.apply(model)
    model.disable_freeu()
    assert relative_error(want, family(model)) > 1e-3
    with freeu.enabled(model, "modelscope-v1") as handle:
        assert relative_error(family(model), want) <= UNET
        assert len(handle.verify()) == 4


def test_profile_diffusers_has_nothing_to_do_on_stable_video_diffusion():
    family = FAMILIES["UNetSpatioTemporalConditionModel"]
    model = family.model()
    assert not hasattr(model, "enable_freeu")
    with pytest.warns(NoEffectWarning, match="profile 'diffusers'"), freeu.enabled(model, "modelscope-v1") as handle:
        assert handle.sites == ()


@pytest.mark.parametrize("name", FAMILIES)
def test_counts_at_full_width(name):
    """The table of docs/semantics.md, on the published architectures; nothing is computed on the meta device."""
    import diffusers

    with torch.device("meta"):
        if name == "UNetSD":
            # configuration.json of damo/text-to-video-synthesis
            model = FAMILIES[name].build(
                dim=320, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[1, 0.5, 0.25], head_dim=64, num_heads=8
            )
        else:
            model = getattr(diffusers, name)()
    table = freeu.inspect(model)
    assert [site.backbone_channels for site in table] == [1280] * 7 + [640] * 3 + [320] * 2
    by_index = 0 if name == "UNetSpatioTemporalConditionModel" else 6
    counts = {"official": 10, "comfyui": 10, "a1111": 10, "diffusers": by_index}
    assert {profile: len(table.touched(profile)) for profile in counts} == counts


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("UNet3DConditionModel", "modelscope-v1"),
        ("UNetSD", "modelscope-v1"),
        ("UNetMotionModel", "sd14"),
        ("UNetSpatioTemporalConditionModel", "gentle"),
        ("I2VGenXLUNet", "gentle"),
    ],
)
def test_what_is_recommended_for_each_family(name, preset):
    model = FAMILIES[name].model()
    with freeu.enabled(model) as handle:
        assert handle.config == freeu.recommend(model) == freeu.preset(preset)
        assert len(handle.sites) >= 4


def test_features_by_keyword_under_checkpointing():
    """AnimateDiff's blocks name the argument, except to the checkpointing function."""
    family = FAMILIES["UNetMotionModel"]
    model = family.model()
    with freeu.enabled(model, **FACTORS) as handle:
        want = family(model)
        sample = family.sample().requires_grad_()
        gradients = []
        for switch in (model.enable_gradient_checkpointing, model.disable_gradient_checkpointing):
            switch()
            got = family.run(model, sample=sample)
            assert relative_error(got.detach(), want) <= UNET
            got.square().sum().backward()
            gradients.append(sample.grad)
            sample.grad = None
        assert relative_error(*gradients) <= 1e-5
        assert min(handle.verify().values()) >= 3
