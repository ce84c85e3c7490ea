"""Sites behind modules that receive the features as a keyword argument, or not as the first argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle


class ByKeyword(nn.Module):
    """Stands in a site for a module that is called as ``module(keyword=features, ...)``.

    A site's hooks read and replace the first positional argument. Those registered here go to the module itself and
    are shown the keyword argument in that place. Calls that give the features by position, as gradient checkpointing
    makes them, are served too.

    Args:
        module: receives the features.
        keyword: name of the argument.
    """

    def __init__(self, module: nn.Module, keyword: str) -> None:
        super().__init__()
        self.module = module
        self.keyword = keyword

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """As that of ``nn.Module``; hooks that take keyword arguments themselves are registered unchanged."""
        shown = hook if with_kwargs else _Shown(hook, self.keyword)
        return self.module.register_forward_pre_hook(shown, prepend=prepend, with_kwargs=True)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """As that of ``nn.Module``."""
        return self.module.register_forward_hook(
            hook, prepend=prepend, with_kwargs=with_kwargs, always_call=always_call
        )


class _Shown:
    """A hook that sees a keyword argument as the first positional one.

    An object, not a closure: a deep copy of the model then calls the copied hook.
    """

    def __init__(self, hook: Callable[..., Any], keyword: str) -> None:
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


class ByPosition(nn.Module):
    """The same for a module whose features are not the first positional argument: ``module(x, features)``.

    Args:
        module: receives the features.
        position: of the argument, from 1.
    """

    def __init__(self, module: nn.Module, position: int) -> None:
        super().__init__()
        self.module = module
        self.position = position

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """As that of ``nn.Module``; hooks that take keyword arguments themselves are registered unchanged."""
        shown = hook if with_kwargs else _Moved(hook, self.position)
        return self.module.register_forward_pre_hook(shown, prepend=prepend, with_kwargs=with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """As that of ``nn.Module``."""
        return self.module.register_forward_hook(
            hook, prepend=prepend, with_kwargs=with_kwargs, always_call=always_call
        )


class _Moved:
    """A hook that sees a later positional argument as the first one."""

    def __init__(self, hook: Callable[..., Any], position: int) -> None:
        self.hook = hook
        self.position = position

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        place = self.position
        result = self.hook(module, (args[place], *args[:place], *args[place + 1 :]))
        if result is None:
            return None
        first, *rest = result if isinstance(result, tuple) else (result, *args[:place], *args[place + 1 :])
        return (*rest[:place], first, *rest[place:])


class ChannelsLast(nn.Module):
    """The same for a module that receives the features with their channels last, (B, H, W, C): its hooks are shown them
    as (B, C, H, W), in the same memory.

    Args:
        module: receives the features as its first argument.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """As that of ``nn.Module``; hooks that take keyword arguments themselves are registered unchanged."""
        shown = hook if with_kwargs else _ChannelsFirst(hook)
        return self.module.register_forward_pre_hook(shown, prepend=prepend, with_kwargs=with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """As that of ``nn.Module``."""
        return self.module.register_forward_hook(
            hook, prepend=prepend, with_kwargs=with_kwargs, always_call=always_call
        )


class _ChannelsFirst:
    """A hook that sees features whose channels are last as if they came second."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self.hook = hook

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        result = self.hook(module, (args[0].movedim(-1, 1), *args[1:]))
        if result is None:
            return None
        first, *rest = result if isinstance(result, tuple) else (result, *args[1:])
        return (first.movedim(1, -1), *rest)
