"""A small log of reviews, whose texts tell which event they belong to."""

from __future__ import annotations

import numpy as np
import polars as pl

from tongtu.data.dataset import Dataset
from tongtu.vocab import Vocab

TITLES = ["Harbour Lights", "Nine Wolves", "A Glass of Salt", "The Quiet Engine", "Copper Moon", "Beyond Juniper", "Mister Okapi", "Zeppelin Summer"]


def reviews(users: int = 12, events: int = 5, titles: bool = True) -> Dataset:
    """Each user walks through the catalogue from a place of their own; the rating is 1 to 5 by the item."""
    item = np.concatenate([(np.arange(events) + user) % len(TITLES) + 1 for user in range(users)]).astype(np.int32)
    place = [(user, event) for user in range(users) for event in range(events)]
    return Dataset(
        name="reviews",
        users=Vocab([f"u{user}" for user in range(users)]),
        items=Vocab([f"i{code}" for code in range(1, len(TITLES) + 1)]),
        item=item,
        offset=np.arange(users + 1, dtype=np.int64) * events,
        time=np.arange(users * events, dtype=np.int64),
        event_fields=pl.DataFrame(
            {
                "rating": [float(code % 5 + 1) for code in item],
                "summary": [f"headline u{user} e{event}" for user, event in place],
                "review": [f"What u{user} wrote at e{event} of {TITLES[code - 1]}" for (user, event), code in zip(place, item, strict=True)],
            }
        ),
        item_text=pl.Series("text", TITLES if titles else [""] * len(TITLES)),
    )
