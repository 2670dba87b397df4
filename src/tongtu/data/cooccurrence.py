"""Which items follow which: the counts behind sequential rules, neighbour targets and co-occurrence vectors."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from tongtu.data.dataset import Dataset

_LEAST_WEIGHT = 0.01


def following(data: Dataset, distance_decay: float) -> sparse.csr_matrix:
    """How often each item (column) stands behind each item (row) in a history, float32[items.size, items.size].

    A pair of events next to each other weighs 1, and `distance_decay` times less for each step further apart.
    """
    size, user, item = data.items.size, data.event_user, data.item.astype(np.int64)
    total, step, weight = sparse.csr_matrix((size, size), dtype=np.float32), 1, 1.0
    while weight >= _LEAST_WEIGHT and step < len(item):
        same = user[step:] == user[:-step]
        if not same.any():
            break
        pairs = sparse.csr_matrix((np.full(int(same.sum()), weight, np.float32), (item[:-step][same], item[step:][same])), (size, size))
        total = total + pairs
        step, weight = step + 1, weight * distance_decay
    return total.tocsr()


def rules(data: Dataset, distance_decay: float, backward: float, source_power: float, neighbour_power: float) -> sparse.csr_matrix:
    """Weights of the rule "after the item of the row, the item of the column", float32[items.size, items.size]; no item follows itself.

    Args:
        data: The events.
        distance_decay: See `following`.
        backward: Weight of a pair read against its order in time.
        source_power, neighbour_power: Rows and columns are divided by the item's count (plus 1) to these powers.
    """
    forward = following(data, distance_decay)
    total = forward + backward * forward.T
    counts = data.item_counts + 1.0
    rows, columns = (sparse.diags((counts**-power).astype(np.float32)) for power in (source_power, neighbour_power))
    scaled = (rows @ total @ columns).tocsr()
    scaled.setdiag(0)
    scaled.eliminate_zeros()
    return scaled


def strongest(weights: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """The `count` largest entries of each row, in the order of their columns."""
    length = np.diff(weights.indptr)
    row = np.repeat(np.arange(weights.shape[0]), length)
    order = np.lexsort((-weights.data, row))
    kept = order[np.arange(len(row)) - np.repeat(weights.indptr[:-1], length) < count]
    return sparse.csr_matrix((weights.data[kept], (row[kept], weights.indices[kept])), weights.shape)
