"""torch.compile: whole graph, factors without recompiling, truth about what ran."""

from collections.abc import Iterator

import pytest
import torch
from tolerances import UNET, relative_error
from torch._dynamo.testing import CompileCounterWithBackend

import freeu
from conftest import tiny_inputs, tiny_unet
from freeu.errors import FreeURuntimeError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
# Tracing imports modules of torch that warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    """As in a new process: no code, and the compiler does not look at hooks again."""
    torch._dynamo.reset()
    torch._dynamo.config.skip_nnmodule_hook_guards = True
    yield
    torch._dynamo.reset()


@pytest.fixture
def small():
    return tiny_unet((8, 16), layers_per_block=1)


def call(model, t=500):
    sample, _, text = tiny_inputs()
    with torch.no_grad():
        return model(sample, torch.tensor(t), text, return_dict=False)[0]


def with_freeu(model, t=500, **fields):
    with freeu.enabled(model, **fields):
        return call(model, t)


def test_one_graph_serves_every_factor_and_step(small):
    plain = call(small)
    changed = {"b": (1.1, 1.2), "s": (0.0, 0.5)}
    want = [with_freeu(small, **fields) for fields in (FACTORS, changed)]
    counter = CompileCounterWithBackend("aot_eager")
    handle = freeu.apply(small, **FACTORS, start=0.3)
    compiled = torch.compile(small, backend=counter, fullgraph=True)
    assert relative_error(call(compiled), want[0]) <= UNET
    assert len(handle.verify()) == 3
    graphs = counter.frame_count
    handle.update(**changed)
    assert relative_error(call(compiled), want[1]) <= UNET
    assert torch.equal(call(compiled, 900), call(small, 900)), "before the start of the schedule"
    assert counter.frame_count == graphs, "something was compiled again"
    handle.remove()
    assert relative_error(call(compiled), plain) <= UNET


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "EDMEulerScheduler"])
def test_a_schedule_by_sigma(small, name):
    import diffusers

    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(8)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(small, backend=counter, fullgraph=True)
    sample, _, text = tiny_inputs()
    plain = [small(sample, t, text).sample for t in scheduler.timesteps]
    with freeu.enabled(small, scheduler=scheduler, **FACTORS, start=5.0, end=0.5, ramp=1.0, unit="sigma"):
        want = [small(sample, t, text).sample for t in scheduler.timesteps]
        got = [compiled(sample, t.clone(), text).sample for t in scheduler.timesteps]
    for one, other in zip(got, want, strict=True):
        assert relative_error(one, other) <= UNET
    assert counter.frame_count <= 2, "something is compiled again at every step"
    changed = [not torch.equal(one, other) for one, other in zip(plain, want, strict=True)]
    assert 0 < sum(changed) < len(changed)


def test_other_sizes_under_dynamic_shapes(small):
    with freeu.enabled(small, **FACTORS) as handle:
        compiled = torch.compile(small, backend="eager", fullgraph=True, dynamic=True)
        for size in (16, 24):
            sample, t, text = tiny_inputs(size=size)
            with torch.no_grad():
                assert relative_error(compiled(sample, t, text).sample, small(sample, t, text).sample) <= UNET
        assert set(handle.verify().values()) == {4}


def test_no_complex_numbers_in_the_graph(small):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    with freeu.enabled(small, **FACTORS):
        call(torch.compile(small, backend=backend, fullgraph=True))
    names = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert names
    assert not [name for name in names if "fft" in name or "complex" in name]


@pytest.mark.parametrize("how", ["wrapper", "model", "inside"])
def test_compiled_and_run_before_is_refused(small, how):
    if how == "inside":
        small.compile(backend="eager")
        compiled = small
    else:
        compiled = torch.compile(small, backend="eager")
    call(compiled)
    with pytest.raises(FreeURuntimeError, match="has run as compiled code"):
        freeu.apply(compiled if how == "wrapper" else small, **FACTORS)
    torch._dynamo.reset()
    with freeu.enabled(small, **FACTORS) as handle:
        call(compiled)
        handle.verify()


def test_compiled_but_not_run_takes_effect(small):
    want = with_freeu(small, **FACTORS)
    compiled = torch.compile(small, backend="eager")
    with freeu.enabled(compiled, **FACTORS) as handle:
        assert relative_error(call(compiled), want) <= UNET
        handle.verify()


@pytest.mark.parametrize("order", ["apply, wrap", "wrap, apply"])
def test_code_of_another_instance_is_not_taken(small, order):
    """The compiler keeps code by class: without care, that of a model without FreeU serves one that has it."""
    want, plain = with_freeu(small, **FACTORS), call(small)
    other = torch.compile(tiny_unet((8, 16), layers_per_block=1), backend="eager")
    call(other)
    if order == "apply, wrap":
        handle = freeu.apply(small, **FACTORS)
        compiled = torch.compile(small, backend="eager")
    else:
        compiled = torch.compile(small, backend="eager")
        handle = freeu.apply(small, **FACTORS)
    assert relative_error(call(compiled), want) <= UNET
    assert relative_error(call(other), plain) <= UNET, "nor does the other one get FreeU"
    handle.verify()
    handle.remove()
    assert relative_error(call(compiled), plain) <= UNET


def test_two_compiled_instances_have_their_own_factors(small):
    other = tiny_unet((8, 16), layers_per_block=1)
    mild = {"b": (1.05, 1.1), "s": (0.95, 0.8)}
    want = with_freeu(small, **FACTORS), with_freeu(other, **mild)
    with freeu.enabled(small, **FACTORS), freeu.enabled(other, **mild):
        for model, wanted in zip((small, other), want, strict=True):
            assert relative_error(call(torch.compile(model, backend="eager")), wanted) <= UNET


@pytest.mark.parametrize("run", [False, True])
def test_a_block_that_was_replaced_by_its_compiled_form(small, run):
    """Found under the names of its own class, and refused once it has run."""
    want = with_freeu(small, b=(1.2, 1.1), profile="diffusers")
    small.up_blocks[0] = torch.compile(small.up_blocks[0], backend="eager")
    small.up_blocks[1].resnets[0] = torch.compile(small.up_blocks[1].resnets[0], backend="eager")
    assert next(site.block_type for site in freeu.inspect(small)) == "UpBlock2D"
    if run:
        call(small)
        with pytest.raises(FreeURuntimeError, match="has run as compiled code"):
            freeu.apply(small, **FACTORS)
        return
    with freeu.enabled(small, b=(1.2, 1.1), profile="diffusers") as handle:
        assert relative_error(call(small), want) <= UNET
        assert len(handle.verify()) == 4


def test_verify_tells_when_compiled_code_missed_the_hooks(small):
    """A function that closes over the model leaves no trace on it: then verify is what tells."""
    compiled = torch.compile(lambda: call(small), backend="eager")
    compiled()
    with freeu.enabled(small, **FACTORS) as handle:
        compiled()
        with pytest.raises(FreeURuntimeError, match="never fired"):
            handle.verify()


def test_verify_counts_changes_of_compiled_code(small):
    with freeu.enabled(small, **FACTORS, start=0.9) as handle:
        compiled = torch.compile(small, backend="eager", fullgraph=True)
        call(compiled, 500)
        with pytest.raises(FreeURuntimeError, match="no step fell in the interval"):
            handle.verify()
        call(compiled, 50)
        call(compiled, 600)
        assert set(handle.verify().values()) == {1}


def test_update_that_needs_a_new_site_is_refused(small):
    handle = freeu.apply(small, b=(1.0, 1.3))
    call(torch.compile(small, backend="eager"))
    with pytest.raises(FreeURuntimeError, match="the compiled code has no hook at"):
        handle.update(b={"up_blocks.1.resnets.1": 1.5})
    handle.remove()


def test_blocks_compiled_one_by_one(small):
    want, plain = with_freeu(small, **FACTORS, start=0.3), call(small, 900)
    with freeu.enabled(small, **FACTORS, start=0.3) as handle:
        for block in small.up_blocks:
            block.compile(backend="eager")
        assert relative_error(call(small), want) <= UNET
        assert torch.equal(call(small, 900), plain)
        handle.verify()
        with pytest.raises(FreeURuntimeError, match="has run as compiled code"):
            freeu.apply(small, b=(1.0, 1.0))


def test_operators_compile_in_every_form():
    def both(x, b, s):
        return freeu.ops.scale_backbone(x, b), freeu.ops.filter_skip(x, s, 2, "gaussian")

    compiled = torch.compile(both, backend="aot_eager", fullgraph=True)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 6, 9, 10).contiguous(memory_format=layout)
        for got, want in zip(compiled(x, 1.3, 0.2), both(x, 1.3, 0.2), strict=True):
            assert relative_error(got, want) <= UNET
