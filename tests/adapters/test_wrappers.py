"""The U-Net inside its wrappers: every public function takes the same way to it."""

import types

import pytest
import torch
from tolerances import UNET, relative_error

import freeu
from conftest import tiny_inputs, tiny_unet
from freeu.adapters.finding import unet_of
from freeu.errors import FreeURuntimeError, NoSitesError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


def with_peft(unet):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(unet, peft.LoHaConfig(r=2, target_modules=["to_q", "conv2"]))


def distributed(unet):
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    return torch.nn.parallel.DistributedDataParallel(unet)


WRAPPERS = {
    "PEFT": with_peft,
    "DataParallel": torch.nn.DataParallel,
    "DistributedDataParallel": distributed,
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "torch.compile": lambda unet: torch.compile(unet, backend="eager"),
    "torch.compile of DataParallel": lambda unet: torch.compile(torch.nn.DataParallel(unet), backend="eager"),
}


@pytest.fixture
def alone(tmp_path):
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("inside", ["alone", "in a pipeline"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_looked_through(name, inside, request):
    if name == "DistributedDataParallel":
        request.getfixturevalue("alone")
    torch._dynamo.reset()
    unet = tiny_unet((8, 16), layers_per_block=1, cross_attention_dim=8)
    paths = [site.path for site in freeu.inspect(unet)]
    wrapped = WRAPPERS[name](unet)
    model = wrapped if inside == "alone" else types.SimpleNamespace(unet=wrapped)
    assert [site.path for site in freeu.inspect(model)] == paths
    assert freeu.recommend(model) == freeu.recommend(unet)
    sample, _, text = tiny_inputs()

    def call(t):
        with torch.no_grad():
            return wrapped(sample, torch.tensor(t), text, return_dict=False)[0]

    own = unet_of(model)
    with torch.no_grad():
        plain = own(sample, torch.tensor(900), text, return_dict=False)[0]
        with freeu.enabled(own, **FACTORS):
            want = own(sample, torch.tensor(900), text, return_dict=False)[0]
    with freeu.enabled(model, **FACTORS, end=0.5) as handle:
        assert freeu.active(model) == freeu.active(own) == (handle,)
        assert relative_error(call(900), want) <= UNET
        assert relative_error(call(100), want) > 1e-3
        assert set(handle.verify().values()) == {1}, "the second call is after the end of the schedule"
    torch._dynamo.reset()  # compiled code that has run is refused
    freeu.apply(model, **FACTORS)
    freeu.remove_all(model)
    assert freeu.active(own) == ()
    assert relative_error(call(900), plain) <= UNET
    torch._dynamo.reset()


@pytest.mark.parametrize("way", ["cpu_offload", "disk_offload"])
def test_offloaded_by_accelerate(way, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    unet = tiny_unet((8, 16), layers_per_block=1)
    sample, t, text = tiny_inputs()
    with torch.no_grad():
        with freeu.enabled(unet, **FACTORS):
            want = unet(sample, t, text).sample
        if way == "cpu_offload":
            accelerate.cpu_offload(unet, torch.device("cpu"))
        else:
            accelerate.disk_offload(unet, tmp_path, torch.device("cpu"))
        assert next(unet.parameters()).device.type == "meta"
        with freeu.enabled(unet, **FACTORS, end=0.9) as handle:
            assert torch.equal(unet(sample, t, text).sample, want)
            assert set(handle.verify().values()) == {1}


def test_on_the_meta_device_nothing_fired_yet():
    with torch.device("meta"):
        unet = tiny_unet((8, 16), layers_per_block=1)
    with (
        freeu.enabled(unet, **FACTORS) as handle,
        pytest.raises(FreeURuntimeError, match="3 of 3 sites never fired"),
    ):
        handle.verify()


def test_what_has_no_unet_is_told_through_wrappers():
    with pytest.raises(NoSitesError, match="Linear has no skip concatenation"):
        freeu.inspect(torch.nn.DataParallel(torch.nn.Linear(2, 2)))


# -- U-Nets that are built around or beside that of Stable Diffusion ---------------------------------------------


def controlnet_xs():
    from diffusers import ControlNetXSAdapter
    from diffusers.models.controlnets.controlnet_xs import UNetControlNetXSModel

    unet = tiny_unet((8, 16, 32, 32), use_linear_projection=True, attention_head_dim=4)
    adapter = ControlNetXSAdapter.from_unet(unet, size_ratio=0.5, conditioning_embedding_out_channels=(16, 32))
    return UNetControlNetXSModel.from_unet(unet, adapter).eval(), adapter


def test_controlnet_xs():
    """One U-Net made of the base model's and the control's: the decoder is the base model's."""
    model, adapter = controlnet_xs()
    assert [site.backbone_channels for site in freeu.inspect(model)] == [32] * 7 + [16] * 3 + [8] * 2
    sample, t, text = tiny_inputs()
    image = torch.rand(2, 3, 32, 32)

    def call():
        with torch.no_grad():
            return model(sample, t, text, image, return_dict=False)[0]

    plain = call()
    pipe = types.SimpleNamespace(unet=model, controlnet=adapter)
    with freeu.enabled(pipe, **FACTORS) as handle:
        assert not torch.equal(call(), plain)
        assert set(handle.verify().values()) == {1}
    with freeu.enabled(pipe, b=(1.2, 1.4), s=(0.9, 0.2), version=1, profile="diffusers"):
        ours = call()
    model.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    assert relative_error(ours, call()) <= UNET
    with pytest.raises(FreeURuntimeError, match="diffusers' own FreeU is active"):
        freeu.apply(model, **FACTORS)
    model.disable_freeu()
    assert torch.equal(call(), plain)
    with pytest.raises(NoSitesError, match="apply FreeU to the pipeline"):
        freeu.apply(adapter)


@pytest.mark.parametrize("separable", [False, True])
def test_dreamlite(separable):
    unets = pytest.importorskip("diffusers.models.unets.unet_dreamlite", reason="from diffusers 0.42 on")
    model = unets.DreamLiteUNetModel(
        block_out_channels=(8, 16, 32),
        layers_per_block=2,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=4,
        use_sep_conv=separable,
    ).eval()
    assert [site.backbone_channels for site in freeu.inspect(model)] == [32] * 4 + [16] * 3 + [8] * 2
    sample, text = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 16)

    def call():
        with torch.no_grad():
            return model(sample, 500, text, return_dict=False)[0]

    plain = call()
    with freeu.enabled(model, b=(1.2, 1.4), s=(0.9, 0.2), version=1, profile="diffusers") as handle:
        ours = call()
        assert len(handle.verify()) == 6
    model.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    assert relative_error(ours, call()) <= UNET
    model.disable_freeu()
    assert torch.equal(call(), plain)
