"""Texts as tokens: a tokenizer trained on the data's own texts, and how prompts and answers are written with any.

A prompt's tokens end where the answer begins: behind an end-of-text for an encoder, behind a line break for a causal model, so that an
answer is tokenised as at the start of a line, alike in training, as a path of a trie and as a continuation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

PAD_SIGN, END_SIGN, UNKNOWN_SIGN = "<pad>", "</s>", "<unk>"
_WORD_MARKS = ("▁", "Ġ")  # of SentencePiece, and of byte-level tokenizers
_SEAM = "\n"
MOST_WORDS = 512  # rows of P5's table of whole words


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A fast tokenizer of byte pairs in words, learned from `texts`.

    Numbers are cut into pairs of digits, so that a frequent item number is not a token of its own and item_7391 is several pieces of
    one word, as with T5's tokenizer. What the alphabet lacks is written byte by byte.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    byte_signs = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN_SIGN, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Split(Regex(r"\d{1,2}"), "isolated")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD_SIGN, END_SIGN, UNKNOWN_SIGN, *byte_signs],
        initial_alphabet=[chr(code) for code in range(33, 127)],
        limit_alphabet=max(200, vocabulary // 4),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    told = json.loads(tokenizer.to_str())
    told["added_tokens"] = [token for token in told["added_tokens"] if token["content"] not in byte_signs]  # a text that says <0x41> means it
    told["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    return fast_tokenizer(json.dumps(told), {"pad_token": PAD_SIGN, "eos_token": END_SIGN, "unk_token": UNKNOWN_SIGN})


def fast_tokenizer(told: str, signs: dict[str, str]) -> Any:
    """A tokenizer of transformers from the text of a tokenizer.json and its special tokens by role."""
    import transformers
    from tokenizers import Tokenizer

    kind: Any = transformers.PreTrainedTokenizerFast
    return kind(tokenizer_object=Tokenizer.from_str(told), **signs)


class Wording:
    """How prompts and answers become tokens of one network.

    Args:
        tokenizer: A fast tokenizer of transformers with an end-of-text.
        encoder: Whether prompts are read by an encoder.
        max_prompt, max_target: Tokens, the end included.
        end: The token that ends an answer; the tokenizer's own where it is None.

    Attributes:
        before: Tokens that every prompt begins with.
    """

    def __init__(self, tokenizer: Any, encoder: bool, max_prompt: int, max_target: int, end: int | None = None) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder
        self.max_prompt, self.max_target = max_prompt, max_target
        self.end: int = tokenizer.eos_token_id if end is None else end
        empty = [int(token) for token in tokenizer("")["input_ids"]]
        self.before: list[int] = [] if encoder else [token for token in empty if token != self.end]
        self._backend = tokenizer.backend_tokenizer
        self._backend.encode_special_tokens = True  # a title that says </s> ends nothing; a call of the tokenizer itself would undo it
        names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self._begins = np.array([str(name).startswith(_WORD_MARKS) for name in names], bool)

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each prompt, at least one, up to where its answer begins."""
        seam = "" if self.encoder else _SEAM
        room = self.max_prompt - len(self.before) - self.encoder
        after = [self.end] if self.encoder else []
        return [self.before + tokens[-room:] + after for tokens in self._tokens([text + seam for text in texts])]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each answer, without the end."""
        return [tokens[: self.max_target - 1] for tokens in self._tokens(texts)]

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens up to an end say."""
        tokens = list(tokens)
        if self.end in tokens:
            tokens = tokens[: tokens.index(self.end)]
        return str(self._backend.decode(tokens, skip_special_tokens=True))

    def words(self, tokens: npt.NDArray[Any], offset: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
        """The word each token of some prompts belongs to, counted from 1 within its prompt and up to 511; 0 for an end.

        Args:
            tokens: Of all prompts, one behind the other; prompt i is `tokens[offset[i]:offset[i + 1]]`.
            offset: int64[prompts + 1].
        """
        begins = self._begins[tokens]
        begins[offset[:-1][offset[:-1] < offset[1:]]] = True
        count = np.cumsum(begins)
        before = np.concatenate([[0], count])[offset[:-1]]
        word = np.minimum(count - np.repeat(before, np.diff(offset)), MOST_WORDS - 1)
        return np.where(tokens == self.end, 0, word).astype(np.int16)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [coded.ids for coded in self._backend.encode_batch(list(texts), add_special_tokens=False)]
