"""Small language models that start from nothing: encoder-decoders of T5's kind (Raffel et al., JMLR 2020), causal models of Llama's (Touvron et al., 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

SIZES = {
    "t5:tiny": {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 4},
    "t5:small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_decoder_layers": 6, "num_heads": 8},
    "llama:tiny": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3, "num_attention_heads": 4},
    "llama:small": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8},
}
TABLE_RATE = 20.0
"""How many times faster the table of tokens learns than the rest.

T5's table starts with values around 1, its matrices with values below .1, and it was made for Adafactor, whose steps are in proportion to a
parameter's size (Shazeer & Stern, ICML 2018, section 8). AdamW's are not: at one rate for all, a title's words hardly move while all else learns.
MovieLens-100K, InstructRec, a rate of .002, loss of a token after two epochs: 4.96 at factor 1, 3.36 at 20; at a rate of .001, 4.54 at 8,
3.98 at 20 and 3.31 at 50.
"""
_LONGEST = 4_096  # tokens that a causal model reads at once
_SPREAD = 0.05  # of whole words: little beside the tokens they are added to


def new_t5(size: str, vocabulary: int, seed: int) -> Any:
    """A network of T5's kind with random weights.

    ReLU as in T5-small, which P5 stands on: a gated unit has a third matrix for the same width. T5's own start and its scaled output
    layer learn as fast as a table with a small spread, or faster (measured, at learning rates of 0.001 to 0.003); the table wants `TABLE_RATE`.
    """
    import transformers

    kind: Any = transformers.T5Config
    signs = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    config = kind(vocab_size=vocabulary, dropout_rate=0.1, feed_forward_proj="relu", **signs, **SIZES[size])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: Any = transformers.T5ForConditionalGeneration(config)
    return net


def new_llama(size: str, vocabulary: int, seed: int) -> Any:
    """A causal network of Llama's kind with random weights; its table of tokens is also its output layer."""
    import transformers

    kind: Any = transformers.LlamaConfig
    signs = {"bos_token_id": None, "pad_token_id": 0, "eos_token_id": 1}
    config = kind(vocab_size=vocabulary, max_position_embeddings=_LONGEST, tie_word_embeddings=True, **signs, **SIZES[size])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: Any = transformers.LlamaForCausalLM(config)
    return net


def word_table(words: int, width: int, seed: int, spread: float = _SPREAD) -> nn.Embedding:
    """Vectors of whole words; zeros (`spread` 0) where a pretrained model must at first read as it always did."""
    table = nn.Embedding(words, width)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        table.weight.normal_(std=spread, generator=generator) if spread else table.weight.zero_()
        table.weight[0] = 0
    return table
