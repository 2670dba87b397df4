"""Users who stand in two data sets: those whose ids are the same."""

from __future__ import annotations

import numpy as np

from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.data.public import load
from tongtu.errors import DataError


def shared_users(data: Dataset, other: str, setting: str) -> tuple[Dataset, Codes]:
    """Another data set, and the users that a data set shares with it.

    Args:
        data: The data set at hand.
        other: The other one, a folder or a public name.
        setting: Where it was named, for errors.

    Returns:
        The other data set; int32[users], the codes that the users of `data` have there, 0 for those who have no event there.

    Raises:
        DataError: If there is no such data set, or no shared user.
    """
    there = load(other)
    codes = there.users.encode(data.users.ids)
    met = np.concatenate([[False], there.lengths > 0])
    codes = np.where(met[codes], codes, 0).astype(np.int32)
    if not codes.any():
        raise DataError(f"{data.name} and {other} share no user id: choose another {setting}, or leave it out")
    return there, codes
