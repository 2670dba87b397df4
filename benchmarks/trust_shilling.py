"""Claim: how far one to three fake users for each hundred true ones move a model's lists, which models they move, and whether they are found.

    python benchmarks/trust_shilling.py ml-100k --seeds 0,1,2
    python benchmarks/trust_shilling.py data/ml-1m-text --seeds 0,1,2

A drill on models made here and thrown away. Fake users of each kind (`tongtu.trust.shilling`) join the training part of the log, and SASRec, UniSRec on
text alone and PPR (on the SASRec of the same log) are fitted on it with the settings and epochs of the clean ones. Targets are drawn from each third of
popularity and pushed together. Measured on the true users, before each one's last event: hit rates at 50 of the targets with and without the fake
users, how many times the hits that is with one added to both, and NDCG@10 of the true last event.

Whether they are found: the AUC of suspicion, and the share of fake users among as many of the most suspicious. "profiles" has learned from the other kinds
of attack only, on other targets; "sequences" reads each history with a SASRec trained for two epochs on the log as it is, fake users and all.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _drill import numbers, opened, shares, thirds
from _record import write

from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.filters import compact
from tongtu.data.splits import Split, leave_one_out
from tongtu.systems.behaviour.sasrec import SASRec
from tongtu.systems.encoded.unisrec import UniSRec
from tongtu.systems.pretrained.ppr import PPR
from tongtu.testing import case_ndcg
from tongtu.trust.detection import Example, ProfileDetector, judge, sequence_suspicion
from tongtu.trust.exposure import Exposure, exposure, ratio
from tongtu.trust.shilling import KINDS, fake_mask, fake_users

SYSTEMS = ("sasrec", "unisrec", "ppr")
CUTOFF = 50
BODY = {"max_length": 50, "blocks": 1}
LEARNING = {"learning_rate": 2e-3, "tokens": 2048}
THIRDS = ("rare", "middle", "popular")


def main() -> None:
    options = parse()
    data = opened(options.data)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        rows += drilled(options, sampled(data, options.users, seed), seed)
        facts = {"data": data.name, "users": options.users, "targets": 3 * options.each, "epochs": options.epochs, "seeds": options.seeds, "rows": rows}
        write(f"trust_shilling_{data.name}", facts)  # after each seed: what is done should not wait for the next one
        print(table(rows), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="a data set folder, or the name of a public data set")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], metavar="N,N")
    parser.add_argument("--shares", type=shares, default=[0.01, 0.03], metavar="X,X", help="fake users for each true one")
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas between them")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="with commas between them")
    parser.add_argument("--users", type=int, default=1500, help="true users, drawn by the seed; 0 takes all")
    parser.add_argument("--each", type=int, default=2, help="targets from each third of popularity")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--encoder", default="minilm", help="who reads the texts for UniSRec")
    options = parser.parse_args()
    options.kinds, options.systems = options.kinds.split(","), options.systems.split(",")
    for given, known in ((options.kinds, KINDS), (options.systems, SYSTEMS)):
        if unknown := set(given) - set(known):
            parser.error(f"{unknown.pop()!r} is none of {', '.join(known)}")
    return options


def sampled(data: Dataset, users: int, seed: int) -> Dataset:
    """The log of so many of its users."""
    if not users or users >= len(data.users):
        return data
    chosen = np.random.default_rng([seed, 2]).choice(np.flatnonzero(data.lengths) + 1, users, replace=False)
    return compact(data.keep_events(np.isin(data.event_user, chosen)))


def drilled(options: argparse.Namespace, data: Dataset, seed: int) -> list[dict[str, Any]]:
    """One row for each kind, share and system."""
    split = leave_one_out(data)
    targets = thirds(split.train, options.each, seed)
    clean = {name: asked(model, split, targets) for name, model in fitted(options, split.train, seed).items()}
    examples = [example(split.train, kind, options, seed + 1000) for kind in KINDS]
    rows = []
    for share in options.shares:
        for kind in options.kinds:
            log = fake_users(split.train, targets, share, kind, seed)
            found = detected(log, examples, kind, seed)
            for name, model in fitted(options, log, seed).items():
                facts = {"seed": seed, "share": share, "kind": kind, "system": name}
                rows.append({**facts, **compared(asked(model, split, targets), clean[name], options.each), "found": found})
            print(f"seed {seed}: {share:.0%} {kind} done", flush=True)
    return rows


def example(train: Dataset, kind: Any, options: argparse.Namespace, seed: int) -> Example:
    """An attack to learn from, on targets of its own."""
    log = fake_users(train, thirds(train, options.each, seed), max(options.shares), kind, seed)
    return Example(kind, log, fake_mask(log)[1:])


def fitted(options: argparse.Namespace, log: Dataset, seed: int) -> dict[str, Any]:
    """The systems on a log; PPR stands on the SASRec of the same log."""
    fit = FitOptions(seed=seed, quiet=True, device="cpu")
    training = {**LEARNING, "epochs": options.epochs}
    models: dict[str, Any] = {}
    if {"sasrec", "ppr"} & set(options.systems):
        models["sasrec"] = SASRec(SASRec.Config(**BODY, loss={"temperature": 0.1}, training=training)).fit(log, fit)
    if "unisrec" in options.systems:
        models["unisrec"] = UniSRec(UniSRec.Config(**BODY, encoder=options.encoder, mode="text", training=training)).fit(log, fit)
    if "ppr" in options.systems:
        with tempfile.TemporaryDirectory() as folder:
            models["sasrec"].save_pretrained(Path(folder) / "base")
            models["ppr"] = PPR(PPR.Config(base=str(Path(folder) / "base"), training=training)).fit(log, fit)
    return {name: models[name] for name in options.systems}


def asked(model: Any, split: Split, targets: Any) -> tuple[Exposure, float]:
    return exposure(model, split.test.requests, targets), float(case_ndcg(model, split.test).mean())


def compared(attacked: tuple[Exposure, float], clean: tuple[Exposure, float], each: int) -> dict[str, Any]:
    """Exposure of all targets and of each third's, and what it cost."""
    (now, ndcg), (before, clean_ndcg) = attacked, clean
    parts = {"all": slice(None), **{third: slice(place * each, (place + 1) * each) for place, third in enumerate(THIRDS)}}
    figures = {name: _figures(Exposure(now.ranks[:, part]), Exposure(before.ranks[:, part])) for name, part in parts.items()}
    return {"targets": figures, "ndcg@10": ndcg, "clean ndcg@10": clean_ndcg, "loss": 1 - ndcg / max(clean_ndcg, 1e-9)}


def _figures(now: Exposure, before: Exposure) -> dict[str, float]:
    times = ratio(now.hits(CUTOFF), before.hits(CUTOFF))
    return {"hr@50": now.hit_rate(CUTOFF), "clean hr@50": before.hit_rate(CUTOFF), "ratio": times, "pairs": now.pairs}


def detected(log: Dataset, examples: list[Example], kind: str, seed: int) -> dict[str, dict[str, float]]:
    """How well each detector tells fake users from true ones."""
    fake = fake_mask(log)[1:]
    reader = SASRec(SASRec.Config(**BODY, training={**LEARNING, "epochs": 2}))
    ways: dict[str, Callable[[], Any]] = {
        "profiles": lambda: ProfileDetector.learn(examples, leave_out=kind).suspicion(log),
        "sequences": lambda: sequence_suspicion(reader.fit(log, FitOptions(seed=seed, quiet=True, device="cpu")), log),
    }
    found = {name: judge(log, suspicion(), fake) for name, suspicion in ways.items()}
    return {name: {"auc": one.auc, "precision": one.precision} for name, one in found.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds."""
    lines = [
        "| fake users | kind | system | HR@50 clean | attacked | times | rare targets, times | NDCG@10 loss | profiles, AUC | sequences, AUC |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for share, kind, system in dict.fromkeys((row["share"], row["kind"], row["system"]) for row in rows):
        own = [row for row in rows if (row["share"], row["kind"], row["system"]) == (share, kind, system)]
        rates = [f"{np.mean([row['targets']['all'][name] for row in own]):.4f}" for name in ("clean hr@50", "hr@50")]
        times = [f"{np.mean([row['targets'][part]['ratio'] for row in own]):.1f}" for part in ("all", "rare")]
        found = [f"{np.mean([row['found'][way]['auc'] for row in own]):.3f}" for way in ("profiles", "sequences")]
        cells = [f"{share:.0%}", kind, system, *rates, *times, f"{np.mean([row['loss'] for row in own]):.1%}", *found]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
