"""Whether the model serves groups of users alike, and what each group receives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD
from tongtu.trust.asked import LIST, Asked, Grouping
from tongtu.trust.checks.popularity import history_means, list_means
from tongtu.trust.finding import Finding, Table, Values, Verdict, interval_of, not_measured, resampled_means, spread_p, verdict_of
from tongtu.trust.settings import AuditConfig, Level

_COMPARE = "tongtu audit of another system on the same data, fitted with tongtu fit ease say, shows what is the model's own doing."
_ITEMS = 6
_TELLING = 0.02  # an item is named only if the shares of lists that hold it differ by this much

Groups = Sequence[tuple[str, npt.NDArray[np.int64]]]


def check_groups(asked: Asked, groupings: Sequence[Grouping], learned: str) -> list[Finding]:
    """Accuracy and exposure by each attribute.

    Args:
        asked: What the model answered.
        groupings: The attributes.
        learned: Whether the model has learned the events it was asked about, as a sentence.
    """
    if not groupings:
        why = "The data set has no user attributes that part users into groups."
        return [not_measured("fairness", "accuracy and exposure by group", why, "Import the users with tongtu data import --users FILE.")]
    found = []
    for grouping in groupings:
        groups = asked.groups(grouping)
        if len(groups) < 2:
            why = f"Fewer than two groups of {grouping.name} have {asked.config.group_users} of the users that were asked."
            found.append(not_measured("fairness", f"accuracy by {grouping.name}", why, "Ask more users with --users."))
            continue
        found += [_accuracy(asked, grouping.name, groups, learned), _exposure(asked, grouping.name, groups)]
    return found


def ndcg(rank: npt.NDArray[np.int64]) -> Values:
    """1 / log2(1 + rank) within the first ten, else 0."""
    return np.where(rank <= LIST, 1 / np.log2(1.0 + rank), 0.0)


def _accuracy(asked: Asked, attribute: str, groups: Groups, learned: str) -> Finding:
    config, values = asked.config, ndcg(asked.rank)
    means = [float(values[rows].mean()) for _, rows in groups]
    drawn = [resampled_means(values[rows][:, None], config.seed + place)[:, 0] for place, (_, rows) in enumerate(groups)]
    best, worst = int(np.argmax(means)), int(np.argmin(means))
    overall = float(values[np.concatenate([rows for _, rows in groups])].mean())
    if overall == 0:
        why = "No last event was found among the first ten of any list, so accuracies cannot be compared."
        return not_measured("fairness", f"accuracy by {attribute}", why, "Ask more users with --users.")
    p = _by_chance(values, groups, config.seed)
    value = (means[best] - means[worst]) / overall
    low, high = interval_of(drawn[best] - drawn[worst])
    verdict = _if_sure(value, p, asked, config.accuracy_gap)
    rows = tuple((label, len(rows), mean, *interval_of(sample)) for (label, rows), mean, sample in zip(groups, means, drawn, strict=True))
    return Finding(
        part="fairness",
        name=f"accuracy by {attribute}",
        verdict=verdict,
        evidence=f"NDCG@10 is {means[best]:.4f} for {groups[best][0]} and {means[worst]:.4f} for {groups[worst][0]}, a gap of {means[best] - means[worst]:.4f} "
        f"({low:.4f} to {high:.4f}), {_sure(p, config)}. {learned}",
        remedy="" if verdict == "fine" else "tongtu compare shows in its slices whether another system serves the group better.",
        value=value,
        interval=(low / overall, high / overall),
        threshold=config.accuracy_gap.alarm if p < config.chance else None,
        tables=(Table(title=f"NDCG@10 by {attribute}", columns=(attribute, "users", "NDCG@10", "low", "high"), rows=rows),),
    )


def _exposure(asked: Asked, attribute: str, groups: Groups) -> Finding:
    """How far each group's lists lean to hits beyond its own choices, and the items on which lists differ most."""
    config = asked.config
    hits = _hits(asked)
    shown, chosen = list_means(asked, hits), history_means(asked, hits)
    leaning = np.where(np.isnan(shown), 0.0, shown - chosen)
    means = [float(leaning[rows].mean()) for _, rows in groups]
    most, least = int(np.argmax(means)), int(np.argmin(means))
    value, p = means[most] - means[least], _by_chance(leaning, groups, config.seed)
    drawn = [resampled_means(leaning[groups[place][1]][:, None], config.seed + place)[:, 0] for place in (most, least)]
    verdict = _if_sure(value, p, asked, config.exposure_gap)
    lines = tuple((label, len(rows), float(chosen[rows].mean()), float(np.nanmean(shown[rows])), _distinct(asked, rows)) for label, rows in groups)
    columns = (attribute, "users", "hits among events", "hits among recommendations", "different items shown")
    return Finding(
        part="fairness",
        name=f"exposure by {attribute}",
        verdict=verdict,
        evidence=f"Beyond what they chose themselves, lists of {groups[most][0]} lean to hits by {means[most]:+.1%} of their places and those of "
        f"{groups[least][0]} by {means[least]:+.1%}, {_sure(p, config)}.",
        remedy="" if verdict == "fine" else _COMPARE,
        value=value,
        interval=interval_of(drawn[0] - drawn[1]),
        threshold=config.exposure_gap.alarm if p < config.chance else None,
        tables=(Table(title=f"What is shown by {attribute}", columns=columns, rows=lines), _items(asked, attribute, groups)),
    )


def _hits(asked: Asked) -> Values:
    """1 for the most popular items that took a third of all events, else 0; float64[items.size]."""
    counts = asked.data.item_counts
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    hits = np.zeros(len(counts))
    hits[order[before < counts.sum() / 3]] = 1.0
    return hits


def _items(asked: Asked, attribute: str, groups: Groups) -> Table:
    """The items of which the share of lists that hold them differs most between a group and all others."""
    data, size = asked.data, asked.data.items.size
    every = np.concatenate([rows for _, rows in groups])
    count = [_shown(asked, rows, size) for _, rows in groups]
    total, rows_out = np.sum(count, axis=0), []
    told = 1 if len(groups) == 2 else len(groups)  # of two, the second tells the same again
    for (label, rows), own in list(zip(groups, count, strict=True))[:told]:
        here, others = own / len(rows), (total - own) / max(len(every) - len(rows), 1)
        for item in np.argsort(-np.abs(here - others), kind="stable")[:_ITEMS]:
            if abs(here[item] - others[item]) >= _TELLING:
                rows_out.append((label, data.items.ids[int(item) - 1], data.item_text[int(item) - 1], float(here[item]), float(others[item])))
    rows_out.sort(key=lambda row: -abs(row[3] - row[4]))
    columns = (attribute, "item", "title", "share of its lists", "share of the others' lists")
    return Table(title="Largest differences", columns=columns, rows=tuple(rows_out[: 2 * _ITEMS]))


def _shown(asked: Asked, rows: npt.NDArray[np.int64], size: int) -> Values:
    lists = asked.lists[rows, :LIST]
    return np.bincount(lists[lists != PAD], minlength=size).astype(np.float64)


def _distinct(asked: Asked, rows: npt.NDArray[np.int64]) -> int:
    lists = asked.lists[rows, :LIST]
    return len(np.unique(lists[lists != PAD]))


def _by_chance(values: Values, groups: Groups, seed: int) -> float:
    member = np.concatenate([np.full(len(rows), place) for place, (_, rows) in enumerate(groups)])
    return spread_p(values[np.concatenate([rows for _, rows in groups])], member, seed)


def _sure(p: float, config: AuditConfig) -> str:
    """Whether a gap may be chance, in words."""
    return f"more than chance (p = {p:.3f})" if p < config.chance else f"which may be chance (p = {p:.3f}) and is not judged"


def _if_sure(value: float, p: float, asked: Asked, level: Level) -> Verdict:
    return verdict_of(value, level) if p < asked.config.chance else "fine"
