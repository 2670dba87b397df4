"""Small worlds of prompts and answers, and what the tests of tuning share."""

from __future__ import annotations

import random
from pathlib import Path

from tongtu.core import FitOptions
from tongtu.train.loop import Trained, train
from tongtu.train.settings import Training
from tongtu.tuning.examples import Pair, Redrawn, TextExamples
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.objective import Answer
from tongtu.tuning.opening import open_network
from tongtu.tuning.settings import Tuning

ITEMS = [f"item_{1000 + 37 * number}" for number in range(40)]


def walk(seed: int, n: int = 300) -> list[Pair]:
    """Histories along a ring of items; the answer is the item behind the last."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(n):
        last = draw.randrange(len(ITEMS))
        others = " , ".join(draw.choice(ITEMS) for _ in range(draw.randrange(3)))
        pairs.append((f"user_{draw.randrange(50)} bought {others} , {ITEMS[last]} . what is next?", ITEMS[(last + 1) % len(ITEMS)]))
    return pairs


def texts(pairs: list[Pair]) -> list[str]:
    return [text for pair in pairs for text in pair]


def tiny_net(seed: int = 0, **changes: object) -> LanguageNet:
    return open_network(Tuning(vocabulary=600, **changes), texts(walk(0)), seed=seed)  # type: ignore[arg-type]


def fit(net: LanguageNet, pairs: list[Pair], out: Path | None = None, **changes: object) -> Trained:
    settings = Training(**{"epochs": 2, "tokens": 1024, "learning_rate": 2e-3, **changes})  # type: ignore[arg-type]
    examples = TextExamples.of(net.wording, pairs)
    return train(net, Answer(), examples, settings, FitOptions(quiet=True, device="cpu", checkpoint=out))


def redrawn_fit(out: Path, resume: bool, epochs: int = 3) -> tuple[LanguageNet, Trained]:
    """Train on examples drawn anew each epoch, dropout, averaged weights and the best so far included."""
    net = tiny_net()
    training = Training(epochs=epochs, tokens=512, average=0.9, checkpoint_seconds=0.0, patience=100)
    def measure() -> dict[str, float]:
        (likely,) = net.log_likelihood([walk(9)[0][0]], [[walk(9)[0][1]]])
        return {"ndcg@10": float(likely[0])}

    options = FitOptions(quiet=True, device="cpu", checkpoint=out / "checkpoint", resume=resume)
    return net, train(net, Answer(), Redrawn(net.wording, lambda seed: walk(seed, 60)), training, options, measure)
