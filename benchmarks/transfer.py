"""Claim: what pre-training on other domains' text and behaviour is worth on a data set that was left out, from few users to all.

    python benchmarks/transfer.py --target beauty=data/beauty-text --source ml-1m=data/ml-1m-text retail=data/online-retail --out runs/transfer

UniSRec is pre-trained once for each seed on all sources, then adapted to the target with 1 %, 10 % and 100 % of its users
(`train_users` of the protocol; every user is asked in the test), against the same model from scratch with the same budget, an
id-only SASRec, and Popular. Zero-shot is the pre-trained model without any adaptation. Sources and target must share no items:
ml-100k and ml-1m hold the same films and may not stand on both sides. Writes `results/transfer_TARGET.json` and a picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from _record import write
from _toml import document, inline

SHARES = (0.01, 0.1, 1.0)
BODY = {"blocks": 1, "dropout": 0.3}
SHOWN = ("recall@10", "ndcg@10")


def main() -> None:
    options = parse()
    (target, folder), *_ = options.target
    bases = {seed: pretrained(options, seed) for seed in options.seeds}
    rows: list[dict[str, Any]] = []
    for share in options.shares:
        for seed in options.seeds:
            rows += compared(options, folder, share, seed, bases[seed])
        means = mean_over_seeds(rows, options.seeds)
        facts = {"target": target, "sources": [name for name, _ in options.source], "seeds": options.seeds, "rows": means, "runs": rows}
        write(f"transfer_{target}", facts)  # after each share: hours of work should not wait for the next one
        print(table(means), flush=True)
    draw(means, target, options.picture)


def parse() -> argparse.Namespace:
    def named(text: str) -> tuple[str, str]:
        name, _, folder = text.partition("=")
        return name, folder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=named, nargs=1, required=True, metavar="NAME=DIR")
    parser.add_argument("--source", type=named, nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="a PNG file to draw the curves into")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--pretrain-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=30)
    return parser.parse_args()


def settings(options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    return {"encoder": options.encoder, **BODY, "training": {"epochs": options.epochs, "patience": 3}, **more}


def pretrained(options: argparse.Namespace, seed: int) -> Path:
    """A folder with the weights learned on all sources."""
    out = options.out / f"base-{seed}"
    if out.exists():
        return out
    sets = settings(options, pretrain=[folder for _, folder in options.source], tune="none", pretraining={"epochs": options.pretrain_epochs})
    given = [f"--set={key}={inline(value)}" for key, value in sets.items()]
    command = [sys.executable, "-m", "tongtu", "fit", "unisrec", "--data", options.source[0][1], "--out", str(out), "--seed", str(seed), *given]
    subprocess.run(command, check=True)
    return out


def compared(options: argparse.Namespace, folder: str, share: float, seed: int, base: Path) -> list[dict[str, Any]]:
    """One comparison: a share of the users, one seed."""
    out = options.out / f"share-{share:g}-seed-{seed}"
    network = {**BODY, "loss": {"temperature": 0.1}, "training": {"epochs": options.epochs, "patience": 3, "average": 0.99}}
    systems = [
        {"name": "popular"},
        {"name": "sasrec", "settings": network},
        {"name": "unisrec", "label": "from scratch", "settings": settings(options)},
        {"name": "unisrec", "label": "pre-trained", "settings": settings(options, base=str(base))},
        {"name": "unisrec", "label": "pre-trained, zero-shot", "settings": settings(options, base=str(base), tune="none")},
    ]
    protocol = {"name": "leave-one-out", "train_users": share, "seed": seed}
    file = options.out / f"{out.name}.toml"
    values = {"name": out.name, "data": folder, "protocol": protocol, "seeds": [seed], "systems": systems}
    file.write_text(document(values), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "tongtu", "compare", str(file), "--out", str(out)], check=True)
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return [
        {"share": share, "seed": seed, "system": row["label"], "epochs": row["runs"][0]["epochs"], "fit_seconds": row["fit_seconds"]}
        | {name: row["metrics"][name] for name in SHOWN}
        | {"interval": row["interval"]["ndcg@10"], "events": results["data"]["train_events"]}
        for row in results["systems"]
        if row["status"] == "done"
    ]


def mean_over_seeds(rows: list[dict[str, Any]], seeds: list[int]) -> list[dict[str, Any]]:
    """Means and deviations over seeds, and the mean ends of the intervals over users."""
    means = []
    for share, system in dict.fromkeys((row["share"], row["system"]) for row in rows):
        own = [row for row in rows if row["share"] == share and row["system"] == system]
        if len(own) < len(seeds):
            continue
        values = [row["ndcg@10"] for row in own]
        mean = sum(values) / len(values)
        ends = [sum(row["interval"][end] for row in own) / len(own) for end in (0, 1)]
        spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        recall = sum(row["recall@10"] for row in own) / len(own)
        means.append({"share": share, "system": system, "ndcg@10": mean, "recall@10": recall, "interval": ends, "deviation over seeds": spread})
    return means


def table(means: list[dict[str, Any]]) -> str:
    lines = ["| users | system | N@10 | 95 % | over seeds | R@10 |", "|---|---|---|---|---|---|"]
    for row in means:
        low, high = row["interval"]
        figures = (f"{row['ndcg@10']:.4f}", f"{low:.4f} to {high:.4f}", f"{row['deviation over seeds']:.4f}", f"{row['recall@10']:.4f}")
        cells = [f"{row['share']:.0%}", row["system"], *figures]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(means: list[dict[str, Any]], target: str, picture: Path | None) -> None:
    """NDCG@10 against the share of users, one line a system."""
    if picture is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=150)
    for system in dict.fromkeys(row["system"] for row in means):
        own = [row for row in means if row["system"] == system]
        middle = [row["ndcg@10"] for row in own]
        below = [value - row["interval"][0] for value, row in zip(middle, own, strict=True)]
        above = [row["interval"][1] - value for value, row in zip(middle, own, strict=True)]
        axes.errorbar([100 * row["share"] for row in own], middle, [below, above], marker="o", capsize=3, label=system)
    axes.set(xscale="log", xlabel="users learned from, %", ylabel="NDCG@10, test", title=f"{target}: adapted with few users and with all")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    main()
