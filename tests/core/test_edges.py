"""Handles where something goes wrong: inference mode, exceptions, what was forgotten, ends in the wrong order."""

import copy
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import freeu
from conftest import tiny_inputs, tiny_unet
from freeu.errors import FreeURuntimeError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


def hooks(model: torch.nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("end", [1.0, 0.7])
def test_applied_in_inference_mode_and_removed_outside(unet, run, end):
    before = run(unet)
    with freeu.enabled(unet, **FACTORS, end=end):
        want = run(unet)
    with torch.inference_mode():
        handle = freeu.apply(unet, **FACTORS, end=end)
    assert torch.equal(run(unet), want)
    handle.update(b=(1.1, 1.2))
    handle.update(**FACTORS)
    assert torch.equal(run(unet), want)
    handle.remove()
    assert freeu.active(unet) == ()
    assert torch.equal(run(unet), before)
    with freeu.enabled(unet, **FACTORS):
        run(unet)
    assert hooks(unet) == 0
    assert torch.equal(run(unet), before)


def test_copied_in_inference_mode_and_removed_outside(unet, run):
    before = run(unet)
    handle = freeu.apply(unet, **FACTORS, end=0.7)
    want = run(unet)
    with torch.inference_mode():
        twin = copy.deepcopy(unet)
    handle.remove()
    sample, t, text = tiny_inputs()
    with torch.inference_mode():  # the copied weights are of inference mode too
        assert torch.equal(twin(sample, t, text).sample, want)
    freeu.active(twin)[0].update(b=(1.1, 1.2))
    freeu.remove_all(twin)
    with torch.inference_mode():
        assert torch.equal(twin(sample, t, text).sample, before)


def test_the_real_exception_is_told(unet, run):
    """Also where taking FreeU out has something to complain about."""
    before = run(unet)

    def fail(schedule):
        with torch.inference_mode():
            handle = freeu.apply(unet, **FACTORS, end=schedule)
        with handle:
            freeu.apply(unet, b=(1.1, 1.2))
            raise ZeroDivisionError

    for schedule in (1.0, 0.7):
        with pytest.raises(ZeroDivisionError):
            fail(schedule)
        assert freeu.active(unet) == ()
        assert torch.equal(run(unet), before)


def test_a_handle_forgotten_in_a_block_is_told_and_removed(unet, run):
    before = run(unet)
    with pytest.raises(FreeURuntimeError, match="was removed with it"), freeu.enabled(unet, **FACTORS):
        freeu.apply(unet, b=(1.1, 1.2))
    assert freeu.active(unet) == ()
    assert torch.equal(run(unet), before)


def test_a_removed_handle_is_not_entered_again(unet, run):
    before = run(unet)
    with freeu.enabled(unet, **FACTORS) as handle:
        pass
    with pytest.raises(FreeURuntimeError, match=r"was removed: call freeu\.apply or"), handle:
        pass
    handle = freeu.apply(unet, **FACTORS)
    with handle:
        with pytest.raises(FreeURuntimeError, match="in a with block already"), handle:
            pass
        assert handle.active
    outer, inner = freeu.apply(unet, **FACTORS), freeu.apply(unet, b=(1.1, 1.2))
    with pytest.raises(FreeURuntimeError, match=r"a later freeu\.apply"), outer:
        pass
    inner.remove()
    outer.remove()
    assert torch.equal(run(unet), before)


def test_everything_is_removed_at_once(unet, run):
    before = run(unet)
    freeu.remove_all(unet)
    handles = [freeu.apply(unet, b=(b, 1.2)) for b in (1.1, 1.2, 1.3)]
    freeu.remove_all(unet)
    assert not any(handle.active for handle in handles)
    assert hooks(unet) == 0
    assert torch.equal(run(unet), before)
    for handle in handles:
        handle.remove()
    with freeu.enabled(unet, **FACTORS):
        freeu.remove_all(unet)
        assert torch.equal(run(unet), before)
    freeu.apply(unet, **FACTORS)
    twin = copy.deepcopy(unet)
    freeu.remove_all(twin)
    assert torch.equal(run(twin), before)
    assert not torch.equal(run(unet), before)
    freeu.remove_all(unet)


@pytest.mark.parametrize("grad", [False, True])
def test_residuals_are_released_after_an_exception(unet, grad):
    """Those of a ControlNet are as large as all skips together."""
    sample, t, text = tiny_inputs()
    down = [torch.zeros(()) for _ in range(12)]
    alive = [weakref.ref(one) for one in down]
    freeu.apply(unet, **FACTORS, control="before")

    def fail(_module, _args):
        raise ZeroDivisionError

    hook = unet.up_blocks[0].register_forward_pre_hook(fail)
    with torch.set_grad_enabled(grad), pytest.raises(ZeroDivisionError):
        unet(sample, t, text, down_block_additional_residuals=down, mid_block_additional_residual=torch.zeros(()))
    hook.remove()
    del down
    gc.collect()
    assert not any(one() is not None for one in alive)


def test_removing_releases_what_training_keeps(unet):
    sample, t, text = tiny_inputs()
    down = [torch.zeros(()) for _ in range(12)]
    alive = [weakref.ref(one) for one in down]
    handle = freeu.apply(unet, **FACTORS, control="before")
    unet(sample, t, text, down_block_additional_residuals=down, mid_block_additional_residual=torch.zeros(()))
    handle.remove()
    del down
    gc.collect()
    assert not any(one() is not None for one in alive)


def test_past_the_hooks_of_the_unet_a_schedule_is_refused(unet, run):
    """The step is not known there: that of an earlier call was taken before."""
    sample, _, text = tiny_inputs()
    with freeu.enabled(unet, **FACTORS, start=0.5), torch.no_grad():
        want = run(unet, torch.tensor(10))
        with pytest.raises(FreeURuntimeError, match="outside a call of its U-Net"):
            unet.forward(sample, torch.tensor(990), text)
        assert torch.equal(run(unet, torch.tensor(10)), want)


def test_default_types_and_devices_of_torch_do_not_matter(unet, run):
    with freeu.enabled(unet, **FACTORS, start=0.3):
        want = run(unet, 500)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            handle = freeu.apply(unet, **FACTORS, start=0.3)
            assert handle._hooks["up_blocks.0.resnets.0"].factors_tensor.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(run(unet, 500), want)
    handle.verify()
    handle.remove()


# -- threads ----------------------------------------------------------------------------------------------------


def in_thread(function):
    """What a function gives, or raises, in a thread of its own."""
    found: list = []

    def call():
        try:
            found.append(function())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    return found[0]


def test_calls_of_two_threads_have_their_own_weight(unet, run):
    """One thread is stopped in the middle of a call while another one makes a whole one, at another step."""
    with freeu.enabled(unet, **FACTORS, end=0.5):
        early, late = run(unet, torch.tensor(900)), run(unet, torch.tensor(100))
        assert not torch.equal(early, late)
        others = []

        def interfere(_module, _args):
            if not others:
                others.append(None)
                others.append(in_thread(lambda: run(unet, torch.tensor(100))))

        hook = unet.up_blocks[0].register_forward_pre_hook(interfere)
        got = run(unet, torch.tensor(900))
        hook.remove()
    assert torch.equal(got, early)
    assert torch.equal(others[1], late)


def test_blocks_of_two_threads_are_refused_before_anything_changes(unet, run):
    before = run(unet)
    with freeu.enabled(unet, **FACTORS) as handle:
        want = run(unet)
        for other in (freeu.apply, freeu.enabled):
            error = in_thread(lambda other=other: other(unet, b=(1.1, 1.2)))
            assert isinstance(error, FreeURuntimeError)
            assert "let them take turns" in str(error)
        assert torch.equal(in_thread(lambda: run(unet)), want), "calls may come from any thread"
        with freeu.enabled(unet, b=(1.1, 1.2)):
            pass
        assert torch.equal(run(unet), want)
        assert freeu.active(unet) == (handle,)
    assert torch.equal(run(unet), before)
    assert in_thread(lambda: freeu.enabled(unet, **FACTORS).remove()) is None


def test_a_block_may_lie_over_a_handle_of_another_thread(unet, run):
    handle = freeu.apply(unet, **FACTORS)
    want = run(unet)

    def block():
        with freeu.enabled(unet, b=(1.1, 1.2)):
            return run(unet)

    assert not torch.equal(in_thread(block), want)
    assert torch.equal(run(unet), want)
    handle.remove()


def test_a_block_whose_thread_ended_is_in_nobodys_way(unet, run):
    before = run(unet)
    kept = []
    in_thread(lambda: kept.append(freeu.enabled(unet, **FACTORS).__enter__()))
    with freeu.enabled(unet, b=(1.1, 1.2)):
        pass
    freeu.remove_all(unet)
    assert torch.equal(run(unet), before)


def test_blocks_of_two_tasks_are_refused_too(unet):
    import asyncio

    async def block(started, go_on):
        with freeu.enabled(unet, **FACTORS):
            started.set()
            await go_on.wait()

    async def both():
        started, go_on = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(block(started, go_on))
        await started.wait()
        with pytest.raises(FreeURuntimeError, match="another thread or task"):
            await block(asyncio.Event(), go_on)
        go_on.set()
        await first

    # In a thread of its own: in that of the tests a browser's loop may run.
    with ThreadPoolExecutor(1) as alone:
        alone.submit(asyncio.run, both()).result()
    assert freeu.active(unet) == ()


def test_checkpointing_of_two_steps_keeps_each_weight():
    unet = tiny_unet((8, 16), layers_per_block=1)
    sample, _, text = tiny_inputs()
    gradients = {}
    for checkpointed in (False, True):
        if checkpointed:
            unet.enable_gradient_checkpointing()
            unet.train()
        with freeu.enabled(unet, **FACTORS, end=0.5):
            for t in (900, 100):
                x = sample.clone().requires_grad_()
                unet(x, t, text).sample.square().sum().backward()
                gradients[checkpointed, t] = x.grad
    for t in (900, 100):
        assert torch.allclose(gradients[True, t], gradients[False, t], rtol=1e-4, atol=1e-5)
