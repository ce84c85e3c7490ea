"""The re-dilated convolution: a convolution whose taps stand further apart than it was trained with."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F


def redilatable(module: nn.Module) -> bool:
    """True for a 3x3 convolution that keeps the size of its input, up to its stride."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and module.padding == (1, 1)
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
    )


def redilated(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: float) -> Tensor:
    """Convolve with a dilation that need not be whole (ScaleCrafter, arXiv:2310.07702, re-dilation).

    f_d(x) = resize_{1/s}(resize_s(x) * dilate_D(k)) with D = ceil(d) and s = D / d, resized bilinearly: D steps of the
    larger map are d steps of x. For a whole d nothing is resized.

    Args:
        conv: a module for which ``redilatable`` is true; gives stride and groups, and is not changed.
        x: features, shape (B, C, H, W).
        weight, bias: of the convolution.
        dilation: 1 or more; 1 is the convolution itself.

    Returns:
        features of the shape that the convolution itself returns.
    """
    taps = math.ceil(dilation)
    stretch = taps / dilation
    height, width = x.shape[-2:]
    if stretch != 1.0:
        x = F.interpolate(x, size=(round(height * stretch), round(width * stretch)), mode="bilinear")
    out = F.conv2d(x, weight, bias, conv.stride, padding=taps, dilation=taps, groups=conv.groups)
    if stretch != 1.0:
        down, across = (int(step) for step in conv.stride)
        out = F.interpolate(out, size=(-(-height // down), -(-width // across)), mode="bilinear")
    return out
