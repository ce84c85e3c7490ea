"""The number format in which the trainings multiply; weights and losses stay in float32."""

from __future__ import annotations

import torch

from freeu.pipelines.models.loading import pick_autocast


def mixed(device: str | torch.device = "cpu") -> torch.autocast:
    """Autocast to bfloat16, but on processors that do not multiply in it: there float32, which is many times faster.

    Args:
        device: where the tensors are.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu" or pick_autocast("auto", kind) is not None)
