"""What an observer is shown, with FreeU and without, and that looking changes nothing."""

import threading

import numpy as np
import pytest
import torch

import freeu
from conftest import tiny_unet
from freeu.adapters import adapter_for
from freeu.analysis import TransferSum
from freeu.core.capture import PARTS, Capture
from freeu.errors import FreeURuntimeError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


def capture(unet, observe):
    adapter = adapter_for(unet)
    return Capture(unet, adapter.find_sites(unet), adapter.host, observe)


def hooks(model):
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def copies(unet, run, calls=1):
    """Everything that is shown in some calls, copied: by (call, path, part, changed)."""
    seen = {}

    def keep(features):
        key = (features.call, features.site.path, features.part, features.changed)
        assert key not in seen
        seen[key] = features.tensor.clone()

    with capture(unet, keep) as watching:
        for _ in range(calls):
            run(unet)
    assert watching.calls == calls
    return seen


def test_every_part_of_every_site_is_shown(unet, run):
    seen = copies(unet, run, calls=2)
    paths = [site.path for site in freeu.inspect(unet)]
    assert list(seen) == [(call, path, part, False) for call in range(2) for path in paths for part in PARTS]
    for site in freeu.inspect(unet):
        assert seen[0, site.path, "backbone", False].shape[1] == site.backbone_channels
        assert seen[0, site.path, "skip", False].shape[1] == site.skip_channels


def test_looking_changes_nothing_and_leaves_nothing(unet, run):
    plain, before = run(unet), hooks(unet)
    with freeu.enabled(unet, **FACTORS):
        changed = run(unet)
    outputs = []
    with freeu.enabled(unet, **FACTORS):
        copies(unet, lambda model: outputs.append(run(model)))
    copies(unet, lambda model: outputs.append(run(model)))
    assert torch.equal(outputs[0], changed)
    assert torch.equal(outputs[1], plain)
    assert hooks(unet) == before == 0


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("order", ["outside", "inside", "updated"])
def test_freeu_is_seen_before_and_after(unet, inputs, order, inference):
    sample, timestep, text = inputs

    def call():
        with torch.inference_mode(inference), torch.no_grad():
            unet(sample, timestep, text)

    seen = {}

    def keep(features):
        seen[features.site.path, features.part, features.changed] = features.tensor.clone()

    if order == "outside":
        with freeu.enabled(unet, **FACTORS), capture(unet, keep):
            call()
    elif order == "inside":
        with capture(unet, keep), freeu.enabled(unet, **FACTORS):
            call()
    else:
        with freeu.enabled(unet, b=(1.1, 1.0), s=(1.0, 1.0)) as handle, capture(unet, keep):
            handle.update(**FACTORS)
            call()
    for site in freeu.inspect(unet):
        b, s = {32: (1.3, 0.9), 16: (1.4, 0.2)}.get(site.backbone_channels, (1.0, 1.0))
        touched = (site.path, "skip", True) in seen
        assert touched == (s != 1.0) or inference
        assert (site.path, "fused", True) in seen
        if touched:
            h, skip = (seen[site.path, part, False] for part in ("backbone", "skip"))
            torch.testing.assert_close(seen[site.path, "skip", True], freeu.ops.filter_skip(skip, s))
            torch.testing.assert_close(seen[site.path, "backbone", True], freeu.ops.scale_backbone(h, b))


def test_the_transfer_function_measured_from_features_is_the_analytic_one(unet, inputs):
    """DC -> s; (0, +-1), (+-1, 0) and +-(1, 1) -> (1 + s) / 2; all others -> 1."""
    _, timestep, text = inputs
    found, before = {}, {}

    def add(features):
        if features.part == "skip" and features.changed:
            found.setdefault(features.site.path, TransferSum()).add(before[features.site.path], features.tensor)
        elif features.part == "skip":
            before[features.site.path] = features.tensor.clone()

    unet = unet.double()
    with freeu.enabled(unet, **FACTORS), capture(unet, add), torch.no_grad():
        for seed in range(2):
            sample = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            unet(sample, timestep, text.double())
    assert len(found) == len(freeu.inspect(unet).touched())
    for site in freeu.inspect(unet).touched():
        s = {32: 0.9, 16: 0.2}[site.backbone_channels]
        gains = found[site.path].gains()
        expected = np.ones(gains.shape)
        expected[0, 0] = s
        for row, column in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1)):
            expected[row, column] = (1 + s) / 2
        np.testing.assert_allclose(gains, expected, atol=1e-9)


def test_the_timestep_is_told(unet, run):
    times = []
    with capture(unet, lambda features: times.append((features.call, features.timestep))):
        for timestep in (900, torch.tensor([3.5, 3.5])):
            run(unet, timestep)
    assert sorted(set(times)) == [(0, 900.0), (1, 3.5)]


def test_calls_of_two_threads_are_told_apart(unet, run):
    seen, others = [], []

    def interfere(_module, _args):
        if not others:
            others.append(threading.Thread(target=lambda: run(unet, 100)))
            others[0].start()
            others[0].join()

    with capture(unet, lambda features: seen.append((features.call, features.timestep, features.site.path))):
        hook = unet.up_blocks[2].resnets[0].conv1.register_forward_pre_hook(interfere)
        run(unet, 900)
        hook.remove()
    assert {call: timestep for call, timestep, _ in seen} == {0: 900.0, 1: 100.0}
    shown = {number: [path for call, _, path in seen if call == number] for number in (0, 1)}
    assert shown[0] == shown[1]


def test_a_failing_observer_leaves_no_hook(unet, run):
    def fail(features):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"), capture(unet, fail):
        run(unet)
    assert hooks(unet) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_refused(run):
    unet = tiny_unet()
    unet.compile(backend="eager")
    run(unet)
    with pytest.raises(FreeURuntimeError, match="compiled"):
        capture(unet, print)
