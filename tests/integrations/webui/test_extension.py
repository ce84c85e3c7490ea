"""The web UI extension without a web UI: its settings, and FreeU on the models that its hosts hand over.

The U-Net of A1111 is CompVis' own class, that of Forge comes from a checkout (``scripts/forge_model.py``).
"""

import json
from types import SimpleNamespace

import forge_model
import pytest
import torch
from foreign_unets import FOREIGN
from lib_freeu_exact.axes import ATTRIBUTE, axes, truth
from lib_freeu_exact.generation import after_batch, before_sampling
from lib_freeu_exact.hosts import Run
from lib_freeu_exact.settings import CUSTOM, Controls, controls_from, infotext, pasted, preset_names

import freeu

NAMES = [name for name in preset_names() if name != CUSTOM]
COMPVIS = FOREIGN["CompVis UNetModel"]


def read_back(fields):
    """The controls after the text of an image is pasted."""
    texts = {name: str(value) for name, value in fields.items()}
    values = {name: pasted(name, texts) for name in Controls().__dataclass_fields__}
    return Controls(**{name: value for name, value in values.items() if value is not None})


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("integrated", [False, True])
def test_a_preset_survives_controls_and_the_text_of_an_image(name, integrated):
    wanted = freeu.preset(name)
    controls = Controls().changed({"preset": name})
    config = controls.config
    assert config.replace(profile=wanted.profile) == wanted
    if config.profile != wanted.profile:  # official and comfyui are the same places in the U-Nets of these hosts
        assert {config.profile, wanted.profile} == {"official", "comfyui"}
    fields = infotext(config, integrated)
    assert ("freeu_enabled" in fields) is not integrated
    assert read_back(fields).config == config


@pytest.mark.parametrize(
    "more", ["b3=1.1 s3=0.8", "mask=radial dc=keep", "b_window=0:0.5", "profile=a1111 high_gain=0.9", "v=1"]
)
def test_more_settings_survive_too(more):
    config = Controls(enabled=True, more=more, start=0.1, end=0.9, strength=0.5).config
    assert read_back(infotext(config, False)).config == config


def test_the_texts_of_forge_and_of_sd_webui_freeu_are_read():
    forge = {"freeu_enabled": "True", "freeu_b1": "1.2", "freeu_b2": "1.3", "freeu_s1": "0.8", "freeu_s2": "0.3"}
    assert str(read_back(forge).config) == "b1=1.2 b2=1.3 s1=0.8 s2=0.3 v=2 profile=comfyui"
    stages = [{"backbone_factor": 1.2, "skip_factor": 0.9}, {"backbone_factor": 1.4, "skip_factor": 0.2}]
    webui = {"FreeU Stages": json.dumps(stages), "FreeU Schedule": "0.0, 0.8, 0.0", "FreeU Version": "1"}
    found = read_back(webui).config
    assert (found.b, found.s, found.version, found.profile, found.end) == ((1.2, 1.4), (0.9, 0.2), 1, "a1111", 0.8)


@pytest.mark.parametrize("fields", [{}, {"Steps": "20"}, {"FreeU": "b1=much"}, {"FreeU Stages": "[" * 5000}])
def test_a_text_without_settings_switches_freeu_off_and_moves_no_slider(fields):
    assert pasted("enabled", fields) is False
    assert pasted("b1", fields) is None


def test_an_api_call_gives_values_in_order_or_by_name():
    assert controls_from([True, 1.1, 1.2]) == Controls(enabled=True, b1=1.1, b2=1.2)
    assert controls_from([{"preset": "sd15", "end": 0.5}]) == Controls(True, 1.5, 1.6, 0.9, 0.2, 2, 0.0, 0.5)
    for args, said in (
        ([{"b": 1}], "b is no setting of FreeU"),
        ([{"preset": "sd99"}], "sd99"),
        ([True, *[1.0] * 10], "takes 10 values"),
    ):
        with pytest.raises(freeu.FreeUError, match=said) as caught:
            controls_from(args)
        assert "\n" not in str(caught.value)


def test_bad_values_are_told_in_one_line():
    for controls in (Controls(b1=float("nan")), Controls(start=0.9, end=0.1), Controls(more="masks=radial")):
        with pytest.raises(freeu.FreeUError) as caught:
            _ = controls.config
        assert "\n" not in str(caught.value)


def test_axes_set_what_the_grid_asks_for_on_each_copy_alone():
    made = list(axes(lambda label, kind, apply, choices=None: SimpleNamespace(label=label, kind=kind, apply=apply)))
    by_label = {one.label: one for one in made}
    p = SimpleNamespace()
    by_label["[FreeU exact] b1"].apply(p, 1.2, [])
    other = SimpleNamespace(**vars(p))
    by_label["[FreeU exact] Preset"].apply(other, "mild", [])
    assert getattr(p, ATTRIBUTE) == {"b1": 1.2}
    assert controls_from([]).changed(getattr(other, ATTRIBUTE)).b1 == 1.2  # an axis wins over the preset of another
    assert [truth(text) for text in ("True", "0", 1, "false")] == [True, False, True, False]
    with pytest.raises(ValueError, match="maybe"):
        truth("maybe")


# -- models ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compvis():
    unet = COMPVIS.build()
    return SimpleNamespace(model=SimpleNamespace(diffusion_model=unet)), unet


def test_on_the_model_of_a1111_and_off_again_to_the_bit(compvis):
    model, unet = compvis
    plain = COMPVIS.run(unet)
    run = Run()
    config = Controls(b1=1.5, s2=0.1).config
    run.begin(model, config)
    ours = COMPVIS.run(unet)
    run.check()
    run.begin(model, config)  # a hires pass begins anew
    assert torch.equal(COMPVIS.run(unet), ours)
    run.end()
    run.end()
    assert torch.equal(COMPVIS.run(unet), plain)
    with freeu.enabled(unet, config):
        wanted = COMPVIS.run(unet)
    assert torch.equal(ours, wanted)
    assert not torch.equal(ours, plain)


def test_steps_of_a1111(compvis):
    model, unet = compvis
    plain = COMPVIS.run(unet)
    run = Run()
    run.begin(model, Controls(start=0.25, end=0.75).config)
    acted = []
    for done in range(4):
        run.step(done, 4, torch.tensor([5.0, 5.0]))
        acted.append(not torch.equal(COMPVIS.run(unet), plain))
    run.end()
    assert acted == [False, True, True, False]
    assert torch.equal(COMPVIS.run(unet), plain)


def test_hooks_that_never_fire_are_told(compvis):
    model, _ = compvis
    run = Run()
    run.begin(model, Controls().config)
    with pytest.raises(freeu.FreeUError, match=r"output_blocks\.0"):
        run.check()
    run.end()


@pytest.mark.parametrize(
    "more", ["guidance=conditional", "share=guidance", "b_window=0:0.5", "unit=timestep start=900 end=100"]
)
def test_what_a1111_cannot_serve_is_refused(compvis, more):
    model, unet = compvis
    run = Run()
    with pytest.raises(freeu.FreeUError) as caught:
        run.begin(model, Controls(more=more).config)
    assert "\n" not in str(caught.value)
    assert not freeu.active(unet)


def processing(model, integrated=None):
    """What the extension takes of a host's processing."""
    said = []
    script = SimpleNamespace(title=lambda: "FreeU Integrated (SD 1.x, SD 2.x, SDXL)", args_from=0)
    return SimpleNamespace(
        sd_model=model,
        scripts=SimpleNamespace(alwayson_scripts=[] if integrated is None else [script]),
        script_args=(integrated,),
        extra_generation_params={},
        comment=said.append,
        said=said,
    )


def test_a_generation_says_what_it_did(compvis):
    model, unet = compvis
    run = Run()
    p = processing(model)
    before_sampling(p, run, [True])
    COMPVIS.run(unet)
    after_batch(p, run)
    assert p.said == []
    assert p.extra_generation_params["FreeU"] == str(Controls().config)
    assert not freeu.active(unet)
    off = processing(model)
    before_sampling(off, run, [False])
    assert (off.extra_generation_params, off.said) == ({}, [])


@pytest.mark.parametrize(
    ("args", "integrated", "said"),
    [
        ([True], True, "FreeU Integrated"),
        ([True, float("nan")], None, "finite"),
        ([{"preset": "sd99"}], None, "sd99"),
    ],
)
def test_what_cannot_be_done_is_told_below_the_image(compvis, args, integrated, said):
    """A host would print what a script raises, and make the image without a word to whom it is for."""
    model, unet = compvis
    p = processing(model, integrated)
    before_sampling(p, Run(), args)
    (line,) = p.said
    assert said in line
    assert "\n" not in line
    assert p.extra_generation_params == {}
    assert not freeu.active(unet)


def test_a_model_that_never_calls_its_modules_is_told(compvis):
    model, _ = compvis
    run, p = Run(), processing(model)
    before_sampling(p, run, [True])
    after_batch(p, run)
    assert len(p.said) == 1


def test_beside_forges_own_freeu_its_fields_are_not_written(compvis):
    model, _ = compvis
    p = processing(model, integrated=False)
    run = Run()
    before_sampling(p, run, [True])
    run.end()
    assert [*p.extra_generation_params] == ["FreeU"]


@pytest.fixture(scope="module")
def forge():
    folder = forge_model.checkout()
    if folder is None:
        pytest.skip("no Forge: scripts/forge_model.py says how to give a checkout")
    return forge_model.model(folder)


@pytest.mark.parametrize("version", [1, 2])
def test_in_forge_a_clone_does_what_hooks_do(forge, version):
    original = forge.forge_objects.unet
    x = torch.linspace(-1, 1, 2 * 4 * 256).reshape(2, 4, 16, 16).sin()
    plain = forge_model.called(original, x, [1, 0])
    run = Run()
    config = Controls(version=version).config
    run.begin(forge, config)
    ours = forge_model.called(forge.forge_objects.unet, x, [1, 0])
    with freeu.enabled(original.model.diffusion_model, config):
        wanted = forge_model.called(original, x, [1, 0])
    assert torch.equal(ours, wanted)
    assert not torch.equal(ours, plain)
    assert torch.equal(forge_model.called(original, x, [1, 0]), plain)
    forge.forge_objects.unet = original
    run.end()


def test_in_forge_steps_and_the_prompts_half_count(forge):
    original = forge.forge_objects.unet
    x = torch.linspace(-1, 1, 4 * 256).reshape(1, 4, 16, 16).sin().repeat(2, 1, 1, 1)
    plain = forge_model.called(original, x, [1, 0])
    run = Run()
    run.begin(forge, Controls(end=0.5, more="guidance=conditional").config)
    for done, acts in enumerate((True, False)):
        run.step(done, 2, torch.tensor([5.0]))
        ours = forge_model.called(forge.forge_objects.unet, x, [1, 0])
        assert torch.equal(ours[0], plain[0])
        assert torch.equal(ours[1], plain[1]) is not acts
    forge.forge_objects.unet = original
    run.end()
