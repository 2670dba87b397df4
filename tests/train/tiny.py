"""A small training run that other processes can start: `python tiny.py OUT [--resume]` writes OUT/model and prints its curves."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.systems.behaviour.sasrec import SASRec
from tongtu.vocab import Vocab


def tiny_data(users: int = 120, items: int = 40, seed: int = 0) -> Dataset:
    """Users walk along a ring of items; lengths differ, so that batches do."""
    draw = np.random.default_rng(seed)
    length = draw.integers(3, 16, users)
    offset = np.concatenate([[0], np.cumsum(length)])
    first = np.repeat(draw.integers(0, items, users), length)
    place = np.arange(offset[-1]) - np.repeat(offset[:-1], length)
    item = ((first + place) % items + 1).astype(np.int32)
    return Dataset("tiny", Vocab([f"u{i}" for i in range(users)]), Vocab([f"i{i}" for i in range(items)]), item, offset)


def tiny_fit(out: Path, resume: bool, epochs: int = 8, checkpoint_seconds: float = 0.03, dropout: float = 0.1) -> SASRec:
    """Fit with everything a checkpoint must carry: dropout, sampled negatives, averaged weights, the best so far."""
    config = SASRec.Config(
        width=8,
        blocks=1,
        dropout=dropout,
        loss={"kind": "sampled", "negatives": 8},
        training={"epochs": epochs, "tokens": 128, "average": 0.9, "checkpoint_seconds": checkpoint_seconds, "patience": 100},
    )
    data = tiny_data()

    def validate(model: object) -> dict[str, float]:
        assert isinstance(model, SASRec)
        scores = model.score(data.requests(np.arange(1, 20)), slice(None))
        return {"ndcg@10": float(scores.mean())}

    options = FitOptions(validate=validate, checkpoint=out / "checkpoint", resume=resume, quiet=True, device="cpu")
    model = SASRec(config).fit(data, options)
    return model


if __name__ == "__main__":
    target = Path(sys.argv[1])
    fitted = tiny_fit(target, "--resume" in sys.argv, dropout=0.0 if "--still" in sys.argv else 0.1)
    if os.environ.get("RANK", "0") == "0":  # two processes would write into each other's line
        print(json.dumps([[row["loss"], row["ndcg@10"]] for row in fitted.provenance["curves"]]))
