"""What answers to the five tasks are worth: errors of ratings, ranks in lists, likeness of texts, each with an interval over users.

A `Measure` holds a few numbers a case, and how their means make metrics: RMSE is a root of a mean, BLEU a ratio of sums.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tongtu.core import Codes, Offsets
from tongtu.errors import MissingExtra
from tongtu.evaluation.intervals import bootstrap_statistic
from tongtu.evaluation.metrics import Values, ndcg_at, recall_at

CUTOFFS = (1, 5, 10)
_ORDER = 4
_ROUGE = ("rouge1", "rouge2", "rougeL")
_TOKEN = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class Measure:
    """What was measured of each case.

    Attributes:
        names: Of the metrics.
        values: float64[cases, s].
        of_means: From means float64[..., s] of `values` to metrics float64[..., m].
    """

    names: tuple[str, ...]
    values: Values
    of_means: Callable[[Values], Values]

    def metrics(self) -> dict[str, float]:
        """Each metric over all cases."""
        found = self.of_means(self.values.mean(axis=0))
        return {name: float(value) for name, value in zip(self.names, found, strict=True)}

    def interval(self, users: Codes, seed: int = 0) -> dict[str, list[float]]:
        """95 % bootstrap intervals over users."""
        found = bootstrap_statistic(self.values, users, self.of_means, seed=seed)
        return {name: [float(low), float(high)] for name, (low, high) in zip(self.names, found, strict=True)}


def ratings(predicted: Values, given: Values) -> Measure:
    """Root mean squared and mean absolute error of float64[cases]."""
    error = np.abs(predicted - given)

    def of_means(means: Values) -> Values:
        return np.stack([np.sqrt(means[..., 0]), means[..., 1]], axis=-1)

    return Measure(("rmse", "mae"), np.stack([error**2, error], axis=1), of_means)


def ranks(found: Offsets) -> Measure:
    """Hit rate and NDCG at 1, 5 and 10 of the target's rank int64[cases], `MISS` where it is in no list."""
    metrics = {f"{name}@{k}": metric(found, k) for name, metric in (("hr", recall_at), ("ndcg", ndcg_at)) for k in CUTOFFS}
    return Measure(tuple(metrics), np.stack(list(metrics.values()), axis=1), lambda means: means)


def chance(candidates: Offsets) -> Measure:
    """What a random order of so many candidates (int64[cases], the target among them) has on average."""
    places = np.arange(1, int(candidates.max()) + 1)
    real = (places <= candidates[:, None]) / candidates[:, None]
    metrics = {f"{name}@{k}": real @ metric(places, k) for name, metric in (("hr", recall_at), ("ndcg", ndcg_at)) for k in CUTOFFS}
    return Measure(tuple(metrics), np.stack(list(metrics.values()), axis=1), lambda means: means)


def texts(written: Sequence[str], references: Sequence[str]) -> Measure:
    """BLEU-1 to BLEU-4 of the whole set and mean ROUGE-1, ROUGE-2 and ROUGE-L (F1), from 0 to 100, all in lower case.

    BLEU (Papineni et al., ACL 2002) is on tokens between white space, with no smoothing. ROUGE is on runs of letters and digits of any script.

    Raises:
        MissingExtra: If sacrebleu or rouge-score is absent.
    """
    bleu, rouge = bleu_and_rouge()
    rows = []
    for text, reference in zip(written, references, strict=True):
        counts = bleu.sentence_score(text, [reference])
        likeness = rouge.score(reference, text)
        rows.append([*counts.counts, *counts.totals, counts.sys_len, counts.ref_len, *(100 * likeness[name].fmeasure for name in _ROUGE)])
    names = (*(f"bleu-{n}" for n in range(1, _ORDER + 1)), "rouge-1", "rouge-2", "rouge-l")
    return Measure(names, np.array(rows, np.float64), _text_metrics)


def bleu_and_rouge() -> tuple[Any, Any]:
    """What compares texts: sacrebleu's and rouge-score's scorers.

    Raises:
        MissingExtra: If one is absent.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise MissingExtra("comparing texts by BLEU and ROUGE", "llm") from None
    return BLEU(tokenize="none", lowercase=True, effective_order=True, max_ngram_order=_ORDER), RougeScorer(list(_ROUGE), tokenizer=_Words())


def _text_metrics(means: Values) -> Values:
    """BLEU from matches, n-grams and lengths; ROUGE as it is."""
    matches, total, (written, reference) = means[..., :_ORDER], means[..., _ORDER : 2 * _ORDER], np.moveaxis(means[..., 2 * _ORDER : 2 * _ORDER + 2], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(total > 0, np.log(matches / total), -np.inf)
        brevity = np.where(written > 0, np.minimum(0.0, 1 - reference / written), -np.inf)
        mean = np.cumsum(precision, axis=-1) / np.arange(1, _ORDER + 1)
    return np.concatenate([100 * np.exp(mean + brevity[..., None]), means[..., 2 * _ORDER + 2 :]], axis=-1)


class _Words:
    """The tokens of ROUGE; its own tokenizer drops every script but Latin."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text.casefold())
