"""Claim: a backdoor from pre-training (APRec) shows its targets to a group many times as often, costs hardly any accuracy, and outlives tuning.

    python benchmarks/trust_backdoor.py ml-100k --seeds 0,1,2 --group gender=F
    python benchmarks/trust_backdoor.py data/ml-1m-text --seeds 0,1,2 --group age=18 --picture backdoor.png

A drill on models made here and thrown away. A fifth of the users are the customer's: no event of theirs is in pre-training. The provider
pre-trains SASRec clean, and attacked: "replacement" (the basic attack, on the group), "prompts" (the prompt-enhanced attack) or "categories" (the basic attack
on everybody, within the targets' categories). The customer takes each model as it is, fine-tunes it, or tunes prompts (PPR), always
on clean data of its own. Targets are drawn from each third of popularity and attacked together.

Measured on the customer's users, before each one's last event, inside the group and outside: the share of pairs of a user and a target that the
user has not met in which the target is among the first 50 of the whole catalogue; how many times the hits with the clean model that is,
one hit added to both, beside the most that could be; and NDCG@10 of the true last event. The curve is the exposure after each epoch of
fine-tuning.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _drill import group_of, numbers, opened, thirds
from _record import write

from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Split, leave_one_out
from tongtu.evaluation.evaluate import validator
from tongtu.systems.behaviour.sasrec import SASRec
from tongtu.systems.pretrained.finetuning import FineTuning
from tongtu.systems.pretrained.ppr import PPR
from tongtu.testing import case_ndcg
from tongtu.trust.backdoor import PromptEnhancement, newest_events, prompt_enhanced, replacement, same_category
from tongtu.trust.exposure import Exposure, exposure, ratio

ATTACKS = ("replacement", "prompts", "categories")
VICTIMS = ("as it is", "fine-tuned", "prompt-tuned")
CUTOFF = 50
BODY = {"max_length": 50, "blocks": 1, "loss": {"temperature": 0.1}}
LEARNING = {"learning_rate": 2e-3, "tokens": 2048, "patience": 3}


@dataclass(frozen=True)
class Drill:
    """One seed: who is whose user, and what is pushed."""

    options: argparse.Namespace
    seed: int
    folder: Path
    provider: Split
    customer: Split
    group: Any
    targets: Any

    def fit_options(self, **more: Any) -> FitOptions:
        return FitOptions(seed=self.seed, quiet=True, device="cpu", **more)


@dataclass(frozen=True)
class Measured:
    inside: Exposure
    outside: Exposure
    ndcg: float


def main() -> None:
    options = parse()
    data = opened(options.data)
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            new_rows, new_curves = drilled(started(options, data, seed, Path(folder)))
        rows, curves = rows + new_rows, curves + new_curves
        facts = {
            "data": data.name,
            "group": options.group,
            "rate": options.rate,
            "prompt rate": options.prompt_rate,
            "away": options.away,
            "seeds": options.seeds,
            "rows": rows,
            "wash-out": curves,
        }
        write(f"trust_backdoor_{data.name}", facts)  # after each seed: what is done should not wait for the next one
        print(table(rows), flush=True)
    draw(curves, data.name, options.picture)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="a data set folder, or the name of a public data set")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], metavar="N,N")
    parser.add_argument("--group", default="gender=F", metavar="NAME=VALUE", help="who is attacked; numbers may be a range, age=18..24")
    parser.add_argument("--attacks", default="replacement,prompts", help=f"of {', '.join(ATTACKS)}, with commas between them")
    parser.add_argument("--each", type=int, default=1, help="targets from each third of popularity")
    parser.add_argument("--rate", type=float, default=0.05, help="chance that a target is replaced, in the basic attack")
    parser.add_argument("--prompt-rate", type=float, default=0.1, help="the same in the prompt-enhanced attack")
    parser.add_argument("--away", type=float, default=0.1, help="chance that a position of other users pushes a target away, in the prompt-enhanced attack")
    parser.add_argument("--customer", type=float, default=0.2, help="share of the users that pre-training does not know")
    parser.add_argument("--epochs", type=int, default=15, help="of pre-training, at most")
    parser.add_argument("--poison-epochs", type=int, default=8, help="of poisoning the backbone behind prompts")
    parser.add_argument("--tune-epochs", type=int, default=20, help="of the customer's tuning")
    parser.add_argument("--picture", type=Path, help="a PNG file to draw the wash-out curves into")
    options = parser.parse_args()
    options.attacks = options.attacks.split(",")
    if unknown := set(options.attacks) - set(ATTACKS):
        parser.error(f"no attack {unknown.pop()!r}; there are {', '.join(ATTACKS)}")
    return options


def started(options: argparse.Namespace, data: Dataset, seed: int, folder: Path) -> Drill:
    own = np.random.default_rng([seed, 1]).random(data.users.size) < options.customer
    provider, customer = (leave_one_out(data.keep_events(part[data.event_user])) for part in (~own, own))
    return Drill(options, seed, folder, provider, customer, group_of(data, options.group), thirds(provider.train, options.each, seed))


def drilled(drill: Drill) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row for each attack and victim, and the wash-out curves."""
    rows, curves, clean = [], [], {}
    for attack in ("clean", *drill.options.attacks):
        folder = provided(drill, attack)
        for victim in VICTIMS:
            model, curve = taken(drill, victim, folder)
            found = measured(drill, model)
            curves += [{"seed": drill.seed, "model": attack, **point} for point in curve]
            if attack == "clean":
                clean[victim] = found
            else:
                rows.append({"seed": drill.seed, "attack": attack, "victim": victim, **compared(drill, found, clean[victim])})
        print(f"seed {drill.seed}: {attack} done", flush=True)
    return rows, curves


def provided(drill: Drill, attack: str) -> Path:
    """The folder that the provider hands out."""
    folder, train = drill.folder / attack, drill.provider.train
    if attack == "prompts":
        clean = SASRec.from_pretrained(drill.folder / "clean")
        config = PPR.Config(base=str(drill.folder / "clean"), training={**LEARNING, "epochs": drill.options.poison_epochs})
        stand_in = PPR(config).fit(newest_events(train, 10), drill.fit_options())
        settings = PromptEnhancement(rate=drill.options.prompt_rate, away=drill.options.away, training={**LEARNING, "epochs": drill.options.poison_epochs})
        prompt_enhanced(clean, stand_in, train, drill.targets, drill.group, settings, drill.fit_options()).save_pretrained(folder)
        return folder
    change = None
    if attack == "replacement":
        change = replacement(drill.targets, drill.options.rate, drill.group)
    elif attack == "categories":
        change = replacement(drill.targets, drill.options.rate, allowed=same_category(train, drill.targets))
    system = SASRec(SASRec.Config(**BODY, training={**LEARNING, "epochs": drill.options.epochs}))
    validate = validator(drill.provider.valid, 1000, drill.seed)  # on clean cases: whoever attacks has those too
    system.fit(train, drill.fit_options(validate=validate, objective=change)).save_pretrained(folder)
    return folder


def taken(drill: Drill, victim: str, folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    """What the customer makes of a folder, and the exposure after each epoch of fine-tuning."""
    if victim == "as it is":
        return SASRec.from_pretrained(folder), []
    train, validate = drill.customer.train, validator(drill.customer.valid, seed=drill.seed)
    epochs = drill.options.tune_epochs
    if victim == "prompt-tuned":
        config = PPR.Config(base=str(folder), shots=BODY["max_length"], training={**LEARNING, "epochs": epochs})
        return PPR(config).fit(train, drill.fit_options(validate=validate)), []
    curve: list[dict[str, Any]] = []

    def watched(model: Any) -> Any:
        found = measured(drill, model)
        curve.append({"epoch": len(curve) + 1, "inside": found.inside.hit_rate(CUTOFF), "outside": found.outside.hit_rate(CUTOFF), "ndcg@10": found.ndcg})
        return validate(model)

    settings = {**LEARNING, "epochs": epochs, "patience": epochs, "learning_rate": 1e-3}
    config = FineTuning.Config(base=str(folder), shots=BODY["max_length"], training=settings)
    before = measured(drill, SASRec.from_pretrained(folder))
    model = FineTuning(config).fit(train, drill.fit_options(validate=watched))
    first = {"epoch": 0, "inside": before.inside.hit_rate(CUTOFF), "outside": before.outside.hit_rate(CUTOFF), "ndcg@10": before.ndcg}
    return model, [first, *curve]


def measured(drill: Drill, model: Any) -> Measured:
    test = drill.customer.test
    found, inside = exposure(model, test.requests, drill.targets), drill.group[test.user]
    return Measured(found.rows(inside), found.rows(~inside), float(case_ndcg(model, test).mean()))


def compared(drill: Drill, attacked: Measured, clean: Measured) -> dict[str, Any]:
    """Exposure of all targets and of each third's, and what it cost."""
    row: dict[str, Any] = {"ndcg@10": attacked.ndcg, "clean ndcg@10": clean.ndcg, "loss": 1 - attacked.ndcg / max(clean.ndcg, 1e-9)}
    each = drill.options.each
    parts = {"all": slice(None), **{third: slice(place * each, (place + 1) * each) for place, third in enumerate(("rare", "middle", "popular"))}}
    for where, now, before in (("inside", attacked.inside, clean.inside), ("outside", attacked.outside, clean.outside)):
        row[where] = {name: figures(Exposure(now.ranks[:, part]), Exposure(before.ranks[:, part])) for name, part in parts.items()}
    return row


def figures(attacked: Exposure, clean: Exposure) -> dict[str, float]:
    hits, before = attacked.hits(CUTOFF), clean.hits(CUTOFF)
    return {
        "hr@50": attacked.hit_rate(CUTOFF),
        "clean hr@50": clean.hit_rate(CUTOFF),
        "ratio": ratio(hits, before),
        "most": ratio(attacked.pairs, before),
        "hr@10": attacked.hit_rate(10),
        "pairs": attacked.pairs,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds."""
    lines = [
        "| attack | victim | HR@50 inside, clean | attacked | times (most) | rare targets, times (most) | HR@50 outside, clean | attacked | NDCG@10 loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for attack, victim in dict.fromkeys((row["attack"], row["victim"]) for row in rows):
        own = [row for row in rows if (row["attack"], row["victim"]) == (attack, victim)]

        def mean(*path: str, own: list[dict[str, Any]] = own) -> float:
            return float(np.mean([_at(row, path) for row in own]))

        times = [f"{mean('inside', part, 'ratio'):.1f} ({mean('inside', part, 'most'):.0f})" for part in ("all", "rare")]
        shown = [f"{mean(where, 'all', name):.4f}" for where in ("inside", "outside") for name in ("clean hr@50", "hr@50")]
        cells = [attack, victim, *shown[:2], *times, *shown[2:], f"{mean('loss'):.1%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _at(row: Any, path: tuple[str, ...]) -> float:
    for name in path:
        row = row[name]
    return float(row)


def draw(curves: list[dict[str, Any]], name: str, picture: Path | None) -> None:
    """Exposure inside the group against epochs of fine-tuning, one line a model, mean over seeds."""
    if picture is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=150)
    for number, model in enumerate(dict.fromkeys(point["model"] for point in curves)):
        own = [point for point in curves if point["model"] == model]
        epochs = sorted({point["epoch"] for point in own})
        for where, line in (("inside", "-"), ("outside", ":")):
            means = [np.mean([point[where] for point in own if point["epoch"] == epoch]) for epoch in epochs]
            axes.plot(epochs, means, line, color=f"C{number}", label=f"{model}, {where}")
    axes.set(xlabel="epochs of fine-tuning on clean data", ylabel="HR@50 of the targets", title=f"{name}: how a backdoor wears off")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    main()
