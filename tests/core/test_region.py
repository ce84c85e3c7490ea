"""A region: FreeU where a mask is white, nothing where it is black, and one line for masks that do not fit."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import tiny_video_unet
from tolerances import BACKBONE, UNET, relative_error
from torch._dynamo.testing import CompileCounterWithBackend

import freeu
from conftest import tiny_inputs, tiny_unet
from freeu.core.region import Region
from freeu.errors import FreeURuntimeError, FreeUValueError, NoEffectWarning
from freeu.ops import reference

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
ONES, ZEROS = torch.ones(32, 32), torch.zeros(32, 32)


def half(side: int = 32) -> torch.Tensor:
    """White on the left, with an edge that no feature map has a pixel border at."""
    mask = torch.zeros(side, side)
    mask[:, : side // 2 - 3] = 1.0
    return mask


def averaged(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mean over the area of each pixel, on a grid so fine that every border lies on it."""
    rows, columns = np.lcm(mask.shape[0], height), np.lcm(mask.shape[1], width)
    fine = np.kron(mask, np.ones((rows // mask.shape[0], columns // mask.shape[1])))
    return fine.reshape(height, rows // height, width, columns // width).mean((1, 3))


def oracle(model, run, mask, version=2):
    """The published operator at stages 1 and 2 by channel count, mixed with what it was given as the mask says.

    ``mask`` is (N, H, W), N the rows of the batch.
    """
    factors, handles = {4 * 8: (1.3, 0.9), 2 * 8: (1.4, 0.2)}, []
    for site in freeu.inspect(model):
        if site.backbone_channels in factors:

            def hook(module, args, site=site):
                x = args[0]
                changed = torch.cat(reference.freeu(*site.split(x), *factors[site.backbone_channels], version), dim=1)
                fitted = np.stack([averaged(one.numpy(), *x.shape[2:]) for one in mask])
                m = torch.from_numpy(fitted).to(x.dtype)[:, None]
                return (m * changed + (1 - m) * x, *args[1:])

            handles.append(site.module.register_forward_pre_hook(hook))
    out = run(model)
    for handle in handles:
        handle.remove()
    return out


def with_region(model, run, region, **fields):
    with freeu.enabled(model, **FACTORS, **fields, region=region) as handle:
        out = run(model)
        handle.verify()
    return out


@pytest.mark.parametrize("side", [32, 20, 3], ids=["finer", "not a multiple", "coarser"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_whole_unet_equals_the_published_operator_mixed_by_the_mask(unet, run, side, version):
    mask = torch.rand(side, side)
    want = oracle(unet, run, mask.expand(2, side, side), version)
    assert relative_error(with_region(unet, run, mask, version=version), want) <= UNET


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "fields", [{}, {"version": 1}, {"strength": 0.5, "start": 0.2, "high_gain": 1.2}], ids=["v2", "v1", "more"]
)
def test_white_is_freeu_and_black_is_none_to_the_bit(dtype, fields):
    unet = tiny_unet().to(dtype)
    sample, t, text = (value.to(dtype) if value.is_floating_point() else value for value in tiny_inputs())

    def run(model):
        with torch.no_grad():
            return model(sample, t, text).sample

    plain, everywhere = run(unet), with_region(unet, run, None, **fields)
    assert not torch.equal(plain, everywhere)
    assert torch.equal(with_region(unet, run, ONES, **fields), everywhere)
    with pytest.warns(NoEffectWarning, match="the region is 0 everywhere"):
        handle = freeu.apply(unet, **FACTORS, **fields, region=ZEROS)
    assert torch.equal(run(unet), plain)
    with pytest.raises(FreeURuntimeError, match="changed nothing in 1 call: the region is 0 everywhere"):
        handle.verify()
    handle.remove()
    assert torch.equal(run(unet), plain)


def test_every_kind_of_mask_says_the_same(unet, run):
    mask = half()
    want = with_region(unet, run, mask)
    grey = (mask * 255).to(torch.uint8).numpy()
    kinds = [
        mask.double(),
        mask.bool(),
        mask.numpy(),
        grey // 255,
        mask[None],
        Image.fromarray(grey),
        Image.fromarray(grey).convert("1"),
        Image.fromarray((mask * 65535).numpy().astype(np.uint16)),
        mask.clone().requires_grad_(),
    ]
    for kind in kinds:
        assert torch.equal(with_region(unet, run, kind), want)


@pytest.mark.parametrize("fields", [{}, {"guidance": "conditional"}, {"share": "guidance"}], ids=str)
def test_one_mask_for_each_image_is_repeated_for_the_halves_of_guidance(mini, fields):
    """Two images at once are what each is alone: a mask follows its image into both halves of the batch."""

    def generate(prompts, seeds, region):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        settings = {"num_inference_steps": 2, "generator": generators, "output_type": "np", "guidance_scale": 5.0}
        with freeu.enabled(mini.pipe, **FACTORS, **fields, region=region):
            return torch.from_numpy(mini.pipe(prompts, **settings).images)

    prompts, seeds = ["a red circle", "a blue square"], [0, 1]
    masks = torch.stack([half(), 1 - half()])
    together = generate(prompts, seeds, masks)
    for place in range(2):
        alone = generate(prompts[place : place + 1], seeds[place : place + 1], masks[place])
        assert relative_error(together[place], alone[0]) <= 10 * UNET
    swapped = generate(prompts, seeds, masks.flip(0))
    assert relative_error(swapped, together) > 100 * UNET


def test_a_mask_is_repeated_over_the_frames_of_its_video():
    unet = tiny_video_unet().eval()
    generator = torch.Generator().manual_seed(0)
    sample, words = (torch.randn(*shape, generator=generator) for shape in ((2, 4, 3, 8, 8), (2, 3, 16)))

    def run(model, rows=slice(None)):
        with torch.no_grad():
            return model(sample[rows], torch.tensor(500), words[rows]).sample

    masks = torch.stack([half(), 1 - half()])
    together = with_region(unet, run, masks)
    for row in range(2):
        alone = with_region(unet, lambda model, row=row: run(model, slice(row, row + 1)), masks[row])
        assert relative_error(together[row : row + 1], alone) <= UNET
    assert torch.equal(with_region(unet, run, ONES), with_region(unet, run, None))


def test_gradients_go_the_same_way_as_values(unet, inputs):
    sample, t, text = inputs

    def run(model):
        return model(sample, t, text).sample

    mask = half()
    want = run_with_gradient(unet, sample, lambda: oracle(unet, run, mask.expand(2, 32, 32)))
    with freeu.enabled(unet, **FACTORS, region=mask):
        got = run_with_gradient(unet, sample, lambda: run(unet))
    for one, other in zip(got, want, strict=True):
        assert relative_error(one, other) <= 10 * UNET


def run_with_gradient(unet, sample, call):
    sample.requires_grad_()
    sample.grad = None
    out = call()
    out.square().mean().backward()
    unet.zero_grad()
    return out.detach(), sample.grad.clone()


def test_another_region_in_place_copies_and_nesting(unet, run):
    everywhere, left = with_region(unet, run, None), with_region(unet, run, half())
    handle = freeu.apply(unet, **FACTORS, region=half())
    assert "region 32 x 32>" in repr(handle)
    with torch.inference_mode():
        copied = copy.deepcopy(unet)
    assert torch.equal(run(copied), left)
    with freeu.enabled(unet, **FACTORS):
        assert torch.equal(run(unet), everywhere)
    assert torch.equal(run(unet), left)
    handle.update(b=(1.1, 1.2))
    changed = run(unet)
    assert torch.equal(with_region(copy.deepcopy(unet), run, None), everywhere)
    handle.update(b=FACTORS["b"], region=1 - half())
    assert not torch.equal(run(unet), left)
    assert torch.equal(run(handle.update(region=half()).model), left), "the mask of the present, not of the past"
    assert not torch.equal(changed, left)
    assert torch.equal(run(handle.update(region=None).model), everywhere)
    assert "region" not in repr(handle)
    with pytest.raises(FreeUValueError, match="divide it by 255"):
        handle.update(b=(2.0, 2.0), region=half() * 255)
    assert torch.equal(run(unet), everywhere), "a refused update changes nothing"


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_compiled_code_reads_another_mask_without_being_built_anew():
    torch._dynamo.reset()
    small = tiny_unet((8, 16), layers_per_block=1)
    sample, t, text = tiny_inputs()

    def run(model):
        with torch.no_grad():
            return model(sample, t, text, return_dict=False)[0]

    masks = half(), 1 - half()
    want = [with_region(small, run, mask) for mask in masks]
    counter = CompileCounterWithBackend("eager")
    with freeu.enabled(small, **FACTORS, region=masks[0]) as handle:
        compiled = torch.compile(small, backend=counter, fullgraph=True)
        for mask, one in zip(masks, want, strict=True):
            handle.update(region=mask)
            assert relative_error(run(compiled), one) <= UNET
        assert counter.frame_count == 1
        assert set(handle.verify().values()) == {2}
    torch._dynamo.reset()


def test_half_precision_is_rounded_once_more_at_most():
    mask = torch.rand(32, 32)
    x = torch.randn(2, 48, 8, 8, dtype=torch.bfloat16)
    changed = x * 1.5
    weights = torch.from_numpy(averaged(mask.numpy(), 8, 8))
    want = x.double() + weights * (changed.double() - x.double())
    got = Region(mask, torch.device("cpu")).blend(x, changed, 1, inplace=False)
    assert relative_error(got, want) <= 2 * BACKBONE[torch.bfloat16]


def test_volumes_have_the_mask_in_every_slice():
    x = torch.randn(2, 3, 5, 8, 8)
    got = Region(half(), torch.device("cpu")).blend(x, x + 1, 1, inplace=False)
    weights = torch.from_numpy(averaged(half().numpy(), 8, 8)).float()
    assert relative_error(got - x, weights.expand_as(x)) <= 1e-6


BAD = [
    (torch.zeros(0, 8), "region must have at least one pixel, got shape (0, 8)"),
    (torch.zeros(8), "region must be one mask of height x width, or one for each image"),
    (torch.zeros(1, 1, 8, 8), "got shape (1, 1, 8, 8)"),
    (torch.full((8, 8), float("nan")), "region has values that are not finite"),
    (np.full((8, 8), 255, np.uint8), "got values from 255 to 255: divide it by 255"),
    (torch.full((8, 8), -0.5), "got values from -0.5 to -0.5: bring it there"),
    (torch.zeros(8, 8, dtype=torch.complex64), "region must hold real numbers, got torch.complex64"),
    ([[0, 1], [1, 0]], "region must be a tensor, an array or an image of Pillow, got list"),
    (np.full((2, 2), "x"), "got an array of <U1"),
    ("mask.png", "got str"),
    (Image.new("RGBA", (8, 8)), "region must be a grey image without transparency, got one of mode RGBA"),
]


@pytest.mark.parametrize(("mask", "line"), BAD, ids=[line[-30:] for _, line in BAD])
def test_bad_masks_are_refused_before_anything_changes(unet, run, mask, line):
    before = run(unet)
    with pytest.raises(FreeUValueError) as error:
        freeu.apply(unet, **FACTORS, region=mask)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert freeu.active(unet) == ()
    assert torch.equal(run(unet), before)


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        (torch.ones(32, 64), "region is 32 x 64 (height x width), which is not the shape of a feature map of"),
        (torch.ones(64, 32), "crop or resize it to the shape of the image"),
        (torch.ones(3, 32, 32), "region has 3 masks, and the batch 2 images (guidance counted)"),
    ],
)
def test_masks_that_do_not_fit_the_batch_or_the_image(unet, run, mask, line):
    with freeu.enabled(unet, **FACTORS, region=mask), pytest.raises(FreeUValueError) as error:
        run(unet)
    assert line in str(error.value)


def test_a_side_that_the_unet_rounds_still_fits():
    unet = tiny_unet()
    sample, t, text = tiny_inputs()
    sample = torch.randn(2, 4, 24, 16)
    mask = torch.ones(192, 128)
    with torch.no_grad(), freeu.enabled(unet, **FACTORS) as handle:
        want = unet(sample, t, text).sample
        handle.update(region=mask)
        assert torch.equal(unet(sample, t, text).sample, want)


def test_views_of_a_panorama_are_refused():
    from diffusers import DDIMScheduler, StableDiffusionPanoramaPipeline

    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = StableDiffusionPanoramaPipeline(
        unet=tiny_unet(), scheduler=DDIMScheduler(), **parts, requires_safety_checker=False
    )
    with pytest.raises(FreeURuntimeError, match="shows the U-Net parts of the image one by one"):
        freeu.apply(pipe, **FACTORS, region=ONES)
