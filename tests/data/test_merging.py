from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tongtu.data.dataset import Dataset
from tongtu.data.merging import Arrivals, from_arrivals, merged
from tongtu.errors import DataError
from tongtu.vocab import Vocab

LOG = Dataset(
    name="shop",
    users=Vocab(["anna", "ben"]),
    items=Vocab(["a", "b", "c"]),
    item=np.array([1, 2, 3], np.int32),
    offset=np.array([0, 2, 3]),
    time=np.array([10, 20, 15]),
    event_fields=pl.DataFrame({"rating": [4.0, 5.0, 3.0]}),
    item_text=pl.Series(["A", "B", "C"]),
    item_fields=pl.DataFrame({"year": [1990, 1991, 1992]}),
    user_attributes=pl.DataFrame({"gender": ["F", "M"], "age": [30, 40]}),
)
ARRIVALS = Arrivals(
    pl.DataFrame({"user": ["ben", "carl", "anna", "anna", "ben"], "item": ["d", "a", "b", "e", "a"], "time": [30, 25, 20, 19, 31], "rating": [0, 2, 5, 1, 4]}),
    pl.DataFrame({"id": ["d", "a"], "text": ["D", "A, told anew"], "year": ["1995", "1"], "brand": ["x", "y"]}),
    pl.DataFrame({"id": ["carl", "anna"], "gender": ["M", "F"], "age": [None, "31"], "club": ["chess", None]}),
)


def events(data: Dataset) -> list[tuple[str, str, int]]:
    assert data.time is not None
    return list(zip(data.users.decode(data.event_user), data.items.decode(data.item), data.time.tolist(), strict=True))


def test_new_events_stand_in_order_and_none_twice() -> None:
    data = merged(LOG, ARRIVALS)
    assert events(data) == [
        ("anna", "a", 10),
        ("anna", "e", 19),
        ("anna", "b", 20),
        ("ben", "c", 15),
        ("ben", "d", 30),
        ("ben", "a", 31),
        ("carl", "a", 25),
    ]
    assert data.event_fields["rating"].to_list() == [4, 1, 5, 3, 0, 4, 2]
    assert data.source["added_events"] == 4 and data.name == "shop"


def test_codes_that_were_given_stay() -> None:
    data = merged(LOG, ARRIVALS)
    assert data.users.ids.to_list() == ["anna", "ben", "carl"] and data.items.ids.to_list() == ["a", "b", "c", "d", "e"]
    assert data.item_text.to_list() == ["A", "B", "C", "D", ""]
    assert data.item_fields.to_dict(as_series=False) == {"year": [1990, 1991, 1992, 1995, None], "brand": [None, None, None, "x", None]}


def test_attributes_are_the_newest_known() -> None:
    known = merged(LOG, ARRIVALS).attributes(np.array([1, 2, 3], np.int32))
    assert list(known) == [{"gender": "F", "age": "31"}, {"gender": "M", "age": "40"}, {"gender": "M", "club": "chess"}]


def test_nothing_new_changes_nothing() -> None:
    nothing = Arrivals(pl.DataFrame(schema={"user": pl.String, "item": pl.String, "time": pl.Int64}))
    data = merged(LOG, nothing)
    assert data.fingerprint == LOG.fingerprint and data.event_fields.equals(LOG.event_fields) and data.user_attributes.equals(LOG.user_attributes)
    assert data.item_fields.equals(LOG.item_fields) and data.item_text.equals(LOG.item_text, check_names=False)


def test_a_store_alone_makes_a_data_set() -> None:
    data = from_arrivals("store", ARRIVALS)
    assert [event[:2] for event in events(data)] == [("ben", "d"), ("ben", "a"), ("carl", "a"), ("anna", "e"), ("anna", "b")]
    assert data.items.ids.to_list() == ["d", "a", "b", "e"] and data.attributes(np.array([2], np.int32))[0] == {"gender": "M", "club": "chess"}


def test_a_log_without_times_is_told() -> None:
    bare = Dataset("bare", Vocab(["u"]), Vocab(["a"]), np.ones(1, np.int32), np.array([0, 1]))
    with pytest.raises(DataError, match="no times"):
        merged(bare, ARRIVALS)
