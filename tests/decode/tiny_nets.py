"""Networks of transformers with random weights, large enough in spread that a wrong past, mask or position changes their answers."""

from __future__ import annotations

from typing import Any

import torch
import transformers

VOCABULARY = 40
START = 0

_ENDS = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2}
_SHARED = {**_ENDS, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
CAUSAL: dict[str, tuple[Any, Any]] = {
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**_SHARED, num_key_value_heads=2)),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**_SHARED, num_key_value_heads=2)),
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(**_ENDS, n_embd=32, n_layer=3, n_head=4, n_positions=64)),
}
_T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "decoder_start_token_id": START}
SEQ2SEQ: dict[str, tuple[Any, Any]] = {
    "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config(**_T5)),
    "t5 untied": (transformers.T5ForConditionalGeneration, transformers.T5Config(**_T5, tie_word_embeddings=False, feed_forward_proj="gated-gelu")),
    "mt5": (transformers.MT5ForConditionalGeneration, transformers.MT5Config(**_T5)),
    "umt5": (transformers.UMT5ForConditionalGeneration, transformers.UMT5Config(**_T5)),
}


def spread(net: Any, attention: str = "sdpa") -> Any:
    """The network with weights several times their usual size: attention then looks somewhere."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=draw) * (1.0 if "bias" in name or "wpe" in name else 1.5 * weight.shape[-1] ** -0.5))
    net.set_attn_implementation(attention)
    return net.eval()


def causal(kind: str, attention: str = "sdpa") -> Any:
    make, config = CAUSAL[kind]
    return spread(make(config), attention)


def seq2seq(kind: str) -> Any:
    make, config = SEQ2SEQ[kind]
    return spread(make(config))
