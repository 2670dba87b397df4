"""A step over T5's own modules says what the whole network says, and finds what transformers finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tiny_nets import SEQ2SEQ, START, VOCABULARY, seq2seq
from walks import wander

from tongtu.decode.beam import beam_search
from tongtu.decode.seq2seq import Seq2SeqDecoder
from tongtu.decode.trie import Trie
from tongtu.errors import LanguageModelError

SOURCES = [[5, 9, 11, 4, 8, 21], [7], [30, 31, 5]]


def read(net: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The encoder's states of all sources together, padded behind."""
    ids = torch.zeros(len(SOURCES), max(map(len, SOURCES)), dtype=torch.int64)
    for row, source in enumerate(SOURCES):
        ids[row, : len(source)] = torch.tensor(source)
    mask = (ids > 0).long()
    with torch.no_grad():
        return net.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state, mask


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_each_beam_writes_its_own_text_alone(kind: str) -> None:
    net = seq2seq(kind)
    swaps, others = 0.0, 0.0
    for texts, logits in wander(Seq2SeqDecoder(net, *read(net)), len(SOURCES), VOCABULARY):
        for row, source in enumerate(SOURCES):
            for beam, text in enumerate(texts[row]):

                def plainly(source: list[int], text: list[int]) -> torch.Tensor:
                    with torch.no_grad():
                        return net(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[START, *text]])).logits[0, -1]

                torch.testing.assert_close(logits[row, beam], plainly(source, text), atol=1e-4, rtol=1e-4)
                others = max(others, float((logits[row, beam] - plainly([*source, 6], text)).abs().max()))
                if len(text) > 1:
                    swaps = max(swaps, float((logits[row, beam] - plainly(source, [*text[:-2], text[-1], text[-2]])).abs().max()))
    assert swaps > 0.1 and others > 0.1  # order and source matter to this network: a mistake in either would show


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_what_transformers_finds(kind: str) -> None:
    net = seq2seq(kind)
    draw = torch.Generator().manual_seed(1)
    sequences = torch.randint(3, 16, (500, 4), generator=draw).unique(dim=0).tolist()
    states, mask = read(net)
    found = beam_search(Seq2SeqDecoder(net, states, mask), Trie.of(sequences), 6, 6)
    follows: dict[tuple[int, ...], list[int]] = {}
    for one in sequences:
        for stop in range(len(one)):
            follows.setdefault(tuple(one[:stop]), []).append(one[stop])
    made = net.generate(
        encoder_outputs=transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states),
        attention_mask=mask,
        num_beams=6,
        num_return_sequences=6,
        max_new_tokens=4,
        length_penalty=0.0,
        early_stopping="never",
        do_sample=False,
        prefix_allowed_tokens_fn=lambda _, text: follows[tuple(text[1:].tolist())],
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert [sequences[code - 1] for row in found.items.tolist() for code in row] == made.sequences[:, 1:].tolist()
    torch.testing.assert_close(found.scores.flatten(), made.sequences_scores, atol=1e-4, rtol=1e-4)


def test_what_the_encoder_read_is_kept_once_a_request() -> None:
    net = seq2seq("t5")
    states, mask = read(net)
    decoder = Seq2SeqDecoder(net, states, mask)
    decoder.start()
    before = [tensor.data_ptr() for pair in decoder._read for tensor in pair]
    decoder.step(torch.full((3, 50), 4), torch.zeros(3, 50, dtype=torch.int64))
    assert [tensor.data_ptr() for pair in decoder._read for tensor in pair] == before
    assert all(tensor.shape[:3] == (3, 4, 6) for pair in decoder._read for tensor in pair)


def test_other_decoders_are_refused() -> None:
    shape = {"vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    bart = transformers.BartForConditionalGeneration(transformers.BartConfig(**shape, encoder_ffn_dim=16, decoder_ffn_dim=16)).eval()
    with pytest.raises(LanguageModelError, match="no decoder like T5's"):
        Seq2SeqDecoder(bart, torch.zeros(1, 2, 16), torch.ones(1, 2))
