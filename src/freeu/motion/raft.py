"""Optical flow by a RAFT network (Teed & Deng, ECCV 2020, arXiv:2003.12039) that was exported to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.motion.estimate import FlowEstimator, consistent
from freeu.motion.measure import Flow, Frame, check_frames

_MULTIPLE = 8
"""RAFT works at an eighth of the size."""


def raft(path: Path) -> FlowEstimator:
    """A flow estimator that runs a RAFT network on the CPU, on one thread.

    Args:
        path: an ONNX file with two inputs, images of (1, 3, H, W), RGB, 0..255, of a fixed or any size; its output of
            (1, 2, H, W) at that size is the flow in pixels, as in the exports of RAFT itself, of PINTO and of OpenCV's
            model zoo. Frames are resized to a fixed size, or padded to multiples of 8.

    Raises:
        FreeUValueError: no such file, or no such network; ``freeu[raft]`` is not installed. Whether frames fit the
            network is known only at the first call.
    """
    need("raft", "onnxruntime", "cv2")
    if not path.is_file():
        raise FreeUValueError(f"--raft {path} does not exist")
    return _Raft(path)


class _Raft:
    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the same on every run
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base but Exception
            raise FreeUValueError(f"cannot read {path} as an ONNX network: {_short(error)}") from None
        inputs = self._session.get_inputs()
        shapes = [list(one.shape) for one in inputs]
        if len(inputs) != 2 or any(len(shape) != 4 or shape[1] != 3 for shape in shapes) or shapes[0] != shapes[1]:
            raise FreeUValueError(f"{path} is no RAFT network: it needs two inputs of [1, 3, H, W] and has {shapes}")
        self._path = path
        self._names = [one.name for one in inputs]
        sides = shapes[0][2:]
        self._size = (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None

    def __call__(self, target: Any, reference: Any) -> Flow:
        """The flow from one frame to another, uint8 (H, W, 3), with the forward-backward check."""
        first, second = check_frames((target, reference))
        forward, backward = self._found(first, second), self._found(second, first)
        return Flow(forward, consistent(forward, backward))

    def _found(self, first: Frame, second: Frame) -> NDArray[np.float32]:
        import cv2

        height, width = first.shape[:2]
        size = self._size or (height + -height % _MULTIPLE, width + -width % _MULTIPLE)
        given = {name: self._given(frame, size) for name, frame in zip(self._names, (first, second), strict=True)}
        try:
            outputs = self._session.run(None, given)
        except Exception as error:
            raise FreeUValueError(
                f"{self._path} does not take images of {size[1]}x{size[0]}: {_short(error)}"
            ) from None
        fields = [np.asarray(one) for one in outputs if np.asarray(one).shape == (1, 2, *size)]
        if not fields:
            found = [np.asarray(one).shape for one in outputs]
            raise FreeUValueError(
                f"{self._path} is no RAFT network: it needs an output of (1, 2, {size[0]}, {size[1]}) and has {found}"
            )
        field = np.ascontiguousarray(fields[-1][0].transpose(1, 2, 0), np.float32)
        if self._size is None:
            return field[:height, :width].copy()
        scale = np.array([width / size[1], height / size[0]], np.float32)
        return np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR) * scale, np.float32)

    def _given(self, frame: Frame, size: tuple[int, int]) -> NDArray[np.float32]:
        import cv2

        height, width = frame.shape[:2]
        if self._size is None:
            below, right = size[0] - height, size[1] - width
            frame = np.pad(frame, ((0, below), (0, right), (0, 0)), mode="edge")
        elif (height, width) != size:
            frame = np.asarray(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
