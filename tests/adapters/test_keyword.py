"""Sites behind a module that is called with the features as a keyword argument."""

import pytest
import torch
from tolerances import UNET, relative_error
from torch import nn

import freeu
from freeu.adapters.keyword import ByKeyword
from freeu.config import FreeUConfig
from freeu.core.hooks import Host
from freeu.core.patch import Handle
from freeu.core.site import Site
from freeu.ops import reference


class Consumer(nn.Module):
    """Uses the features twice, as a residual block does: a hook further inside would change one of the two."""

    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 12)
        self.shortcut = nn.Conv2d(12, 4, 1)

    def forward(self, features, scale):
        return self.norm(features)[:, :4] * scale + self.shortcut(features)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.consumer = Consumer()

    def forward(self, sample, timestep, named=True):
        features = torch.cat([sample, sample[:, :4].flip(-1)], dim=1)
        if named:
            return self.consumer(scale=2.0, features=features)
        return self.consumer(features, 2.0)


@pytest.fixture
def decoder():
    return Decoder().eval()


def put(decoder):
    site = Site("consumer", ByKeyword(decoder.consumer, "features"), 8, 4, 8, 0, "Decoder")
    return Handle(decoder, [site], FreeUConfig(b=(1.0, 1.0, 1.3), s=(1.0, 1.0, 0.4)), Host())


def published(decoder, sample):
    h = reference.scale_backbone(sample, 1.3)
    skip = reference.filter_skip(sample[:, :4].flip(-1), 0.4)
    return decoder.consumer(torch.cat([h, skip], dim=1), 2.0)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("inference", [True, False])
def test_both_ways_of_calling_and_both_ways_of_changing(decoder, named, inference):
    sample = torch.randn(2, 8, 6, 6)
    with torch.set_grad_enabled(not inference):
        before, want = decoder(sample, 1, named), published(decoder, sample)
        with put(decoder) as handle:
            assert relative_error(decoder(sample, 1, named), want) <= UNET
            assert handle.verify() == {"consumer": 1}
        assert torch.equal(decoder(sample, 1, named), before)
    assert not decoder.consumer._forward_pre_hooks
    assert not decoder.consumer._forward_pre_hooks_with_kwargs


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_one_graph_under_the_compiler(decoder):
    torch._dynamo.reset()
    sample = torch.randn(2, 8, 6, 6)
    want, other = published(decoder, sample), decoder(sample, 1)
    handle = put(decoder)
    compiled = torch.compile(decoder, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert relative_error(compiled(sample, 1), want) <= UNET
        assert handle.verify() == {"consumer": 1}
        handle.update(b=(1.0, 1.0, 1.0), s=(1.0, 1.0, 0.999))
        assert relative_error(compiled(sample, 1), want) > 1e-2
        handle.remove()
        assert relative_error(compiled(sample, 1), other) <= UNET
    torch._dynamo.reset()


def test_hooks_that_name_arguments_themselves_and_hooks_behind(decoder):
    seam = ByKeyword(decoder.consumer, "features")
    seen = []
    handles = [
        seam.register_forward_pre_hook(
            lambda _m, args, kwargs: seen.append((len(args), sorted(kwargs))), with_kwargs=True
        ),
        seam.register_forward_pre_hook(lambda _m, args: seen.append(len(args)), prepend=True),
        seam.register_forward_pre_hook(lambda _m, args: args[0] * 0.0),
        seam.register_forward_hook(lambda _m, _args, output: seen.append(tuple(output.shape))),
    ]
    sample = torch.randn(1, 8, 6, 6)
    out = decoder(sample, 1)
    assert seen == [1, (0, ["features", "scale"]), (1, 4, 6, 6)]
    assert torch.equal(out, decoder.consumer(torch.zeros(1, 12, 6, 6), scale=2.0))
    for handle in handles:
        handle.remove()
    assert torch.equal(seam(torch.cat([sample, sample[:, :4].flip(-1)], 1), 2.0), decoder(sample, 1))


def test_it_is_used_where_it_must_be():
    from tiny_pipelines import tiny_motion_unet, tiny_video_unet

    assert all(isinstance(site.module, ByKeyword) for site in freeu.inspect(tiny_motion_unet()))
    assert not any(isinstance(site.module, ByKeyword) for site in freeu.inspect(tiny_video_unet()))
