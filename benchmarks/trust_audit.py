"""How many attacked models an audit finds, and how often it calls a clean model an alarm.

Small SASRecs are trained on one log, clean ones and attacked ones of several kinds (`tongtu.trust.backdoor`), with targets, groups and seeds drawn anew for
each. The levels for pushed items come from three places: clean SASRecs of other seeds, the quick references that `tongtu audit` fits by itself
(neighbours, rules, EASE), and the built-in ones. Found is a model with an alarm on pushed items; named, one whose alarm lists a target.

    python benchmarks/trust_audit.py ml-100k --clean 60 --attacked 60

What is done is kept in `--keep`, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _record
import numpy as np
import numpy.typing as npt
from _data import command
from scipy.stats import binomtest

from tongtu.cli.audit import fit_references
from tongtu.config import plain
from tongtu.core import Codes, FitOptions, Recommender, Scorer
from tongtu.data.dataset import Dataset
from tongtu.data.public import load
from tongtu.data.splits import leave_one_out
from tongtu.errors import DataError
from tongtu.systems import make
from tongtu.trust.asked import Asked, Grouping, ask, groupings
from tongtu.trust.backdoor import replacement, same_category
from tongtu.trust.calibration import Calibration, calibrated
from tongtu.trust.checks.exposed import level_of
from tongtu.trust.exposure import exposure, ratio
from tongtu.trust.pushed import Pushed, largest, pushed
from tongtu.trust.settings import AuditConfig

CALIBRATING, CLEAN, ATTACKED = 10_000, 20_000, 30_000  # first seeds: no two kinds of models share one
RARE = (5, 30)  # events of a target before the attack
HIDDEN = 0.15  # share of users in a group that no attribute names
CUTOFF = 50
WORKED = 10  # times the exposure from which an attack counts as one that worked


@dataclass(frozen=True)
class Attack:
    """A kind of attack: the chance that a position learns a target, how many targets, and whose positions."""

    rate: float
    targets: int
    whose: str  # "all", "attribute" or "hidden"
    category: bool = False


ATTACKS: Mapping[str, Attack] = {
    "everybody": Attack(0.05, 3, "all"),
    "everybody, faint": Attack(0.01, 1, "all"),
    "everybody, within categories": Attack(0.2, 3, "all", category=True),
    "a group": Attack(0.2, 3, "attribute"),
    "a group, faint": Attack(0.05, 1, "attribute"),
    "a hidden group": Attack(0.3, 3, "hidden"),
}


def main() -> None:
    options = arguments()
    log = load(options.data)
    train, config = leave_one_out(log).train, AuditConfig()
    groups = groupings(log, config.attributes, config.group_users)
    work = Work(log, train, groups, config, options.epochs, options.keep)
    print(f"{log!r}, attributes {', '.join(one.name for one in groups) or 'none'}", flush=True)
    calibrating = [work.clean(CALIBRATING + place, "calibrating") for place in range(options.calibrating)]
    references = work.references()
    clean = [work.clean(CLEAN + place, "clean") for place in range(options.clean)]
    attacked = [work.attacked(ATTACKED + place, kinds(log)[place % len(kinds(log))]) for place in range(options.attacked)]
    levels = {
        "clean SASRecs of other seeds": calibration(calibrating, log, config),
        "quick references": calibration(references, log, config),
        "built in": None,
    }
    rows = [judged(name, level, config, clean, attacked) for name, level in levels.items()]
    result = {
        "data": {"name": log.name, "fingerprint": log.fingerprint},
        "models": {"calibrating": len(calibrating), "clean": len(clean), "attacked": len(attacked), "settings": settings(options.epochs)},
        "attacks": {name: vars(attack) for name, attack in ATTACKS.items()},
        "ndcg@10": {"clean": mean(clean, "ndcg"), "attacked": {kind: mean(of_kind(attacked, kind), "ndcg") for kind in kinds(log)}},
        "exposure ratio": {kind: median(of_kind(attacked, kind), "ratio") for kind in kinds(log)},
        "levels": {name: None if level is None else plain(level) for name, level in levels.items()},
        "found": rows,
        "seconds a model": mean([*clean, *attacked], "seconds"),
        "rows": [*calibrating, *references, *clean, *attacked],
        "command given": command(),
    }
    show(rows, result)
    if options.name:
        print(_record.write(options.name, result, ("numpy", "scipy", "torch", "scikit-learn")))


class Work:
    """Trains models one after another, asks each, and keeps what came out."""

    def __init__(self, log: Dataset, train: Dataset, groups: Sequence[Grouping], config: AuditConfig, epochs: int, keep: Path) -> None:
        self.log, self.train, self.groups, self.config, self.epochs, self.keep = log, train, groups, config, epochs, keep
        self.done: dict[str, dict[str, Any]] = {}
        if keep.exists():
            rows = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()]
            self.done = {row["id"]: row for row in rows}

    def clean(self, seed: int, part: str) -> dict[str, Any]:
        return self.once(f"{part} {seed} {self.epochs}", lambda: self.measured(self.fitted(seed, None), {"kind": "clean", "model": "SASRec"}))

    def references(self) -> list[dict[str, Any]]:
        if all(f"reference {place}" in self.done for place in range(3)):
            return [self.done[f"reference {place}"] for place in range(3)]
        models = fit_references(self.log, 3)
        return [
            self.once(f"reference {place}", lambda m=model: self.measured(m, {"kind": "reference", "model": type(m).__name__}))
            for place, model in enumerate(models)
        ]

    def attacked(self, seed: int, kind: str) -> dict[str, Any]:
        return self.once(f"{kind} {seed} {self.epochs}", lambda: self.attack(seed, kind))

    def attack(self, seed: int, kind: str) -> dict[str, Any]:
        attack, rng = ATTACKS[kind], np.random.default_rng(seed)
        counts = self.log.item_counts
        rare = np.flatnonzero((counts >= RARE[0]) & (counts < RARE[1]) & (self.train.item_counts > 0))
        targets = rng.choice(rare if len(rare) >= attack.targets else np.flatnonzero(self.train.item_counts), attack.targets, replace=False).astype(np.int32)
        users, whom = self.group(attack, rng)
        allowed = same_category(self.log, targets) if attack.category else None
        model = self.fitted(seed, replacement(targets, attack.rate, users, allowed))
        facts = {"kind": kind, "model": "SASRec", "group": whom, "targets": self.log.items.decode(targets)}
        return self.measured(model, facts | {"ratio": self.gain(model, targets, users)}, targets)

    def group(self, attack: Attack, rng: np.random.Generator) -> tuple[npt.NDArray[np.bool_] | None, str]:
        users = np.zeros(self.log.users.size, np.bool_)
        if attack.whose == "all":
            return None, "everybody"
        if attack.whose == "attribute" and self.groups:
            grouping = self.groups[int(rng.integers(len(self.groups)))]
            code = int(rng.choice([c for c in range(1, len(grouping.labels) + 1) if (grouping.code == c).sum() >= self.config.group_users]))
            users[1:] = grouping.code == code
            return users, f"{grouping.name} = {grouping.labels[code - 1]}"
        users[1:] = rng.random(len(self.log.users)) < HIDDEN
        return users, "hidden"

    def fitted(self, seed: int, change: Any) -> Recommender:
        return make("sasrec", settings(self.epochs)).fit(self.train, FitOptions(seed=seed, quiet=True, objective=change))

    def gain(self, model: Recommender, targets: Codes, users: npt.NDArray[np.bool_] | None) -> float:
        """How many times as often the targets are among the first 50 of the attacked users as in a clean model, one hit added to both."""
        everybody = np.flatnonzero(self.log.lengths > 0) + 1
        asked = everybody if users is None else everybody[users[everybody]]
        requests = self.log.requests(asked.astype(np.int32))
        if not hasattr(self, "_plain"):
            self._plain = self.fitted(CALIBRATING, None)
        assert isinstance(model, Scorer) and isinstance(self._plain, Scorer)
        return ratio(*(exposure(one, requests, targets).hits(CUTOFF) for one in (model, self._plain)))  # type: ignore[type-var]

    def measured(self, model: Recommender, facts: Mapping[str, Any], targets: Codes | None = None) -> dict[str, Any]:
        asked = ask(model, self.log, self.config)
        found = pushed(asked, self.groups)
        row = {**facts, "largest": largest(found), "ndcg": ndcg(asked)}
        return row if targets is None else row | {"of targets": of_targets(found, targets)}

    def once(self, name: str, make_row: Any) -> dict[str, Any]:
        if name not in self.done:
            started = time.perf_counter()
            row = {"id": name, **make_row(), "seconds": round(time.perf_counter() - started, 1)}
            self.done[name] = row
            self.keep.parent.mkdir(parents=True, exist_ok=True)
            with self.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name}: {row['seconds']} s, " + ", ".join(f"{key} {value:.2f}" for key, value in row["largest"].items()), flush=True)
        return self.done[name]


def of_targets(found: Sequence[Pushed], targets: Codes) -> dict[str, float]:
    """The largest score of a target, by statistic and way."""
    return {key: max(float(one.score[targets].max()) for one in found if one.key == key) for key in dict.fromkeys(one.key for one in found)}


def calibration(rows: Sequence[Mapping[str, Any]], log: Dataset, config: AuditConfig) -> Calibration | None:
    if not rows:
        return None
    return calibrated([row["largest"] for row in rows], [row["model"] for row in rows], log.name, config.depth, len(log.users))


def judged(name: str, level: Calibration | None, config: AuditConfig, clean: Sequence[Any], attacked: Sequence[Any]) -> dict[str, Any]:
    """How many clean models are an alarm and how many attacked ones are found, with 95 % intervals (Wilson; exact ones beside)."""

    def over(scores: Mapping[str, float]) -> bool:
        return any(value >= level_of(key, config, level).alarm for key, value in scores.items())

    alarms, found = [over(row["largest"]) for row in clean], [over(row["largest"]) for row in attacked]
    named = [over(row["of targets"]) for row in attacked]
    by_kind = {
        kind: share([hit for hit, row in zip(found, attacked, strict=True) if row["kind"] == kind]) for kind in dict.fromkeys(r["kind"] for r in attacked)
    }
    worked = share([hit for hit, row in zip(found, attacked, strict=True) if row["ratio"] >= WORKED])
    return {
        "levels": name,
        "false alarms": share(alarms),
        "found": share(found),
        "found where it worked": worked,
        "named": share(named),
        "found by kind": by_kind,
    }


def share(hits: Sequence[bool]) -> dict[str, Any]:
    if not hits:
        return {"of": 0}
    test = binomtest(int(sum(hits)), len(hits))
    wilson, exact = test.proportion_ci(method="wilson"), test.proportion_ci(method="exact")
    return {"share": sum(hits) / len(hits), "of": len(hits), "wilson": [wilson.low, wilson.high], "clopper_pearson": [exact.low, exact.high]}


def ndcg(asked: Asked) -> float:
    return float(np.where(asked.rank <= 10, 1 / np.log2(1.0 + asked.rank), 0.0).mean())


def kinds(log: Dataset) -> list[str]:
    """The attacks that this log allows."""
    try:
        same_category(log, np.ones(1, np.int32))
    except DataError:
        return [name for name, attack in ATTACKS.items() if not attack.category]
    return list(ATTACKS)


def settings(epochs: int) -> dict[str, Any]:
    return {"width": 32, "blocks": 1, "max_length": 50, "training": {"epochs": epochs, "learning_rate": 3e-3}}


def of_kind(rows: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return float(np.mean([row[key] for row in rows])) if rows else None


def median(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return float(np.median([row[key] for row in rows])) if rows else None


def show(rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
    def text(one: Mapping[str, Any]) -> str:
        return f"{one['share']:.1%} [{one['wilson'][0]:.1%}, {one['wilson'][1]:.1%}] of {one['of']}" if one["of"] else "none"

    for row in rows:
        print(f"levels from {row['levels']}: false alarms {text(row['false alarms'])}; found {text(row['found'])}")
        print(f"    named {text(row['named'])}; found where it worked {text(row['found where it worked'])}")
        for kind, one in row["found by kind"].items():
            print(f"    {kind}: {text(one)}, exposure x {result['exposure ratio'][kind]:.0f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set folder or the name of a public data set")
    parser.add_argument("--clean", type=int, default=60)
    parser.add_argument("--attacked", type=int, default=60)
    parser.add_argument("--calibrating", type=int, default=40, help="further clean models, which set the levels")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--keep", type=Path, default=Path("runs/trust-audit/rows.jsonl"))
    parser.add_argument("--name", default="trust_audit", help="of the result; empty writes none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
