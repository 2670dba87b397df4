"""What can be inferred of users from their vectors: the measure of what a recommender knows, and of what it has forgotten.

    from tongtu.trust.probe import probe
    for found in probe(model, data, ["gender", "age"]):
        print(found)

Whatever a linear model, a small network or boosted trees learn to read from the vectors of some users is read from those of others. An area
under the ROC curve (AUC) of .5 is chance, 1 is certainty; it is not folded, so that an attacker worse than chance is seen to be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tongtu.core import Recommender, Represents, RequestBatch
from tongtu.data.attributes import AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.errors import ModelError
from tongtu.trust.attackers import ATTACKERS, FEWEST, Attack, Attacker, Chances, Rows, areas, attack, parted

DRAWS = 1_000
_LEVEL = 0.95
_NUMBERS_AT_ONCE = 1 << 22

__all__ = ["ATTACKERS", "Inference", "drawn", "infer", "interval", "probe", "summary"]


@dataclass(frozen=True)
class Inference:
    """How well an attribute is inferred.

    Attributes:
        attribute: Which.
        attacker: By whom.
        auc: Area under the ROC curve; of several classes, the mean of each against the rest. With its 95 % interval over users.
        micro_f1: Share of users whose class is the one held most likely.
        macro_f1: Mean over classes of F1, of the same answers.
        chance_micro, chance_macro: The same of one who always answers the most frequent class.
        classes: Those told apart.
        users: With a known and frequent class; the attacker was tried on a fifth of them.
        rare: Users who were left out because too few share their class.
    """

    attribute: str
    attacker: str
    auc: float
    auc_low: float
    auc_high: float
    micro_f1: float
    macro_f1: float
    chance_micro: float
    chance_macro: float
    classes: int
    users: int
    rare: int


def infer(vectors: npt.NDArray[Any], label: Rows, attacker: Attacker = "mlp", seed: int = 0, repeats: int = DRAWS) -> Inference:
    """Let a fresh attacker read labels from vectors.

    Args:
        vectors: float32[n, D], one a user.
        label: int64[n], each user's class; 0 is unknown and left out, and so are classes of fewer than `FEWEST` users.
        attacker: One of `ATTACKERS`.
        seed: Of the split into users to learn from, to choose on and to try on, and of the attacker.
        repeats: Resamples for the interval.

    Raises:
        DataError: If fewer than two classes are left.
        MissingExtra: If scikit-learn is absent.
    """
    found = summary([attack(vectors, label, parted(label, seed), attacker, seed)], repeats)
    return dataclasses.replace(found, rare=int((label > 0).sum()) - found.users)


def probe(
    model: Recommender,
    data: Dataset,
    attributes: Sequence[str] | None = None,
    attackers: Sequence[Attacker] = ATTACKERS,
    forget: frozenset[str] = frozenset(),
    seed: int = 0,
) -> list[Inference]:
    """What is inferred from the vectors of all users who have a history, by attribute and attacker.

    Args:
        model: Has vectors of users (`Represents`).
        data: Of the catalogue that the model knows.
        attributes: Which; None takes all that most users have and that have two frequent classes. Numbers are cut as `AttributeReader` does.
        attackers: Some of `ATTACKERS`.
        forget: Attributes that all users want left out (`Request.forget`).
        seed: As for `infer`.

    Raises:
        ModelError: If the model has no vectors of users, or knows other items.
        DataError: If there is no such attribute, or it has fewer than two frequent classes.
    """
    if not isinstance(model, Represents):
        raise ModelError(f"{type(model).__name__} has no user vectors to infer anything from: choose a system that has, such as sasrec")
    if model.items != data.items:
        raise ModelError(f"the model knows other items than {data.name}: choose the data set it was fitted on")
    users = np.flatnonzero(data.lengths > 0) + 1
    reader = AttributeReader.learn(data, attributes)
    vectors, labels = model.user_vectors(_asking(data, users, forget)), reader.of_users(data)[users - 1]
    found = []
    for field, label in zip(reader.fields, labels.T, strict=False):
        if attributes is None and (np.bincount(label)[1:] >= FEWEST).sum() < 2:
            continue
        found += [dataclasses.replace(infer(vectors, label, attacker, seed), attribute=field.name) for attacker in attackers]
    return found


def summary(attacks: Sequence[Attack], repeats: int = DRAWS) -> Inference:
    """Several attacks on the same users, split by other seeds, as one: means over attacks, intervals over users.

    Args:
        attacks: At least one, all with the same classes.
        repeats: Resamples of the users.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    points: list[list[float]] = []
    chance: list[list[float]] = []
    for one in attacks:
        classes = np.arange(one.chance.shape[1])
        score = one.chance[:, 1] if len(classes) == 2 else one.chance
        auc = roc_auc_score(one.truth, score, multi_class="ovr", labels=classes)
        for answer, kept in ((one.chance.argmax(axis=1), points), (np.full(len(one.truth), one.majority), chance)):
            kept.append([auc, *(f1_score(one.truth, answer, average=way, labels=classes, zero_division=0) for way in ("micro", "macro"))])
    (auc, micro, macro), (_, usual, common) = (np.mean(kept, axis=0).tolist() for kept in (points, chance))
    low, high = interval(drawn([attacks], repeats)[:, 0, 0])
    first = attacks[0]
    return Inference("", first.attacker, auc, low, high, micro, macro, usual, common, first.chance.shape[1], first.users, 0)


def drawn(groups: Sequence[Sequence[Attack]], repeats: int = DRAWS, seed: int = 0) -> Chances:
    """AUC, micro F1 and macro F1 on resampled users, float64[repeats, groups, 3], each the mean over the attacks of a group.

    All groups get the same resamples, so that the difference of two of them is a paired one.
    """
    users = np.unique(np.concatenate([one.row for group in groups for one in group]))
    places = [[np.searchsorted(users, one.row) for one in group] for group in groups]
    parts = [
        np.stack(
            [
                np.mean([_measured(one, weight[:, place]) for one, place in zip(group, where, strict=True)], axis=0)
                for group, where in zip(groups, places, strict=True)
            ],
            axis=1,
        )
        for weight in _resamples(len(users), repeats, seed)
    ]
    return np.concatenate(parts)


def interval(values: Chances) -> tuple[float, float]:
    """The range that holds 95 % of resampled values."""
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _asking(data: Dataset, users: Rows, forget: frozenset[str]) -> RequestBatch:
    requests = data.requests(users.astype(np.int32))
    return dataclasses.replace(requests, forget=[forget] * len(users)) if forget else requests


def _measured(one: Attack, weight: Chances) -> Chances:
    """AUC, micro F1 and macro F1, float64[draws, 3], for many weightings float64[draws, t] of the users."""
    classes = np.arange(one.chance.shape[1])
    truth, answer = (column[:, None] == classes for column in (one.truth, one.chance.argmax(axis=1)))
    right, told, held = (weight @ part.astype(np.float64) for part in (truth & answer, truth, answer))
    met = told + held > 0
    macro = (2 * right / np.where(met, told + held, 1)).sum(axis=1) / np.maximum(met.sum(axis=1), 1)
    micro = right.sum(axis=1) / np.maximum(weight.sum(axis=1), 1)
    return np.stack([areas(one.chance, one.truth, weight), micro, macro], axis=1)


def _resamples(users: int, draws: int, seed: int) -> Iterator[Chances]:
    """How often each user is drawn, float64[some, users], until `draws` rows have come."""
    rng = np.random.default_rng(seed)
    some = max(1, _NUMBERS_AT_ONCE // users)
    for start in range(0, draws, some):
        rows = min(some, draws - start)
        place = rng.integers(0, users, (rows, users)) + np.arange(rows)[:, None] * users
        yield np.bincount(place.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)
