"""U-Nets of which parts are compiled: accepted where the sites stay eager, refused in one line where they do not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tolerances import UNET, relative_error
from torch._dynamo.testing import CompileCounterWithBackend

import freeu
from conftest import tiny_inputs, tiny_unet
from freeu.core.capture import Capture
from freeu.core.hooks import Host
from freeu.errors import FreeURuntimeError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
# Tracing imports modules of torch that warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.config.skip_nnmodule_hook_guards = True
    yield
    torch._dynamo.reset()


@pytest.fixture
def unet():
    """SDXL's kind of U-Net: transformer blocks beside the resnets that FreeU acts at."""
    return tiny_unet((8, 16, 32), layers_per_block=1)


def call(model, t=500):
    sample, _, text = tiny_inputs()
    with torch.no_grad():
        return model(sample, torch.tensor(t), text, return_dict=False)[0]


def test_compile_repeated_blocks_run_before_is_accepted(unet):
    plain = call(unet)
    with freeu.enabled(unet, **FACTORS, start=0.2):
        want = call(unet)
    counter = CompileCounterWithBackend("eager")
    unet.compile_repeated_blocks(backend=counter, fullgraph=True)
    assert relative_error(call(unet), plain) <= UNET
    graphs = counter.frame_count
    assert graphs > 0
    with freeu.enabled(unet, **FACTORS, start=0.2) as handle:
        assert relative_error(call(unet), want) <= UNET
        assert set(handle.verify().values()) == {1}
        handle.update(b=(1.1, 1.2))
        assert relative_error(call(unet), want) > UNET
        with freeu.enabled(unet, b=(1.0, 1.0)):
            assert relative_error(call(unet), plain) <= UNET
    assert relative_error(call(unet), plain) <= UNET
    assert counter.frame_count == graphs, "compiled blocks were compiled again"


def test_compile_repeated_blocks_and_the_features(unet):
    """Looking at the features goes by the same rule."""
    unet.compile_repeated_blocks(backend="eager")
    call(unet)
    seen = []
    with Capture(unet, freeu.inspect(unet).sites, Host(), seen.append):
        call(unet)
    assert len(seen) == 3 * len(freeu.inspect(unet))


@pytest.mark.parametrize("place", ["up_blocks.0.resnets.1", "up_blocks.0", ""])
def test_a_part_that_hooks_go_into_is_refused_by_name(unet, place):
    unet.get_submodule(place).compile(backend="eager")
    call(unet)
    with pytest.raises(FreeURuntimeError, match=rf"^{place or 'this'}.* has run as compiled code") as caught:
        freeu.apply(unet, **FACTORS)
    assert "\n" not in str(caught.value)
    assert freeu.active(unet) == ()


def test_only_the_touched_sites_must_be_eager(unet):
    unet.up_blocks[2].resnets[1].compile(backend="eager")
    call(unet)
    with freeu.enabled(unet, **FACTORS) as handle:
        assert "up_blocks.2.resnets.1" not in [site.path for site in handle.sites]
        call(unet)
        handle.verify()
        with pytest.raises(FreeURuntimeError, match=r"^up_blocks\.2\.resnets\.1 of this UNet2DConditionModel has run"):
            handle.update(b={"up_blocks.2.resnets.1": 1.5})
        call(unet)
        handle.verify()


def test_an_update_from_the_identity_looks_too(unet):
    handle = freeu.apply(unet, b=(1.0, 1.0))
    compiled = torch.compile(unet, backend="eager")
    call(compiled)
    with pytest.raises(FreeURuntimeError, match="has run as compiled code"):
        handle.update(**FACTORS)
    handle.remove()
