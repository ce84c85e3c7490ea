"""One traced call of a model: every concatenation along channels, where its operands come from, and who reads it.

torch tells a ``TorchFunctionMode`` of every function that is called, and hooks, which are taken out again, tell which
module is being called with what.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

# Functions that leave a feature map what it was: scaling, casting, adding a ControlNet's residual, reshaping, cropping.
_THROUGH = frozenset(
    [
        "mul",
        "div",
        "truediv",
        "add",
        "sub",
        "neg",
        "clone",
        "contiguous",
        "to",
        "float",
        "half",
        "bfloat16",
        "double",
        "type",
        "type_as",
        "detach",
        "dropout",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "feature_dropout",
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "movedim",
        "moveaxis",
        "squeeze",
        "unsqueeze",
        "expand",
        "expand_as",
        "getitem",
        "pad",
        "narrow",
        "chunk",
        "split",
        "unbind",
        "lerp",
        "true_divide",
        "multiply",
        "divide",
    ]
)
_SPATIAL = re.compile(r"conv|pool|interpolate|upsample|pixel_(un)?shuffle")
"""Functions whose results are maps for certain: elsewhere (B, heads, tokens, width) looks the same."""
_PERMUTED = ("permute", "movedim", "moveaxis")
_CONCATENATE = (torch.cat, torch.concat, torch.concatenate)


class Node:
    """A tensor that the model made or was given, without the tensor itself.

    Args:
        name: of the function that made it; "input" for an argument of the model, "" for a weight or a constant.
        parents: the tensors it was made of.
        order: when it was made.
        shape: its sizes.
    """

    __slots__ = ("name", "order", "parents", "shape")

    def __init__(self, name: str, parents: tuple[Node, ...], order: int, shape: tuple[int, ...]) -> None:
        self.name, self.parents, self.order, self.shape = name, parents, order, shape

    @property
    def pixels(self) -> int:
        """Pixels of a map (B, C, ...); 0 for what is none: a weight, fewer than three axes, or a single pixel."""
        if self.name == "":
            return 0
        count = 1
        for size in self.shape[2:]:
            count *= size
        return count if len(self.shape) > 2 and count > 1 else 0

    @property
    def spatial(self) -> bool:
        """Whether it is a map for certain, by the function that made it."""
        return bool(_SPATIAL.search(self.name)) and self.pixels > 0

    def forms(self) -> Iterator[set[Node]]:
        """Itself, then what it is a scaled, cast, reshaped or added-to form of, a step further each time."""
        level, seen = {self}, {self}
        while level:
            yield level
            level = {one for node in level if node.name in _THROUGH for one in node.parents} - seen
            seen |= level

    def ancestors(self) -> set[Node]:
        """Everything it was made of, itself left out."""
        found: set[Node] = set()
        todo = list(self.parents)
        while todo:
            node = todo.pop()
            if node not in found:
                found.add(node)
                todo += node.parents
        return found


@dataclass
class Reader:
    """A module that was handed a concatenation.

    Args:
        module: the outermost one.
        keyword: name of the argument, or None if it stands at ``position``.
        position: among the positional arguments.
        channels_last: whether it was handed over as (B, ..., C).
    """

    module: nn.Module
    keyword: str | None
    position: int
    channels_last: bool = False


@dataclass
class Concat:
    """A concatenation of maps along their channels.

    Args:
        operands: in their order.
        order: when it was made.
        within: the module whose forward made it.
        readers: modules that received the very tensor, outermost first, in the order of their calls.
        others: names of functions outside these modules that read it too.
    """

    operands: tuple[Node, ...]
    order: int
    within: nn.Module
    readers: list[Reader] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def channels(self) -> int:
        """Of both operands together."""
        return sum(one.shape[1] for one in self.operands)


@dataclass
class Trace:
    """What one call of a model did.

    Args:
        concats: along channels, in the order of execution.
        maps: what is a map for certain, in the order of execution.
        inputs: the tensors that the model was given.
    """

    concats: list[Concat]
    maps: list[Node]
    inputs: set[Node]


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.nodes: Any = WeakTensorKeyDictionary()  # of tensors to Node
        self.made: Any = WeakTensorKeyDictionary()  # of concatenations, and what is one of them scaled, to Concat
        self.channels_last: Any = WeakTensorKeyDictionary()  # those of ``made`` that are one with its channels last
        self.trace = Trace([], [], set())
        self.stack: list[nn.Module] = []
        self.clock = 0

    # -- functions ----------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        # Before the call: one in place changes what it was given.
        parents = tuple(self.node(one) for one in given)
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        name = name[1:] if name[1:] in _THROUGH and name[:1] in "ri" else name
        results = [args[0]] if name == "setitem" and isinstance(args[0], Tensor) else list(_tensors(out))
        same = self.scaled(name, given, results)
        if results and same is None:
            for one in given:
                # What gives back the very tensor, such as contiguous(), has not read it.
                if not any(one is result for result in results):
                    self.read_by_function(one, name)
        for one in results:
            self.bind(one, name, parents)
        if same is not None:
            self.made[results[0]] = same
            if results[0].shape[1] != same.channels or any(self.channels_last.get(one) for one in given):
                self.channels_last[results[0]] = True
        if func in _CONCATENATE and len(results) == 1:
            self.note_concat(args, kwargs, results[0])
        return out

    def scaled(self, name: str, given: Sequence[Tensor], results: Sequence[Tensor]) -> Concat | None:
        """The concatenation that a result is, cast or multiplied by a number: its parts lie where they lay."""
        if name not in _THROUGH or len(results) != 1:
            return None
        found = [one for one in given if self.made.get(one) is not None]
        others = [one for one in given if one is not found[0]] if found else []
        if len(found) != 1 or any(one.numel() > 1 for one in others):
            return None
        concat: Concat = self.made[found[0]]
        # The memory format tells a permutation from a reshaping.
        last = name in _PERMUTED and results[0].shape[-1] == concat.channels
        moved = last and found[0].movedim(1, -1).stride() == results[0].stride()
        if not moved and found[0].shape != results[0].shape:
            return None
        return None if concat.readers else concat

    def node(self, tensor: Tensor) -> Node:
        found: Node | None = self.nodes.get(tensor)
        return self.bind(tensor, "", ()) if found is None else found

    def bind(self, tensor: Tensor, name: str, parents: tuple[Node, ...]) -> Node:
        self.clock += 1
        node = Node(name, parents, self.clock, tuple(map(int, tensor.shape)))
        self.nodes[tensor] = node
        if node.spatial:
            self.trace.maps.append(node)
        return node

    def note_concat(self, args: Sequence[Any], kwargs: Mapping[str, Any], result: Tensor) -> None:
        tensors = args[0] if args else kwargs["tensors"]
        axis = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        rank = result.dim()
        if rank < 3 or axis % rank != 1 or len(tensors) < 2 or not result.is_floating_point():
            return
        operands = tuple(self.node(one) for one in tensors)
        if all(one.pixels for one in operands):
            within = self.stack[-1] if self.stack else self.model
            self.made[result] = concat = Concat(operands, self.clock, within)
            self.trace.concats.append(concat)

    def read_by_function(self, tensor: Tensor, name: str) -> None:
        concat = self.made.get(tensor)
        if concat is not None and not any(reader.module in self.stack for reader in concat.readers):
            concat.others.append(name)

    # -- modules ------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for key, value in [*enumerate(args), *kwargs.items()]:
            concat = self.made.get(value) if isinstance(value, Tensor) else None
            if concat is not None and not any(reader.module in self.stack for reader in concat.readers):
                named = key if isinstance(key, str) else None
                last = bool(self.channels_last.get(value))
                concat.readers.append(Reader(module, named, key if isinstance(key, int) else 0, last))
        self.stack.append(module)

    def leave(self, module: nn.Module, _args: Any, _output: Any) -> None:
        while self.stack and self.stack.pop() is not module:
            pass


def trace(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Trace:
    """Call a model once and write down what it did. The model is as it was afterwards, in training mode too.

    Args:
        model: any module.
        args, kwargs: what it is called with.

    Raises:
        whatever the model raises.
    """
    recorder = _Recorder(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_evaluating(model))
        devices = {one.device.index or 0 for one in model.parameters() if one.device.type == "cuda"}
        stack.enter_context(torch.random.fork_rng(devices=sorted(devices)))
        for module in model.modules():
            # First of all hooks: what others put in the place of the concatenation is another tensor.
            for hook in (
                module.register_forward_pre_hook(recorder.enter, prepend=True, with_kwargs=True),
                module.register_forward_hook(recorder.leave, always_call=True),
            ):
                stack.callback(hook.remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder)
        recorder.trace.inputs |= {recorder.bind(tensor, "input", ()) for tensor in _tensors((args, kwargs))}
        model(*args, **kwargs)
    return recorder.trace


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, so that no running statistics change; each module's own mode comes back."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _tensors(value: Any) -> Iterator[Tensor]:
    """Tensors in lists, tuples and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
