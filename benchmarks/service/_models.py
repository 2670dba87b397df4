"""Models for the drills: SASRecs of any catalogue whose weights are random. What an answer costs does not depend on what was learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tongtu.nn.sequence import ItemSequenceNet
from tongtu.systems.behaviour.sasrec import SASRec, SASRecConfig
from tongtu.vocab import Vocab


def random_sasrec(path: Path, items: int = 100_000, width: int = 64, seed: int = 0, length: int = 50, blocks: int = 1) -> Path:
    """Write a model folder as `tongtu fit sasrec` does; the ids are "1", "2", ...; `length` events of a history are read."""
    config = SASRecConfig(width=width, blocks=blocks, max_length=length)
    model = SASRec(config)
    model.items, model.item_text = Vocab([str(i) for i in range(1, items + 1)]), None
    model.counts = np.concatenate([[0], np.random.default_rng(seed).integers(1, 1000, items)])
    torch.manual_seed(seed)
    model.net = ItemSequenceNet(config, model.items.size).eval()
    model.provenance = {"seed": seed, "fit_seconds": 0.0, "parameters": sum(p.numel() for p in model.net.parameters()), "epochs": 0}
    model.save_pretrained(path)
    return path
