"""Graphs that torch.jit.trace and torch.compile record of the operators: exact, and not one for every value."""

import pytest
import torch
from tolerances import FILTER, relative_error
from torch._dynamo.testing import CompileCounterWithBackend

import freeu
from freeu.errors import FreeUValueError
from freeu.ops import _lowband

SIZES = [(8, 8), (7, 9), (16, 20), (17, 33)]
# Tracing imports modules of torch that warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def every_operator(h, skip):
    return (
        freeu.ops.filter_skip(skip, 0.3),
        freeu.ops.filter_skip(skip, 0.3, 2, "gaussian", high_gain=1.1),
        freeu.ops.filter_skip(skip, 0.3, frames=2, time_threshold=1),
        freeu.ops.scale_backbone(h, 1.4),
        freeu.ops.scale_backbone(h, 1.4, channels="even", share="guidance"),
        *freeu.ops.freeu(h.half(), skip.half(), 1.2, 0.4, over_time="clip", frames=2),
    )


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_trace_is_exact(size, grad):
    """Sizes are tensors while a trace is recorded, and no two of them are equal as keys."""
    _lowband._cache.clear()
    first, second = ([torch.randn(2, channels, *size) for channels in (8, 6)] for _ in range(2))
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(every_operator, tuple(first))
        for got, want in zip(traced(*second), every_operator(*second), strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=0)
    for height, width, *_ in _lowband._cache:
        assert (type(height), type(width)) == (int, int)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "operator",
    [
        lambda x, value: freeu.ops.filter_skip(x, value),
        lambda x, value: freeu.ops.filter_skip(x, 0.3, high_gain=value),
        lambda x, value: freeu.ops.scale_backbone(x, value),
        lambda x, value: freeu.ops.scale_backbone(x, value, 1),
        lambda x, value: torch.cat(freeu.ops.freeu(x, x, value, 0.5 * value)),
    ],
)
def test_a_changing_number_is_compiled_once(operator, layout):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(operator, backend=counter, fullgraph=True)
    x = torch.randn(2, 6, 9, 10).contiguous(memory_format=layout)
    graphs = []
    for value in (0.5, 0.6, 0.7, 0.0, 1.3):
        assert relative_error(compiled(x, value), operator(x, value)) <= FILTER[torch.float32]
        graphs.append(counter.frame_count)
    # The first value is taken for a constant; the second makes it a symbol.
    assert graphs[1:] == [2] * 4
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_channels(dtype):
    nothing = torch.zeros(2, 0, 4, 4, dtype=dtype)
    for got in (
        *(freeu.ops.scale_backbone(nothing, 1.3, version) for version in (1, 2)),
        freeu.ops.scale_backbone(nothing, 1.3, channels="all"),
        freeu.ops.filter_skip(nothing, 0.5),
        *freeu.ops.freeu(nothing, nothing, 1.3, 0.5),
        torch.compile(freeu.ops.filter_skip, backend="eager", fullgraph=True)(nothing, 0.5),
    ):
        assert (got.shape, got.dtype) == (nothing.shape, dtype)
    torch._dynamo.reset()


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), "1" * 500, [1]])
def test_what_is_no_factor_is_one_line(value):
    x = torch.ones(1, 2, 4, 4)
    for call in (freeu.ops.filter_skip, freeu.ops.scale_backbone):
        with pytest.raises(FreeUValueError, match=r"must be (finite|a number)") as error:
            call(x, value)
        assert len(str(error.value)) < 200
        assert "\n" not in str(error.value)
