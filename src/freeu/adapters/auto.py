"""U-Nets of no known family: their sites are found by one traced call.

Which concatenation joins a backbone with a skip is told by the flow of data, not by names or age:

- the skip is a form of something that the backbone was made of (its *source* is an ancestor of the backbone's);
- nothing that the skip was made of is a smaller map: it comes from the encoder, not from within the decoder;
- the concatenation is made after the smallest map: in the decoder, not in a dense block of the encoder.

What else is concatenated along channels (a conditioning image beside the input, tokens, a dense block) fails one of
these and is none. What passes but cannot be a site, or stands apart from the others, is listed with the reason and left
alone.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from freeu.adapters.keyword import ByKeyword, ByPosition, ChannelsLast
from freeu.adapters.tracing import Concat, Node, Reader, Trace, trace
from freeu.core.hooks import Host
from freeu.core.site import Site
from freeu.errors import FreeUValueError, NoSitesError


@dataclass(frozen=True)
class Unsure:
    """A concatenation that joins a backbone with a skip and is left alone.

    Args:
        where: path of the module that reads it, or in whose forward it is made.
        channels: of its operands, in their order.
        reason: why it is left alone.
    """

    where: str
    channels: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Found:
    """What a traced call found.

    Args:
        sites: in the order of execution.
        unsure: concatenations that are left alone.
        others: how many concatenations along channels join no backbone with a skip.
    """

    sites: tuple[Site, ...]
    unsure: tuple[Unsure, ...]
    others: int


class AutoHost(Host):
    """Calls as the example was: its first map is the sample, its first other argument the timestep.

    Args:
        sample: place of the sample, a position or a keyword; None if there was none.
        time: the same of the timestep.
    """

    stacked = False  # which rows are conditional is not known

    def __init__(self, sample: int | str | None, time: int | str | None) -> None:
        self._sample, self._time = sample, time

    def sample(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value: Tensor = _argument(self._sample, args, kwargs)
        return value

    def timestep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _argument(self._time, args, kwargs)


class AutoUNet:
    """The adapter of one model, made from an example of its arguments.

    Args:
        model: any module.
        args, kwargs: what it is called with, at any size that it takes.

    Raises:
        FreeUValueError: the model does not take these arguments.
        NoSitesError: it joins no backbone with a skip in this call.
    """

    def __init__(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.found = find(model, args, kwargs)
        places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        sample = next((key for key, value in places if isinstance(value, Tensor) and value.dim() > 2), None)
        time = next((key for key, value in places if key != sample and _is_time(value)), None)
        self.host: Host = AutoHost(sample, time)

    def matches(self, _model: nn.Module) -> bool:
        """True: it was made for this model."""
        return True

    def find_sites(self, _model: nn.Module) -> list[Site]:
        """What the traced call found."""
        return list(self.found.sites)


def find(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Found:
    """Call a model once and find its sites; arguments and errors as for ``AutoUNet``."""
    try:
        traced = trace(model, args, kwargs)
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")
        raise FreeUValueError(
            f"{type(model).__name__} does not take these example_args and example_kwargs "
            f"({type(error).__name__}: {said}): give what model(*example_args, **example_kwargs) takes, such as (x, t)"
        ) from error
    paths = {id(module): name for name, module in model.named_modules(remove_duplicate=False)}
    joined = [(concat, places) for concat in traced.concats if (places := _split(concat, traced)) is not None]
    unsure = [(concat, reason) for concat, _ in joined if (reason := _doubt(concat, traced, paths)) is not None]
    doubted = {id(concat) for concat, _ in unsure}
    unsure += [
        (concat, f"the encoder goes on behind {_where(concat, paths)}: a later skip is made there")
        for concat in _in_encoder(joined)
        if id(concat) not in doubted
    ]
    doubted = {id(concat) for concat, _ in unsure}
    certain = [(concat, places) for concat, places in joined if id(concat) not in doubted]
    apart = _apart([paths[id(concat.readers[0].module)] for concat, _ in certain])
    unsure += [
        (concat, f"its reader {paths[id(concat.readers[0].module)]} stands apart from the decoder's other blocks")
        for (concat, _), alone in zip(certain, apart, strict=True)
        if alone
    ]
    certain = [one for one, alone in zip(certain, apart, strict=True) if not alone]
    listed = tuple(
        Unsure(_where(concat, paths), tuple(one.shape[1] for one in concat.operands), reason)
        for concat, reason in sorted(unsure, key=lambda one: one[0].order)
    )
    if not certain:
        raise NoSitesError(_nothing(model, traced, listed))
    sites = _sites(certain, paths)
    return Found(tuple(sites), listed, len(traced.concats) - len(joined))


class _Places(NamedTuple):
    """Of a concatenation of backbone and skip: the backbone's operand, and when that was made which the skip is of."""

    backbone: int
    source: int


def _in_encoder(joined: Sequence[tuple[Concat, _Places]]) -> list[Concat]:
    """Concatenations of the smallest maps that skips of later ones are made behind: ControlNet-XS has such."""
    smallest = min((concat.operands[0].pixels for concat, _ in joined), default=0)
    last = max((places.source for _, places in joined), default=0)
    return [concat for concat, _ in joined if concat.operands[0].pixels == smallest and concat.order < last]


def _split(concat: Concat, traced: Trace) -> _Places | None:
    """Which is which, if the concatenation joins a backbone with one skip."""
    maps = [node for node in traced.maps if same_rank(node, concat.operands[0])]
    if len(concat.operands) != 2 or not maps:
        return None
    if concat.order < min(maps, key=lambda node: (node.pixels, node.order)).order:
        return None
    first, second = concat.operands
    made_of = first.ancestors(), second.ancestors()
    nothing: set[Node] = set()
    for forms in itertools.zip_longest(first.forms(), second.forms(), fillvalue=nothing):
        first_is, second_is = (
            _is_skip(form, backbone) for form, backbone in zip(forms, reversed(made_of), strict=True)
        )
        if first_is != second_is:
            backbone = 1 if first_is else 0
            sources = [one.order for one in forms[1 - backbone] if one in made_of[backbone]]
            return _Places(backbone, max(sources))
        if first_is:
            return None
    return None


def same_rank(one: Node, other: Node) -> bool:
    """Whether two tensors have as many axes."""
    return len(one.shape) == len(other.shape)


def _is_skip(forms: set[Node], made_of: set[Node]) -> bool:
    """Whether one of these maps is from the encoder of what the backbone was made of: it was made of no smaller map."""
    return any(
        one.pixels
        and one in made_of
        and not any(other.spatial and other.pixels < one.pixels for other in one.ancestors() if same_rank(other, one))
        for one in forms
    )


def _doubt(concat: Concat, traced: Trace, paths: Mapping[int, str]) -> str | None:
    """Why a concatenation of backbone and skip is no site."""
    if not concat.readers:
        within = paths.get(id(concat.within), "") or "the model"
        return f"no module receives it: {within} concatenates and works on in one forward"
    if len(concat.readers) > 1:
        return f"two modules read it: {' and '.join(paths[id(one.module)] for one in concat.readers[:2])}"
    if concat.others:
        return f"beside {paths[id(concat.readers[0].module)]}, {concat.others[0]}() reads it"
    module = concat.readers[0].module
    if sum(one.module is module for other in traced.concats for one in other.readers) > 1:
        return f"{paths[id(module)]} receives several concatenations"
    if any(one in traced.inputs for operand in concat.operands for form in operand.forms() for one in form):
        return "its skip is an input of the model"
    if not 3 <= len(concat.operands[0].shape) <= 5:
        return f"maps of {len(concat.operands[0].shape) - 2} dimensions"
    return None


def _apart(paths: Sequence[str]) -> list[bool]:
    """Which of these readers is the only one of its part of the model, where the others share one."""
    parts = [re.sub(r"\d+", "#", path.split(".")[0]) for path in paths]
    counts = Counter(parts)
    return [len(counts) > 1 and counts[part] == 1 and max(counts.values()) > 1 for part in parts]


def _sites(certain: Sequence[tuple[Concat, _Places]], paths: Mapping[int, str]) -> list[Site]:
    widths = [concat.operands[places.backbone].shape[1] for concat, places in certain]
    base = max(1, max(widths) // 4)  # the widest backbone is stage 1, half of it stage 2, a quarter stage 3
    sites: list[Site] = []
    block, before = -1, None
    for (concat, (place, _)), width in zip(certain, widths, strict=True):
        pixels = concat.operands[place].pixels
        block += pixels != before
        before = pixels
        reader = concat.readers[0]
        path = paths[id(reader.module)]
        skip = concat.operands[1 - place].shape[1]
        kind = type(concat.within).__name__
        sites.append(Site(path, _as_first(reader), width, skip, base, block, kind, backbone_first=place == 0))
    return sites


def _as_first(reader: Reader) -> nn.Module:
    """The module, so that hooks find the concatenation as its first argument."""
    module = reader.module
    if reader.keyword is not None:
        module = ByKeyword(module, reader.keyword)
    elif reader.position:
        module = ByPosition(module, reader.position)
    return ChannelsLast(module) if reader.channels_last else module


def _where(concat: Concat, paths: Mapping[int, str]) -> str:
    module = concat.readers[0].module if concat.readers else concat.within
    return paths.get(id(module), "") or type(module).__name__


def _nothing(model: nn.Module, traced: Trace, unsure: Sequence[Unsure]) -> str:
    name = type(model).__name__
    if unsure:
        first = unsure[0]
        return (
            f"{name} joins backbone and skip {len(unsure)} times, but freeu cannot act there: {first.where} "
            f"({first.reason})"
        )
    if traced.concats:
        return (
            f"{name} concatenates {len(traced.concats)} times along channels, but never what comes up a decoder with "
            "what its encoder made: it has no skip connections of a U-Net"
        )
    return f"{name} concatenates nothing along channels in this call: it has no skip connections of a U-Net"


def _argument(place: int | str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(place, int):
        return args[place] if place < len(args) else None
    return None if place is None else kwargs.get(place)


def _is_time(value: Any) -> bool:
    """Whether an argument may be a timestep: a number, or a tensor of one for the batch or each sample."""
    if isinstance(value, Tensor):
        return value.dim() <= 1
    return isinstance(value, (int, float)) and not isinstance(value, bool)
