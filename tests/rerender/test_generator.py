"""Key frames one after the other: against diffusers, stage by stage, interrupted, with FreeU, and for real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import freeu
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.motion.measure import optical_flow, warp_back
from freeu.pipelines.models.schedulers import set_sampler
from freeu.rerender.denoise.encoding import Autoencoder
from freeu.rerender.denoise.generator import KeyFrameGenerator
from freeu.rerender.denoise.settings import STAGES, KeyFrameSettings, Windows

pytest.importorskip("cv2")
FACTORS = {"b": (1.4, 1.6), "s": (0.9, 0.2)}
# Four steps of which every stage has some.
SETTINGS = {"steps": 5, "strength": 0.8, "seed": 3, "windows": Windows(shape=(0.0, 0.3), pixel=(0.25, 0.75))}


def settings(**changes: Any) -> KeyFrameSettings:
    return KeyFrameSettings("a cat", **(SETTINGS | changes))


def drawn(pipe: Any, film: Any, more: dict[str, Any] | None = None, **changes: Any) -> list[Any]:
    generator = KeyFrameGenerator(pipe, settings(**changes), **(more or {}))
    return [generator.generate(frame) for frame in film]


def same(ours: list[Any], theirs: list[Any]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def whole(pipe, film):
    """Three key frames with all stages."""
    return drawn(pipe, film[:3])


# -- against diffusers ---------------------------------------------------------------------------------------------


def by_diffusers(pipe, cls, frame, guidance, parts=None, **arguments):
    """The same frame by a pipeline of diffusers, from the same latents (it would sample those of the autoencoder)."""
    import diffusers

    whole = getattr(diffusers, cls)(**(pipe.components | (parts or {})), requires_safety_checker=False)
    whole.set_progress_bar_config(disable=True)
    whole.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    codec = Autoencoder(pipe)
    with torch.no_grad():
        latents = codec.encode(codec.tensor(frame))
    generator = torch.Generator().manual_seed(SETTINGS["seed"])
    images = whole(
        "a cat",
        image=latents,
        strength=SETTINGS["strength"],
        num_inference_steps=SETTINGS["steps"],
        guidance_scale=guidance,
        negative_prompt="a dog",
        generator=generator,
        output_type="np",
        **arguments,
    ).images
    return (images[0] * 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "guidance"),
    [("ddim", 1.0), *((name, 5.0) for name in ("ddim", "pndm", "euler-a", "heun", "dpm++2m", "unipc", "tcd"))],
)
def test_without_stages_it_is_image_to_image(make_pipe, film, name, guidance):
    """Solvers that make two calls of the U-Net for a step, remember earlier ones or add noise included."""
    pipe = make_pipe()
    set_sampler(pipe, name)
    arguments = {"guidance": guidance, "negative_prompt": "a dog"}
    ours = drawn(pipe, film[:2], stages=(), **arguments)
    assert same(ours, [by_diffusers(pipe, "StableDiffusionImg2ImgPipeline", frame, guidance) for frame in film[:2]])
    constrained = drawn(pipe, film[:2], **arguments)
    assert np.array_equal(constrained[0], ours[0])
    assert not np.array_equal(constrained[1], ours[1])


@pytest.fixture(scope="module")
def controlnet(pipe):
    """A ControlNet that says something: an untrained one ends in zeros."""
    from diffusers import ControlNetModel

    torch.manual_seed(5)
    made = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(4, 8)).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "controlnet_" in name:
                parameter.normal_(0.0, 0.2)
    return made


def canny_edges(frame):
    return 255 - frame


def test_with_a_controlnet_it_is_that_of_diffusers(pipe, film, controlnet):
    import PIL.Image

    ours = drawn(
        pipe,
        film[:1],
        {"controlnet": controlnet, "preprocessor": canny_edges},
        stages=(),
        guidance=5.0,
        negative_prompt="a dog",
        control_scale=0.8,
    )
    shown = PIL.Image.fromarray(canny_edges(film[0]))
    more = {"control_image": shown, "controlnet_conditioning_scale": 0.8, "height": 32, "width": 32}
    cls = "StableDiffusionControlNetImg2ImgPipeline"
    assert same(ours, [by_diffusers(pipe, cls, film[0], 5.0, {"controlnet": controlnet}, **more)])
    assert not same(ours, drawn(pipe, film[:1], stages=(), guidance=5.0, negative_prompt="a dog"))


def test_the_guidance_is_the_default_of_the_pipeline(pipe, film):
    assert KeyFrameGenerator(pipe, settings()).guidance == 7.5
    assert same(drawn(pipe, film[:1]), drawn(pipe, film[:1], guidance=7.5))


# -- stage by stage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in ("outline", "fidelity")])
def test_each_stage_changes_later_key_frames_only(pipe, film, stage):
    off, on = (drawn(pipe, film[:2], stages=stages) for stages in ((), (stage,)))
    assert np.array_equal(off[0], on[0])
    assert not np.array_equal(off[1], on[1])
    shut = Windows(**{stage.replace("-", "_"): (0.5, 0.5)})
    assert same(off, drawn(pipe, film[:2], stages=(stage,), windows=shut))


def test_fidelity_is_how_pixel_encodes(pipe, film):
    assert same(drawn(pipe, film[:2], stages=()), drawn(pipe, film[:2], stages=("fidelity",)))
    assert not same(drawn(pipe, film[:2], stages=("pixel",)), drawn(pipe, film[:2], stages=("pixel", "fidelity")))


def test_the_previous_key_frame_counts_beside_the_first(pipe, film):
    """With the first alone remembered, the third comes out otherwise."""
    for stage in ("cross-frame", "pixel"):
        generator = KeyFrameGenerator(pipe, settings(stages=(stage,)))
        generator.generate(film[0])
        generator.generate(film[1])
        both = generator.generate(film[2])
        generator.memory.previous = generator.memory.first
        assert not np.array_equal(generator.generate(film[2]), both), stage


def test_key_frames_are_the_same_every_time(pipe, film, whole):
    assert same(whole, drawn(pipe, film[:3]))
    assert not same(whole, drawn(pipe, film[:3], seed=4))


def test_strength_zero_gives_the_frame_back(pipe, film):
    generator = KeyFrameGenerator(pipe, settings(strength=0.0))
    got = generator.generate(film[0])
    assert np.array_equal(got, film[0])
    assert not np.shares_memory(got, film[0])
    assert generator.memory.first is None


def test_pictures_belong_to_the_caller(pipe, film, whole):
    generator = KeyFrameGenerator(pipe, settings())
    for number in range(3):
        frame = film[number].copy()
        picture = generator.generate(frame)
        assert np.array_equal(picture, whole[number])
        picture[:], frame[:] = 0, 0


def test_no_frame_is_changed_and_steps_are_told(pipe, film):
    frame = film[0].copy()
    told = []
    generator = KeyFrameGenerator(pipe, settings())
    generator.generate(frame, lambda fraction, latents: told.append((fraction, tuple(latents.shape))))
    assert np.array_equal(frame, film[0])
    assert told == [(step / 4, (1, 4, 16, 16)) for step in (1, 2, 3, 4)]


def test_a_new_scene_begins_anew(pipe, film, whole):
    generator = KeyFrameGenerator(pipe, settings())
    generator.generate(film[3])
    generator.new_scene()
    assert same([generator.generate(frame) for frame in film[:3]], whole)


# -- interrupted ---------------------------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on_to_the_same_bits(pipe, film, whole, tmp_path):
    path = tmp_path / "keys" / "state.safetensors"
    for number in range(3):
        generator = KeyFrameGenerator(pipe, settings())
        if number:
            generator.load(path)
        assert np.array_equal(generator.generate(film[number]), whole[number])
        generator.save(path)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_an_empty_memory_is_a_state_too(pipe, film, whole, tmp_path):
    path = tmp_path / "state.safetensors"
    KeyFrameGenerator(pipe, settings()).save(path)
    generator = KeyFrameGenerator(pipe, settings())
    generator.generate(film[3])
    generator.load(path)
    assert np.array_equal(generator.generate(film[0]), whole[0])


def test_states_that_cannot_be_used(pipe, film, tmp_path):
    path = tmp_path / "state.safetensors"
    generator = KeyFrameGenerator(pipe, settings())
    with pytest.raises(FreeUValueError, match=r"cannot read .*state.safetensors: No such file"):
        generator.load(path)
    generator.generate(film[0])
    generator.save(path)
    with pytest.raises(FreeUValueError, match=r"key frames of other settings \(seed was 3, is 4\): name another file"):
        KeyFrameGenerator(pipe, settings(seed=4)).load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FreeUValueError, match="only part of one"):
        generator.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(FreeUValueError, match="holds no key frames of this version"):
        generator.load(path)


def test_what_goes_wrong_leaves_nothing_behind(pipe, film, whole):
    generator = KeyFrameGenerator(pipe, settings())
    generator.generate(film[0])

    def stop(fraction, latents):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generator.generate(film[1], stop)
    assert not any(module._forward_pre_hooks for module in pipe.unet.modules())
    assert same([generator.generate(frame) for frame in film[1:3]], whole[1:])


def test_in_bfloat16(make_pipe, film, whole, tmp_path):
    """Every stage works in half precision, and its state is kept in it."""
    pipe = make_pipe().to(torch.bfloat16)
    got = drawn(pipe, film[:3])
    assert 0.0 < np.abs(np.float32(got) - np.float32(whole)).mean() < 4.0
    generator = KeyFrameGenerator(pipe, settings())
    for frame in film[:2]:
        generator.generate(frame)
    generator.save(tmp_path / "state.safetensors")
    again = KeyFrameGenerator(pipe, settings())
    again.load(tmp_path / "state.safetensors")
    assert np.array_equal(again.generate(film[2]), got[2])


# -- with FreeU ----------------------------------------------------------------------------------------------------


def test_freeu_comes_and_goes_independently(pipe, film, whole):
    before = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    with freeu.enabled(pipe, **FACTORS) as handle:
        freed = drawn(pipe, film[:2])
        assert handle.verify()
    assert not any(map(np.array_equal, freed, whole))
    generator = KeyFrameGenerator(pipe, settings())
    generator.generate(film[0])
    with freeu.enabled(pipe, **FACTORS):
        generator.generate(film[1])
    assert same(drawn(pipe, film[:3]), whole)
    for name, tensor in pipe.unet.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_freeu_on_the_conditional_half_only(pipe, film):
    """The halves lie in the batch as FreeU expects them."""
    arms = []
    for guidance in ("both", "conditional"):
        with freeu.enabled(pipe, **FACTORS, guidance=guidance):
            arms.append(drawn(pipe, film[:2]))
    assert not any(map(np.array_equal, *arms))


# -- what it refuses -----------------------------------------------------------------------------------------------


def test_frames_it_refuses(pipe, film):
    generator = KeyFrameGenerator(pipe, settings())
    with pytest.raises(FreeUValueError, match="a frame must be uint8"):
        generator.generate(film[0].astype(np.float32))
    with pytest.raises(FreeUValueError, match="must be divisible by 2, got 31x32"):
        generator.generate(film[0][:, :31])
    generator.generate(film[0])
    with pytest.raises(FreeUValueError, match=r"of 30x32 follows one of 32x32: call new_scene\(\)"):
        generator.generate(film[0][:, :30])


def test_models_it_refuses(make_pipe, pipe, controlnet):
    from diffusers import ControlNetModel, DDIMPipeline
    from tiny_pipelines import tiny_unet

    with pytest.raises(FreeUValueError, match="DDIMPipeline cannot generate key frames"):
        KeyFrameGenerator(DDIMPipeline(pipe.unet, pipe.scheduler), settings())
    with pytest.raises(FreeUValueError, match="takes 9 channels and the VAE has 4"):
        KeyFrameGenerator(make_pipe(unet=tiny_unet(in_channels=9)), settings())
    with pytest.raises(FreeUValueError, match="takes the CFG scale as an input"):
        KeyFrameGenerator(make_pipe(unet=tiny_unet(time_cond_proj_dim=8)), settings())
    with pytest.raises(FreeUValueError, match="give both or neither"):
        KeyFrameGenerator(pipe, settings(), controlnet=controlnet)
    with pytest.raises(FreeUValueError, match="give both or neither"):
        KeyFrameGenerator(pipe, settings(), preprocessor=canny_edges)
    other = ControlNetModel.from_unet(tiny_unet(layers_per_block=2), conditioning_embedding_out_channels=(4, 8))
    with pytest.raises(FreeUValueError, match="has layers_per_block 2 and the model 1"):
        KeyFrameGenerator(pipe, settings(), preprocessor=canny_edges, controlnet=other)


def test_conditions_it_refuses(pipe, film, controlnet):
    generator = KeyFrameGenerator(pipe, settings(), preprocessor=lambda frame: frame[:16], controlnet=controlnet)
    with pytest.raises(FreeUValueError, match=r"a control image of \(16, 32, 3\) does not fit"):
        generator.generate(film[0])


def test_pictures_that_the_safety_checker_refuses(make_pipe, film):
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from tiny_pipelines import tiny_image_processor
    from transformers import CLIPConfig

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(projection_dim=16, vision_config=size | {"image_size": 32, "patch_size": 8})
    checker = StableDiffusionSafetyChecker(config).eval()
    checker.concept_embeds_weights.fill_(-2.0)  # no image is far enough from what it looks for
    parts = {"safety_checker": checker, "feature_extractor": tiny_image_processor()}
    generator = KeyFrameGenerator(make_pipe(**parts), settings())
    with pytest.raises(FreeURuntimeError, match="safety checker refuses a key frame"):
        generator.generate(film[0])
    assert generator.memory.first is None
    checker.concept_embeds_weights.fill_(2.0)
    assert generator.generate(film[0]).any()


# -- for real ------------------------------------------------------------------------------------------------------


def test_what_the_stages_are_for(mini, scenes):
    """On the embedded model: "pixel" and "shape" let an image move along with its video, "colour" keeps its colours."""

    def key_frames(*stages):
        asked = KeyFrameSettings("a flat panda on a red background", steps=8, guidance=4.0, stages=stages)
        generator = KeyFrameGenerator(mini, asked)
        return [generator.generate(frame) for frame in scenes]

    flow = optical_flow(scenes[1], scenes[0])

    def warping_error(pair):
        return np.abs(warp_back(pair[0], flow) - pair[1])[flow.traceable].mean()

    def drift(pair):
        return np.abs(pair[0].mean((0, 1)) - pair[1].mean((0, 1))).mean()

    plain, pixel, shape, colour = (key_frames(*stages) for stages in ((), ("pixel",), ("shape",), ("colour",)))
    assert warping_error(pixel) < 0.6 * warping_error(plain)
    assert warping_error(shape) < 0.95 * warping_error(plain)
    assert drift(colour) < 0.8 * drift(plain)


def test_what_attention_to_the_first_key_frame_is_for(mini):
    """One prompt, two grounds: the second generating takes on the colours of the first."""
    from freeu_zoo.subjects import examples
    from freeu_zoo.world.scenes import compose

    frames = [np.asarray(compose(scene)) for scene in examples("panda", "3d", 2, 0)]
    apart = {}
    for stages in ((), ("cross-frame",)):
        asked = KeyFrameSettings("a panda", steps=6, guidance=1.0, strength=0.8, stages=stages)
        generator = KeyFrameGenerator(mini, asked)
        first, second = (generator.generate(frame).mean((0, 1)) for frame in frames)
        apart[stages] = np.abs(first - second).mean()
    assert apart[("cross-frame",)] < 0.75 * apart[()]
