"""An evaluation protocol: everything that decides what a number means, and a fingerprint over it.

Two results may stand in one table only if their fingerprints agree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from tongtu.candidates import named
from tongtu.candidates.file import SUFFIX, at_places, limited_to_file
from tongtu.config import build, configuration, nearest, plain
from tongtu.data.dataset import Dataset
from tongtu.data.impressions import before_last_day, by_day
from tongtu.data.public import load
from tongtu.data.shared import shared_users
from tongtu.data.splits import Cases, Split, Targets, cold_users, few_users, global_time, leave_one_out, new_items
from tongtu.data.wishes import CATEGORIES, WishKind, make_wishes
from tongtu.errors import ConfigError, DataError
from tongtu.files import sha256

CUTOFFS = (1, 5, 10, 20, 50)
_LATER: Mapping[str, Any] = {"new_items": 0.0, "train_users": 1.0, "places": [], "wish": None, "wish_field": CATEGORIES, "also_in": None}
"""Fields that came later, and the value under which a number means what it meant before: it leaves older fingerprints as they are."""


@configuration
class EvalProtocol:
    """How systems are compared.

    Attributes:
        name: What to call it.
        scheme: What is held out; see `tongtu.data.splits`. "impressions" holds out the impressions of the last two days and
            judges the order of what they showed by MIND's metrics (`tongtu.evaluation.impressions`).
        valid, test: For global_time, the fractions of events before the two cuts.
        targets: For global_time, the first event of each user after a cut, or every one.
        fraction, shots: For cold_users, the share of users held out and the events of history they show.
        also_in: For cold_users, another data set, a folder or a public name: only users who have events there too are held out, so that a system
            may know them from there, and `fraction` is a share of these; the rest of them is learned from. Nothing of it is cut off: what a user
            did there may have happened after what is asked about.
        new_items: Share of the items whose training events are taken away, so that systems meet them for the first time.
        train_users: Share of the users whose events may be learned from; all are asked in the test.
        users: Ask only this many users, drawn by `seed`, in the test; None asks all. Validation keeps everybody.
        candidates: None ranks the whole catalogue. "uniform-100" and "popularity-100" rank the target among so many sampled
            unseen items, as some papers do; such numbers are only comparable with those papers'. The path of a candidate file
            ("lists.parquet", see `tongtu.candidates.file`) asks only the test cases that stand in it, each with its list, where a target that
            is not listed is a miss; validation is then left with the full catalogue, so that systems can still choose their epochs.
        places: Ask each test case once for each of these places (from 0), with the target moved to that place of its candidates: does
            the order in which a system reads the candidates sway it?
        wish: What the user of each case types besides, in validation and test: "specific" (the target's categories), "vague" (a sentence about
            a broad one of them), or None. It is made from the target, as a simulation of somebody who knows what they want, and words of the target's
            title are cut out of it (`tongtu.data.wishes`); a target of which nothing is left is asked for without a wish. Such numbers
            may only be compared with each other: whoever hears the wish is told more than whoever does not.
        wish_field: The item field with the categories.
        cutoffs: Of recall, NDCG and MRR.
        filter_seen: Whether items of the history are left out of the answer; a repeated target is then a miss.
        ties: Items that tie with the target stand before it.
        seed: Of the users, candidates and wishes that are drawn.
    """

    name: str = "leave-one-out"
    scheme: Literal["leave_one_out", "global_time", "cold_users", "impressions"] = "leave_one_out"
    valid: float = 0.8
    test: float = 0.9
    targets: Targets = "first"
    fraction: float = 0.2
    shots: int = Field(0, ge=0)
    also_in: str | None = None
    new_items: float = Field(0.0, ge=0, lt=1)
    train_users: float = Field(1.0, gt=0, le=1)
    users: int | None = Field(None, ge=1)
    candidates: str | None = None
    places: tuple[int, ...] = ()
    wish: WishKind | None = None
    wish_field: str = CATEGORIES
    cutoffs: tuple[int, ...] = CUTOFFS
    filter_seen: bool = True
    ties: Literal["pessimistic"] = "pessimistic"
    seed: int = Field(0, ge=0)

    @field_validator("cutoffs")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] < 1 or list(value) != sorted(set(value)):
            raise ValueError("must be rising whole numbers from 1")
        if 10 not in value:
            raise ValueError("must contain 10, by which models are chosen")
        return value

    @field_validator("places")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(place < 0 for place in value) or len(set(value)) != len(value):
            raise ValueError("must be different whole numbers from 0")
        return value

    def __post_init__(self) -> None:
        if self.places and self.candidates is None:
            raise ValueError("places are places among candidates: say with candidates which, or leave places out")
        if self.wish is None and self.wish_field != CATEGORIES:
            raise ValueError("wish_field is where wishes come from: say with wish which, or leave wish_field out")
        if self.also_in is not None and self.scheme != "cold_users":
            raise ValueError(f"also_in says whom cold_users may hold out, and the scheme is {self.scheme}: leave also_in out, or set scheme to cold_users")

    def split(self, data: Dataset) -> Split:
        """Training events, and the cases for choosing and for judging, with their candidates.

        Raises:
            DataError: If the data set cannot be split this way, has no categories to wish for, shares no user with `also_in`, or the candidate file
                is not of it.
        """
        if self.scheme == "leave_one_out":
            split = leave_one_out(data, self.filter_seen)
        elif self.scheme == "impressions":
            self._only_impressions()
            split = by_day(data, self.filter_seen)
        elif self.scheme == "global_time":
            split = global_time(data, self.valid, self.test, self.targets, self.filter_seen)
        else:
            among = None if self.also_in is None else shared_users(data, self.also_in, "also_in")[1] > 0
            split = cold_users(data, self.fraction, self.shots, self.seed, self.filter_seen, among)
        if self.new_items:
            split = new_items(split, self.new_items, self.seed)
        if self.train_users < 1:
            split = few_users(split, self.train_users, self.seed)
        return self._asked(split, data)

    def without_test(self, data: Dataset) -> Dataset:
        """Every event that comes before the test: what a model chosen on validation may be fitted on again."""
        if self.scheme == "impressions":
            return before_last_day(data)
        split = dataclasses.replace(self, users=None, candidates=None, places=(), wish=None, wish_field=CATEGORIES).split(data)
        test = split.test
        first = np.full(data.users.size, data.n_events)
        place = data.offset[test.user - 1] if self.scheme == "cold_users" else test.requests.stop
        np.minimum.at(first, test.user, place)
        early = np.arange(data.n_events) < first[data.event_user]
        if self.new_items:
            early &= split.train.item_counts[data.item] > 0
        if self.train_users < 1:
            early &= (split.train.lengths > 0)[data.event_user - 1]
        return data.keep_events(early)

    def fingerprint(self, data: Dataset) -> str:
        """SHA-256 over every field and the data set: results with different ones may not be compared.

        A candidate file and the data set of `also_in` count by their content, wherever they lie.
        """
        fields = {name: value for name, value in plain(self).items() if name not in _LATER or value != _LATER[name]}
        if (file := self._file()) is not None:
            fields["candidates"] = f"sha256:{sha256(file)}"
        if self.also_in is not None:
            fields["also_in"] = load(self.also_in).fingerprint
        return hashlib.sha256(json.dumps([fields, data.fingerprint], sort_keys=True).encode()).hexdigest()

    def _only_impressions(self) -> None:
        """What does not go with impressions is refused.

        Raises:
            ConfigError: If a setting would be without effect.
        """
        given = "whose items are given"
        fixed = {"new_items": self.new_items == 0, "train_users": self.train_users == 1, "candidates": self.candidates is None}
        reasons = {name: given for name, as_is in fixed.items() if not as_is} | ({"wish": "which have several targets"} if self.wish else {})
        for name, reason in reasons.items():
            raise ConfigError(f"protocol {self.name}: {name} does not go with impressions, {reason}: leave it out")

    def _asked(self, split: Split, data: Dataset) -> Split:
        """The split with the users and candidates that are asked about."""
        valid, test = split.valid, split.test
        if (file := self._file()) is not None:
            test = sample_users(limited_to_file(file, test, data), self.users, self.seed)
        else:
            test = sample_users(test, self.users, self.seed)
            if self.candidates is not None:
                valid, test = (self._limited(cases, split.train) for cases in (valid, test))
        valid, test = (self._wishing(cases, data) for cases in (valid, test))
        return Split(split.train, valid, at_places(test, self.places) if self.places else test)

    def _wishing(self, cases: Cases, data: Dataset) -> Cases:
        """The cases, each with the wish of who wants its target.

        Raises:
            DataError: If there are cases and none of them has a wish.
        """
        if self.wish is None or not len(cases):
            return cases
        wishes = make_wishes(data, cases.target, self.wish, field=self.wish_field, seed=self.seed)
        if not any(wishes):
            told = "every target's title holds all words of its categories, or it has none"
            raise DataError(f"{data.name}: no case has a wish, since {told}: name another wish_field, or give the items titles in a field of their own")
        return dataclasses.replace(cases, requests=dataclasses.replace(cases.requests, wish=wishes))

    def _file(self) -> Path | None:
        """The candidate file, if candidates come from one.

        Raises:
            ConfigError: If it is not there.
        """
        if self.candidates is None or not self.candidates.endswith(SUFFIX):
            return None
        if not Path(self.candidates).is_file():
            raise ConfigError(f"protocol {self.name}: no candidate file {self.candidates}: check the path, or make it with tongtu candidates")
        return Path(self.candidates)

    def _limited(self, cases: Cases, train: Dataset) -> Cases:
        assert self.candidates is not None
        source = named(self.candidates, train.items, train.item_counts, self.seed)
        return dataclasses.replace(cases, requests=dataclasses.replace(cases.requests, candidates=source(cases.requests, cases.target)))


def sample_users(cases: Cases, users: int | None, seed: int) -> Cases:
    """The cases of so many users, drawn by `seed`; all of them where there are no more, or `users` is None."""
    known = np.unique(cases.user)
    if users is None or users >= len(known):
        return cases
    drawn = np.random.default_rng(seed).choice(known, users, replace=False)
    return cases.take(np.flatnonzero(np.isin(cases.user, drawn)))


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        EvalProtocol(),
        EvalProtocol(name="global-time", scheme="global_time"),
        EvalProtocol(name="cold-users", scheme="cold_users", shots=3),
        EvalProtocol(name="new-items", new_items=0.1),
        EvalProtocol(name="specific-wishes", wish="specific"),
        EvalProtocol(name="vague-wishes", wish="vague"),
        EvalProtocol(name="mind", scheme="impressions", filter_seen=False),  # Wu et al., ACL 2020
        EvalProtocol(name="sasrec-uniform-100", candidates="uniform-100"),  # Kang & McAuley, ICDM 2018
        EvalProtocol(name="bert4rec-popularity-100", candidates="popularity-100"),  # Sun et al., CIKM 2019
        EvalProtocol(name="llmrank-uniform-20", candidates="uniform-19", users=200),  # Hou et al., ECIR 2024
    )
}
"""Protocols by name. The sampled ones bear the name of the paper whose numbers they allow to compare with; where the papers
leave out every item of the user, ours leave out the history and the target, and popularity is counted in training."""


def trained_on(data: Dataset, train: Dataset, protocol: EvalProtocol | None) -> dict[str, Any]:
    """What a model's `provenance["trained_on"]` records, so that `evaluate` can tell whether held-out events were learned.

    Args:
        data: The whole log.
        train: The part of it the model was fitted on.
        protocol: What held the rest out; None where nothing was held out.
    """
    return {"name": data.name, "data": train.fingerprint, "events": train.n_events, "protocol": protocol.fingerprint(data) if protocol else None}


def protocol_from(values: str | Mapping[str, Any]) -> EvalProtocol:
    """A protocol by its name, or from a table whose values are laid over those of the protocol its `name` names.

    Raises:
        ConfigError: For an unknown name, key or value.
    """
    if isinstance(values, str):
        if values not in PROTOCOLS:
            raise ConfigError(f"no protocol {values!r}, {nearest(values, PROTOCOLS)}")
        return PROTOCOLS[values]
    base = PROTOCOLS.get(str(values.get("name", "leave-one-out")))
    return build(EvalProtocol, {**(plain(base) if base else {}), **values}, "protocol")
