"""RAFT from an ONNX file: its contract, on networks of one convolution whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_clips import sliding

pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
# ruff: noqa: E402 (these imports need what is skipped for)
from freeu.errors import FreeUValueError
from freeu.motion.estimate import Tracker
from freeu.motion.raft import raft


def network(path: Path, size: tuple[Any, Any], channels: int = 3, outputs: int = 2) -> Path:
    """An ONNX file that says x = 4 and y = mean of (red of the second - red of the first) for every pixel."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((outputs, 2 * channels, 1, 1), np.float32)
    weight[-1, 0], weight[-1, channels] = -1.0, 1.0
    bias = np.array([4.0, *[0.0] * (outputs - 1)], np.float32)
    nodes = [
        helper.make_node("Concat", ["0", "1"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "weight", "bias"], ["flow"]),
    ]
    graph = helper.make_graph(
        nodes,
        "raft",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *size]) for name in ("0", "1")],
        [helper.make_tensor_value_info("flow", TensorProto.FLOAT, [1, outputs, *size])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, str(path))
    return path


def frames(height: int = 36, width: int = 44) -> tuple[Any, Any]:
    first = np.zeros((height, width, 3), np.uint8)
    second = first.copy()
    second[..., 0] = 6
    return first, second


def test_any_size_is_padded_and_cut(tmp_path: Path) -> None:
    first, second = frames(37, 45)
    flow = raft(network(tmp_path / "raft.onnx", ("H", "W")))(first, second)
    assert flow.forward.shape == (37, 45, 2)
    np.testing.assert_array_equal(flow.forward, np.broadcast_to(np.float32([4.0, 6.0]), (37, 45, 2)))
    # The way back is (4, -6), which does not lead home.
    assert not flow.traceable.any()


def test_a_fixed_size_scales_the_flow(tmp_path: Path) -> None:
    first, second = frames(36, 44)
    flow = raft(network(tmp_path / "raft.onnx", (72, 176)))(first, second)
    np.testing.assert_allclose(flow.forward, np.broadcast_to(np.float32([1.0, 3.0]), (36, 44, 2)), rtol=1e-6)


def test_it_serves_where_flow_is_asked_for(tmp_path: Path) -> None:
    film = sliding(1, 0, 3, 32)
    found = Tracker(film[0], raft(network(tmp_path / "raft.onnx", ("H", "W")))).follow(film[2])
    assert found.forward.shape == (32, 32, 2)
    assert np.all(found.forward[..., 0] == 4.0)


def test_what_is_no_raft_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(FreeUValueError, match=r"--raft .* does not exist"):
        raft(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(FreeUValueError, match="as an ONNX network"):
        raft(tmp_path / "text.onnx")
    with pytest.raises(FreeUValueError, match="is no RAFT network: it needs two inputs of"):
        raft(network(tmp_path / "grey.onnx", (32, 32), channels=1))
    with pytest.raises(FreeUValueError, match="is no RAFT network: it needs an output of"):
        raft(network(tmp_path / "depth.onnx", (32, 32), outputs=1))(*frames(32, 32))
