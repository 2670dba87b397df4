from __future__ import annotations

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from tongtu.core import Request, RequestBatch
from tongtu.data.attributes import AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import taste_world
from tongtu.errors import DataError

USERS = 200


def log(**columns: object) -> Dataset:
    return dataclasses.replace(taste_world(users=USERS, items=40).data, user_attributes=pl.DataFrame(columns))


def codes(reader: AttributeReader, **attributes: str) -> list[int]:
    return reader.of_requests(RequestBatch.of([Request(attributes=attributes)]))[0].tolist()


def test_words_and_few_numbers_are_categories() -> None:
    data = log(club=["chess", "rowing"] * (USERS // 2), floor=[1, 2, 3, 10] * (USERS // 4))
    reader = AttributeReader.learn(data)
    assert reader.sizes == (3, 5)
    assert codes(reader, club="chess", floor="10") == [1, 2]
    assert codes(reader, club="rowing", floor="3.0") == [2, 4]
    assert reader.of_users(data)[:2].tolist() == [[1, 1], [2, 3]]


def test_many_numbers_are_cut_at_quantiles() -> None:
    age = np.random.default_rng(0).permutation(USERS) / 2
    data = log(age=age)
    reader = AttributeReader.learn(data, buckets=4)
    assert np.bincount(reader.of_users(data)[:, 0]).tolist() == [0, 50, 50, 50, 50]
    assert [codes(reader, age=told)[0] for told in ("-5", "30", "1e9")] == [1, 2, 4]


@pytest.mark.parametrize("told", ["", "golf", "nan", "inf"])
def test_what_says_nothing_is_unknown(told: str) -> None:
    reader = AttributeReader.learn(log(club=["chess", "rowing"] * (USERS // 2), age=np.arange(USERS)))
    assert codes(reader, club=told, age=told) == [0, 0]
    assert codes(reader) == [0, 0]


def test_missing_and_forgotten_values_are_unknown() -> None:
    data = log(club=["chess", None] * (USERS // 2))
    reader = AttributeReader.learn(data)
    assert reader.of_users(data)[:2].tolist() == [[1], [0]]
    forgetful = Request(attributes={"club": "chess"}, forget=frozenset({"club"}))
    assert reader.of_requests(RequestBatch.of([forgetful])).tolist() == [[0]]


def test_rare_values_are_unknown_and_repeating_attributes_are_left_out() -> None:
    number = np.arange(USERS)
    data = log(club=["chess", "rowing"] * (USERS // 2), zip_code=number.astype(str), number_of_club=number % 2 + 7, told=["yes"] + ["no"] * (USERS - 1))
    reader = AttributeReader.learn(data)
    assert [field.name for field in reader.fields] == ["club", "told"]
    assert codes(reader, club="chess", told="yes") == [1, 0]
    with pytest.raises(DataError, match="no value of 'zip_code' has 5 users"):
        AttributeReader.learn(data, ["zip_code"])
    with pytest.raises(DataError, match=r"no user attribute 'age' \(known: club"):
        AttributeReader.learn(data, ["age"])


def test_users_and_requests_are_read_alike() -> None:
    data = log(club=["chess", None, "rowing", "golf"] * (USERS // 4), age=np.arange(USERS), height=np.linspace(1.5, 2, USERS))  # taller with age: it repeats it
    reader = AttributeReader.learn(data)
    everybody = data.requests(np.arange(1, USERS + 1, dtype=np.int32))
    np.testing.assert_array_equal(reader.of_requests(everybody), reader.of_users(data))
    np.testing.assert_array_equal(reader.of_requests(RequestBatch.of(list(everybody))), reader.of_users(data))
    again = AttributeReader.restore(json.loads(json.dumps(reader.facts())))
    assert again == reader
    assert reader.unknown({"club": "chess", "age": "x", "hat": "red"}) == ["hat (read are: club, age)", "age=x"]


def test_without_attributes_there_is_one_column_of_unknowns() -> None:
    data = taste_world(users=50).data
    reader = AttributeReader.learn(data)
    assert reader.sizes == (1,)
    assert not reader.of_users(data).any() and codes(reader, club="chess") == [0]
