"""Our SASRec on a clock: the other half of `speed_sasrec.py`. Runs where tongtu is installed; see `protocol.py` for its output."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version

import numpy as np
import torch
import torch._dynamo  # the first optimiser of a process loads it, seconds long; RecTools' imports have it already
from protocol import CUTOFF, Course, Log, arguments, emit, read_log

from tongtu.config import merge, parse_settings
from tongtu.core import FitOptions, Recommender
from tongtu.data.dataset import Dataset
from tongtu.systems import make
from tongtu.vocab import Vocab


class Stop(Exception):
    """Ends a fit from its validation."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of SASRec, as for `tongtu fit`")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    log, user, target = read_log(options.log).held_out()
    data = dataset(log)
    settings = merge(
        {
            "width": options.width,
            "blocks": options.blocks,
            "heads": options.heads,
            "max_length": options.length,
            "dropout": options.dropout,
            "training": {"epochs": options.epochs},
        },
        parse_settings(options.set),
    )
    model = make("sasrec", settings)
    course = Course(options, target)
    requests = data.requests(user)

    def validate(recommender: Recommender) -> Mapping[str, float]:
        if course.epoch(None, lambda: recommender.recommend(requests, CUTOFF).items):
            raise Stop
        return {"ndcg@10": float(course.epochs)}  # the run ends by the clock, never by patience

    emit(
        "start",
        system="tongtu",
        versions={"tongtu": version("tongtu"), "torch": torch.__version__, "numpy": np.__version__},
        users=log.users,
        items=log.items,
        train_events=len(log.item),
        cases=len(user),
        threads=options.threads,
        settings=settings,
    )
    course.begin()
    with suppress(Stop):
        model.fit(data, FitOptions(seed=options.seed, validate=validate, quiet=True, device="cpu"))
    course.end()


def dataset(log: Log) -> Dataset:
    """The log as a data set whose codes are the log's numbers."""
    ids = [Vocab([str(i) for i in range(1, count + 1)]) for count in (log.users, log.items)]
    return Dataset("log", *ids, item=log.item.astype(np.int32), offset=log.offset)


if __name__ == "__main__":
    main()
