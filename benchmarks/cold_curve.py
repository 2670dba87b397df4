"""Claim: which road serves new users best after 0 to 9 events.

    python benchmarks/cold_curve.py experiments/few-events-ml-100k.toml --out runs/cold-curve-ml-100k --picture docs/cold-users.png

Systems, data, seeds and the share of users held out are those of an experiment file. Whoever is held out is held out for all numbers of events alike, so that
each system is fitted once a seed; its epoch is chosen by the mean of NDCG@10 of the validation users after 0, 1, 5 and 9 events. The same test users are then
asked after each number of events. Paired tests compare PPR (light) with every row, and PPR (full) with full fine-tuning,
on the users' means over seeds. Finished fits are kept in OUT.
Writes `results/cold_curve_NAME.json` and a picture.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _record import write

from tongtu import systems
from tongtu.core import FitOptions, Recommender
from tongtu.data.public import load
from tongtu.data.splits import Split
from tongtu.evaluation.evaluate import ask, validator
from tongtu.evaluation.experiment import Experiment, Row, read_experiment, rows, slug
from tongtu.evaluation.intervals import bootstrap, paired_tests

SHOTS = (0, 1, 2, 3, 5, 7, 9)
CHOSEN_BY = (0, 1, 5, 9)
AGAINST = "PPR (light)"
FULL, TUNED = "PPR (full)", "Fine-tuned base"
DRAWN = ("Popular", "Popular in the group, first 10 events", "EASE", "The base as it is", "Fine-tuned base", "PPR (light)", "PPR (full)")
"""What the picture shows."""

Values = npt.NDArray[np.float64]


def main() -> None:
    """Fit, ask, print, record and draw."""
    arguments = parse()
    experiment = read_experiment(arguments.experiment, systems)
    data = load(experiment.data)
    splits = {shots: dataclasses.replace(experiment.protocol, shots=shots).split(data) for shots in SHOTS}
    for split in splits.values():
        assert split.train.fingerprint == splits[0].train.fingerprint, "some user is too short: lower the numbers of events"
    found = {}
    for row in rows(experiment):
        found[row.label] = np.stack([asked(row, seed, splits, arguments.out) for seed in experiment.seeds])  # [seeds, shots, users]
        print(f"{row.label:42} {' '.join(f'{value:.4f}' for value in found[row.label].mean((0, 2)))}", flush=True)
    facts = {"data": experiment.data, "seeds": list(experiment.seeds), "users": len(splits[0].test), "shots": SHOTS}
    result = facts | {"rows": judged(found), "full_less_tuned": paired(found, FULL, TUNED)}
    print(write(f"cold_curve_{slug(arguments.experiment.stem.removeprefix('few-events-'))}", result))
    if arguments.picture:
        draw(result, experiment, arguments.picture)


def parse() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    return parser.parse_args()


def asked(row: Row, seed: int, splits: dict[int, Split], out: Path) -> Values:
    """float64[shots, users], NDCG@10 of each test user after each number of events; kept in a file once it is known."""
    kept = out / f"{slug(row.label)}-{seed}.json"
    settings = json.dumps([row.entry.settings, splits[0].train.fingerprint], sort_keys=True, default=str)
    if kept.is_file() and (old := json.loads(kept.read_text(encoding="utf-8")))["settings"] == settings:
        return np.array(old["ndcg@10"])
    started = time.monotonic()
    model = systems.make(row.entry.name, row.entry.settings).fit(splits[0].train, FitOptions(seed=seed, validate=chooser(splits), quiet=True))
    seconds = time.monotonic() - started
    values = [ask(model, splits[shots].test, splits[shots].train.items).values((10,))["ndcg@10"] for shots in SHOTS]
    out.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"settings": settings, "fit_seconds": seconds, "ndcg@10": np.array(values).tolist()}), encoding="utf-8")
    return np.array(values)


def chooser(splits: dict[int, Split]) -> Callable[[Recommender], dict[str, float]]:
    """What chooses a system's epoch."""
    measures = [validator(splits[shots].valid) for shots in CHOSEN_BY]

    def measure(model: Recommender) -> dict[str, float]:
        return {"ndcg@10": float(np.mean([one(model)["ndcg@10"] for one in measures]))}

    return measure


def judged(found: dict[str, Values]) -> list[dict[str, Any]]:
    """Means with intervals over users, and paired tests against the row `AGAINST`."""
    result = []
    for label, values in found.items():
        mean = values.mean(0)
        users = np.arange(mean.shape[1], dtype=np.int32)
        limits = bootstrap(mean.T, users)
        one: dict[str, Any] = {
            "system": label,
            "ndcg@10": mean.mean(1).tolist(),
            "interval": limits.tolist(),
            "over_seeds": values.mean(2).std(0).tolist(),
        }
        if label != AGAINST:
            one["less_than_light"] = paired(found, AGAINST, label)
        result.append(one)
    return result


def paired(found: dict[str, Values], first: str, second: str) -> list[dict[str, Any]]:
    """The first row less the second after each number of events, on the users' means over seeds; nothing where one is missing."""
    if first not in found or second not in found:
        return []
    pair = [found[label].mean(0).T for label in (first, second)]
    return [dataclasses.asdict(test) for test in paired_tests(*pair, np.arange(len(pair[0]), dtype=np.int32))]


def draw(result: dict[str, Any], experiment: Experiment, picture: Path) -> None:
    """NDCG@10 against the number of events, one line a system."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.4), dpi=150)
    shown = [row for row in result["rows"] if row["system"] in DRAWN]
    for number, row in enumerate(shown):
        low, high = np.array(row["interval"]).T
        middle, place = np.array(row["ndcg@10"]), np.array(result["shots"]) + 0.06 * (number - len(shown) / 2)
        axes.errorbar(place, middle, [middle - low, high - middle], marker="o", markersize=4, elinewidth=0.7, linewidth=1.4, label=row["system"])
    axes.set(xlabel="events the new user has shown", ylabel="NDCG@10, 95 % over users", title=f"{experiment.name.split(',')[0]}: {result['users']} new users")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    main()
