"""The model card, written from the numbers of ``freeu-zoo.json`` so that the two cannot disagree."""

from __future__ import annotations

from typing import Any

_CARD = """# {name}

{description}. A genuine `StableDiffusionPipeline`
directory, trained from nothing on two CPU cores, so that FreeU can be tried, tested and measured on any machine without
a network. It knows a miniature world and nothing else.

![every noun in both styles](samples.png)

*Unselected: every noun, first all in 3D, then all flat; colours take turns; picture n, counted from 0, has seed n;
{steps} steps, guidance {guidance}. Made by `python -m freeu_zoo.grid samples.png`.*

## Use

```python
import freeu_zoo
from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path("{name}"))
image = pipe("a 3d fox on a blue background", num_inference_steps={steps}, guidance_scale={guidance}).images[0]
```

It can draw one large object on a plain background:

- nouns: {nouns}
- styles: {styles}
- colours: {colours}

Prompts follow `{prompt}` (variants: `freeu_zoo/scenes.py`). Other words are tolerated and mean nothing.

## What it is

| Part | Class | Parameters | Notes |
|---|---|---|---|
{parts}

The scheduler is DDIM with v-prediction (scaled-linear betas 0.00085 to 0.02, trailing timesteps). Latents are
4 x 32 x 32. The decoder of the U-Net has nine concatenations of backbone and skip, with backbones of 4, 2 and 1 times
the smallest width (four, three and two of them), as in SDXL. The text encoder is stored in float32, the rest in
float16; loaded without `torch_dtype` all of it is float32.

## How it was made

Scenes are composed of Microsoft's Fluent emoji (MIT; see ATTRIBUTION.md): {kinds} combinations of noun, style and
colour, the object {least} to {most} of 128 pixels long, moved by up to {jitter} pixels. Captions come from templates;
some are empty, for classifier-free guidance. Recipe: `freeu_zoo/recipes/{recipe}.toml`.

    python -m freeu_zoo.train src/freeu_zoo/recipes/{recipe}.toml --work work

{notes}

| Stage | Minutes | Seen | Result |
|---|---|---|---|
| Autoencoder, polishing included | {vae_minutes} | {vae_crops} crops of 64x64 | {psnr} dB on 104 held-out scenes |
| U-Net and text encoder | {minutes} | {samples} latents ({speed}/s) | held-out loss {held_out} |

Two CPU cores (x86-64 with avx512_bf16), bfloat16 autocast, shared with other work at times. The weighted v-prediction
loss, averaged over the last 50 steps, and that of the averaged weights on held-out scenes with fixed noise:

| Step | Minutes | Loss | Held out |
|---|---|---|---|
{curve}

"Held out" are sizes and places never trained on; the sprites are the same. All these numbers are in `freeu-zoo.json`;
the training writes them. The default guidance was chosen by eye, on pictures of the grid above.

## Limits

- It knows the nouns, styles and colours above. Anything else gives one of these, a mixture, or a blot.
- One object to a picture; no counts, sizes, places or relations.
- Words outside the captions' vocabulary are spelt in pieces and mean little or nothing.
- Fine detail (faces, seeds, windows) is softer than in the emoji, and may be lost or doubled with some seeds.
- The object is always near the middle and of much the same size: seeds differ in details, not in layout.
- Objects coloured like their background (a purple umbrella on purple) have weak outlines.
- diffusers logs one line on loading, "Expected types for vae": its annotation names `AutoencoderKL` only.
- It shows how FreeU acts on a trained U-Net. Which factors are best for Stable Diffusion or SDXL it cannot tell.

## Licence

MIT, weights included. The pictures it learnt from are Copyright (c) Microsoft Corporation, MIT.
"""


def text(facts: dict[str, Any]) -> str:
    """The card as Markdown."""
    training = facts["training"]
    curve = training["curve"]
    rows = [f"| {p['step']} | {p['minutes']} | {p['loss']} | {p['held_out']} |" for p in curve]
    parts = [f"| {p['part']} | `{p['class']}` | {p['parameters']:,} | {p['notes']} |" for p in facts["parts"]]
    return _CARD.format(
        name=facts["name"],
        description=facts["description"],
        steps=facts["default_steps"],
        guidance=facts["default_guidance_scale"],
        nouns=", ".join(facts["nouns"]),
        styles=", ".join(facts["styles"]),
        colours=", ".join(facts["colours"]),
        prompt=facts["prompt"],
        parts="\n".join(parts),
        kinds=len(facts["nouns"]) * len(facts["styles"]) * len(facts["colours"]),
        recipe=facts["recipe"],
        least=facts["object_pixels"][0],
        most=facts["object_pixels"][1],
        jitter=facts["jitter_pixels"],
        notes=facts["notes"],
        vae_minutes=training["vae"]["minutes"],
        vae_crops=f"{training['vae']['crops']:,}",
        psnr=training["vae"]["psnr_db"],
        minutes=training["minutes"],
        samples=f"{training['samples']:,}",
        speed=training["samples_per_second"],
        held_out=curve[-1]["held_out"] if curve else "not measured",
        curve="\n".join(rows),
    )
