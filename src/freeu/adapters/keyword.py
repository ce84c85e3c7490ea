"""Sites behind modules that receive the features in another way than as their first argument, channels second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

Hook = Callable[..., Any]


class StandIn(nn.Module):
    """Stands in a site for a module: a site's hooks read and replace the first positional argument, (B, C, ...).

    Hooks registered here go to the module itself, and ``shown`` says how they see its call.

    Args:
        module: receives the features.
    """

    named = False
    """Whether what ``shown`` gives takes keyword arguments."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def shown(self, hook: Hook) -> Hook:
        """The hook for the module; an object, not a closure: a deep copy of the model then calls the copied hook."""
        raise NotImplementedError

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """As that of ``nn.Module``; hooks that take keyword arguments themselves are registered unchanged."""
        shown = hook if with_kwargs else self.shown(hook)
        named = with_kwargs or self.named
        return self.module.register_forward_pre_hook(shown, prepend=prepend, with_kwargs=named)

    def register_forward_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """As that of ``nn.Module``."""
        return self.module.register_forward_hook(
            hook, prepend=prepend, with_kwargs=with_kwargs, always_call=always_call
        )


class ByKeyword(StandIn):
    """For a module that is called as ``module(keyword=features, ...)``.

    Calls that give the features by position, as gradient checkpointing makes them, are served too.

    Args:
        module: receives the features.
        keyword: name of the argument.
    """

    named = True

    def __init__(self, module: nn.Module, keyword: str) -> None:
        super().__init__(module)
        self.keyword = keyword

    def shown(self, hook: Hook) -> Hook:
        return _Named(hook, self.keyword)


class _Named:
    """A hook that sees a keyword argument as the first positional one."""

    def __init__(self, hook: Hook, keyword: str) -> None:
        self.hook = hook
        self.keyword = keyword

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        named = self.keyword in kwargs
        result = self.hook(module, (kwargs[self.keyword], *args) if named else args)
        if result is None:
            return None
        new = result if isinstance(result, tuple) else (result,)
        return (new[1:], {**kwargs, self.keyword: new[0]}) if named else (new, kwargs)


class ByPosition(StandIn):
    """For a module whose features are not the first positional argument: ``module(x, features)``.

    Args:
        module: receives the features.
        position: of the argument, from 1.
    """

    def __init__(self, module: nn.Module, position: int) -> None:
        super().__init__(module)
        self.position = position

    def shown(self, hook: Hook) -> Hook:
        return _Moved(hook, self.position)


class _Moved:
    """A hook that sees a later positional argument as the first one."""

    def __init__(self, hook: Hook, position: int) -> None:
        self.hook = hook
        self.position = position

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        place = self.position
        result = self.hook(module, (args[place], *args[:place], *args[place + 1 :]))
        if result is None:
            return None
        first, *rest = result if isinstance(result, tuple) else (result, *args[:place], *args[place + 1 :])
        return (*rest[:place], first, *rest[place:])


class ChannelsLast(StandIn):
    """For a module that receives the features with their channels last, (B, H, W, C): its hooks are shown them as
    (B, C, H, W), in the same memory.

    Args:
        module: receives the features as its first argument.
    """

    def shown(self, hook: Hook) -> Hook:
        return _ChannelsFirst(hook)


class _ChannelsFirst:
    """A hook that sees features whose channels are last as if they came second."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        result = self.hook(module, (args[0].movedim(-1, 1), *args[1:]))
        if result is None:
            return None
        first, *rest = result if isinstance(result, tuple) else (result, *args[1:])
        return (first.movedim(1, -1), *rest)
