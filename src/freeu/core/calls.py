"""What is known about the call of a U-Net that is under way, in every thread that calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from freeu.core.guidance import Layout
from freeu.errors import FreeURuntimeError


def permanent(make: Callable[[], Tensor]) -> Tensor:
    """A tensor that may be written to anywhere, also if it is made within ``torch.inference_mode``."""
    with torch.inference_mode(False):
        return make()


def factors_tensor(device: torch.device) -> Tensor:
    """Ones for the four factors of a site, or their weights: of the backbone, of the skip's low band, of the rest of
    the skip, of the whole skip. float32, whatever the default type is, and may be written to anywhere."""
    return permanent(lambda: torch.ones(4, dtype=torch.float32, device=device))


def writable(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a copy; tensors that were copied within ``torch.inference_mode`` are made anew."""
    return {
        name: permanent(value.clone) if isinstance(value, Tensor) and value.is_inference() else value
        for name, value in state.items()
    }


class Weights(NamedTuple):
    """How much FreeU acts under the schedule, 0..1: on the backbone, and on the skip. Tensors of the graph while a
    schedule is compiled or exported."""

    b: float | Tensor = 1.0
    skip: float | Tensor = 1.0


_FULL = Weights()


@dataclass(eq=False, repr=False)
class Call:
    """One call of the U-Net.

    Args:
        weights: under the schedule; tensors of the graph while it is exported.
        layout: which rows of the batch see the prompt, where that is asked for; None: all of them.
        frames: of each video; the sites see them as samples in a row.
        residuals: of a ControlNet, where they are to be left unfiltered.
        over: whether the U-Net has returned. Checkpointing may then run the sites again, in the backward pass.
    """

    weights: Weights = _FULL
    layout: Layout | None = None
    frames: int = 1
    residuals: Sequence[Tensor] = ()
    over: bool = False


_ALIKE = Call()


class _Thread(threading.local):
    """What one thread is doing: the call that is under way, or the last one, if it may be run again for gradients."""

    call: Call | None = None


class Calls:
    """The calls of one U-Net that are under way, one for each thread.

    Numbers serve eager execution. Compiled code, which would otherwise be rebuilt for every value, reads the tensor
    ``weights_tensor`` and the one call ``traced``.
    """

    def __init__(self, device: torch.device) -> None:
        self.differ = False  # whether calls differ in anything that the sites need to know
        self.weights_tensor = factors_tensor(device)
        self.compiled = False  # True once a compiler traced a site: its code must stay right from then on
        self._reset()

    def _reset(self) -> None:
        self._own = _Thread()
        self.traced = Call()
        self._user: threading.Thread | None = None  # of compiled blocks that an eager U-Net calls
        self._recorded: Call | None = None  # by autograd, the last one
        self._recorder: int | None = None  # the thread in which that was; -1 if there are several

    def configure(self, differ: bool) -> None:
        """Begin anew, except for calls that are under way in other threads.

        Args:
            differ: whether the sites need to know which call they belong to.
        """
        self.differ = differ
        traced = self.traced
        traced.weights, traced.layout, traced.frames, traced.residuals = Weights(), None, 1, ()
        self.set_weights(Weights())
        self._recorded = None
        if self._own.call is not None and self._own.call.over:
            self._own.call = None

    def __getstate__(self) -> dict[str, Any]:
        # Threads and what they are doing stay behind.
        return {name: self.__dict__[name] for name in ("differ", "weights_tensor", "compiled")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(writable(state))
        self._reset()

    def begin(self, call: Call) -> None:
        """A call of the U-Net begins in this thread.

        Raises:
            FreeURuntimeError: blocks that were compiled one by one are in use by another thread.
        """
        if self.compiled:
            me = threading.current_thread()
            if self._user is not None and self._user is not me and self._user.is_alive():
                raise FreeURuntimeError(
                    "two threads call one U-Net whose blocks were compiled one by one, and FreeU differs from "
                    "call to call: let them take turns, or compile the whole U-Net"
                )
            self._user = me
        self._own.call = call
        traced = self.traced
        traced.layout, traced.frames, traced.residuals = call.layout, call.frames, call.residuals
        self.set_weights(call.weights)
        if torch.is_grad_enabled() and not _in_backward():
            thread = threading.get_ident()
            self._recorder = thread if self._recorder in (None, thread) else -1
            self._recorded = call

    def set_weights(self, weights: Weights) -> None:
        """Tell compiled code the weights of the call."""
        b, skip = weights
        if isinstance(b, Tensor) and isinstance(skip, Tensor):
            self.weights_tensor.copy_(b if b is skip else torch.stack([b, skip, skip, skip]))
        elif b == skip:
            self.weights_tensor.fill_(b)
        else:
            self.weights_tensor[:1].fill_(b)
            self.weights_tensor[1:].fill_(skip)

    def end(self, failed: bool) -> None:
        """The call of this thread is over; nothing of it is kept, unless sites may be run again for gradients.

        Args:
            failed: whether an exception ended it.
        """
        if self._own.call is not None:
            self._own.call.over = True
        if failed or not torch.is_grad_enabled() or _in_backward():
            self._drop()
        if self._user is threading.current_thread():
            self._user = None

    def _drop(self) -> None:
        """Keep nothing of this thread's call."""
        if self._recorded is self._own.call:
            self._recorded = None
        self._own.call = None
        if self._user in (None, threading.current_thread()):
            self.traced.residuals = ()

    def current(self) -> Call:
        """The call that this thread's sites belong to.

        Raises:
            FreeURuntimeError: there is none: the site was not run by a call of the U-Net.
        """
        if not self.differ:
            return _ALIKE
        call = self._own.call
        if call is not None and not call.over:
            return call
        if not _in_backward():
            raise FreeURuntimeError(
                "a block of the decoder ran outside a call of its U-Net, so the denoising step is not known: call the "
                "U-Net itself, not its forward or its blocks, or apply FreeU to the full schedule (start=0, end=1)"
            )
        # Checkpointing runs the sites again; on an accelerator in a thread of autograd's own.
        call = call or (self._recorded if self._recorder != -1 else None)
        if call is None:
            raise FreeURuntimeError(
                "gradient checkpointing runs blocks again, and FreeU cannot tell for which of several threads: train "
                "in one thread, or with start=0, end=1"
            )
        return call


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1
