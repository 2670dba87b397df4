"""What a user's vector behind prompts tells of an attribute that the prompts do not read, beside what the user's items and other attributes tell.

    python benchmarks/profile_prediction.py ml-100k --attributes gender,age,occupation --seeds 0,1,2,3,4

The user-profile prediction of PPR (Wu et al., TKDE 2024, section 4): for each attribute, prompts read all others, and classifiers read the attribute
from the user vectors of 60 % of the users, choose on 20 % and are tried on 20 %, drawn anew with each seed. The same classifiers read the
mean of the item vectors of a user's history, the user vectors of the base, those behind one prompt for all, and the other attributes alone or beside
vectors: only what PPR adds to these last is owed to prompts and not to the attributes, which say something by themselves. Recommenders never see the
attribute that is held out. Writes `results/profile_prediction_NAME.json`: means over seeds, 95 % intervals over users, paired differences.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
from _record import write
from scipy.sparse import csr_array

from tongtu.core import FitOptions, Recommender, RequestBatch
from tongtu.data.attributes import AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.data.public import load
from tongtu.data.splits import Split, leave_one_out
from tongtu.systems import make
from tongtu.testing import case_ndcg
from tongtu.trust.attackers import ATTACKERS, Attack, attack, parted
from tongtu.trust.probe import drawn, interval, summary

Vectors = npt.NDArray[np.float32]
Attacks = dict[tuple[str, str, str], list[Attack]]

ITEMS, BASE, ONE, PROMPTS = "mean item vector", "user vector of the base", "PPR, one prompt for all", "PPR, prompts of the other attributes"
OTHERS, ITEMS_TOO, BASE_TOO = "the other attributes alone", "mean item vector and the other attributes", "user vector of the base and the other attributes"
WAYS = (ITEMS, BASE, ONE, OTHERS, ITEMS_TOO, BASE_TOO, PROMPTS)
MEASURES = ("auc", "micro_f1", "macro_f1")


def main() -> None:
    options = parse()
    data = load(options.data)
    attacks: Attacks = defaultdict(list)
    fits: list[dict[str, Any]] = []
    for done, seed in enumerate(options.seeds, start=1):
        for name, found in of_seed(options, data, seed, fits).items():
            attacks[name] += found
        rows = [row for name in options.attributes for kind in options.attackers for row in compared(attacks, name, kind, options.repeats)]
        facts = {"data": data.name, "attributes": options.attributes, "seeds": options.seeds[:done], "first": options.first, "mode": options.mode}
        result = {**facts, "rows": rows, "fits": fits}
        write(name_of(options, data), result, ("numpy", "scikit-learn", "torch"))  # after each seed: an hour's work should not wait for the next one
    print(table(rows))


def parse() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set folder, or a public name")
    parser.add_argument("--attributes", type=words, default=["gender", "age", "occupation"])
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2, 3, 4])
    parser.add_argument("--attackers", type=words, default=["linear", "mlp"], help=f"of {', '.join(ATTACKERS)}")
    parser.add_argument("--first", type=int, help="read each user's first so many events only; by default all")
    parser.add_argument("--buckets", type=int, default=5, help="classes of an attribute with many numbers")
    parser.add_argument("--mode", choices=["light", "full"], default="light", help="of PPR")
    parser.add_argument("--pretrain-epochs", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=40, help="of PPR")
    parser.add_argument("--average", type=float, default=0.9, help="decay of PPR's moving average of weights")
    parser.add_argument("--bases", default="runs/bases", help="where pretrained models are kept")
    parser.add_argument("--repeats", type=int, default=1_000, help="resamples of the users")
    return parser.parse_args()


def name_of(options: argparse.Namespace, data: Dataset) -> str:
    parts = [data.name, *(["full"] if options.mode == "full" else []), *([] if options.first is None else [f"first-{options.first}"])]
    return f"profile_prediction_{'-'.join(parts)}"


def of_seed(options: argparse.Namespace, data: Dataset, seed: int, fits: list[dict[str, Any]]) -> Attacks:
    """Fit everything with one seed, and let the classifiers read each attribute."""
    split = leave_one_out(data)
    users = np.flatnonzero(data.lengths > 0) + 1
    requests = asking(data, users, options.first)
    base: Any = fitted(options, "finetuning", {"way": "none"}, split, seed, fits)
    items = direction(base.base.system.net.item_vectors(slice(None)).detach().numpy())
    vectors = {ITEMS: mean_items(items, requests), BASE: user_vectors(base, requests)}
    vectors[ONE] = user_vectors(fitted(options, "ppr", {"attributes": ()}, split, seed, fits), requests)
    found: Attacks = {}
    for name in options.attributes:
        others = [other for other in options.attributes if other != name]
        if not others:
            raise SystemExit("two attributes are the least: one is held out, and prompts read the others")
        told = one_hot(AttributeReader.learn(data, others).of_users(data)[users - 1])
        prompts = user_vectors(fitted(options, "ppr", {"attributes": others}, split, seed, fits), requests)
        beside = {way: np.concatenate([vectors[alone], told], 1) for way, alone in ((ITEMS_TOO, ITEMS), (BASE_TOO, BASE))}
        label = AttributeReader.learn(data, [name], options.buckets).of_users(data)[users - 1, 0]
        parts = parted(label, seed)
        for way, read in {**vectors, **beside, OTHERS: told, PROMPTS: prompts}.items():
            for kind in options.attackers:
                found[name, way, kind] = [attack(read, label, parts, kind, seed)]
        print(f"seed {seed}: {name} read", flush=True)
    return found


def fitted(options: argparse.Namespace, name: str, settings: dict[str, Any], split: Split, seed: int, fits: list[dict[str, Any]]) -> Recommender:
    """A system on the base of this seed; the epoch is chosen by what users met next, never by an attribute."""
    pretraining = {"tokens": 4_096, "learning_rate": 2e-3, "average": 0.99, "epochs": options.pretrain_epochs, "patience": 3}
    network = {"max_length": 50, "windows": "all", "loss": {"temperature": 0.05}, "training": pretraining}
    training = {"epochs": options.epochs, "patience": 8, "average": options.average}
    shots = min(options.first or network["max_length"], network["max_length"])
    own = {"mode": options.mode, "shots": shots} if name == "ppr" else {}
    system = make(name, {"bases": options.bases, "pretraining": network, "training": training, **own, **settings})
    system.fit(split.train, FitOptions(seed=seed, quiet=True, validate=lambda model: {"ndcg@10": float(case_ndcg(model, split.valid).mean())}))
    made = {part: system.provenance[part] for part in ("epochs", "fit_seconds")}  # type: ignore[attr-defined]
    fits.append({"seed": seed, "system": name, **settings, **made, "ndcg@10": float(case_ndcg(system, split.test).mean())})
    return system


def asking(data: Dataset, users: npt.NDArray[np.int64], first: int | None) -> RequestBatch:
    """Every user with all of their events, or with the first few."""
    requests = data.requests(users.astype(np.int32))
    return requests if first is None else dataclasses.replace(requests, stop=np.minimum(requests.stop, requests.start + first))


def user_vectors(system: Any, requests: RequestBatch) -> Vectors:
    return direction(system.user_vectors(requests))


def direction(vectors: Vectors) -> Vectors:
    """Vectors of length 1: scores are cosines, so that lengths mean nothing."""
    long: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return long


def mean_items(items: Vectors, requests: RequestBatch) -> Vectors:
    """The mean vector of the items of each history."""
    row, place = requests.events()
    met = csr_array((np.ones(len(row), np.float32), (row, requests.item[place])), shape=(len(requests), len(items)))
    mean: Vectors = met @ items / requests.lengths[:, None].astype(np.float32)
    return mean


def one_hot(codes: npt.NDArray[np.int64]) -> Vectors:
    """Codes of attributes as zeros and ones; what is unknown has zeros alone."""
    return np.concatenate([np.eye(column.max() + 1, dtype=np.float32)[column][:, 1:] for column in codes.T], 1)


def compared(attacks: Attacks, attribute: str, attacker: str, repeats: int) -> list[dict[str, Any]]:
    """What each way tells of an attribute, and what the prompts tell more."""
    groups = [attacks[attribute, way, attacker] for way in WAYS]
    resampled = drawn(groups, repeats)
    found = [summary(group, repeats=1) for group in groups]  # for the means; intervals come from the resamples that all ways share
    rows = []
    for place, (way, one) in enumerate(zip(WAYS, found, strict=True)):
        row = {"attribute": attribute, "attacker": attacker, "read": way, "classes": one.classes, "users": one.users}
        row |= {name: getattr(one, name) for name in (*MEASURES, "chance_micro", "chance_macro")}
        row["interval"] = {name: interval(resampled[:, place, column]) for column, name in enumerate(MEASURES)}
        if way != PROMPTS:
            more = resampled[:, -1] - resampled[:, place]
            less = [getattr(found[-1], name) - getattr(one, name) for name in MEASURES]
            row["prompts add"] = {name: [less[column], *interval(more[:, column])] for column, name in enumerate(MEASURES)}
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one block an attribute and classifier."""
    lines: list[str] = []
    for attribute, attacker in dict.fromkeys((row["attribute"], row["attacker"]) for row in rows):
        own = [row for row in rows if (row["attribute"], row["attacker"]) == (attribute, attacker)]
        lines += [f"\n{attribute} ({own[0]['classes']} classes, {own[0]['users']} users), read by {attacker}\n"]
        lines += ["| read from | AUC | micro F1 | macro F1 | AUC that PPR's prompts add |", "|---|---|---|---|---|"]
        lines += [f"| nothing (the most frequent class) | .500 | {own[0]['chance_micro']:.3f} | {own[0]['chance_macro']:.3f} | |"]
        for row in own:
            cells = [f"{row[name]:.3f} [{row['interval'][name][0]:.3f}, {row['interval'][name][1]:.3f}]" for name in MEASURES]
            more = row.get("prompts add", {}).get("auc")
            cells.append("" if more is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*more))
            lines.append(f"| {row['read']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
