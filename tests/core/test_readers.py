"""One reader of a site's features sees what FreeU changed, the other does not."""

import copy

import pytest
import torch
from tiny_pipelines import tiny_unet
from tolerances import UNET, relative_error

import freeu
from freeu.config import READERS
from freeu.core.readers import has_readers, one_reader
from freeu.errors import FreeUValueError

PATH = "up_blocks.0.resnets.0"


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return tiny_unet().eval()


def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), 500, torch.randn(2, 3, 16)


def run(unet):
    with torch.no_grad():
        return unet(*inputs()).sample


def site_output(unet):
    """What the resnet at PATH takes (before FreeU) and gives."""
    found = []
    module = unet.get_submodule(PATH)
    hooks = [
        module.register_forward_pre_hook(lambda _, args: found.append((args[0].clone(), args[1])), prepend=True),
        module.register_forward_hook(lambda _, args, out: found.append(out)),
    ]
    run(unet)
    for hook in hooks:
        hook.remove()
    (taken, emb), given = found
    return taken, emb, given


def by_hand(resnet, norm_input, shortcut_input, emb):
    """The forward of diffusers' resnet, its two readers given their inputs apart."""
    hidden = resnet.conv1(resnet.nonlinearity(resnet.norm1(norm_input)))
    hidden = hidden + resnet.time_emb_proj(resnet.nonlinearity(emb))[:, :, None, None]
    hidden = resnet.conv2(resnet.nonlinearity(resnet.norm2(hidden)))
    return (resnet.conv_shortcut(shortcut_input) + hidden) / resnet.output_scale_factor


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("later", [True, False])
@torch.no_grad()
def test_each_reader_sees_what_a_forward_by_hand_gives_it(unet, reader, version, later):
    config = freeu.FreeUConfig(b={PATH: 1.4}, version=version)
    with freeu.enabled(unet, config) as handle:
        sites = handle.sites
        if later:
            with one_reader(sites, reader):
                taken, emb, given = site_output(unet)
    if not later:
        with one_reader(sites, reader), freeu.enabled(unet, config):
            taken, emb, given = site_output(unet)
    channels = sites[0].backbone_channels
    changed = torch.cat([freeu.ops.scale_backbone(taken[:, :channels], 1.4, version), taken[:, channels:]], dim=1)
    seen = {"norm1": (changed, taken), "conv_shortcut": (taken, changed)}[reader]
    assert relative_error(given, by_hand(unet.get_submodule(PATH), *seen, emb)) < UNET


@torch.no_grad()
def test_both_readers_together_are_the_whole_at_one_site(unet):
    """The resnet adds what its two ways give, so at one site the two effects add up to that of the whole."""
    config = freeu.FreeUConfig(b={PATH: 1.4}, version=1)
    plain = site_output(unet)[2]
    with freeu.enabled(unet, config) as handle:
        whole = site_output(unet)[2]
        parts = []
        for reader in READERS:
            with one_reader(handle.sites, reader):
                parts.append(site_output(unet)[2])
    assert not torch.equal(parts[0], parts[1])
    assert relative_error(sum(part - plain for part in parts), whole - plain) < 10 * UNET


@torch.no_grad()
def test_group_norm_takes_out_a_gain_of_whole_groups(unet):
    """Half of the backbone is whole groups here, so version 1 acts by the shortcut alone."""
    resnet = unet.get_submodule(PATH)
    with freeu.enabled(unet, freeu.FreeUConfig(b={PATH: 1.4}, version=1)) as handle:
        (site,) = handle.sites
        assert (site.backbone_channels // 2) % (resnet.norm1.num_channels // resnet.norm1.num_groups) == 0
        whole = run(unet)
        with one_reader(handle.sites, "conv_shortcut"):
            shortcut = run(unet)
    plain = run(unet)
    # Not to rounding alone: the norm's eps counts for less where the variance is larger.
    assert relative_error(shortcut, whole) < 0.01 * relative_error(plain, whole)


def test_the_model_is_left_as_it_was(unet):
    before = run(unet)
    config = freeu.FreeUConfig(b=(1.4, 1.2), version=2)
    with freeu.enabled(unet, config) as handle:
        sites = handle.sites
        whole = run(unet)
        with one_reader(sites, "norm1"):
            assert not torch.equal(run(unet), whole)
        with pytest.raises(KeyError), one_reader(sites, "norm1"):
            raise KeyError
        assert torch.equal(run(unet), whole)
    with one_reader(sites, "norm1"):
        assert torch.equal(run(unet), before)  # FreeU is not there: nothing to undo
    assert torch.equal(run(unet), before)
    assert not any(site.module._forward_pre_hooks or site.module.norm1._forward_pre_hooks for site in sites)


def test_modules_without_two_readers_are_refused(unet):
    with freeu.enabled(unet, freeu.FreeUConfig(b={PATH: 1.4})) as handle:
        (site,) = handle.sites
    assert has_readers(site)
    with pytest.raises(FreeUValueError, match="must be norm1 or conv_shortcut"), one_reader([site], "norm2"):
        pass
    other = copy.deepcopy(site.module)
    other.conv_shortcut = None
    bare = type(site)(PATH, other, 32, 32, 8, 0, "UpBlock2D")
    assert not has_readers(bare)
    with pytest.raises(FreeUValueError, match="cannot be told apart"), one_reader([bare], "norm1"):
        pass
