"""Fresh attackers: from a user's vector to what the user may not want told, learned from some users and tried on others.

Source: the attribute inference of Wu et al., "Selective Fairness in Recommendation via Prompts" (SIGIR 2022), where a classifier that
the recommender has never met learns from frozen user vectors.

Users are split in three: an attacker learns from 60 %, chooses its strength or its stopping point on 20 %, and is tried on 20 %.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tongtu.errors import DataError, MissingExtra

Attacker = Literal["linear", "mlp", "boosting"]
ATTACKERS: tuple[Attacker, ...] = ("linear", "mlp", "boosting")

FEWEST = 20
"""Users that a class needs; of a smaller one, hardly any would be left to try the attacker on."""

Chances = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_LEARNED, _CHOSEN = 0.6, 0.8  # where the three parts of the users meet
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # inverse, of the linear attacker
_INNER = 64
_EPOCHS, _PATIENCE = 300, 20


@dataclass(frozen=True, eq=False)
class Parts:
    """Three groups of users, as rows of their vectors, int64 each; nobody is in two."""

    learn: Rows
    choose: Rows
    test: Rows


@dataclass(frozen=True, eq=False)
class Attack:
    """What an attacker says of users whom it has not learned from.

    Attributes:
        row: int64[t], who they are, as rows of the vectors.
        truth: int64[t], their classes, counted from 0.
        chance: float64[t, C], how likely it holds each class.
        majority: The most frequent class among those it learned from.
        attacker: What it is.
        users: How many were learned from, chosen on and tried.
    """

    row: Rows
    truth: Rows
    chance: Chances
    majority: int
    attacker: Attacker
    users: int


@dataclass(frozen=True, eq=False)
class _Users:
    x: Chances
    y: Rows


def parted(label: Rows, seed: int = 0) -> Parts:
    """Split the users of known and frequent classes by chance, each class alike.

    Args:
        label: int64[n], the class of each user; 0 is unknown, and left out like classes of fewer than `FEWEST` users.
        seed: Of the split.

    Raises:
        DataError: If fewer than two classes are left.
    """
    classes, counts = np.unique(label[label > 0], return_counts=True)
    classes = classes[counts >= FEWEST]
    if len(classes) < 2:
        raise DataError(f"of {len(counts)} classes, {len(classes)} have {FEWEST} users, and two are needed to infer anything: choose another attribute")
    rng = np.random.default_rng(seed)
    mixed = [rng.permutation(np.flatnonzero(label == one)) for one in classes]
    cuts = [np.rint(np.array([_LEARNED, _CHOSEN]) * len(rows)).astype(np.int64) for rows in mixed]
    thirds = zip(*(np.split(rows, cut) for rows, cut in zip(mixed, cuts, strict=True)), strict=True)
    return Parts(*(np.sort(np.concatenate(third)) for third in thirds))


def attack(vectors: npt.NDArray[Any], label: Rows, parts: Parts, attacker: Attacker, seed: int = 0) -> Attack:
    """Make an attacker, and try it.

    Args:
        vectors: [n, D], one a user; they are standardised by the mean and spread of those learned from.
        label: int64[n].
        parts: Who is learned from, who helps to choose, and who is tried; see `parted`.
        attacker: "linear" (logistic regression), "mlp" (one hidden layer) or "boosting" (gradient-boosted trees).
        seed: Of the attacker.

    Raises:
        MissingExtra: If scikit-learn is absent.
    """
    try:
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise MissingExtra("inferring attributes from user vectors", "trust") from None
    classes, truth = np.unique(label[parts.learn], return_inverse=True)
    same = StandardScaler().fit(np.asarray(vectors[parts.learn], np.float64))
    learn, choose = (_Users(same.transform(vectors[rows]), np.searchsorted(classes, label[rows])) for rows in (parts.learn, parts.choose))
    model = {"linear": _linear, "mlp": _mlp, "boosting": _boosting}[attacker](learn, choose, seed)
    share = np.bincount(truth) / len(truth)
    chance = model.predict_proba(same.transform(vectors[parts.test])) * share  # it has learned as if all classes were equally frequent
    chance /= chance.sum(axis=1, keepdims=True)
    return Attack(parts.test, np.searchsorted(classes, label[parts.test]), chance, int(share.argmax()), attacker, sum(map(len, dataclasses.astuple(parts))))


def areas(chance: Chances, truth: Rows, weight: Chances) -> Chances:
    """Area under the ROC curve, float64[draws], for many weightings of the same users; of several classes the mean of each against the rest.

    This is scikit-learn's `roc_auc_score`, which would sort the users anew for each weighting. A class that is missing from a weighting does not count there.

    Args:
        chance: float64[t, C].
        truth: int64[t].
        weight: float64[draws, t].
    """
    columns = range(1, 2) if chance.shape[1] == 2 else range(chance.shape[1])
    total, known = np.zeros(len(weight)), np.zeros(len(weight))
    for column in columns:
        order = np.argsort(chance[:, column], kind="stable")
        score, inside = chance[order, column], truth[order] == column
        first = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))
        positive, negative = (np.add.reduceat(weight[:, order] * part, first, axis=1) for part in (inside, ~inside))
        below = np.cumsum(negative, axis=1) - negative / 2  # equal scores count half
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        total += np.where(pairs > 0, (positive * below).sum(axis=1) / np.maximum(pairs, 1e-12), 0)
        known += pairs > 0
    return np.where(known > 0, total / np.maximum(known, 1), 0.5)


def _linear(learn: _Users, choose: _Users, seed: int) -> Any:
    """Logistic regression with the penalty that does best on those who help to choose."""
    from sklearn.linear_model import LogisticRegression

    made = [LogisticRegression(C=c, class_weight="balanced", max_iter=2_000, random_state=seed).fit(learn.x, learn.y) for c in _PENALTIES]
    return max(made, key=lambda model: _reached(model, choose))


def _mlp(learn: _Users, choose: _Users, seed: int) -> Any:
    """One hidden layer, as it stood after its best epoch."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier((_INNER,), random_state=seed)
    best, kept, waited = (-1.0, 0.0), net, 0
    for _ in range(_EPOCHS):
        net.partial_fit(learn.x, learn.y, classes=np.unique(learn.y), sample_weight=_balance(learn.y))
        reached = _reached(net, choose)
        best, kept, waited = (reached, copy.deepcopy(net), 0) if reached > best else (best, kept, waited + 1)
        if waited == _PATIENCE:
            break
    return kept


def _boosting(learn: _Users, choose: _Users, seed: int) -> Any:
    """Trees until those who help to choose are told no better."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(max_iter=200, max_leaf_nodes=15, early_stopping=True, random_state=seed)
    return trees.fit(learn.x, learn.y, _balance(learn.y), X_val=choose.x, y_val=choose.y, sample_weight_val=_balance(choose.y))


def _reached(model: Any, users: _Users) -> tuple[float, float]:
    """AUC, and among those who order all users alike, how sure the model is of the truth."""
    chance = model.predict_proba(users.x)
    sure = np.log(np.maximum(chance[np.arange(len(users.y)), users.y], 1e-12)) * _balance(users.y)
    return float(areas(chance, users.y, np.ones((1, len(users.y))))[0]), round(float(sure.mean()), 2)


def _balance(y: Rows) -> Chances:
    """float64[n], weights by which all classes together weigh alike."""
    weight: Chances = (len(y) / np.maximum(np.bincount(y), 1) / len(np.unique(y)))[y]
    return weight
