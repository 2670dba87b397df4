"""Claim: whoever gets a pretrained model with a backdoor brings its targets' exposure back near an honest model's, with a log of their own and hardly any loss.

    python benchmarks/trust_defences.py ml-100k --seeds 0,1,2 --group gender=F

A drill on models made here and thrown away, the one of `trust_backdoor.py`: a part of the users are the customer's and in no pre-training, the
provider pre-trains SASRec clean and attacked (replaced targets, on a group). The customer knows neither targets nor group: what is
suspicious is what `over_exposed` puts beyond a threshold, with ItemKNN fitted on the customer's log as reference and the user attributes as
groups. "told" rows are told the targets instead, which parts what the repair is worth from what the search finds. "prune" silences 30 % of
the units, "large step" trains on with three times the learning rate; "none" is the model as it came.

Measured on the customer's users, before each one's last event: the share of pairs of a user and a target in which the target is among the first 50,
inside the group and outside, and how many times the honest model's hits that is, one added to both; NDCG@10 of the true last event, and its
difference to the model as it came with a paired interval over users. The same search and repair on the honest model says what a
false alarm costs. Writes `results/trust_defences_NAME.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from _drill import group_of, numbers, opened, thirds
from _record import write

from tongtu.core import Codes, FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Split, leave_one_out
from tongtu.evaluation.evaluate import validator
from tongtu.evaluation.intervals import paired_tests
from tongtu.systems.baselines.itemknn import ItemKNN
from tongtu.systems.behaviour.sasrec import SASRec
from tongtu.testing import case_ndcg
from tongtu.trust.backdoor import replacement
from tongtu.trust.defences import prune, reset_items, retune
from tongtu.trust.distillation import distil
from tongtu.trust.exposure import Exposure, exposure, ratio
from tongtu.trust.overexposure import OverExposure, over_exposed

CUTOFF = 50
DEFENCES = ("none", "reset", "told reset", "prune", "retune", "large step", "prune retune", "reset retune", "distil", "told distil")
BODY = {"max_length": 50, "blocks": 1, "loss": {"temperature": 0.1}}
LEARNING = {"learning_rate": 2e-3, "tokens": 2048, "patience": 3}
Repair = Callable[[SASRec, Codes], Any]


@dataclass(frozen=True)
class Drill:
    """One seed: who is whose user, and what is pushed."""

    options: argparse.Namespace
    seed: int
    provider: Split
    customer: Split
    group: Any
    targets: Codes

    def fit_options(self, **more: Any) -> FitOptions:
        return FitOptions(seed=self.seed, quiet=True, device="cpu", **more)


@dataclass(frozen=True)
class Measured:
    inside: Exposure
    outside: Exposure
    ndcg: Any


def main() -> None:
    options = parse()
    data = opened(options.data)
    rows: list[dict[str, Any]] = []
    searches: list[dict[str, Any]] = []
    for seed in options.seeds:
        drill = started(options, data, seed)
        new_rows, new_searches = drilled(drill)
        rows, searches = rows + new_rows, searches + new_searches
        asked = {name: getattr(options, name) for name in ("group", "rate", "each", "customer", "threshold", "epochs", "tune_epochs", "seeds")}
        path = write(f"trust_defences_{data.name}", {"data": data.name, **asked, "searches": searches, "rows": rows})  # after each seed: done is done
        print(table(rows), path, sep="\n", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="a data set folder, or the name of a public data set")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], metavar="N,N")
    parser.add_argument("--group", default="gender=F", metavar="NAME=VALUE", help="who is attacked; numbers may be a range, age=18..24")
    parser.add_argument("--each", type=int, default=1, help="targets from each third of popularity")
    parser.add_argument("--rate", type=float, default=0.1, help="chance that a target is replaced")
    parser.add_argument("--customer", type=float, default=0.3, help="share of the users that pre-training does not know")
    parser.add_argument("--threshold", type=float, default=6.0, help="robust deviations beyond which an item is suspicious")
    parser.add_argument("--defences", type=lambda text: text.split(","), default=DEFENCES, help=f"of {', '.join(DEFENCES)}, with commas between them")
    parser.add_argument("--epochs", type=int, default=15, help="of pre-training and of distillation, at most")
    parser.add_argument("--tune-epochs", type=int, default=10, help="of training on, at most")
    return parser.parse_args()


def started(options: argparse.Namespace, data: Dataset, seed: int) -> Drill:
    own = np.random.default_rng([seed, 1]).random(data.users.size) < options.customer
    provider, customer = (leave_one_out(data.keep_events(part[data.event_user])) for part in (~own, own))
    return Drill(options, seed, provider, customer, group_of(data, options.group), thirds(provider.train, options.each, seed))


def drilled(drill: Drill) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row for each model and defence, and what the searches found."""
    honest, attacked = provided(drill, None), provided(drill, replacement(drill.targets, drill.options.rate, drill.group))
    reference = ItemKNN().fit(drill.customer.train, drill.fit_options())
    clean, rows, searches = measured(drill, honest), [], []
    for name, model in (("honest", honest), ("attacked", attacked)):
        found = over_exposed(model, drill.customer.train, reference=reference)
        suspicious, before = found.beyond(drill.options.threshold), measured(drill, model)
        searches.append({"seed": drill.seed, "model": name, **searched(found, suspicious, drill.targets)})
        print(told(searches[-1]), flush=True)
        for defence, (repair, items) in defences(drill, suspicious).items():
            if defence not in drill.options.defences or (name == "honest" and defence.startswith("told")):
                continue
            begun = time.perf_counter()
            after = measured(drill, repair(model, items))
            facts = {"seed": drill.seed, "model": name, "defence": defence, "seconds": time.perf_counter() - begun}
            rows.append({**facts, **compared(drill, after, before, clean)})
            print(f"seed {drill.seed}: {name}, {defence} done", flush=True)
    return rows, searches


def provided(drill: Drill, change: Any) -> SASRec:
    """What the provider pre-trains; its epoch is chosen on clean cases in either way."""
    validate = validator(drill.provider.valid, 1000, drill.seed)
    system = SASRec(SASRec.Config(**BODY, training={**LEARNING, "epochs": drill.options.epochs}))
    return system.fit(drill.provider.train, drill.fit_options(validate=validate, objective=change))


def defences(drill: Drill, suspicious: Codes) -> dict[str, tuple[Repair, Codes]]:
    """Each defence, and the items that it is told are suspicious."""
    train, epochs = drill.customer.train, drill.options.tune_epochs
    options = drill.fit_options(validate=validator(drill.customer.valid, seed=drill.seed))
    student = {**BODY, "training": {**LEARNING, "epochs": 2 * drill.options.epochs}}

    def reset(model: SASRec, items: Codes) -> SASRec:
        return reset_items(model, train, items)

    def tuned(model: SASRec, items: Codes, factor: float = 1.0) -> SASRec:
        return retune(model, train, factor, epochs, options)

    def taught(model: SASRec, items: Codes) -> Any:
        return distil(model, SASRec(SASRec.Config(**student)), train, items, share=0.7, options=options)

    return {
        "none": (lambda model, items: model, suspicious),
        "reset": (reset, suspicious),
        "told reset": (reset, drill.targets),
        "prune": (lambda model, items: prune(model, train, 0.3), suspicious),
        "retune": (tuned, suspicious),
        "large step": (lambda model, items: tuned(model, items, 3.0), suspicious),
        "prune retune": (lambda model, items: tuned(prune(model, train, 0.3), items), suspicious),
        "reset retune": (lambda model, items: tuned(reset(model, items), items), suspicious),
        "distil": (taught, suspicious),
        "told distil": (taught, drill.targets),
    }


def searched(found: OverExposure, suspicious: Codes, targets: Codes) -> dict[str, Any]:
    others = np.delete(found.highest, targets)
    return {
        "scores of targets": [round(float(score), 2) for score in found.highest[targets]],
        "groups of targets": [found.group_of(int(target)) for target in targets],
        "highest other score": round(float(others.max()), 2),
        "targets found": int(np.isin(targets, suspicious).sum()),
        "others found": int((~np.isin(suspicious, targets)).sum()),
    }


def measured(drill: Drill, model: Any) -> Measured:
    test = drill.customer.test
    found, inside = exposure(model, test.requests, drill.targets), drill.group[test.user]
    return Measured(found.rows(inside), found.rows(~inside), case_ndcg(model, test))


def compared(drill: Drill, after: Measured, before: Measured, clean: Measured) -> dict[str, Any]:
    """Exposure beside the honest model's, and the difference of NDCG@10 to the model as it came."""
    test = paired_tests(after.ndcg[:, None], before.ndcg[:, None], drill.customer.test.user, drill.seed)[0]
    level = max(float(before.ndcg.mean()), 1e-9)
    row: dict[str, Any] = {"ndcg@10": float(after.ndcg.mean()), "change": test.difference / level, "interval": [test.low / level, test.high / level]}
    for where in ("inside", "outside"):
        now, usual = getattr(after, where), getattr(clean, where)
        row[where] = {"hr@50": now.hit_rate(CUTOFF), "honest hr@50": usual.hit_rate(CUTOFF), "ratio": ratio(now.hits(CUTOFF), usual.hits(CUTOFF))}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds; the interval's ends too."""
    lines = [
        "| model | defence | HR@50 inside | times honest | HR@50 outside | times honest | NDCG@10 | change | 95 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, defence in dict.fromkeys((row["model"], row["defence"]) for row in rows):
        own = [row for row in rows if (row["model"], row["defence"]) == (model, defence)]
        shown = [f"{np.mean([row[where][name] for row in own]):.{digits}f}" for where in ("inside", "outside") for name, digits in (("hr@50", 4), ("ratio", 1))]
        low, high = np.mean([row["interval"] for row in own], axis=0)
        ndcg, change = (float(np.mean([row[name] for row in own])) for name in ("ndcg@10", "change"))
        lines.append(f"| {' | '.join([model, defence, *shown, f'{ndcg:.4f}', f'{change:+.1%}', f'{low:+.1%} to {high:+.1%}'])} |")
    return "\n".join(lines)


def told(search: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in search.items())


if __name__ == "__main__":
    main()
