"""What user vectors tell of attributes after their users wanted them forgotten, and what forgetting costs: PFRec and what it must beat.

    python benchmarks/trust_pfrec.py ml-100k --seeds 0,1,2 --attributes gender,age,occupation

For each attribute and each pair, everybody wants it forgotten. Fresh attackers then read all attributes from the user vectors: from 60 % of the users
they learn, on 20 % they choose, and the last 20 % they are tried on, whose attributes no eliminator has met either (`tongtu.trust.attackers`). NDCG@10
is that of all users' last events, with the paired difference to the base. Rows: the base; PFRec with an eliminator for each combination, with one for
each attribute, and without what is done in closed form; a filter on the user vector; a copy of everything, tuned for the same attributes; and the base
asked with histories that lack the items that tell most of the attributes. Writes `results/trust_pfrec_NAME.json`: means over seeds, 95 % intervals
over users.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from _record import write

from tongtu.core import FitOptions, Request, RequestBatch, Scores
from tongtu.data.attributes import AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.data.public import load
from tongtu.data.splits import Cases, leave_one_out
from tongtu.evaluation.intervals import paired_tests
from tongtu.hub import open_model
from tongtu.systems import make
from tongtu.systems.pretrained._base import BaseConfig, base_for
from tongtu.testing import case_ndcg
from tongtu.trust.attackers import ATTACKERS, FEWEST, Attack, Parts, attack
from tongtu.trust.probe import drawn, interval, summary

Codes = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Key = tuple[str, tuple[str, ...]]

BASE, REMOVED, FULL = "base", "base without the telling items", "full copy"
ROWS: dict[str, dict[str, Any]] = {
    "PFRec, combinations": {},
    "PFRec, compositional": {"mode": "compositional"},
    "PFRec, discriminators alone": {"adversary": {"directions": 0}},
    "filter": {"way": "filter", "adversary": {"directions": 0}},
    FULL: {"way": "full", "adversary": {"directions": 0}},
}
CLOSE, COST = 0.03, 0.03  # aims: AUC this near .5, and so much of NDCG@10 lost at most


class WithoutItems:
    """The base, asked with histories that lack some items; answers leave out whole histories all the same."""

    def __init__(self, base: Any, lacking: npt.NDArray[np.bool_]) -> None:
        self.base, self.items, self._kept = base, base.items, np.where(lacking, 0, np.arange(len(lacking))).astype(np.int32)

    def _asked(self, requests: Sequence[Request]) -> RequestBatch:
        batch = RequestBatch.of(requests)
        return dataclasses.replace(batch, item=self._kept[batch.item], forget=None)

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        return self.base.score(self._asked(requests), items)

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        return self.base.user_vectors(self._asked(requests))


def main() -> None:
    options = parse()
    data = load(options.data)
    attacks: dict[tuple[Key, str, str], list[Attack]] = defaultdict(list)
    ndcg: dict[Key, list[Values]] = defaultdict(list)
    fits: list[dict[str, Any]] = []
    sets = [some for size in range(1, options.most + 1) for some in itertools.combinations(options.attributes, size)]
    for done, seed in enumerate(options.seeds, start=1):
        of_seed(options, data, seed, sets, attacks, ndcg, fits)
        rows = [row(options, key, attacks, ndcg) for key in ndcg]
        facts = {"data": data.name, "attributes": options.attributes, "seeds": options.seeds[:done], "epochs": options.epochs, "held": options.held}
        groups = by_group(data, options, ndcg)
        write(f"trust_pfrec_{data.name}", {**facts, "rows": rows, "groups": groups, "fits": fits}, ("numpy", "scikit-learn", "torch"))
    print(table(rows, options))


def parse() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set folder, or a public name")
    parser.add_argument("--attributes", type=words, default=["gender", "age", "occupation"])
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--attackers", type=words, default=list(ATTACKERS), help=f"of {', '.join(ATTACKERS)}")
    parser.add_argument("--rows", type=words, default=list(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--most", type=int, default=2, help="attributes forgotten at once")
    parser.add_argument("--held", type=float, default=0.2, help="share of users whom no eliminator meets, and attackers are tried on")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--tokens", type=int, default=4_096)
    parser.add_argument("--remove", type=float, default=0.1, help="share of the items that histories lack for each attribute")
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--pretrain-epochs", type=int, default=12)
    parser.add_argument("--base", help="a model folder, fitted on all but each user's last two events; by default one is pretrained for each seed")
    parser.add_argument("--bases", default="runs/bases", help="where pretrained models are kept")
    return parser.parse_args()


def of_seed(
    options: argparse.Namespace, data: Dataset, seed: int, sets: list[tuple[str, ...]], attacks: Any, ndcg: Any, fits: list[dict[str, Any]]
) -> None:
    """Everything of one seed: who is held out, the base, the eliminators, the attackers."""
    split = leave_one_out(data)
    labels = AttributeReader.learn(data, options.attributes).of_users(data)[split.test.user - 1]
    held = np.random.default_rng([seed, 1]).random(len(data.users) + 1) < options.held
    parts = {name: parted(label, held[split.test.user], seed) for name, label in zip(options.attributes, labels.T, strict=True)}
    base = pretrained(options, split.train, seed)
    met = split.train.keep_events(~held[split.train.event_user])

    def measure(row: str, some: tuple[str, ...], system: Any) -> None:
        requests = split.test.requests if row in (BASE, REMOVED) else dataclasses.replace(split.test.requests, forget=[frozenset(some)] * len(split.test))
        ndcg[row, some].append(case_ndcg(system, dataclasses.replace(split.test, requests=requests)))
        vectors = system.user_vectors(requests)
        for name, label in zip(options.attributes, labels.T, strict=True):
            for kind in options.attackers:
                attacks[(row, some), name, kind].append(attack(vectors, label, parts[name], kind, seed))
        print(f"seed {seed}: {row}, {' and '.join(some) or 'nothing'} forgotten: NDCG@10 {ndcg[row, some][-1].mean():.4f}", flush=True)

    system = open_model(base)
    measure(BASE, (), system)
    for some in sets:
        measure(REMOVED, some, WithoutItems(system, telling(met, some, options.remove)))
    for name in options.rows:
        one = None
        for some in sets:
            if one is None or name == FULL:
                one = fitted(options, base, met, list(some) if name == FULL else options.attributes, ROWS[name], seed)
                fits.append({"seed": seed, "row": name, **{part: one.provenance[part] for part in ("epochs", "fit_seconds", "tuned")}})
            measure(name, some, one)


def pretrained(options: argparse.Namespace, train: Dataset, seed: int) -> str:
    """The folder of the base of a seed."""
    if options.base is not None:
        return str(options.base)
    training = {"learning_rate": 2e-3, "average": 0.99, "epochs": options.pretrain_epochs, "patience": 3}
    body = {"max_length": options.max_length, "windows": "all", "loss": {"temperature": 0.05}, "training": training}
    return str(base_for(BaseConfig(bases=options.bases, pretraining=body), train, FitOptions(seed=seed, quiet=True)).folder)


def fitted(options: argparse.Namespace, base: str, data: Dataset, attributes: Sequence[str], settings: dict[str, Any], seed: int) -> Any:
    training = {"epochs": options.epochs, "learning_rate": options.rate, "tokens": options.tokens, "average": 0.95}
    system: Any = make("pfrec", {"base": base, "attributes": list(attributes), "training": training, **settings})
    return system.fit(data, FitOptions(seed=seed, quiet=True))


def parted(label: Codes, held: npt.NDArray[np.bool_], seed: int) -> Parts:
    """Attackers are tried on those held out; of the others, three quarters are to learn from."""
    frequent = np.isin(label, np.flatnonzero(np.bincount(label) >= FEWEST)) & (label > 0)
    rest = np.random.default_rng([seed, 2]).permutation(np.flatnonzero(frequent & ~held))
    cut = 3 * len(rest) // 4
    return Parts(np.sort(rest[:cut]), np.sort(rest[cut:]), np.flatnonzero(frequent & held))


def telling(data: Dataset, attributes: Sequence[str], share: float) -> npt.NDArray[np.bool_]:
    """bool[items.size], the items whose users' values differ most from everybody's, by chi squared, for each attribute."""
    lacking = np.zeros(data.items.size, np.bool_)
    codes = AttributeReader.learn(data, attributes).of_users(data)[data.event_user - 1]
    for column in codes.T:
        counts = np.zeros((data.items.size, column.max() + 1))
        np.add.at(counts, (data.item, column), 1)
        counts = counts[:, 1:]
        expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
        apart = np.where(expected > 0, (counts - expected) ** 2 / np.maximum(expected, 1e-9), 0).sum(1)
        lacking[np.argsort(-apart)[: round(share * len(data.items))]] = True
    return lacking


def row(options: argparse.Namespace, key: Key, attacks: Any, ndcg: Any) -> dict[str, Any]:
    """One row: what attackers find, and what NDCG@10 is lost."""
    own, before = np.mean(ndcg[key], axis=0), np.mean(ndcg[BASE, ()], axis=0)
    (test,) = paired_tests(own[:, None], before[:, None], np.arange(len(own)))
    cost = {"ndcg@10": float(own.mean()), "difference": [test.difference, test.low, test.high], "share": float(own.mean() / before.mean() - 1)}
    found = []
    for name, kind in itertools.product(options.attributes, options.attackers):
        one = summary(attacks[key, name, kind], repeats=1)
        spread = drawn([attacks[key, name, kind], attacks[(BASE, ()), name, kind]])[:, :, 0]
        facts = dataclasses.asdict(one) | {"attribute": name, "forgotten": name in key[1], "auc_low": interval(spread[:, 0])[0]}
        found.append(facts | {"auc_high": interval(spread[:, 0])[1], "less than the base": interval(spread[:, 0] - spread[:, 1])})
    return {"row": key[0], "forgotten": key[1], **cost, "attacks": found}


def by_group(data: Dataset, options: argparse.Namespace, ndcg: Any) -> list[dict[str, Any]]:
    """NDCG@10 of the users of each value of each attribute."""
    cases: Cases = leave_one_out(data).test
    reader = AttributeReader.learn(data, options.attributes)
    codes = reader.of_users(data)[cases.user - 1]
    groups = []
    for field, column in zip(reader.fields, codes.T, strict=True):
        for code in range(1, field.size):
            rows = column == code
            means = {f"{row}: {' and '.join(some)}": float(np.mean(values, axis=0)[rows].mean()) for (row, some), values in ndcg.items() if rows.any()}
            groups.append({"attribute": field.name, "value": field.values[code - 1] if field.values else code, "users": int(rows.sum()), "ndcg@10": means})
    return groups


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Markdown: for each attribute the AUC of the attacker that finds most; in bold those that were to be forgotten and are."""
    lines = [f"| row | forgotten | NDCG@10 | difference | {' | '.join(options.attributes)} |", "|---" * (4 + len(options.attributes)) + "|"]
    for one in rows:
        cells = []
        for name in options.attributes:
            worst = max((found for found in one["attacks"] if found["attribute"] == name), key=lambda found: abs(found["auc"] - 0.5))
            told = f"{worst['auc']:.3f} [{worst['auc_low']:.3f}, {worst['auc_high']:.3f}]"
            cells.append(f"**{told}**" if worst["forgotten"] and abs(worst["auc"] - 0.5) <= CLOSE else told)
        cost = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*one["difference"])
        cost = f"{one['share']:+.1%}, {cost}" if one["share"] < -COST else f"**{one['share']:+.1%}**, {cost}"
        lines.append(f"| {one['row']} | {' and '.join(one['forgotten']) or '-'} | {one['ndcg@10']:.4f} | {cost} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
