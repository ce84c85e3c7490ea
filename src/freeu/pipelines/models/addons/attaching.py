"""Load LoRAs and embeddings into a pipeline with diffusers' own loaders, and make sure that all of them arrived."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.pipelines.io.reading import readable
from freeu.pipelines.models.addons.add_ons import Embedding, Lora
from freeu.pipelines.models.addons.embedding_files import read_embedding, read_embedding_header
from freeu.pipelines.models.addons.lora_files import read_lora_header
from freeu.pipelines.models.addons.lora_scales import scaled_state
from freeu.wording import counted

_UNLIKE = re.compile(r"size mismatch for (\S+?)\.lora_\S+: .*?Size\((\[.*?\])\).*?Size\((\[.*?\])\)")


def attach(pipe: Any, loras: Sequence[Lora] = (), embeddings: Sequence[Embedding] = (), fuse: bool = False) -> None:
    """Put embeddings and LoRAs into a pipeline; the LoRAs are called "lora_0", "lora_1" ... there.

    Args:
        pipe: a pipeline of diffusers, changed.
        loras: each with its weight; their changes add up.
        embeddings: each becomes one word of the tokenizer, or as many as it has vectors.
        fuse: add the LoRAs to the weights for good, so that no layer of theirs is left.

    Raises:
        FreeUValueError: the pipeline takes none, or one does not fit it; the pipeline is then not fit for use.
    """
    check_classes(type(pipe).__name__, type(pipe.unet).__name__, loras, embeddings)
    for embedding in embeddings:
        _add_embedding(pipe, embedding)
    _expand_words(pipe, embeddings)
    if loras:
        need("personalize", "peft")
        _add_loras(pipe, loras, fuse)


def check_classes(pipe: str, unet: str, loras: Sequence[Lora], embeddings: Sequence[Embedding]) -> None:
    """Whether diffusers has loaders for these classes; "" and classes that it does not know pass.

    Args:
        pipe, unet: names of the classes of a pipeline and of its U-Net.
        loras, embeddings: what is to be added.

    Raises:
        FreeUValueError: a pipeline or U-Net that takes no LoRA, or no embedding.
    """
    import diffusers

    for kind, loader, option, wanted in (
        (pipe, "load_lora_weights", "lora", loras),
        (unet, "load_lora_adapter", "lora", loras),
        (pipe, "load_textual_inversion", "embedding", embeddings),
    ):
        known = getattr(diffusers, kind, None)
        if wanted and known is not None and not hasattr(known, loader):
            what = "LoRA" if option == "lora" else option
            raise FreeUValueError(f"diffusers loads no {what} into a {kind}: leave --{option} out")


def _add_loras(pipe: Any, loras: Sequence[Lora], fuse: bool) -> None:
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        _load(pipe, lora, name)
    pipe.set_adapters(names, [lora.weight for lora in loras])
    if fuse:
        pipe.fuse_lora(components=[part for part, _ in _parts(pipe)], adapter_names=names)
        pipe.unload_lora_weights()


def set_weights(pipe: Any, loras: Sequence[Lora]) -> None:
    """Give the LoRAs that ``attach`` put into a pipeline other weights; not those that were fused.

    Args:
        loras: the same ones, in the same order.
    """
    pipe.set_adapters([f"lora_{number}" for number in range(len(loras))], [lora.weight for lora in loras])


def _load(pipe: Any, lora: Lora, name: str) -> None:
    """One LoRA, all of it: of matrices that it finds no place for, diffusers would not say a word."""
    other = f"the LoRA {lora.name} was made for another kind of model than this {type(pipe).__name__}"
    weights, scale = scaled_state(lora.path)
    with _silence(), readable(f"the LoRA {lora.name}"):
        try:
            if weights is not None:
                pipe.load_lora_weights(weights, adapter_name=name)
            else:
                pipe.load_lora_weights(
                    str(lora.path.parent), weight_name=lora.path.name, adapter_name=name, local_files_only=True
                )
        except AttributeError as error:  # metadata of another form than diffusers expects
            raise FreeUValueError(f"the LoRA {lora.name} is damaged: its metadata cannot be read ({error})") from None
        except (RuntimeError, ValueError) as error:
            if "not found in the base model" in str(error):
                raise FreeUValueError(f"{other}: nothing of it has a place there") from None
            unlike = _UNLIKE.search(str(error))
            if unlike is None:
                raise
            raise FreeUValueError(f"{other}: its {unlike[1]} has the shape {unlike[2]}, and here {unlike[3]}") from None
    wanted = read_lora_header(lora.path).tensors
    found = list(_matrices(pipe, name))
    if len(found) != wanted:
        raise FreeUValueError(f"{other}: {len(found)} of its {wanted} matrices have a place there")
    if not all(matrix.float().isfinite().all() for matrix in found) or not all(map(math.isfinite, _scales(pipe, name))):
        raise FreeUValueError(
            f"the LoRA {lora.name} holds numbers that are not finite in {found[0].dtype}: train or fetch it anew"
        )
    if scale is not None:
        _set_scale(pipe, name, scale)
    if not all(_scales(pipe, name)):
        raise FreeUValueError(f"the LoRA {lora.name} has modules of alpha 0, which have no effect: write another alpha")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep off the screen what diffusers writes of errors, which it raises too, and PEFT of a second LoRA."""
    import diffusers.utils.logging as log

    before = log.get_verbosity()
    log.set_verbosity(log.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config` attribute", UserWarning)
            yield
    finally:
        log.set_verbosity(before)


def _parts(pipe: Any) -> Iterator[tuple[str, Any]]:
    """What LoRAs can change in a pipeline."""
    for name in pipe._lora_loadable_modules:
        module = getattr(pipe, name, None)
        if module is not None:
            yield name, module


def _matrices(pipe: Any, adapter: str) -> Iterator[Any]:
    """Everything of one LoRA that is in a pipeline."""
    for _, module in _parts(pipe):
        for name, parameter in module.named_parameters():
            if f".{adapter}." in name or name.endswith(f".{adapter}"):
                yield parameter


def _scales(pipe: Any, adapter: str) -> Iterator[float]:
    """What the products of one LoRA's matrices are multiplied by: alpha over rank."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for _, part in _parts(pipe):
        for module in part.modules():
            if isinstance(module, BaseTunerLayer) and adapter in module.scaling:
                yield float(module.scaling[adapter])


def _set_scale(pipe: Any, adapter: str, scale: float) -> None:
    """Give every module of one LoRA the same scale, where diffusers read another one out of its ranks."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for _, part in _parts(pipe):
        for module in part.modules():
            if not isinstance(module, BaseTunerLayer) or adapter not in module.scaling:
                continue
            if not math.isclose(module.scaling[adapter], scale, rel_tol=1e-9):  # equal ones keep every bit
                module.lora_alpha[adapter] = scale * module.r[adapter]
                module.set_scale(adapter, 1.0)


def _add_embedding(pipe: Any, embedding: Embedding) -> None:
    found = [(getattr(pipe, f"tokenizer{end}", None), getattr(pipe, f"text_encoder{end}", None)) for end in ("", "_2")]
    places: list[tuple[Any, Any]] = [place for place in found if None not in place]
    tensors = read_embedding(embedding.path)
    if len(tensors) != len(places):
        raise FreeUValueError(
            f"the embedding {embedding.name} is for {counted(len(tensors), 'text encoder')}, and "
            f"{type(pipe).__name__} has {len(places)}: it was made for another kind of model"
        )
    for tensor, (tokenizer, encoder) in zip(tensors, places, strict=True):
        if not tensor.isfinite().all():
            raise FreeUValueError(f"the embedding {embedding.name} holds numbers that are not finite: make it anew")
        small = embedding.token.lower()
        taken = tokenizer.get_vocab().keys() & {embedding.token, small, f"{small}</w>"}
        if taken:
            raise FreeUValueError(
                f"the word {embedding.token!r} is in the vocabulary of {type(pipe).__name__} already: give the "
                f"embedding another, --embedding {embedding.name}:WORD"
            )
        width = encoder.get_input_embeddings().weight.shape[-1]
        if tensor.shape[-1] != width:
            raise FreeUValueError(
                f"the embedding {embedding.name} has the width {tensor.shape[-1]}, and the text encoder {width}: "
                "it was made for another kind of model"
            )
        with readable(f"the embedding {embedding.name}"):
            pipe.load_textual_inversion(tensor, token=embedding.token, tokenizer=tokenizer, text_encoder=encoder)


def _expand_words(pipe: Any, embeddings: Sequence[Embedding]) -> None:
    """Let every word of several vectors stand for all of them.

    diffusers looks a word up as its tokenizer writes it, which for CLIP is small, and replaces it wherever its letters
    are: of a <R> of several vectors it would use the first alone, and it would break a word that begins like another.
    """
    counts = {embedding.token: read_embedding_header(embedding.path).vectors for embedding in embeddings}
    if all(count == 1 for count in counts.values()):
        return

    def convert(prompt: str | list[str], tokenizer: Any) -> str | list[str]:
        small = tokenizer.tokenize("A") == tokenizer.tokenize("a")
        found = [expand(text, counts, small) for text in ([prompt] if isinstance(prompt, str) else prompt)]
        return found[0] if isinstance(prompt, str) else found

    pipe.maybe_convert_prompt = convert


def expand(prompt: str, counts: Mapping[str, int], any_case: bool) -> str:
    """A prompt in which each word of an embedding is followed by the words of its other vectors.

    Args:
        prompt: any text.
        counts: how many vectors each word has.
        any_case: whether the tokenizer takes large letters for small ones.
    """
    words = {word.lower() if any_case else word: word for word in counts}
    longest_first = sorted(counts, key=len, reverse=True)
    pattern = rf"({'|'.join(map(re.escape, longest_first))})(?!_\d)"

    def every(match: re.Match[str]) -> str:
        word = words[match[0].lower() if any_case else match[0]]
        return " ".join([word, *(f"{word}_{number}" for number in range(1, counts[word]))])

    return re.sub(pattern, every, prompt, flags=re.IGNORECASE if any_case else 0)
