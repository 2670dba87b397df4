"""A language model of transformers as a network of the training loop, and the questions it is then asked.

Shapes: B prompts, S tokens of a prompt, T tokens of an answer, M targets, C continuations, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tongtu.core import PAD
from tongtu.llm.likelihood import continuation_likelihoods
from tongtu.nn.batch import pad
from tongtu.tuning.examples import TextBatch
from tongtu.tuning.tokenizer import Wording

if TYPE_CHECKING:
    from tongtu.decode.beam import Decoder

_LOGITS_AT_ONCE = 1 << 25
_TOKENS_AT_ONCE = 4_096
_SIDE_BY_SIDE = 512  # tokens of answers in one row: their attention grows with the square


class LanguageNet(nn.Module):
    """A causal language model or an encoder-decoder of T5's kind.

    Args:
        net: The model, with whatever was added to it already in place.
        wording: How prompts and answers are written for it.
        word: P5's vectors of whole words, which are added to what the encoder reads, in training and ever after; None for none.

    Attributes:
        net, wording, word: As given.
        tokenizer: Of transformers.
        seq2seq: Whether it has an encoder.
        base: Where only a part of it learns, a hash of the model it was made of; set by who opens it.
        new_tokens: Those added to a pretrained model; set by who opens it.
        rate_factors: Parts that learn at a rate of their own, see `tongtu.train.loop.train`; set by who opens it.
    """

    def __init__(self, net: Any, wording: Wording, word: nn.Embedding | None = None) -> None:
        super().__init__()
        self.net, self.wording, self.word = net, wording, word
        self.tokenizer = wording.tokenizer
        self.seq2seq: bool = net.config.is_encoder_decoder
        self.base = ""
        self.new_tokens: tuple[str, ...] = ()
        self.rate_factors: dict[str, float] = {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def end(self) -> int:
        """The token behind every answer, which a trie of answers must end in."""
        return self.wording.end

    def loss(self, batch: TextBatch) -> Tensor:
        """Cross entropy summed over the batch's targets; only there are logits computed."""
        assert batch.target is not None
        learned = batch.target != PAD
        states, target = self._states(batch)[learned], batch.target[learned] - 1
        size = max(1, _LOGITS_AT_ONCE // self.net.config.get_text_config().vocab_size)
        if len(states) <= size:
            return self._entropy(states, target)
        parts = zip(torch.split(states, size), torch.split(target, size), strict=True)
        summed = [checkpoint(self._entropy, some, goal, use_reentrant=False) for some, goal in parts]
        return torch.stack(summed).sum()

    def tokens_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each answer as training writes it, its end left out: paths for a trie whose end is `self.end`."""
        return self.wording.answers(texts)

    def decoder(self, prompts: Sequence[str]) -> Decoder:
        """What `tongtu.decode.beam.beam_search` searches behind the prompts."""
        return self.decoder_behind(self.wording.prompts(prompts))

    def decoder_behind(self, tokens: list[list[int]]) -> Decoder:
        """The same behind prompts that are tokens already; an encoder's end in `end`."""
        if self.seq2seq:
            from tongtu.decode.seq2seq import Seq2SeqDecoder

            return Seq2SeqDecoder(self.net, *self._encoded(tokens))
        from tongtu.decode.causal import CausalDecoder

        return CausalDecoder(self.net, tokens)

    def log_likelihood(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities float32[C] of each prompt's continuations, summed over their tokens and their end. A prompt is read once."""
        asked = self.wording.prompts(prompts)
        answers = [[[*tokens, self.end] for tokens in self.tokens_of(texts)] for texts in continuations]
        if not self.seq2seq:
            return [continuation_likelihoods(self.net, prompt, tokens, self.device) for prompt, tokens in zip(asked, answers, strict=True)]
        return [self._decoded_likelihood(prompt, tokens) for prompt, tokens in zip(asked, answers, strict=True)]

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], max_tokens: int = 64) -> list[str]:
        """The likeliest next token after each other, up to the end or `max_tokens`: one text for each prompt."""
        tokens = self.wording.prompts(prompts)
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        texts = [""] * len(tokens)
        first = 0
        while first < len(order):
            rows = order[first : first + max(1, _TOKENS_AT_ONCE // (len(tokens[order[min(first + 63, len(order) - 1)]]) + max_tokens))][:64]
            for row, text in zip(rows, self._generate([tokens[row] for row in rows], max_tokens), strict=True):
                texts[row] = text
            first += len(rows)
        return texts

    def logits(self, states: Tensor) -> Tensor:
        """Logits [..., V] of states [..., D], scaled as the model itself does."""
        config = self.net.config.get_text_config()
        if self.seq2seq and getattr(config, "scale_decoder_outputs", False):
            states = states * config.d_model**-0.5
        logits: Tensor = self.net.get_output_embeddings()(states)
        if getattr(config, "logits_scaling", None):
            logits = logits / config.logits_scaling
        if getattr(config, "logit_scale", None):
            logits = logits * config.logit_scale
        cap = getattr(config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits

    def _entropy(self, states: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(self.logits(states).float(), target, reduction="sum")

    def _states(self, batch: TextBatch) -> Tensor:
        """States [B, T, D] from which the next token is predicted."""
        tokens = (batch.item - 1).clamp_min(0)
        if batch.source is None:
            # padding stands behind the end, where no real position sees it: no mask
            return self.net.base_model(input_ids=tokens, use_cache=False).last_hidden_state  # type: ignore[no-any-return]
        seen = batch.source != PAD
        encoded = self._encode((batch.source - 1).clamp_min(0), seen, batch.word)
        return self._decode(tokens, encoded, seen)

    def _encode(self, tokens: Tensor, seen: Tensor, word: Tensor | None) -> Tensor:
        x = self.net.get_input_embeddings()(tokens)
        if self.word is not None:
            assert word is not None
            x = x + self.word(word)
        return self.net.get_encoder()(inputs_embeds=x, attention_mask=seen.long()).last_hidden_state  # type: ignore[no-any-return]

    def _decode(self, tokens: Tensor, encoded: Tensor, seen: Tensor, mask: Tensor | None = None) -> Tensor:
        """States [B, T, D]; `mask` [B, 1, T, T] is added to the attention of tokens to each other, in the place of one that hides what comes after."""
        asked = {"input_ids": tokens, "attention_mask": mask, "encoder_hidden_states": encoded, "encoder_attention_mask": seen.long()}
        return self.net.get_decoder()(**asked, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    @torch.no_grad()
    def _encoded(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """What the encoder says of some prompts, [B, S, D], and its mask [B, S]."""
        length = np.fromiter((len(one) for one in prompts), np.int64, len(prompts))
        flat, stop = np.array([token for one in prompts for token in one], np.int64), np.cumsum(length)
        word = pad(self.wording.words(flat, np.concatenate([[0], stop])), stop, length).to(self.device)
        seen = torch.arange(int(length.max())) < torch.from_numpy(length)[:, None]
        seen = seen.to(self.device)
        return self._encode(pad(flat, stop, length).to(self.device), seen, word), seen

    @torch.no_grad()
    def _decoded_likelihood(self, prompt: list[int], answers: list[list[int]]) -> npt.NDArray[np.float32]:
        """Many answers stand side by side in one row and do not see each other: what was read becomes keys and values once a row, not once an answer."""
        encoded, seen = self._encoded([prompt])
        summed = np.zeros(len(answers), np.float32)
        most = min(_SIDE_BY_SIDE, _LOGITS_AT_ONCE // self.net.config.vocab_size)
        for rows in _together([len(one) for one in answers], most):
            target = torch.tensor([token for row in rows for token in answers[row]], device=self.device)
            read = torch.tensor([token for row in rows for token in (self.net.config.decoder_start_token_id, *answers[row][:-1])], device=self.device)
            owner = torch.tensor([place for place, row in enumerate(rows) for _ in answers[row]], device=self.device)
            hidden = (owner[:, None] != owner).logical_or(torch.ones(len(owner), len(owner), device=self.device).triu(1).bool())
            mask = torch.zeros(1, 1, *hidden.shape, dtype=encoded.dtype, device=self.device).masked_fill(hidden, torch.finfo(encoded.dtype).min)
            states = self._decode(read[None], encoded, seen, mask)[0]
            likely = torch.log_softmax(self.logits(states).float(), -1).gather(1, target[:, None])[:, 0]
            summed[rows] = likely.new_zeros(len(rows)).index_add(0, owner, likely).cpu().numpy()
        return summed

    def _generate(self, prompts: list[list[int]], max_tokens: int) -> list[str]:
        choice: dict[str, Any] = {"do_sample": False, "num_beams": 1, "max_new_tokens": max_tokens, "eos_token_id": self.end}
        filler = self.tokenizer.pad_token_id
        choice |= {"temperature": None, "top_p": None, "top_k": None, "pad_token_id": self.end if filler is None else filler}
        if self.seq2seq:
            from transformers.modeling_outputs import BaseModelOutput

            states, seen = self._encoded(prompts)
            made = self.net.generate(encoder_outputs=BaseModelOutput(last_hidden_state=states), attention_mask=seen.long(), **choice)[:, 1:]
        else:
            width = max(len(one) for one in prompts)
            ids, mask = torch.zeros(len(prompts), width, dtype=torch.int64), torch.zeros(len(prompts), width, dtype=torch.int64)
            for row, one in enumerate(prompts):  # padded on the left: what comes next stands behind every prompt at once
                ids[row, width - len(one) :], mask[row, width - len(one) :] = torch.tensor(one), 1
            made = self.net.generate(input_ids=ids.to(self.device), attention_mask=mask.to(self.device), **choice)[:, width:]
        return [self.wording.text(tokens) for tokens in made.cpu().tolist()]


def _together(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Places of neighbours whose lengths sum up to no more than `most`, or that stand alone."""
    groups: list[list[int]] = []
    room = 0
    for place, length in enumerate(lengths):
        if length > room:
            groups.append([])
            room = most
        groups[-1].append(place)
        room -= length
    return groups
