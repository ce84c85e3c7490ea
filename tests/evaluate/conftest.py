"""The embedded model, loaded once."""

import pytest


@pytest.fixture(scope="session")
def clip_dir(tmp_path_factory):
    """A CLIP with random weights, its tokenizer that spells and its image processor, as a directory."""
    import itertools

    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("judges") / "tiny-clip"
    letters = [chr(code) for code in itertools.chain(range(33, 127), range(161, 173), range(174, 256))]
    letters += [chr(256 + code) for code in range(68)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=24).save_pretrained(folder)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    config = CLIPConfig(
        projection_dim=8,
        text_config=size | ends | {"vocab_size": len(tokens), "max_position_embeddings": 24, "projection_dim": 8},
        vision_config=size | {"image_size": 16, "patch_size": 8, "projection_dim": 8},
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=16).save_pretrained(folder)
    return folder
