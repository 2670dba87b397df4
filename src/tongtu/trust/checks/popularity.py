"""How far the model leans to what is popular anyway, and how few items it shows."""

from __future__ import annotations

import numpy as np

from tongtu.core import PAD
from tongtu.data.stats import gini
from tongtu.trust.asked import LIST, Asked
from tongtu.trust.finding import Finding, Table, Values, interval_of, not_measured, resampled_means, verdict_of

_LIFTED = "Compare with a system that leans less to hits, such as tongtu fit sasrec (docs/audit.md tells what lifts popularity)."
_SAME = "Nearly everybody is shown the same: tongtu compare tells what a system that does not do so is worth, such as sasrec."
_SHOWN = 5


def check_popularity(asked: Asked) -> list[Finding]:
    """Popularity lift, and concentration on few items."""
    return [_lift(asked), _concentration(asked)]


def history_means(asked: Asked, worth: Values) -> Values:
    """float64[n], the mean worth of the items of each history; `worth` is float64[items.size]."""
    data = asked.data
    total = np.concatenate([np.zeros(1), np.cumsum(worth[data.item])])
    start, stop = data.offset[asked.users - 1], data.offset[asked.users] - 1
    means: Values = (total[stop] - total[start]) / np.maximum(stop - start, 1)
    return means


def list_means(asked: Asked, worth: Values) -> Values:
    """float64[n], the mean worth of the first ten items of each list; NaN for an empty list."""
    lists = asked.lists[:, :LIST]
    there = lists != PAD
    total = np.where(there, worth[lists], 0.0).sum(axis=1)
    means: Values = np.where(there.any(axis=1), total / np.maximum(there.sum(axis=1), 1), np.nan)
    return means


def _lift(asked: Asked) -> Finding:
    """Group average popularity of Abdollahpouri et al. (RMSE 2019), as a ratio."""
    name, level = "popularity of what is recommended", asked.config.lift
    counts = asked.data.item_counts.astype(np.float64)
    shown, chosen = list_means(asked, counts), history_means(asked, counts)
    both = ~np.isnan(shown)
    if not both.any():
        return not_measured("popularity", name, "The model recommended nothing.", "tongtu recommend with a history of this data set shows why.")
    value = float(shown[both].mean() / chosen[both].mean())
    drawn = resampled_means(np.stack([shown[both], chosen[both]], axis=1), asked.config.seed)
    return Finding(
        part="popularity",
        name=name,
        verdict=verdict_of(value, level),
        evidence=f"Recommended items have {shown[both].mean():,.0f} events on average, items that the same users chose {chosen[both].mean():,.0f}: "
        f"{value:.2f} times as many.",
        remedy="" if value < level.notice else _LIFTED,
        value=value,
        interval=interval_of(drawn[:, 0] / drawn[:, 1]),
        threshold=level.alarm,
    )


def _concentration(asked: Asked) -> Finding:
    name, level, data = "how many items are shown", asked.config.concentration, asked.data
    lists = asked.lists[:, :LIST]
    counts = np.bincount(lists[lists != PAD], minlength=data.items.size)
    places, items = int(counts.sum()), len(data.items)
    if places < items:
        return not_measured(
            "popularity", name, f"{places:,} places in the lists of {len(asked.users):,} users cannot show {items:,} items.", "Ask more users with --users."
        )
    value, covered = gini(counts[1:]), float((counts[1:] > 0).mean())
    most = np.argsort(-counts, kind="stable")[:_SHOWN]
    rows = tuple((data.items.ids[int(i) - 1], data.item_text[int(i) - 1], counts[i] / len(lists)) for i in most if counts[i])
    return Finding(
        part="popularity",
        name=name,
        verdict=verdict_of(value, level),
        evidence=f"{covered:.1%} of the catalogue stands in the first ten of at least one list; the Gini coefficient of exposure is {value:.3f}, "
        f"that of the log {gini(data.item_counts[1:]):.3f}.",
        remedy="" if value < level.notice else _SAME,
        value=value,
        threshold=level.alarm,
        tables=(Table(title="Most shown", columns=("item", "title", "in how many lists"), rows=rows),),
    )
