"""Users as another data set knows them, for neighbours among those who are in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from tongtu.core import PAD
from tongtu.data.shared import shared_users
from tongtu.systems.baselines._histories import user_item_matrix

if TYPE_CHECKING:
    from tongtu.data.dataset import Dataset


def users_elsewhere(data: Dataset, source_data: str, source: str | None) -> csr_array:
    """float32[users.size, width], rows of length 1 by the user codes of `data`, empty for those who are not there.

    Args:
        data: The data set at hand.
        source_data: The other one.
        source: A model fitted on it, whose vectors are taken; None takes the histories.

    Raises:
        DataError: If nobody is in both.
        ModelError: If the model was not fitted on the other data set.
    """
    if source is not None:
        from tongtu.systems.pretrained._told import vectors_elsewhere  # imports torch

        return csr_array(vectors_elsewhere(data, source, source_data))
    other, codes = shared_users(data, source_data, "source_data")
    met = csr_array(user_item_matrix(other) * (1 / np.sqrt(np.maximum(other.lengths, 1)))[:, None].astype(np.float32))
    here = np.flatnonzero(codes)
    rows = met[codes[here] - 1]
    length = np.zeros(data.users.size, np.int64)
    length[here + 1] = np.diff(rows.indptr)
    assert length[PAD] == 0
    return csr_array((rows.data, rows.indices, np.concatenate([[0], np.cumsum(length)])), shape=(data.users.size, other.items.size))
