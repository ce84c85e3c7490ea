"""Tiny random pipelines made of the real classes of diffusers and transformers, written once a session."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

COMPARED = ("a red fox", "ein grüner Apfel <b>&</b> 日本", "--seeds", "3-4", "--steps", "2", "--threads", "1")


def tiny_tokenizer() -> Any:
    """A CLIP tokenizer that spells: every byte, with and without the end-of-word mark, and no merges."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in itertools.chain(range(33, 127), range(161, 173), range(174, 256))]
    letters += [chr(256 + code) for code in range(68)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16)


def tiny_unet(**changes: Any) -> Any:
    """A U-Net of widths 1:2:4 as in SDXL, so that every stage of the official profile is there."""
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(**settings | changes)


def tiny_vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
    )


def tiny_text_encoder(cls: str = "CLIPTextModel", **changes: Any) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=600,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=524,
        eos_token_id=525,
        pad_token_id=525,
        **changes,
    )
    return getattr(transformers, cls)(config)


def save_pipeline(folder: Path, cls: str = "StableDiffusionPipeline", **parts: Any) -> Path:
    """Write a pipeline directory with random weights; ``parts`` replace its components."""
    import diffusers
    import torch

    torch.manual_seed(0)
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    whole: dict[str, Any] = {
        "vae": tiny_vae(),
        "text_encoder": tiny_text_encoder(),
        "tokenizer": tiny_tokenizer(),
        "unet": tiny_unet(),
        "scheduler": scheduler,
    }
    if cls != "StableDiffusionXLPipeline":
        whole |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    getattr(diffusers, cls)(**whole | parts).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sd_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionPipeline directory: 16x16 pictures, 3 up-blocks of 2 concatenations."""
    return save_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd")


@pytest.fixture
def make_pipeline(tmp_path: Path) -> Callable[..., Path]:
    """Writes a pipeline directory of a name and class with given components."""

    def make(name: str, cls: str, **components: Any) -> Path:
        return save_pipeline(tmp_path / name, cls, **components)

    return make


@pytest.fixture(scope="session")
def parts() -> SimpleNamespace:
    """Makers of tiny components."""
    return SimpleNamespace(unet=tiny_unet, vae=tiny_vae, text_encoder=tiny_text_encoder, tokenizer=tiny_tokenizer)


@dataclass
class Outcome:
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def one_line(self) -> str:
        """The only line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def run_cli(*words: object) -> Outcome:
    """Run the command line in this process."""
    from freeu.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def cli() -> Callable[..., Outcome]:
    return run_cli


@pytest.fixture(scope="session")
def compared(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder and the words of one comparison: two prompts, seeds 3 and 4, two steps."""
    folder = tmp_path_factory.mktemp("runs") / "deeper" / "compared"
    return folder, run_cli("compare", *COMPARED, "--model", sd_dir, "--output", folder)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and on a busy machine every thread waits for the slowest."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
