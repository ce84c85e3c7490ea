"""What an unknown option probably means: what other tools call the same thing, where spelling does not tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping

MEANINGS: Mapping[str, str] = {
    **dict.fromkeys(("cfg-scale", "scale", "cfgscale", "guidance-weight"), "--cfg"),
    **dict.fromkeys(("negative", "neg-prompt", "negprompt", "n-prompt", "np", "uc"), "--negative-prompt"),
    **dict.fromkeys(("ckpt", "checkpoint", "model-path", "model-id", "pretrained-model-name-or-path"), "--model"),
    **dict.fromkeys(
        ("n", "n-iter", "n-samples", "batch-count", "count", "num-images-per-prompt", "num-outputs", "number"), "-n"
    ),
    **dict.fromkeys(("batch-size", "bs"), "--batch"),
    **dict.fromkeys(("sampling-steps", "num-inference-steps", "num-steps", "ddim-steps"), "--steps"),
    **dict.fromkeys(("sampler-name", "sampling-method", "solver", "schedule-type"), "--sampler"),
    **dict.fromkeys(("init-image", "init-img", "init", "input", "img", "img2img", "source"), "--image"),
    **dict.fromkeys(("mask-image", "inpaint"), "--mask"),
    **dict.fromkeys(("outdir", "output-dir", "outpath", "save-to", "dir", "folder"), "--output"),
    **dict.fromkeys(("w",), "--width"),
    **dict.fromkeys(("h",), "--height"),
    **dict.fromkeys(("resolution", "res", "dimensions", "wh"), "--size"),
    **dict.fromkeys(("prompts-file", "prompt-file", "from-file", "file", "captions"), "--prompts"),
    **dict.fromkeys(("fp16", "half"), "--dtype float16"),
    **dict.fromkeys(("bf16",), "--dtype bfloat16"),
    **dict.fromkeys(("fp32", "no-half"), "--dtype float32"),
    **dict.fromkeys(("precision", "torch-dtype"), "--dtype"),
    **dict.fromkeys(("gpu", "cuda"), "--device cuda"),
    **dict.fromkeys(("cpu",), "--device cpu"),
    **dict.fromkeys(("medvram", "cpu-offload", "enable-model-cpu-offload", "model-offload"), "--offload model"),
    **dict.fromkeys(("lowvram", "low-vram", "sequential-offload"), "--offload sequential"),
    **dict.fromkeys(("tiled-vae", "vae-tile", "enable-vae-tiling"), "--vae-tiling"),
    **dict.fromkeys(("opt-split-attention", "enable-attention-slicing"), "--attention-slicing"),
    **dict.fromkeys(("loras", "lora-file"), "--lora"),
    **dict.fromkeys(("textual-inversion", "ti", "embeddings"), "--embedding"),
    **dict.fromkeys(("b1", "b2", "b3", "backbone"), "--b"),
    **dict.fromkeys(("s1", "s2", "s3"), "--s"),
    **dict.fromkeys(("denoising", "img2img-strength", "denoise-strength"), "--denoising-strength"),
    **dict.fromkeys(("cn", "control-net"), "--controlnet"),
    **dict.fromkeys(("control-weight", "cn-weight", "controlnet-conditioning-scale"), "--controlnet-weight"),
    **dict.fromkeys(("silent",), "--quiet"),
    **dict.fromkeys(("simulate", "noop", "plan", "what-if"), "--dry-run"),
    **dict.fromkeys(("show", "view", "browser"), "--open"),
    **dict.fromkeys(("as-json", "format-json"), "--json"),
    **dict.fromkeys(("random-seed",), "--seed -1"),
    **dict.fromkeys(("noise-seed", "manual-seed"), "--seed"),
    **dict.fromkeys(("freeu", "settings"), "--config"),
    **dict.fromkeys(("resume", "manifest", "reproduce"), "--from"),
}
"""Names of other tools, without dashes at the front and with dashes for underscores, and what to give here."""


def meant(option: str, known: Collection[str]) -> str | None:
    """The option that an unknown one probably means, as a sentence; None if nobody knows.

    Args:
        option: what was given, such as "--cfg_scale".
        known: names of the options of the command.
    """
    name = option.lstrip("-").replace("_", "-").lower()
    if f"--{name}" in known:
        return f"did you mean --{name}?"
    if name == "prompt" and "--prompt" not in known:
        return 'the prompt is given without an option, as in freeu generate "a fox"'
    found = MEANINGS.get(name)
    if found is not None and found.split()[0] in known:
        return f"did you mean {found}?"
    return None
