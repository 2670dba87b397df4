"""A language model of BERT's build, small and random, with a tokenizer of the words of the synthetic worlds."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tongtu.data.synthetic import GROUP_WORDS

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_bert(folder: Path, layers: int = 3, width: int = 16, dropout: float = 0.0, seed: int = 0) -> Path:
    """A folder that transformers opens."""
    words = {word: number for number, word in enumerate([*SPECIAL, *(word for group in GROUP_WORDS for word in group), "number", "story", "news"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    ends = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 2 * width}
    sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, initializer_range=0.2, **sizes))
    model.save_pretrained(folder)
    return folder
