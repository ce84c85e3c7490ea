"""What the nodes do, without ComfyUI: settings, regions, rows of guidance, grids and files."""

import pytest
import torch
from comfyui_model import PACK
from PIL import Image
from tolerances import BACKBONE, FILTER, relative_error

import freeu
from freeu.core.region import Region
from freeu.core.site import Site
from freeu.metadata import png_bytes
from freeu.ops import reference
from freeu.output_blocks import FreeUPatch, Steps

WIDGETS = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2, "version": 2}


def options(**more):
    return {"block": ("output", 0), "cond_or_uncond": [1, 0], **more}


@pytest.fixture
def patch(logic):
    """Makes the patch of one site of stage 1, with 8 + 4 channels, that acts in every step."""
    site = Site("output_blocks.0.0", torch.nn.Identity(), 8, 4, 2, 0, "UpBlock2D")

    def make(text="", region=None):
        config = logic("settings").settings(text, **WIDGETS)
        where = None if region is None else Region(region, torch.device("cpu"))
        return FreeUPatch(config, [site], Steps(config, None), where)

    return make


@pytest.fixture
def features():
    return torch.randn(2, 8, 6, 6), torch.randn(2, 4, 6, 6)


@pytest.mark.parametrize("text", ["", "version=1", "mask=radial threshold=2 dc=keep", "channels=second high_gain=1.1"])
def test_the_patch_is_the_published_operator(patch, features, text):
    made = patch(text)
    config = made.config
    h, hsp = (x.clone() for x in features)
    with torch.no_grad():
        got, skip = made(h, hsp, options())
    wanted = reference.scale_backbone(features[0], 1.3, config.version, channels=config.channels)
    assert relative_error(got, wanted) < BACKBONE[torch.float32]
    filtered = reference.filter_skip(
        features[1], 0.9, config.threshold, config.mask, dc=config.dc, high_gain=config.high_gain
    )
    assert relative_error(skip, filtered) < FILTER[torch.float32]
    assert torch.equal(hsp, features[1])  # somebody may keep the encoder's features
    assert got is h  # as the core's own nodes do


def test_nothing_is_changed_in_place_where_autograd_looks(patch, features):
    h, hsp = features
    h.requires_grad_()
    before = h.detach().clone()
    got, skip = patch()(h, hsp, options())
    (got.sum() + skip.sum()).backward()
    assert torch.equal(h.detach(), before)
    assert h.grad is not None


def test_backbone_and_skip_may_be_one_tensor(logic, patch):
    site = Site("output_blocks.0.0", torch.nn.Identity(), 8, 8, 2, 0, "UpBlock2D")
    config = logic("settings").settings("s1=1", **WIDGETS)
    made = FreeUPatch(config, [site], Steps(config, None))
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        got, skip = made(x, x, options(cond_or_uncond=[0]))
    assert skip is x
    assert not torch.equal(got, skip)


@pytest.mark.parametrize(
    ("halves", "changed"), [([1, 0], [False, True]), ([0, 1], [True, False]), ([1], [False, False])]
)
@pytest.mark.parametrize("grad", [False, True])
def test_the_positive_rows_alone(patch, features, halves, changed, grad):
    made = patch("guidance=conditional")
    h, hsp = (x.clone() for x in features)
    with torch.set_grad_enabled(grad):
        got = made(h, hsp, options(cond_or_uncond=halves))
        whole = patch()(features[0].clone(), features[1].clone(), options())
    for new, every, old in zip(got, whole, features, strict=True):
        for row, acts in enumerate(changed):
            assert torch.equal(new[row], every[row] if acts else old[row])


def test_a_region_is_averaged_over_the_area_of_each_pixel(patch, features):
    mask = torch.rand(1, 12, 12)
    with torch.no_grad():
        got = patch(region=mask)(features[0].clone(), features[1].clone(), options())
        whole = patch()(features[0].clone(), features[1].clone(), options())
    m = mask.reshape(6, 2, 6, 2).mean(dim=(1, 3))
    for new, every, old in zip(got, whole, features, strict=True):
        assert relative_error(new, m * every + (1 - m) * old) < BACKBONE[torch.float32]


def test_one_mask_for_each_image(patch):
    mask = torch.stack([torch.ones(6, 6), torch.zeros(6, 6)])
    x = torch.randn(4, 8, 6, 6), torch.randn(4, 4, 6, 6)
    with torch.no_grad():
        got, _ = patch(region=mask)(x[0].clone(), x[1].clone(), options())
    same = [torch.equal(new, old) for new, old in zip(got, x[0], strict=True)]
    assert same == [False, True, False, True]  # two images in each half


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mask=square", "unknown mask 'square'"),
        ("b1", "expected key=value"),
        ('{"masc": "radial"}', "unknown configuration field 'masc'"),
        ("{", "config is not JSON"),
        ("control=before", "control='before' cannot be served in ComfyUI"),
        ("over_time=clip", "over_time='clip' cannot be served in ComfyUI"),
        ("b1=nan", "finite"),
    ],
)
def test_a_bad_setting_is_one_line(logic, text, message):
    with pytest.raises(freeu.FreeUValueError, match=message.replace("{", "{")) as caught:
        logic("settings").settings(text, **WIDGETS)
    assert "\n" not in str(caught.value)


def test_what_the_text_names_wins(logic):
    read = logic("settings").settings
    assert read("b1=1.5 end=0.5", **WIDGETS) == freeu.FreeUConfig(
        b=(1.5, 1.4), s=(0.9, 0.2), version=2, profile="comfyui", end=0.5
    )
    assert read('{"mask": "radial"}', **WIDGETS).b == (1.3, 1.4)
    assert read(freeu.preset("sd21").to_json(), **WIDGETS) == freeu.preset("sd21")
    assert read("profile=diffusers", **WIDGETS).version == 1
    assert read('{"profile": "diffusers"}', **WIDGETS).version == 1


def test_a_window_that_is_none():
    config = freeu.FreeUConfig()
    with pytest.raises(freeu.FreeUValueError, match="start must be smaller than end"):
        Steps(config, None, 0.5, 0.5)


def test_a_sampler_that_tells_nothing(patch, features):
    with pytest.raises(freeu.FreeURuntimeError, match="no cond_or_uncond"):
        patch("guidance=conditional")(*features, {"block": ("output", 0)})
    with pytest.raises(freeu.FreeURuntimeError, match="should join 8 \\+ 4 channels, got 4 \\+ 8"):
        patch()(features[1], features[0], options())


def test_a_grid_goes_row_after_row(logic):
    texts, labels, columns = logic("axes").grid("b1=1.3 s1=0.9", "b1=1,1.2,1.4", "preset=off,sd15")
    assert columns == 3
    assert labels[:2] == ["off, b1 = 1", "off, b1 = 1.2"]
    assert texts[0] == "strength=0"
    assert freeu.FreeUConfig.from_json(texts[5]) == freeu.preset("sd15").replace(b1=1.4)
    for x, message in (("", "must name an axis"), ("seed=1,2", "not a setting of FreeU"), ("b1=11", "0 to 10")):
        with pytest.raises(freeu.FreeUValueError, match=message):
            logic("axes").grid("", x)
    with pytest.raises(freeu.FreeUValueError, match="more than 200"):
        logic("axes").grid("", "b1=0:1:0.05", "b2=0:1:0.1")


def written(path, settings, parameters=None):
    path.write_bytes(png_bytes(Image.new("RGB", (8, 8)), settings, parameters=parameters))
    return path


def test_settings_of_an_image(logic, tmp_path):
    config = freeu.preset("sd15")
    ours = {
        "config": config.to_dict(),
        "prompt": "一只狐狸",
        "negative_prompt": "",
        "seed": 3,
        "steps": 8,
        "guidance": 0.0,
    }
    read = logic("images").read_settings
    found = read(written(tmp_path / "ours.png", ours))
    assert freeu.FreeUConfig.from_json(found.config) == config
    assert (found.prompt, found.seed, found.steps, found.cfg) == ("一只狐狸", 3, 8, 0.0)
    assert found.missing == ("negative_prompt",)
    found = read(written(tmp_path / "none.png", {"config": None}))
    assert found.config == "strength=0"
    assert logic("settings").settings(found.config, **WIDGETS).identity
    assert found.missing == ("FreeU", "prompt", "negative_prompt", "seed", "steps", "guidance")


def test_settings_of_a1111(logic, tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(
        "parameters",
        "a fox\nSteps: 20, Sampler: Euler a, CFG scale: 6.5, Seed: 5, Size: 64x64, "
        'FreeU Stages: "[{\\"backbone_factor\\": 1.2, \\"skip_factor\\": 0.9}]", FreeU Version: 2',
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "webui.png", pnginfo=info)
    found = logic("images").read_settings(tmp_path / "webui.png")
    config = logic("settings").settings(found.config, **WIDGETS)
    assert (config.profile, config.b, config.s, config.version) == ("a1111", (1.2, 1.0), (0.9, 1.0), 2)
    assert (found.seed, found.steps, found.cfg) == (5, 20, 6.5)


def test_files_that_are_refused(logic, tmp_path):
    images = logic("images")
    (tmp_path / "input").mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "input" / "link.png").symlink_to(tmp_path / "secret.png")
    for name in ("../secret.png", "link.png", "", ".", "a\0b", str(tmp_path / "secret.png")):
        with pytest.raises(freeu.FreeUValueError, match="input folder"):
            images.inside(tmp_path / "input", name)
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(freeu.FreeUValueError, match=r"plain.png holds no settings"):
        images.read_settings(tmp_path / "plain.png")
    bad = {"config": None, "seed": "x", "steps": 1, "guidance": 1}
    with pytest.raises(freeu.FreeUValueError, match="is no number"):
        images.read_settings(written(tmp_path / "bad.png", bad))


def test_the_pack_is_laid_out_as_the_registry_asks():
    for name in ("pyproject.toml", "README.md", "LICENSE", "__init__.py", "example_workflows", "web/docs"):
        assert (PACK / name).exists(), name
    assert (PACK / "LICENSE").read_text() == (PACK.parents[1] / "LICENSE").read_text()
    workflows = sorted((PACK / "example_workflows").glob("*.json"))
    assert len(workflows) >= 4
    assert all(path.with_suffix(".jpg").is_file() for path in workflows)
    for path in PACK.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("eval(", "exec(", "subprocess", "pip install", "pickle", "torch.load"):
            assert word not in text, f"{path.name}: {word}"
        assert len(text.splitlines()) <= 300, path
