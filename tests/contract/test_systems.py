"""Every system keeps the public contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tongtu.core import FitOptions
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import text_world
from tongtu.systems import cards, make
from tongtu.testing import check_recommender

NETWORK = {"width": 16, "max_length": 6, "dropout": 0.1, "training": {"epochs": 2}}
CODES = {
    "vectors": "hashing",
    "ids": {"levels": 2, "size": 16},
    **{"max_length": 6, "width": 16, "heads": 2, "head_width": 8, "encoder_layers": 1, "decoder_layers": 1, "inner": 32},
    "training": {"epochs": 2},
}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "als": {"factors": 8, "iterations": 3},
    "bpr": {"factors": 8, "iterations": 5},
    "sasrec": NETWORK,
    "bert4rec": NETWORK,
    "hstu": NETWORK,
    "plmnr": {"language_model": "words", "width": 16, "query": 8, "max_length": 6, "training": {"epochs": 2}},
    "unisrec": NETWORK | {"encoder": "hashing", "experts": 2},
    "llmrank": {"llm": "unigram", "candidates": 10},
    "chatrec": {"llm": "unigram", "candidates": 10},
    "instructrec": {"retriever": "popular", "candidates": 6, "per_user": 1, "max_history": 3, "tuning": {"vocabulary": 500}, "training": {"epochs": 1}},
    "textknn": {"encoder": "hashing"},
    "p5": {"index": {"clusters": 3, "most": 12}, "drawing": {"scale": 0.2, "max_history": 6}, "tuning": {"vocabulary": 600}, "training": {"epochs": 1}},
    "tiger": CODES,
    "gpt4rec": {"queries": 4, "max_history": 4, "tuning": {"model": "llama:tiny", "vocabulary": 500, "max_target": 12}, "training": {"epochs": 1}},
    "ppr": {"pretraining": NETWORK, "training": {"epochs": 2}},
    "pfrec": {"pretraining": NETWORK, "prompts": 2, "training": {"epochs": 2}},
    "finetuning": {"pretraining": NETWORK, "training": {"epochs": 2}},
}


@pytest.mark.parametrize("name", sorted(cards()))
def test_contract(name: str) -> None:
    check_recommender(lambda: make(name, SMALL.get(name, {})))


@pytest.mark.parametrize("name", sorted(cards()))
def test_items_without_events_do_no_harm(name: str) -> None:
    """A quarter of this catalogue never occurs in training: it is ranked like everything else, by number or not at all."""
    split = leave_one_out(text_world(users=60).data)
    assert (split.train.item_counts[1:] == 0).mean() > 0.2
    top = make(name, SMALL.get(name, {})).fit(split.train, FitOptions(quiet=True)).recommend(split.test.requests[:20], split.train.items.size - 1)
    for items, scores in zip(top.items, top.scores, strict=True):
        told = items[items != 0]
        assert len(np.unique(told)) == len(told) > 50 and np.isfinite(scores[: len(told)]).all()


def test_a_text_reader_recommends_what_nobody_has_met() -> None:
    """In this world the text tells what comes next, and what comes next is always an item without events; ids alone cannot tell such items apart."""
    split = leave_one_out(text_world(users=200).data)
    new = split.train.item_counts == 0
    new[0] = False
    settings = {**SMALL["unisrec"], "mode": "text", "training": {"epochs": 5}}
    listed = make("unisrec", settings).fit(split.train, FitOptions(quiet=True)).recommend(split.test.requests, 10).items
    assert new[listed].mean() > 0.1
    by_id = make("itemknn").fit(split.train, FitOptions(quiet=True)).recommend(split.test.requests, 10).items
    assert not new[by_id].any()
