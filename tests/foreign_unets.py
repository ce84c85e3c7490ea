"""Real U-Nets of many packages, tiny and with random weights: how each is built and called, and what its decoder is.

The packages of ``tests/foreign-requirements.txt`` are installed without what they need for training; while a class is
imported, empty modules stand in for that.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import diffusers.loaders.single_file_model  # noqa: F401 (whole, before anything stands in for what it may use)
import torch
from torch import nn

_NOT_INSTALLED = (
    "blobfile",
    "clean_fid",
    "cleanfid",
    "clip",
    "dctorch",
    "einops_exts",
    "ema_pytorch",
    "jsonmerge",
    "kornia",
    "lightning_fabric",
    "mpi4py",
    "natten",
    "omegaconf",
    "pytorch_fid",
    "pytorch_lightning",
    "pytorch_warmup",
    "resize_right",
    "skimage",
    "torchdiffeq",
    "torchsde",
    "torchvision",
    "wandb",
)
TIME = torch.tensor([500, 500])
LEVEL = torch.tensor([0.5, 0.5])


def noise(*sizes: int) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(len(sizes)))


@dataclass(frozen=True)
class Foreign:
    """A class of a package.

    Args:
        family: for people.
        module, name: where the class is.
        options: of the class.
        args, kwargs: of a call.
        sites: paths of the modules behind the concatenations, in their order.
        left: paths of what joins backbone and skip and is left alone.
        version: the latest version of the operator that means something there.
        make: builds it of the class and the options, where that is more than a call.
    """

    family: str
    module: str
    name: str
    options: Mapping[str, Any]
    args: Callable[[], tuple[Any, ...]]
    sites: tuple[str, ...]
    kwargs: Callable[[], dict[str, Any]] = dict
    left: tuple[str, ...] = ()
    make: Callable[..., nn.Module] | None = None
    version: int = 2

    def build(self) -> nn.Module:
        """A model with random weights; those that its class makes 0 are random too, so that every input counts.

        Raises:
            ImportError: the package is not installed.
        """
        torch.manual_seed(0)
        alone = (
            contextlib.nullcontext() if self.module.split(".")[0] in ("diffusers", "modelscope") else _empty_modules()
        )
        with alone, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their own, of older Python and torch
            cls = getattr(importlib.import_module(self.module), self.name)
            model: nn.Module = (self.make(cls, **self.options) if self.make else cls(**self.options)).eval()
        for weight in model.parameters():
            if not weight.any():
                nn.init.normal_(weight, std=0.1)
        return model

    def run(self, model: nn.Module, sample: torch.Tensor | None = None) -> torch.Tensor:
        """The output of one call, in whichever grad mode is on; of another sample, if one is given."""
        first, *rest = self.args()
        found = model(first if sample is None else sample, *rest, **self.kwargs())
        found = found[0] if isinstance(found, tuple) else found
        return found.sample if hasattr(found, "sample") else found


class _Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds empty modules, whose attributes are whatever is asked for, where a package is not installed. T5 of imagen
    would be fetched."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        package = name.split(".")[0]
        absent = package in _NOT_INSTALLED and importlib.machinery.PathFinder.find_spec(package) is None
        asking = (importlib.util.__file__, "<frozen importlib.util>")
        if any(frame.f_code.co_filename in asking for frame, _ in traceback.walk_stack(None)):
            return None  # another library asks what is installed, and remembers the answer
        if absent or name == "imagen_pytorch.t5":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        found = mock.MagicMock(name=spec.name)
        found.__path__, found.__name__, found.__spec__ = [], spec.name, spec
        return found

    def exec_module(self, module: Any) -> None:
        pass


@contextlib.contextmanager
def _empty_modules() -> Iterator[None]:
    finder = _Empty()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, mock.MagicMock)]:
            del sys.modules[name]


def _pairs(prefix: str, levels: int, per_level: int, middle: str = "") -> tuple[str, ...]:
    return tuple(f"{prefix}.{level}{middle}.{number}" for level in range(levels) for number in range(per_level))


_KARRAS = {
    "dim": 8,
    "dim_max": 32,
    "num_downsamples": 2,
    "num_blocks_per_stage": 2,
    "attn_res": (4,),
    "fourier_dim": 8,
    "attn_dim_head": 8,
}
_KARRAS_SITES = tuple(f"ups.{number}" for number in (0, 1, 2, 4, 5, 6, 8, 9, 10))
_ADM = {
    "image_size": 16,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 3,
    "attention_resolutions": (2,),
    "channel_mult": (1, 2, 4),
}
_MONAI = {
    "in_channels": 1,
    "out_channels": 1,
    "channels": (8, 16, 32),
    "attention_levels": (False, False, True),
    "num_res_blocks": 2,
    "num_head_channels": 8,
    "norm_num_groups": 4,
}
_IMAGEN = {
    "dim": 16,
    "dim_mults": (1, 2, 4),
    "cond_on_text": False,
    "layer_attns": False,
    "layer_cross_attns": False,
    "num_resnet_blocks": 2,
}
_IMAGEN_SITES = tuple(f"ups.{level}.{part}" for level in range(3) for part in ("0", "1.0", "1.1"))
_LUCIDRAINS = "denoising_diffusion_pytorch"


class _Tenth:
    """``torch.nn`` whose layers are a tenth as wide, for a class whose widths, those of Stable Diffusion, are fixed."""

    def __getattr__(self, name: str) -> Any:
        made = getattr(nn, name)
        if name not in ("Conv2d", "Linear", "GroupNorm", "LayerNorm"):
            return made

        def narrow(*sizes: int, **more: Any) -> nn.Module:
            # 768, the width of the text, stays.
            layer: nn.Module = made(*(size // 10 if size % 320 == 0 else size for size in sizes), **more)
            return layer

        return narrow


def _embedded(time: float, width: int) -> torch.Tensor:
    """A timestep as stable-diffusion-pytorch's samplers give it, narrower."""
    angles = time * 10000 ** -(torch.arange(width // 2) / (width // 2))
    return torch.cat([angles.cos(), angles.sin()])[None]


def _narrow_stable_diffusion(cls: Any) -> nn.Module:
    attention = importlib.import_module("stable_diffusion_pytorch.attention")
    own = importlib.import_module(cls.__module__)
    with mock.patch.object(own, "nn", _Tenth()), mock.patch.object(attention, "nn", _Tenth()):
        model: nn.Module = cls()
    for module in model.modules():
        if hasattr(module, "d_head"):
            module.d_head //= 10
    return model


FOREIGN = {
    one.family: one
    for one in (
        Foreign(
            "denoising-diffusion-pytorch Unet",
            f"{_LUCIDRAINS}.{_LUCIDRAINS}",
            "Unet",
            {"dim": 16, "dim_mults": (1, 2, 4), "flash_attn": False},
            lambda: (noise(2, 3, 16, 16), TIME),
            _pairs("ups", 3, 2),
            left=("final_res_block",),
        ),
        Foreign(
            "denoising-diffusion-pytorch Unet1D",
            f"{_LUCIDRAINS}.{_LUCIDRAINS}_1d",
            "Unet1D",
            {"dim": 16, "dim_mults": (1, 2, 4), "channels": 3},
            lambda: (noise(2, 3, 16), TIME),
            _pairs("ups", 3, 2),
            left=("final_res_block",),
        ),
        Foreign(
            "denoising-diffusion-pytorch KarrasUnet (EDM2)",
            f"{_LUCIDRAINS}.karras_unet",
            "KarrasUnet",
            {"image_size": 16, **_KARRAS},
            lambda: (noise(2, 4, 16, 16), TIME.float()),
            _KARRAS_SITES,
        ),
        Foreign(
            "denoising-diffusion-pytorch KarrasUnet1D",
            f"{_LUCIDRAINS}.karras_unet_1d",
            "KarrasUnet1D",
            {"seq_len": 16, **_KARRAS},
            lambda: (noise(2, 4, 16), TIME.float()),
            _KARRAS_SITES,
        ),
        Foreign(
            "denoising-diffusion-pytorch KarrasUnet3D",
            f"{_LUCIDRAINS}.karras_unet_3d",
            "KarrasUnet3D",
            {"image_size": 16, "frames": 4, "downsample_types": "image", **_KARRAS},
            lambda: (noise(2, 4, 4, 16, 16), TIME.float()),
            _KARRAS_SITES,
        ),
        Foreign(
            "smalldiffusion Unet",
            "smalldiffusion.model_unet",
            "Unet",
            {"in_dim": 16, "in_ch": 3, "out_ch": 3, "ch": 32, "ch_mult": (1, 2, 4), "attn_resolutions": (8,)},
            lambda: (noise(2, 3, 16, 16), LEVEL),
            _pairs("ups", 3, 3, ".blocks"),
        ),
        Foreign(
            "guided-diffusion UNetModel (ADM)",
            "guided_diffusion.unet",
            "UNetModel",
            {**_ADM, "num_res_blocks": 2},
            lambda: (noise(2, 3, 16, 16), TIME),
            tuple(f"output_blocks.{number}" for number in range(9)),
        ),
        Foreign(
            "guided-diffusion SuperResModel",
            "guided_diffusion.unet",
            "SuperResModel",
            {**_ADM, "num_res_blocks": 1},
            lambda: (noise(2, 3, 16, 16), TIME),
            tuple(f"output_blocks.{number}" for number in range(6)),
            kwargs=lambda: {"low_res": noise(2, 3, 8, 8)},
        ),
        Foreign(
            "CompVis UNetModel",
            "ldm.modules.diffusionmodules.openaimodel",
            "UNetModel",
            {
                **_ADM,
                "in_channels": 4,
                "out_channels": 4,
                "num_res_blocks": 2,
                "num_heads": 2,
                "use_spatial_transformer": True,
                "context_dim": 12,
            },
            lambda: (noise(2, 4, 16, 16), TIME),
            tuple(f"output_blocks.{number}" for number in range(9)),
            kwargs=lambda: {"context": noise(2, 7, 12)},
        ),
        Foreign(
            "MONAI DiffusionModelUNet, 2-D",
            "monai.networks.nets",
            "DiffusionModelUNet",
            {"spatial_dims": 2, **_MONAI},
            lambda: (noise(2, 1, 16, 16), TIME),
            _pairs("up_blocks", 3, 3, ".resnets"),
        ),
        Foreign(
            "MONAI DiffusionModelUNet, 3-D",
            "monai.networks.nets",
            "DiffusionModelUNet",
            {"spatial_dims": 3, **_MONAI},
            lambda: (noise(2, 1, 8, 8, 8), TIME),
            _pairs("up_blocks", 3, 3, ".resnets"),
        ),
        Foreign(
            "MONAI BasicUNet (segmentation)",
            "monai.networks.nets",
            "BasicUNet",
            {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "features": (8, 8, 16, 32, 64, 8)},
            lambda: (noise(2, 1, 32, 32),),
            ("upcat_4.convs", "upcat_3.convs", "upcat_2.convs", "upcat_1.convs"),
        ),
        Foreign(
            "k-diffusion ImageDenoiserModelV1",
            "k_diffusion.models.image_v1",
            "ImageDenoiserModelV1",
            {
                "c_in": 3,
                "feats_in": 32,
                "depths": (1, 1, 1),
                "channels": (32, 64, 128),
                "self_attn_depths": (False, True, True),
            },
            lambda: (noise(2, 3, 16, 16), LEVEL),
            ("u_net.u_blocks.1.0", "u_net.u_blocks.2.0"),
        ),
        Foreign(
            "video-diffusion-pytorch Unet3D",
            "video_diffusion_pytorch.video_diffusion_pytorch",
            "Unet3D",
            {"dim": 16, "dim_mults": (1, 2, 4)},
            lambda: (noise(2, 3, 4, 16, 16), TIME),
            ("ups.0.0", "ups.1.0", "ups.2.0"),
            left=("final_conv",),
        ),
        Foreign(
            "imagen-pytorch Unet",
            "imagen_pytorch.imagen_pytorch",
            "Unet",
            _IMAGEN,
            lambda: (noise(2, 3, 16, 16), LEVEL),
            _IMAGEN_SITES,
        ),
        Foreign(
            "imagen-pytorch Unet3D",
            "imagen_pytorch.imagen_video",
            "Unet3D",
            _IMAGEN,
            lambda: (noise(2, 3, 4, 16, 16), LEVEL),
            _IMAGEN_SITES,
        ),
        Foreign(
            "denoising-diffusion-pytorch UViT (simple diffusion)",
            f"{_LUCIDRAINS}.simple_diffusion",
            "UViT",
            {"dim": 16, "dim_mults": (1, 2, 4), "vit_depth": 1, "attn_dim_head": 8},
            lambda: (noise(2, 3, 16, 16), LEVEL),
            tuple(f"ups.{level}.{part}" for level in range(3) for part in (1, 2)),
            left=("final_res_block",),
        ),
        Foreign(
            "MONAI SPADEDiffusionModelUNet",
            "monai.networks.nets",
            "SPADEDiffusionModelUNet",
            {"spatial_dims": 2, "label_nc": 3, "spade_intermediate_channels": 8, **_MONAI},
            lambda: (noise(2, 1, 16, 16), TIME, noise(2, 3, 16, 16)),
            _pairs("up_blocks", 3, 3, ".resnets"),
        ),
        Foreign(
            "stable-diffusion-pytorch Diffusion",
            "stable_diffusion_pytorch.diffusion",
            "Diffusion",
            {},
            lambda: (noise(2, 4, 16, 16), noise(2, 7, 768), _embedded(500, 32)),
            tuple(f"unet.decoders.{number}" for number in range(12)),
            make=_narrow_stable_diffusion,
        ),
        Foreign(
            "diffusers Kandinsky3UNet",
            "diffusers",
            "Kandinsky3UNet",
            {
                "in_channels": 4,
                "time_embedding_dim": 32,
                "groups": 4,
                "attention_head_dim": 8,
                "layers_per_block": 2,
                "block_out_channels": (16, 32, 64, 128),
                "cross_attention_dim": 16,
                "encoder_hid_dim": 16,
            },
            lambda: (noise(2, 4, 16, 16), TIME),
            ("up_blocks.1", "up_blocks.2", "up_blocks.3"),
            kwargs=lambda: {
                "encoder_hidden_states": noise(2, 7, 16),
                "encoder_attention_mask": torch.ones(2, 7),
                "return_dict": False,
            },
        ),
    )
}
