"""Fake users in a log: who is suspicious, and the log without them.

Two ways, neither of which sees the attack it is to find: `ProfileDetector` learns from other attacks what fake users look like
(`tongtu.trust.profiles`), and `sequence_suspicion` asks a sequence model how likely each history is. A detector that is fitted on
a part of one attacked log and tested on the rest of it has been told the answer, since the target is the same; so examples carry the
kind of their attack, and `learn` leaves one kind out.

    detector = ProfileDetector.learn(examples, leave_out="bandwagon")
    cleaned = remove(log, detector.suspicion(log), share=0.03)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from tongtu.core import Offsets, Recommender, Scorer, Scores
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError, MissingExtra
from tongtu.ranking import CatalogueScorer
from tongtu.trust.profiles import NAMES, profile_statistics

Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]

_NEAREST = NAMES.index("nearest user")
_TWIN = 4.0  # robust deviations from which on a twin counts as more likely fake than true
_STEADY = 3.0  # ordinary events added to each history: few events say little
_LAST = 20  # events of each user that are asked about
_SCORES_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class Example:
    """A log with fake users that are known.

    Attributes:
        kind: What kind of attack they are.
        data: The log.
        fake: bool[users], true for fake users.
    """

    kind: str
    data: Dataset
    fake: Flags


@dataclass(frozen=True)
class Found:
    """How well suspicion tells fake users from true ones.

    Attributes:
        auc: The chance that a fake user is more suspicious than a true one.
        precision: Share of fake users among the most suspicious, as many as there are fake users.
        fakes, users: How many there are; users have events.
    """

    auc: float
    precision: float
    fakes: int
    users: int


class ProfileDetector:
    """Logistic regression on the statistics of profiles and on their absolute values: an attack may stand out on either side.

    Args:
        weight: float64[2 * len(NAMES)], of the statistics and of their absolute values.
        bias: Of the log odds.
        kinds: The attacks it was learned from.
    """

    def __init__(self, weight: Values, bias: float, kinds: tuple[str, ...]) -> None:
        self.weight, self.bias, self.kinds = weight, bias, kinds

    @classmethod
    def learn(cls, examples: Sequence[Example], leave_out: str | None = None, strength: float = 0.003) -> Self:
        """A detector from attacked logs.

        Args:
            examples: Attacked logs; fake and true users weigh alike in each.
            leave_out: A kind of attack not to learn from: the one that will be looked for.
            strength: The inverse of the regularisation.

        Raises:
            DataError: If no example is left, or one has no fake or no true user.
            MissingExtra: If scikit-learn is absent.
        """
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError:
            raise MissingExtra("finding fake users", "trust") from None
        used = [example for example in examples if example.kind != leave_out]
        if not used:
            raise DataError("no attack is left to learn from: give examples of more kinds than the one left out")
        rows, label, weight = [], [], []
        for example in used:
            able = example.data.lengths > 0
            fake = example.fake[able]
            if fake.all() or not fake.any():
                raise DataError(f"an example of {example.kind} has no {'true' if fake.all() else 'fake'} users with events: give one with both")
            rows.append(_both_sides(profile_statistics(example.data))[able])
            label.append(fake)
            weight.append(np.where(fake, 0.5 / fake.sum(), 0.5 / (~fake).sum()))
        model = LogisticRegression(C=strength, max_iter=1_000)
        weights = np.concatenate(weight)
        model.fit(np.concatenate(rows), np.concatenate(label), weights * (len(weights) / weights.sum()))
        return cls(model.coef_[0], float(model.intercept_[0]), tuple(dict.fromkeys(example.kind for example in used)))

    def suspicion(self, data: Dataset) -> Scores:
        """float32[users], the chance that each user is fake if half of all were; 0 without events.

        Whoever is far more like one other user than is usual is suspicious whatever was learned: made-up profiles have no twin, copied ones do.
        """
        statistics = profile_statistics(data)
        odds = np.maximum(_both_sides(statistics) @ self.weight + self.bias, statistics[:, _NEAREST] - _TWIN)
        found: Scores = np.where(data.lengths > 0, 1 / (1 + np.exp(-odds)), 0).astype(np.float32)
        return found

    def reasons(self, data: Dataset, user: int, count: int = 3) -> list[str]:
        """The statistics that make a user code most suspicious."""
        share = _both_sides(profile_statistics(data)[user - 1 : user])[0] * self.weight
        share = share.reshape(2, -1).sum(axis=0)
        return [NAMES[i] for i in np.argsort(-share)[:count] if share[i] > 0]

    def facts(self) -> dict[str, Any]:
        """The detector as plain values, for `restore`."""
        return {"names": list(NAMES), "weight": self.weight.tolist(), "bias": self.bias, "kinds": list(self.kinds)}

    @classmethod
    def restore(cls, facts: Mapping[str, Any]) -> Self:
        """A detector from what `facts` gave.

        Raises:
            ConfigError: If it was learned from other statistics.
        """
        if tuple(facts["names"]) != NAMES:
            raise ConfigError("this detector was learned from other statistics: learn it again with this version")
        return cls(np.array(facts["weight"], np.float64), float(facts["bias"]), tuple(facts["kinds"]))


def sequence_suspicion(
    model: Recommender,
    data: Dataset,
    tail: Literal["unexplained", "unlikely", "either"] = "unexplained",
    by: Literal["likelihood", "rank"] = "likelihood",
) -> Scores:
    """How odd each history is to a sequence model, float32[users]; users with fewer than two events are as ordinary as most.

    Which end is suspicious depends on the attack. Random fillers are unlikely; popular ones are likelier than what honest users do, and a
    threshold on the likelihood would let them pass. Neither follows from the events before it, so the default compares with the likelihood
    by popularity alone: an honest history gains from being read in order, one that was put together gains nothing.

    A model that has learned from the fake users knows them, the more the longer it was trained: one fitted with other users, or trained
    briefly, sees more.

    Args:
        model: Scores the next item after any history. Its scores are read as logits.
        data: The log, in the model's codes.
        tail: "unexplained" is -log p beyond that of popularity; "unlikely" -log p; "either" how far -log p is from the median, to whichever side.
        by: "rank" takes the logarithm of the rank in place of -log p, for models whose scores are no logits.

    Raises:
        DataError: If the model cannot score, or knows other items.
    """
    if not isinstance(model, Scorer) or model.items != data.items:
        raise DataError(f"{type(model).__name__} cannot score the items of {data.name}: fit a sequence model such as sasrec on a part of the same log")
    place = _asked(data)
    user = data.event_user[place].astype(np.int64) - 1
    told = _surprise(model, data, place, by)
    if tail == "unexplained":
        popular = (data.item_counts + 0.5) / (data.n_events + 0.5 * data.items.size)
        before = np.argsort(np.argsort(-popular, kind="stable"), kind="stable") + 1.0
        told -= np.log(before)[data.item[place]] if by == "rank" else -np.log(popular)[data.item[place]]
    middle = np.median(told) if len(told) else 0.0
    mean = (np.bincount(user, told, len(data.users)) + _STEADY * middle) / (np.bincount(user, minlength=len(data.users)) + _STEADY)
    return (np.abs(mean - np.median(mean)) if tail == "either" else mean).astype(np.float32)


def remove(data: Dataset, suspicion: Scores, share: float) -> Dataset:
    """The log without the events of its most suspicious users; codes stay.

    Args:
        data: The log.
        suspicion: float32[users].
        share: Of the users who have events.

    Raises:
        ConfigError: If the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ConfigError(f"a share of {share:g} of the users cannot be removed: choose one from 0 up to, but not including, 1")
    able = np.flatnonzero(data.lengths > 0)
    gone = np.zeros(len(data.users), np.bool_)
    gone[able[np.argsort(-suspicion[able], kind="stable")[: round(share * len(able))]]] = True
    return data.keep_events(~gone[data.event_user - 1], source={**data.source, "suspicious_users_removed": int(gone.sum())})


def judge(data: Dataset, suspicion: Scores, fake: Flags) -> Found:
    """Compare suspicion with the truth, bool[users], among users who have events.

    Raises:
        MissingExtra: If scikit-learn is absent.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        raise MissingExtra("judging suspicion", "trust") from None
    able = data.lengths > 0
    truth, told = fake[able], suspicion[able]
    first = np.argsort(-told, kind="stable")[: truth.sum()]
    return Found(float(roc_auc_score(truth, told)), float(truth[first].mean()), int(truth.sum()), len(truth))


def _both_sides(statistics: Values) -> Values:
    return np.concatenate([statistics, np.abs(statistics)], axis=1)


def _asked(data: Dataset) -> Offsets:
    """Places of each user's newest events that have one before them."""
    age = np.repeat(data.offset[1:], data.lengths) - 1 - np.arange(data.n_events)
    first = np.arange(data.n_events) == np.repeat(data.offset[:-1], data.lengths)
    return np.flatnonzero((age < _LAST) & ~first)


def _surprise(model: CatalogueScorer, data: Dataset, place: Offsets, by: str) -> Values:
    """-log p, or the log rank, of the events at `place` after what came before them."""
    told = np.zeros(len(place))
    rows = max(1, _SCORES_AT_ONCE // data.items.size)
    for first in range(0, len(place), rows):
        part = place[first : first + rows]
        requests = data.requests(data.event_user[part], stop=part, now=None if data.time is None else data.time[part])
        scores = np.asarray(model.score(requests, slice(1, data.items.size)), np.float64)
        own = scores[np.arange(len(part)), data.item[part].astype(np.int64) - 1]
        if by == "rank":
            told[first : first + rows] = np.log((scores >= own[:, None]).sum(axis=1))
        else:
            most = scores.max(axis=1)
            told[first : first + rows] = most + np.log(np.exp(scores - most[:, None]).sum(axis=1)) - own
    return told
