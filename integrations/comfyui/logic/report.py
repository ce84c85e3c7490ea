"""What FreeU does to a model, as a table: every concatenation of the decoder with its channels, stage and factors."""

from __future__ import annotations

from typing import Any

from freeu.core.site import touched_at
from freeu.output_blocks.patching import FreeUPatch
from freeu.output_blocks.sites import find_sites


def patches_of(model: Any) -> list[Any]:
    """The patches of a MODEL's output blocks, in the order in which they run."""
    options = model.model_options.get("transformer_options", {})
    return list(options.get("patches", {}).get("output_block_patch", []))


def report(model: Any) -> str:
    """A table for people.

    Raises:
        NoSitesError: no U-Net of ComfyUI's.
    """
    sites = find_sites(model)
    patches = patches_of(model)
    ours = [patch for patch in patches if isinstance(patch, FreeUPatch)]
    others = [_name(patch) for patch in patches if not isinstance(patch, FreeUPatch)]
    base = sites[0].model_channels
    lines = [f"{type(model.model).__name__}: {len(sites)} concatenations, base width {base}"]
    for patch in ours:
        changed = sum(touched_at(*found) for found in patch.factors)
        lines += [f"FreeU (exact) changes {changed} of them: {patch.config}", _when(patch)]
    if not ours:
        lines.append("no FreeU (exact) on this model")
    if others:
        lines.append(f"other patches of the output blocks: {', '.join(others)}")
    if len(ours) + sum("FreeU" in name for name in others) > 1:
        lines.append("FreeU acts more than once: take one of the nodes out")
    rows = [("block", "path", "backbone", "skip", "stage", "b", "s", "high")]
    for number, site in enumerate(sites):
        for patch in ours or [None]:
            rows.append((str(number), *_row(site, number, patch)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(site: Any, number: int, patch: FreeUPatch | None) -> tuple[str, ...]:
    stage = site.stage if patch is None else site.stage_in(patch.config.profile)
    words = (site.path, str(site.backbone_channels), str(site.skip_channels), "-" if stage is None else str(stage))
    if patch is None or not touched_at(*patch.factors[number]):
        return (*words, "-", "-", "-")
    factors, high = patch.factors[number]
    return (*words, *(f"{value:.4g}" for value in (factors.b, factors.s * factors.g, high * factors.g)))


def _when(patch: FreeUPatch) -> str:
    """Where in the denoising it acts, and where in the image."""
    steps = patch.steps
    window = "every step" if steps.always else f"sigma {steps.first:.4g} to {steps.last:.4g}"
    if patch.config.timed:
        window += ", within it by the schedule of the settings"
    return f"acts at {window}, {'in the whole image' if patch.region is None else 'in a region'}"


def _name(patch: Any) -> str:
    name = getattr(patch, "__qualname__", type(patch).__qualname__)
    return str(name).partition(".")[0]
