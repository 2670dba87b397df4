"""`tongtu update`: a served model learns what its service has collected, and takes the old one's place."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tongtu.data.dataset import Dataset
    from tongtu.serve.refit import Refit

_AGE = re.compile(r"(\d+)([smhdw])")
_PATIENCE, _OPENING = 5.0, 600.0  # seconds for an answer, and for the service to open a model in all its workers
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def update(
    model: Annotated[Path, typer.Argument(help="The model folder that is served.")],
    store: Annotated[str, typer.Option(metavar="URL", envvar="TONGTU_SERVE_STORE", help="The service's event store.")] = "sqlite:///tongtu.db",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="What the model has not learned yet: a moment (2026-01-31, ISO 8601, seconds) or an age (7d, 12h).")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="DIR|NAME", help="The data set the model was fitted on; the store's whole log if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the new model; beside the old one if left out.")] = None,
    serve: Annotated[str | None, typer.Option(metavar="URL", help="The service that shall take the new model, say http://127.0.0.1:8000.")] = None,
    name: Annotated[str | None, typer.Option(help="What the service calls the model; its folder's name if left out.")] = None,
    key: Annotated[str | None, typer.Option(envvar="TONGTU_KEY", help="A key of the service with the scope admin.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Take the new model even if it is worse, or cannot be judged.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the best there is if left out.")] = None,
) -> None:
    """Fit a model again with the events that came since, compare it with the old one on the newest, and swap it in.

    Sequence models (SASRec, BERT4Rec, HSTU) go on from their weights; others are fitted anew with the settings they have. Without --since, what came after
    the last update counts as new.
    """
    from tongtu.client import Client
    from tongtu.core import FitOptions
    from tongtu.errors import ModelError
    from tongtu.hub import read_record, refuse_foreign
    from tongtu.serve.refit import refit

    read_record(model)
    moment = _since(model, since)
    target = out or model.resolve().with_name(f"{model.resolve().name}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    refuse_foreign(target)
    if serve is not None:
        with Client(serve, key, deadline=_PATIENCE) as service:
            service.stats()  # a wrong address, or a key that may not swap models, is better told before the fit than after it
    log = _log(store, data)
    done = refit(model, log, moment, FitOptions(seed=seed, device=device), blind=force)
    _report(done, moment)
    done.model.save_pretrained(target)
    print(f"model: {target}")
    if done.judged is not None and done.judged.worse and not force:
        raise ModelError(f"the new model is worse, so it is kept at {target} and not served: look at it with tongtu evaluate, or take it with --force")
    if serve is None:
        print(f"next: tongtu serve {target}, or the next time give --serve URL, which swaps it into a running service")
        return
    with Client(serve, key, deadline=_OPENING) as service:
        served = service.install_model(name or model.resolve().name, str(target.resolve()))
    print(f"served: {served.name}, version {served.version}")


def _log(store: str, data: str | None) -> Dataset:
    """Everything to learn from: also what an earlier update has learned, which the data set does not hold."""
    from tongtu.cli.output import note
    from tongtu.data.merging import from_arrivals, merged
    from tongtu.data.public import load
    from tongtu.serve.arrivals import read_store
    from tongtu.serve.store import Store

    known = None if data is None else load(data)
    with Store.open(store, create=False) as opened:
        arrivals = read_store(opened, seeded=known is None)
    note(f"read {arrivals.events.height:,} events, {arrivals.items.height:,} items and {arrivals.users.height:,} users from the store")
    return from_arrivals("store", arrivals) if known is None else merged(known, arrivals)


def _since(model: Path, told: str | None) -> int:
    """Seconds since 1970 of what was told, else of the second after the last update.

    Raises:
        ConfigError: If what was told is no moment, or nothing was and the model was never updated.
    """
    from tongtu.data.times import parse_moment
    from tongtu.errors import ConfigError, DataError
    from tongtu.serve.refit import last_update

    if told is None:
        last = last_update(model)
        if last is None:
            raise ConfigError(f"{model} was never updated, so nobody knows what is new to it: say --since, as in --since 7d or --since 2026-01-31")
        return last + 1
    if (age := _AGE.fullmatch(told.strip())) is not None:
        return int(time.time()) - int(age[1]) * _UNITS[age[2]]
    try:
        return parse_moment(told)
    except DataError:
        raise ConfigError(f"--since {told!r} is no moment: write an age as in 7d or 12h, seconds since 1970, or ISO 8601 as in 2026-01-31") from None


def _report(done: Refit, since: int) -> None:
    provenance = done.model.provenance  # type: ignore[attr-defined]
    way = "from the old weights" if done.warm else "anew"
    print(f"fitted {way} in {provenance['fit_seconds']:,.1f} s with {done.events:,} events since {_told(since)}")
    print("not judged: too few new events to ask about" if done.judged is None else str(done.judged))


def _told(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}"
