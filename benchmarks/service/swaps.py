"""Promise 4: a hundred model swaps under load fail no request, a corrupt model leaves the old one serving, and a rollback takes less than a second.

    python benchmarks/service/swaps.py

All load asks one and the same question, to which the two models that take turns answer differently: so each answer shows whether it is of the version that
it names.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from _models import random_sasrec
from _server import Kept, begin_load, start, summary, tell, workplace

from tongtu.client import Client
from tongtu.client.problems import ServiceError

LIMIT = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50)
    options = parser.parse_args()
    with workplace() as folder:
        models = [random_sasrec(folder / name, options.items, seed=seed) for seed, name in enumerate(("first", "second"))]
        corrupt = random_sasrec(folder / "corrupt", options.items, seed=2)
        damage(corrupt / "model.safetensors")
        with start([f"shop={models[0]}"], f"sqlite:///{folder / 'store.db'}") as server, Client(server.url, deadline=120) as shop:
            found = swapped(server.port, shop, models, options)
            found |= refused(shop, corrupt)
            found |= rolled_back(shop)
            alive = server.process.poll() is None
    statuses, mixed = found["answers"]["statuses"], found["versions with two answers"]
    named = f"{found['versions']} versions, {mixed} that gave two answers, {found['without a version']} answers without one"
    kept = [
        Kept(f"{options.swaps} swaps at {options.rate:g}/s, 0 failed requests", json.dumps(statuses), set(statuses) == {"200"}),
        Kept("each answer is of the one version it names", named, not mixed and not found["without a version"] and found["versions"] > 1),
        Kept("a corrupt model is refused, and says why", found["refused"], "model.safetensors" in found["refused"] or "damaged" in found["refused"]),
        Kept("the old one goes on serving", str(found["still"]), found["still"] and alive),
        Kept(f"rollback under {LIMIT:.0f} s", f"{1000 * found['rollback seconds']:.0f} ms", found["rolled back"] and found["rollback seconds"] < LIMIT),
    ]
    tell("swaps", __doc__ or "", kept, found)


def swapped(port: int, shop: Client, models: list[Path], options: argparse.Namespace) -> dict[str, Any]:
    began = time.monotonic()
    shop.install_model("shop", str(models[1]))
    each = time.monotonic() - began
    question = [("POST", "/v1/recommend", {"history": ["3", "1", "4"], "k": 5})]
    load = begin_load(port, options.rate, max(1.5 * options.swaps * each, 5), question)
    time.sleep(1)
    seconds = []
    for number in range(options.swaps):
        began = time.monotonic()
        shop.install_model("shop", str(models[number % 2]))
        seconds.append(time.monotonic() - began)
        if load.process.poll() is not None:
            raise SystemExit(f"the load was over after {number} swaps: give a smaller --swaps")
    rows = load.rows()
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row[2] == 200:
            answers[row[4] or ""].add(row[5])
    return {
        "answers": summary(rows),
        "swap seconds": {"median": sorted(seconds)[len(seconds) // 2], "longest": max(seconds)},
        "versions": len(answers),
        "versions with two answers": sum(len(one) > 1 for one in answers.values()),
        "different answers": len(set().union(*answers.values())),
        "without a version": len(answers.get("", ())),
    }


def refused(shop: Client, corrupt: Path) -> dict[str, Any]:
    before = shop.models()[0].version
    try:
        shop.install_model("shop", str(corrupt))
        said = "it was installed"
    except ServiceError as error:
        said = error.detail.replace(str(corrupt.parent), "")[:200]
    after = shop.recommend(history=["3"])
    return {"refused": said, "still": after.version == before and len(after) == 10}


def rolled_back(shop: Client) -> dict[str, Any]:
    before = shop.recommend(history=["3"]).version
    began = time.monotonic()
    shop.rollback_model("shop")
    after = shop.recommend(history=["3"]).version
    return {"rollback seconds": time.monotonic() - began, "rolled back": after != before}


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


if __name__ == "__main__":
    main()
