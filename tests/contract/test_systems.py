"""Every system keeps the public contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tongtu.systems import cards, make
from tongtu.testing import check_recommender

NETWORK = {"width": 16, "max_length": 6, "dropout": 0.1, "training": {"epochs": 2}}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "als": {"factors": 8, "iterations": 3},
    "bpr": {"factors": 8, "iterations": 5},
    "sasrec": NETWORK,
    "bert4rec": NETWORK,
    "hstu": NETWORK,
    "plmnr": {"language_model": "words", "width": 16, "query": 8, "max_length": 6, "training": {"epochs": 2}},
    "unisrec": NETWORK | {"encoder": "hashing", "experts": 2},
}


@pytest.mark.parametrize("name", sorted(cards()))
def test_contract(name: str) -> None:
    check_recommender(lambda: make(name, SMALL.get(name, {})))
