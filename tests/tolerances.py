"""Every tolerance of the test suite, in one place: largest error relative to the largest value of the reference."""

import torch

# The closed form against the FFT reference. Half precision is rounded once: half a unit in the last place.
FILTER = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}
# Backbone scaling, which has no transform in it. In half precision b itself is not rounded.
BACKBONE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
# A whole U-Net in float32 against another implementation of the same operator. Processors without AVX512 sum in another
# order: there up to 2.3e-6 was seen, elsewhere less than 2e-6.
UNET = 4e-6
# The same for U-Nets of other packages with large random weights, which amplify rounding.
FOREIGN_UNET = 1e-5
# What a pipeline draws with a LoRA beside its weights, or in them: float32 sums in another order, over two steps.
MERGED = 2e-5
# Gradients in float64.
GRADIENT = 1e-10


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute value of ``want``."""
    scale = want.double().abs().max().clamp_min(1e-30)
    return ((got.double() - want.double()).abs().max() / scale).item()


# Distances between sets of features, against the textbook formulas in float64 (a matrix root loses some digits).
DISTANCE = 1e-8
# The same where covariances are singular: the textbook form takes roots of rounding errors.
SINGULAR = 1e-5
# Features of a network against another implementation of its preprocessing, relative to the largest.
FEATURES = 1e-4
# Optical flow of a known translation, in pixels, mean over pixels away from the rim.
FLOW = 0.3
# Measures of whole sets and images against other packages, some of which calculate in float32: relative to the value.
INDEPENDENT = 1e-5
# Latents that ComfyUI's sampler makes in float32 with its own FreeU nodes and with ours, relative to the largest.
COMFYUI = 1e-5
