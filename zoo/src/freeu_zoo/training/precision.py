"""The number format in which the trainings multiply; weights and losses stay in float32."""

from __future__ import annotations

import torch

_MULTIPLIES = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""Private names of torch, some of which versions lack: without an answer nothing is cast."""


def mixed(device: str | torch.device = "cpu") -> torch.autocast:
    """Autocast to bfloat16, but on processors that do not multiply in it: there float32, which is many times faster.

    Args:
        device: where the tensors are.
    """
    kind = torch.device(device).type
    known = (getattr(torch.cpu, check, None) for check in _MULTIPLIES)
    fast = kind != "cpu" or any(check is not None and check() for check in known)
    return torch.autocast(kind, torch.bfloat16, enabled=fast)
