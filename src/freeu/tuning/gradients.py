"""Which sites a judge's score depends on: its gradient with respect to the factors of each, at no FreeU at all.

The operators are differentiable, so one backward pass tells for every site what a small change of ``b`` or ``s`` there
would do to the score of the image that the U-Net predicts at that step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freeu.adapters import adapter_for
from freeu.adapters.finding import unet_of
from freeu.errors import FreeUValueError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from freeu.core.site import Site
    from freeu.evaluate.metrics.clip import CLIP


@dataclass(frozen=True)
class SiteGradient:
    """What small changes at one site would do to the score.

    Args:
        path: of the site.
        b, s: mean gradient of the score per unit of the factor, in points of CLIP score.
        b_error, s_error: standard errors of both over prompts; 0 with one prompt.
    """

    path: str
    b: float
    s: float
    b_error: float = 0.0
    s_error: float = 0.0

    @property
    def strength(self) -> float:
        """How much may be gained here: the larger of both by its amount."""
        return max(abs(self.b), abs(self.s))


def site_gradients(
    pipe: Any,
    clip: CLIP,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance: float,
    seeds: Sequence[int] | None = None,
    negatives: Sequence[str] = (),
    at: Sequence[float] = (0.2, 0.5, 0.8),
    width: int | None = None,
    height: int | None = None,
) -> list[SiteGradient]:
    """Gradients of the CLIP score of the predicted image, averaged over prompts and a few steps, strongest site first.

    At a state x_t of the plain trajectory the guided prediction gives the image x_0 that it points to (Song et al.
    2021, Eq. 12); that image is decoded and scored against its prompt.

    Args:
        pipe: a text-to-image pipeline of Stable Diffusion's kind with classifier-free guidance in one batch.
        clip: the judge.
        prompts: at least one.
        steps, guidance: of the trajectory; the CFG scale is above 1.
        seeds: one for each prompt; None means 0, 1, 2 ...
        negatives: the negative prompt of each prompt; () is none.
        at: positions at which it is measured, as fractions of the steps.
        width, height: in pixels; None is the pipeline's default.

    Raises:
        FreeUValueError: no prompt, or a pipeline without guidance, noise levels or a decoder.
        NoSitesError: the model has no known skip concatenation.
    """
    import torch

    from freeu.pipelines.models.schedulers import fresh_scheduler

    unet = unet_of(pipe)
    sites = adapter_for(unet).find_sites(unet)
    scheduler = pipe.scheduler
    if not prompts or getattr(scheduler, "alphas_cumprod", None) is None or getattr(pipe, "vae", None) is None:
        raise FreeUValueError(
            f"gradients need prompts, and a pipeline with noise levels and a decoder, got {type(pipe).__name__} with "
            f"{type(scheduler).__name__} and {len(prompts)} prompts"
        )
    numbers = list(range(len(prompts))) if seeds is None else list(seeds)
    wanted = sorted({min(int(part * steps), steps - 1) for part in at})
    captions = torch.from_numpy(clip.text_features(prompts))
    rows = []
    for index, (prompt, seed, negative) in enumerate(
        zip(prompts, numbers, negatives or [""] * len(prompts), strict=True)
    ):
        fresh_scheduler(pipe)
        with _calls_of(unet) as calls, torch.no_grad():
            pipe(
                prompt,
                negative_prompt=negative or None,
                num_inference_steps=steps,
                guidance_scale=guidance,
                width=width,
                height=height,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="latent",
            )
        chosen = [calls[place] for place in wanted if place < len(calls)]
        rows.append(
            torch.stack([_gradient(pipe, clip, sites, one, captions[index], guidance) for one in chosen]).mean(0)
        )
    found = torch.stack(rows)  # (prompts, sites, 2)
    mean = found.mean(0)
    error = found.std(0) / len(rows) ** 0.5 if len(rows) > 1 else torch.zeros_like(mean)
    gradients = [
        SiteGradient(site.path, *(float(v) for v in mean[number]), *(float(v) for v in error[number]))
        for number, site in enumerate(sites)
    ]
    return sorted(gradients, key=lambda one: -one.strength)


@contextlib.contextmanager
def _calls_of(unet: nn.Module) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """The arguments of every call of the U-Net within a ``with`` block."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = unet.register_forward_pre_hook(
        lambda _unet, args, kwargs: calls.append((args, dict(kwargs))), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()


@contextlib.contextmanager
def _factors_at(sites: Sequence[Site], factors: Tensor) -> Iterator[None]:
    """FreeU of version 2 at every site, with factors that may require gradients, of shape (sites, 2)."""
    import torch

    from freeu.ops.backbone import scale_backbone
    from freeu.ops.skip import filter_skip

    def at(site: Site, pair: Tensor) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            h, skip = site.split(args[0])
            changed = torch.cat([scale_backbone(h, pair[0], 2), filter_skip(skip, pair[1])], dim=1)
            return (changed, *args[1:])

        return hook

    hooks = [site.module.register_forward_pre_hook(at(site, pair)) for site, pair in zip(sites, factors, strict=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gradient(
    pipe: Any,
    clip: CLIP,
    sites: Sequence[Site],
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
    caption: Tensor,
    guidance: float,
) -> Tensor:
    """The gradient of the CLIP score at one state, shape (sites, 2)."""
    import torch

    args, kwargs = call
    factors = torch.ones(len(sites), 2, requires_grad=True)
    with torch.enable_grad():
        with _factors_at(sites, factors):
            output = unet_of(pipe)(*args, **kwargs)
        prediction = output[0] if isinstance(output, tuple) else output.sample
        if prediction.shape[0] != 2:
            raise FreeUValueError(
                f"gradients need both halves of guidance in one batch, got {prediction.shape[0]} rows: use a CFG scale "
                "above 1"
            )
        unconditional, conditional = prediction.float().chunk(2)
        guided = unconditional + guidance * (conditional - unconditional)
        x = (args[0] if args else kwargs["sample"])[:1].float()
        image = _decoded(pipe, _predicted(pipe.scheduler, guided, x, args[1] if len(args) > 1 else kwargs["timestep"]))
        score = 100.0 * (clip.pixel_features(image) * caption.to(image.device, image.dtype)).sum()
        (found,) = torch.autograd.grad(score, factors)
    return found.detach()


def _predicted(scheduler: Any, prediction: Tensor, x: Tensor, timestep: Any) -> Tensor:
    """The clean latents that a prediction at x_t points to."""
    alpha = scheduler.alphas_cumprod[int(timestep)].to(x)
    signal, noise = alpha.sqrt(), (1.0 - alpha).sqrt()
    kind = scheduler.config.prediction_type
    found: Tensor = signal * x - noise * prediction  # of v
    if kind == "epsilon":
        found = (x - noise * prediction) / signal
    return prediction if kind == "sample" else found


def _decoded(pipe: Any, latents: Tensor) -> Tensor:
    """The image of latents, shape (1, 3, H, W), in 0..1."""
    vae = pipe.vae
    latents = latents.to(vae.dtype) / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
    decoded: Tensor = vae.decode(latents, return_dict=False)[0]
    image: Tensor = (decoded.float() / 2.0 + 0.5).clamp(0.0, 1.0)
    return image
