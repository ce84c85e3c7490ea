"""Exported U-Nets hold FreeU as it was: torch.jit.trace, torch.onnx.export, torch.export."""

import io

import pytest
import torch
from tolerances import UNET, relative_error

import freeu
from conftest import tiny_inputs, tiny_unet

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
SCHEDULES = [
    {},
    {"end": 0.6, "ramp": 0.2},
    {"start": 900, "end": 100, "unit": "timestep"},
    {"b_window": (0.0, 0.6), "s_window": (0.4, 1.0), "skip_gain": 0.8, "dc": "keep"},
]
TIMES = (500.0, 950.0, 50.0)
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
    # diffusers' own forward asks for sizes and values.
    "ignore::torch.jit.TracerWarning",
    "ignore::UserWarning",
)


class Plain(torch.nn.Module):
    """A U-Net with positional arguments and a tensor as output."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, text):
        return self.unet(sample, timestep, text, return_dict=False)[0]


@pytest.fixture
def small():
    from diffusers.models.attention_processor import AttnProcessor

    unet = tiny_unet((8, 16), layers_per_block=1)
    unet.set_attn_processor(AttnProcessor())  # what the older exporter of torch knows
    return unet


def inputs(size):
    sample, _, text = tiny_inputs()
    return torch.nn.functional.interpolate(sample, size), torch.tensor(TIMES[0]), text


def compare(small, run, arguments, schedule):
    """An exported U-Net against the live one at several timesteps; FreeU changes one of them at least."""
    changes = []
    for time in TIMES:
        call = (torch.randn_like(arguments[0]), torch.tensor(time), arguments[2])
        plain = Plain(small)(*call)
        with freeu.enabled(small, **FACTORS, **schedule):
            want = Plain(small)(*call)
        assert relative_error(run(*call), want) <= UNET
        changes.append(not torch.equal(plain, want))
    assert any(changes)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("size", [(16, 16), (14, 22)])
@torch.no_grad()
def test_jit_trace(small, size, schedule):
    arguments = inputs(size)
    with freeu.enabled(small, **FACTORS, **schedule) as handle:
        traced = torch.jit.trace(Plain(small), arguments)
        handle.verify()
    compare(small, traced, arguments, schedule)


@pytest.mark.parametrize(
    ("size", "changes"), [((16, 16), {}), ((14, 22), SCHEDULES[1]), ((16, 16), {"channels": "even", "version": 1})]
)
@torch.no_grad()
def test_onnx_by_torchscript(small, size, changes):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    arguments, file = inputs(size), io.BytesIO()
    with freeu.enabled(small, **FACTORS, **changes):
        torch.onnx.export(Plain(small), arguments, file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(*call):
        given = {name: value.numpy() for name, value in zip(names, call, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    compare(small, run, arguments, changes)


@torch.no_grad()
def test_onnx_by_dynamo(small):
    pytest.importorskip("onnxscript")
    arguments = inputs((14, 22))
    with freeu.enabled(small, **FACTORS):
        program = torch.onnx.export(Plain(small), arguments, dynamo=True)
    compare(small, lambda *call: program(*call)[0], arguments, {})


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="this torch does not tell an export")
@pytest.mark.parametrize("schedule", [*SCHEDULES[:2], SCHEDULES[3]])
@pytest.mark.parametrize("strict", [False, True])
@torch.no_grad()
def test_an_exported_program_keeps_freeu_after_the_handle_is_gone(small, strict, schedule):
    arguments = inputs((14, 22))
    with freeu.enabled(small, **FACTORS, **schedule) as handle:
        program = torch.export.export(Plain(small), arguments, strict=strict)
        handle.update(b={"up_blocks.1.resnets.1": 1.5})  # no compiled code that would miss a new site
    compare(small, program.module(), arguments, schedule)


@pytest.mark.parametrize("way", ["trace", "export"])
@torch.no_grad()
def test_an_exported_graph_keeps_the_mask_of_its_export(small, way):
    if way == "export" and not hasattr(torch.compiler, "is_exporting"):
        pytest.skip("this torch does not tell an export")
    arguments, changes = inputs((14, 22)), {"region": torch.rand(28, 44)}
    with freeu.enabled(small, **FACTORS, **changes) as handle:
        if way == "trace":
            graph = torch.jit.trace(Plain(small), arguments)
        else:
            graph = torch.export.export(Plain(small), arguments).module()
        handle.update(region=torch.rand(28, 44))
    compare(small, graph, arguments, changes)
