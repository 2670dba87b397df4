"""Claim: what there is to gain from attributes for new users, at the most, on a data set.

    python benchmarks/attribute_oracle.py ml-100k --attributes gender,age,occupation --shots 0

The question of the protocol cold-users, asked of every user: which item comes after their first `shots` events? Answered by popularity at that place
among all other users, mixed with that among those of the same group, in proportions that are chosen in hindsight, on the very answers that are judged: no
mixture by one number can do better. The hindsight finds something in groups that mean nothing as well, so the same is done with the attributes shuffled
among users, 20 times: what the true groups gain over the shuffled ones is what the attributes say. Writes `results/attribute_oracle_NAME_SHOTS.json`.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _data import read
from _record import write

from tongtu.core import Codes
from tongtu.data.attributes import AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.data.public import load
from tongtu.evaluation.intervals import bootstrap

SHARES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0)
CUTOFF, SHUFFLES = 10, 20

Values = npt.NDArray[np.float64]


def main() -> None:
    """Measure, print and record."""
    arguments = parse()
    path = Path(arguments.data)
    data = read(path) if path.exists() else load(arguments.data)
    names = arguments.attributes.split(",")
    users, target = asked(data, arguments.shots)
    profile = AttributeReader.learn(data, names).of_users(data)[users - 1]
    items, target = np.unique(target, return_inverse=True)  # one that nobody met at that place never stands before a target
    seen = seen_items(data, users, arguments.shots, items)
    everybody = popularity(np.zeros(len(users), np.int64), target, len(items))
    base = ndcg(everybody, target, seen)
    print(f"{data.name}: {len(users):,} users, the item after their first {arguments.shots} events; by popularity there NDCG@{CUTOFF} {base.mean():.4f}")
    rows = []
    for size in range(1, len(names) + 1):
        for chosen in combinations(range(len(names)), size):
            row = gain(profile[:, chosen], target, seen, everybody, users, len(items))
            rows.append({"attributes": [names[column] for column in chosen], **row})
            print(
                f"{'+'.join(names[column] for column in chosen):24} {row['groups']:4} groups {row['ndcg@10']:.4f}, shuffled {row['shuffled']:.4f}: "
                f"{row['gain']:+.4f} [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}], {row['share']:.0%} of the group",
                flush=True,
            )
    result = {"data": {"name": data.name, "users": len(users), "items": data.items.size}, "shots": arguments.shots, "popularity": base.mean(), "groups": rows}
    print(write(f"attribute_oracle_{data.name}_{arguments.shots}", result, ("numpy", "polars")))


def parse() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set folder or a public name")
    parser.add_argument("--attributes", default="gender,age,occupation")
    parser.add_argument("--shots", type=int, default=0)
    return parser.parse_args()


def asked(data: Dataset, shots: int) -> tuple[Codes, Codes]:
    """Users with more than `shots` events, and the item that comes then."""
    users = np.flatnonzero(data.lengths > shots).astype(np.int32) + 1
    return users, data.item[data.offset[users - 1] + shots]


def seen_items(data: Dataset, users: Codes, shots: int, items: Codes) -> npt.NDArray[np.bool_]:
    """bool[n, len(items)], which of `items` each user met before."""
    met = data.item[data.offset[users - 1][:, None] + np.arange(shots)]
    seen = np.zeros((len(users), len(items) + 1), np.bool_)
    place = np.minimum(np.searchsorted(items, met), len(items) - 1)
    np.put_along_axis(seen, np.where(items[place] == met, place, len(items)), True, 1)
    return seen[:, :-1]


def popularity(group: npt.NDArray[np.int64], target: Codes, items: int) -> Values:
    """float64[n, items], for each user the share of each item among the targets of the others in their group."""
    counts = np.zeros((group.max() + 1, items))
    np.add.at(counts, (group, target), 1)
    own = counts[group]
    own[np.arange(len(target)), target] -= 1
    return own / np.maximum(own.sum(1, keepdims=True), 1)


def ndcg(scores: Values, target: Codes, seen: npt.NDArray[np.bool_]) -> Values:
    """float64[n]; seen items are left out, ties with the target stand before it."""
    row = np.arange(len(target))
    scores = np.where(seen, -1, scores)
    rank = (scores >= scores[row, target][:, None]).sum(1)
    return np.where(rank <= CUTOFF, 1 / np.log2(rank + 1.0), 0.0)


def gain(profile: npt.NDArray[np.int64], target: Codes, seen: npt.NDArray[np.bool_], everybody: Values, users: Codes, items: int) -> dict[str, float]:
    """What groups by these attributes are worth in hindsight, beyond groups of the same sizes that mean nothing."""
    _, group = np.unique(profile, axis=0, return_inverse=True)
    group = group.ravel()
    share, best = in_hindsight(group, target, seen, everybody, items)
    rng = np.random.default_rng(0)
    shuffled = np.mean([in_hindsight(rng.permutation(group), target, seen, everybody, items)[1] for _ in range(SHUFFLES)], 0)
    difference = best - shuffled
    ((low, high),) = bootstrap(difference[:, None], users)
    return {
        "groups": int(group.max() + 1),
        "ndcg@10": best.mean(),
        "share": share,
        "shuffled": shuffled.mean(),
        "gain": difference.mean(),
        "gain_low": low,
        "gain_high": high,
    }


def in_hindsight(group: npt.NDArray[np.int64], target: Codes, seen: npt.NDArray[np.bool_], everybody: Values, items: int) -> tuple[float, Values]:
    """The best share of the group's popularity beside everybody's, and NDCG@10 of each user with it."""
    own = popularity(group, target, items)
    tried = [(share, ndcg(share * own + (1 - share) * everybody, target, seen)) for share in SHARES]
    return max(tried, key=lambda pair: float(pair[1].mean()))


if __name__ == "__main__":
    main()
