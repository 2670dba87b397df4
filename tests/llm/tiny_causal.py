"""A causal model of a few thousand random weights, in a folder as transformers writes it."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("<end>", "<unk>", "user", "assistant", ":", "jazz", "piano", "record", "running", "shoes", "what", "next")
# a prompt ends in the user's word, on which the answer then depends
TEMPLATE = "{% for message in messages %}{{ message.role }} : {{ message.content }} {% endfor %}"


def write_tiny_causal(path: Path, template: str | None = None) -> Path:
    """Write the model to `path`, with a chat template or without."""
    tokenizer = Tokenizer(models.WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<end>", eos_token="<end>", unk_token="<unk>")
    fast.chat_template = template
    fast.save_pretrained(path)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32, eos_token_id=0
    )
    net = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        net.lm_head.weight.normal_(std=1.0)  # so that answers differ from prompt to prompt
    net.save_pretrained(path)
    return path
