"""`tongtu candidates`: lists of candidates for prompting and reranking systems, drawn once and kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from tongtu.candidates.file import Share
    from tongtu.core import Recommender
    from tongtu.data.dataset import Dataset
    from tongtu.data.splits import Split
    from tongtu.evaluation.protocol import EvalProtocol

_DRAWN = ("uniform", "popularity", "popular")


def candidates(
    data: Annotated[str, typer.Option(metavar="DIR|NAME", help="A data set folder, or the name of a public data set.")],
    source: Annotated[
        list[str],
        typer.Option(
            metavar="NAME-N",
            help="Who proposes N items: uniform-19, popularity-19, popular-19, a system that is fitted now (bm25-19), or a model folder (path/to/model-19); "
            "several are mixed.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file to write, FILE.parquet.")],
    users: Annotated[int, typer.Option(min=1, help="How many users, drawn by the seed.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 0,
    part: Annotated[Literal["test", "validation"], typer.Option(help="Whose cases.")] = "test",
    protocol: Annotated[str, typer.Option(help="What is held out.")] = "leave-one-out",
    without_target: Annotated[bool, typer.Option("--without-target", help="The target is in a list only where a source proposes it.")] = False,
) -> None:
    """Write a file of candidates, which a protocol takes as candidates = "FILE.parquet".

    By default every list holds the target as one more item; the order of a list tells nothing.
    """
    import dataclasses

    import numpy as np

    from tongtu.candidates.file import SUFFIX, mixture, write_candidates
    from tongtu.data.public import load
    from tongtu.errors import ConfigError
    from tongtu.evaluation.protocol import protocol_from, sample_users

    if out.suffix != SUFFIX:
        raise ConfigError(f"--out {out}: a candidate file's name ends in {SUFFIX}, by which a protocol knows it")
    rule = dataclasses.replace(protocol_from(protocol), users=None, candidates=None, places=())
    if rule.scheme == "impressions":
        raise ConfigError(f"protocol {rule.name}: impressions have their candidates already: choose another --protocol")
    kinds = [_kind(name) for name in source]
    log = load(data)
    split = rule.split(log)
    shares = [_share(kind, n, split, log, rule, seed) for kind, n in kinds]
    cases = sample_users(split.test if part == "test" else split.valid, users, seed)
    lists = mixture(shares, cases, seed, not without_target)
    facts = {"seed": seed, "sources": source, "part": part, "with_target": not without_target, "protocol": rule.fingerprint(log), "data": log.fingerprint}
    write_candidates(out, lists, cases, log, facts)
    hit = np.mean([target in items for target, items in zip(cases.target, lists.items, strict=True)])
    print(f"{len(cases):,} lists of {np.mean([len(items) for items in lists.items]):.1f} items on average, {hit:.1%} of them with the target: {out}")
    print(f'next: set candidates = "{out}" under [protocol] in an experiment for tongtu compare')


def _kind(name: str) -> tuple[str, int]:
    """What comes before the number, and the number; unknown ones are refused before anything is fitted.

    Raises:
        ConfigError: If it is neither a kind of draw, nor a system, nor a model folder.
    """
    from tongtu.config import nearest
    from tongtu.errors import ConfigError
    from tongtu.systems import cards, system_class

    kind, _, number = name.rpartition("-")
    if not number.isdecimal() or int(number) < 1 or not kind:
        raise ConfigError(f"--source {name!r}: write a source and how many items it proposes, for example uniform-19 or bm25-19")
    if kind in cards() and kind not in _DRAWN:
        system_class(kind)
    elif kind not in _DRAWN and not Path(kind).is_dir():
        raise ConfigError(f"no candidate source {kind!r}, {nearest(kind, [*_DRAWN, *cards()])}; or give the path of a model folder")
    return kind, int(number)


def _share(kind: str, n: int, split: Split, log: Dataset, rule: EvalProtocol, seed: int) -> Share:
    from tongtu.candidates import FromRecommender, named
    from tongtu.candidates.file import Share

    if kind in _DRAWN:
        return Share(f"{kind}-{n}", lambda m: named(f"{kind}-{m}", log.items, split.train.item_counts, seed), n)
    model = _model(kind, split, log, rule, seed)
    return Share(f"{Path(kind).name}-{n}", lambda m: FromRecommender(model, m, seed), n)


def _model(kind: str, split: Split, log: Dataset, rule: EvalProtocol, seed: int) -> Recommender:
    """A system fitted now on the training part, or a saved one that has the items of `log`.

    Raises:
        ModelError: If a saved model has another catalogue and does not take new items.
    """
    from tongtu.cli.evaluate import for_items, held_out_warning
    from tongtu.cli.output import note
    from tongtu.core import FitOptions
    from tongtu.errors import ModelError
    from tongtu.evaluation.evaluate import validator
    from tongtu.hub import open_model
    from tongtu.systems import cards, make

    if kind in cards():
        fresh: Any = make(kind)
        return fresh.fit(split.train, FitOptions(seed=seed, validate=validator(split.valid) if len(split.valid) else None))  # type: ignore[no-any-return]
    saved = open_model(Path(kind))
    if saved.items == log.items:
        warning = held_out_warning(getattr(saved, "provenance", {}), rule, log)
        if warning:
            note(warning)
        return saved
    other = for_items(saved, log)
    if other.items != log.items:
        raise ModelError(f"{kind} knows other items than {log.name} and takes no new ones: fit it on this data")
    return other
