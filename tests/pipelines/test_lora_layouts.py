"""LoRAs in every layout and with every way to say alpha, against a merge by hand: scale * up @ down of each module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from original_layout import original_unet_key
from safetensors.torch import load_file, save_file
from tiny_pipelines import save_pipeline, tiny_text_encoder, tiny_tokenizer, tiny_unet
from torch import Tensor

from freeu.errors import FreeUValueError
from freeu.pipelines.models.addons.add_ons import find_lora
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model

METADATA = "lora_adapter_metadata"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LINEAR = (*ATTENTION, "proj", "linear_1", "linear_2", "time_emb_proj", "proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "conv")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


class Module(NamedTuple):
    """What a LoRA does to one module: W + alpha / rank * up @ down; alpha None is that of the rank."""

    down: Tensor
    up: Tensor
    alpha: float | None

    @property
    def delta(self) -> Tensor:
        scale = 1.0 if self.alpha is None else self.alpha / self.down.shape[0]
        return scale * self.up.flatten(1).double() @ self.down.flatten(1).double()


Lora = dict[str, Module]
"""By names such as "unet.mid_block.resnets.0.conv1"."""


def made(pipe: Any, targets: tuple[str, ...], rank: Callable[[int], int], alpha: Callable[[int], float | None]) -> Lora:
    """A random LoRA of the modules whose names end with one of ``targets``, numbered for ``rank`` and ``alpha``."""
    generator = torch.Generator().manual_seed(1)
    found: Lora = {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        for name, module in (getattr(pipe, part, None) or torch.nn.Module()).named_modules():
            if not isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) or not name.endswith(targets):
                continue
            number = len(found)
            shape = module.weight.shape
            down = torch.randn(rank(number), *shape[1:], generator=generator)
            up = torch.randn(shape[0], rank(number), *(1 for _ in shape[2:]), generator=generator)
            found[f"{part}.{name}"] = Module(0.3 * down, 0.3 * up, alpha(number))
    return found


def kohya(name: str, rename: Callable[[str], str] = str, text: str = "te") -> str:
    """What kohya's trainer calls a module."""
    part, _, module = name.partition(".")
    if part != "unet" and not module.startswith("text_model."):
        module = f"text_model.{module}"
    head = {"unet": "lora_unet", "text_encoder": f"lora_{text}", "text_encoder_2": "lora_te2"}[part]
    return f"{head}_{(rename(module) if part == 'unet' else module).replace('.', '_')}"


def as_kohya(lora: Lora, path: Path, dtype: torch.dtype = torch.float32, **names: Any) -> Path:
    state = {}
    for name, module in lora.items():
        key = kohya(name, **names)
        state[f"{key}.lora_down.weight"], state[f"{key}.lora_up.weight"] = module.down.to(dtype), module.up.to(dtype)
        if module.alpha is not None:
            state[f"{key}.alpha"] = torch.tensor(float(module.alpha)).to(dtype)
    save_file(state, path, {"format": "pt", "ss_network_dim": "4"})
    return path


def as_diffusers(lora: Lora, path: Path, down: str = "lora.down", up: str = "lora.up", alpha: str = "") -> Path:
    state = {}
    for name, module in lora.items():
        linear = "" if name.startswith("unet.") or "_A" in down else "_linear_layer"
        places = [f"{name}.{side.replace('lora', f'lora{linear}')}.weight" for side in (down, up)]
        state[places[0]], state[places[1]] = module.down, module.up
        if module.alpha is not None:
            state[f"{name}{alpha}.alpha"] = torch.tensor(float(module.alpha))
    save_file(state, path)
    return path


def as_processors(lora: Lora, path: Path) -> Path:
    """The oldest names of diffusers, of attention alone."""
    state = {}
    for name, module in lora.items():
        head, _, last = name.removesuffix(".0").rpartition(".")
        state[f"{head}.processor.{last}_lora.down.weight"] = module.down
        state[f"{head}.processor.{last}_lora.up.weight"] = module.up
    save_file(state, path)
    return path


def with_metadata(lora: Lora, path: Path, **changes: Any) -> Path:
    """As ``save_lora_weights`` of today writes it: PEFT's configuration in the header."""
    config = {}
    for part in {name.partition(".")[0] for name in lora}:
        inner = {name.removeprefix(f"{part}."): one for name, one in lora.items() if name.startswith(f"{part}.")}
        config |= {
            f"{part}.r": 8,
            f"{part}.lora_alpha": 8,
            f"{part}.rank_pattern": {name: one.down.shape[0] for name, one in inner.items()},
            f"{part}.alpha_pattern": {name: one.alpha or one.down.shape[0] for name, one in inner.items()},
            f"{part}.target_modules": sorted(inner),
            f"{part}.peft_type": "LORA",
            **{f"{part}.{name}": value for name, value in changes.items()},
        }
    state = load_file(as_diffusers({name: one._replace(alpha=None) for name, one in lora.items()}, path))
    save_file(state, path, {METADATA: json.dumps(config)})
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layouts")
    xl = {
        "unet": tiny_unet(
            cross_attention_dim=32,
            layers_per_block=2,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=8 * 6 + 16,
        ),
        "text_encoder_2": tiny_text_encoder("CLIPTextModelWithProjection", projection_dim=16),
        "tokenizer_2": tiny_tokenizer(),
    }
    return {"sd": save_pipeline(folder / "sd"), "xl": save_pipeline(folder / "xl", "StableDiffusionXLPipeline", **xl)}


def one_rank(number: int) -> int:
    return 4


def ranks(number: int) -> int:
    return (2, 4, 4, 8)[number % 4]


ALPHAS: dict[str, Callable[[int], float | None]] = {
    "no alpha": lambda number: None,
    "one alpha": lambda number: 2.0,
    "an odd alpha": lambda number: 0.7,
    "its own alpha": lambda number: (0.5, 1.0, 3.0, 8.0, 20.0)[number % 5],
    "alpha in part": lambda number: 1.0 if number % 3 else None,
    "alpha in one module": lambda number: 16.0 if number == 3 else None,
}


def sgm(module: str) -> str:
    return original_unet_key(f"{module}.weight", 2)[: -len(".weight")]


def write(layout: str, lora: Lora, path: Path) -> Path:
    if layout == "kohya":
        return as_kohya(lora, path, text="te1" if any("text_encoder_2" in name for name in lora) else "te")
    if layout == "kohya float16":
        return as_kohya(lora, path, torch.float16)
    if layout == "kohya bfloat16":
        return as_kohya(lora, path, torch.bfloat16)
    if layout == "kohya, original names":
        return as_kohya(lora, path, rename=sgm)
    if layout == "diffusers":
        return as_diffusers(lora, path)
    if layout == "diffusers, lora.alpha":
        return as_diffusers(lora, path, alpha=".lora")
    if layout == "PEFT names":
        return as_diffusers(lora, path, "lora_A", "lora_B")
    if layout == "processors":
        return as_processors(lora, path)
    assert layout == "metadata"
    return with_metadata(lora, path)


CASES = [
    *(("sd", "kohya", alpha, ATTENTION + TEXT, rank) for alpha in ALPHAS for rank in (one_rank, ranks)),
    *(("sd", "diffusers", alpha, ATTENTION, rank) for alpha in ALPHAS for rank in (one_rank, ranks)),
    *(("sd", "PEFT names", alpha, LINEAR + CONVOLUTIONS + TEXT, ranks) for alpha in ALPHAS),
    *(("sd", "metadata", alpha, LINEAR + TEXT, ranks) for alpha in ("no alpha", "its own alpha", "alpha in part")),
    *(("xl", "kohya", alpha, ATTENTION + TEXT, ranks) for alpha in ALPHAS),
    *(("xl", "kohya, original names", alpha, ATTENTION, ranks) for alpha in ALPHAS),
    ("xl", "kohya, original names", "its own alpha", ("conv1", "conv2", "conv_shortcut"), ranks),
    ("xl", "metadata", "its own alpha", ATTENTION + TEXT, ranks),
    ("sd", "kohya", "its own alpha", CONVOLUTIONS, ranks),
    ("sd", "kohya", "its own alpha", ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "to_q"), ranks),
    ("sd", "kohya float16", "its own alpha", ATTENTION, one_rank),
    ("sd", "kohya bfloat16", "alpha in part", ATTENTION, one_rank),
    ("sd", "diffusers, lora.alpha", "its own alpha", ATTENTION, ranks),
    ("sd", "processors", "no alpha", ATTENTION, one_rank),
    ("sd", "processors", "no alpha", ATTENTION, ranks),
]


def title(case: Any) -> str:
    model, layout, alpha, targets, rank = case
    return f"{model}, {layout}, {alpha}, {len(targets)} kinds, {rank.__name__}"


@pytest.mark.parametrize("case", CASES, ids=title)
def test_every_module_is_changed_by_scale_times_up_times_down(case, models, tmp_path):
    model, layout, alpha, targets, rank = case
    folder = models[model]
    bare = load(find_model(str(folder))).pipe
    if layout in ("processors", "diffusers", "kohya, original names") or "float16" in layout:
        bare.text_encoder = bare.text_encoder_2 = None  # names of the U-Net alone
    lora = made(bare, targets, rank, ALPHAS[alpha])
    assert len(lora) > 5
    if "float16" in layout:
        dtype = torch.bfloat16 if "b" in layout.split()[1] else torch.float16
        lora = {
            name: Module(
                one.down.to(dtype).float(),
                one.up.to(dtype).float(),
                None if one.alpha is None else float(torch.tensor(one.alpha).to(dtype)),
            )
            for name, one in lora.items()
        }
    path = write(layout, lora, tmp_path / "made.safetensors")
    bare = load(find_model(str(folder))).pipe
    for weight in (1.0, -0.6):
        pipe = load(find_model(str(folder)), loras=[find_lora(path, weight)], fuse_loras=True).pipe
        for part in ("unet", "text_encoder", "text_encoder_2"):
            before = getattr(bare, part, None)
            if before is None:
                continue
            got = getattr(pipe, part).state_dict()
            for name, tensor in before.state_dict().items():
                change = lora.get(f"{part}.{name.removesuffix('.weight')}") if name.endswith(".weight") else None
                want = tensor if change is None else tensor + weight * change.delta.reshape(tensor.shape)
                torch.testing.assert_close(got[name].double(), want.double(), rtol=1e-5, atol=2e-6)


def test_beside_the_weights_it_is_what_it_is_in_them(models, tmp_path):
    lora = made(load(find_model(str(models["sd"]))).pipe, ATTENTION, ranks, ALPHAS["its own alpha"])
    path = as_kohya(lora, tmp_path / "made.safetensors")
    found = []
    for fuse in (False, True):
        pipe = load(find_model(str(models["sd"])), loras=[find_lora(path, 0.8)], fuse_loras=fuse).pipe
        inputs = torch.ones(1, 4, 8, 8), 500, torch.ones(1, 5, 16)
        with torch.no_grad():
            found.append(pipe.unet(*inputs).sample)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def one_module(pipe: Any) -> Lora:
    return made(pipe, ("attn2.to_q",), one_rank, lambda number: 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state, key: state.update({f"{key}.alpha": torch.tensor(0.0)}), "has alpha 0 in '.*4 for the rank"),
        (lambda state, key: state.update({f"{key}.alpha": torch.tensor(-1.0)}), "has alpha -1 in"),
        (lambda state, key: state.update({f"{key}.alpha": torch.tensor(float("nan"))}), "has alpha nan in"),
        (lambda state, key: state.update({f"{key}.alpha": torch.ones(3)}), "no single number"),
        (lambda state, key: state.update({"lora_unet_other.alpha": torch.tensor(1.0)}), "no matrices that it belongs"),
        (lambda state, key: state.update({f"{key}.bias_indices": torch.ones(1)}), "holds '.*bias_indices'"),
        (
            lambda state, key: state.update(
                {"unet.conv.lora.down.weight": torch.ones(1, 4, 3, 3), "unet.conv.lora.up.weight": torch.ones(8, 1)}
            ),
            "mixes names of kohya and of diffusers",
        ),
    ],
)
def test_a_scale_that_cannot_be_known_is_refused_by_name(change, message, models, tmp_path):
    lora = one_module(load(find_model(str(models["sd"]))).pipe)
    state = load_file(as_kohya(lora, tmp_path / "made.safetensors"))
    change(state, kohya(next(iter(lora))))
    save_file(state, tmp_path / "changed.safetensors")
    with pytest.raises(FreeUValueError, match=message):
        find_lora(tmp_path / "changed.safetensors")


@pytest.mark.parametrize("extra", ["alpha", "part"])
def test_a_configuration_that_does_not_say_it_all_is_refused(extra, models, tmp_path):
    targets = ("attn2.to_q", "q_proj") if extra == "part" else ("attn2.to_q",)
    lora = made(load(find_model(str(models["sd"]))).pipe, targets, one_rank, lambda number: None)
    path = with_metadata(lora, tmp_path / "made.safetensors")
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()[METADATA])
    state = load_file(path)
    if extra == "alpha":
        state[f"{next(iter(lora))}.alpha"] = torch.tensor(1.0)
    config = {name: value for name, value in config.items() if name.startswith("unet.")}
    save_file(state, path, {METADATA: json.dumps(config)})
    with pytest.raises(FreeUValueError, match="twice" if extra == "alpha" else "of text_encoder, of which"):
        load(find_model(str(models["sd"])), loras=[find_lora(path)])


def test_names_of_the_original_code_are_no_transformer(tmp_path):
    head = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k"
    state = {f"{head}.lora_down.weight": torch.ones(2, 8), f"{head}.lora_up.weight": torch.ones(8, 2)}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(FreeUValueError, match="of a U-Net under the names of its original code"):
        find_lora(tmp_path / "a.safetensors")
