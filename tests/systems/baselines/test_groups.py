from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.core import FitOptions, Request
from tongtu.data.dataset import Dataset
from tongtu.data.folder import open_dataset, save_dataset
from tongtu.errors import ConfigError
from tongtu.hub import open_model
from tongtu.systems import make
from tongtu.vocab import Vocab

# two clubs in two towns; item 1 is met by all, 2 and 3 by the clubs, 4 and 5 by the towns, 6 only by chess players in the south
CLUBS, TOWNS = ("chess", "rowing"), ("north", "south")
EACH = 10


def log() -> Dataset:
    histories, people = [], []
    for club in CLUBS:
        for town in TOWNS:
            own = [6] if (club, town) == ("chess", "south") else []
            histories += [[1, 2 + CLUBS.index(club), 4 + TOWNS.index(town), *own]] * EACH
            people += [(club, town)] * EACH
    lengths = [len(history) for history in histories]
    return Dataset(
        name="clubs",
        users=Vocab([f"u{number}" for number in range(len(people))]),
        items=Vocab([f"i{number}" for number in range(1, 8)]),
        item=np.concatenate(histories).astype(np.int32),
        offset=np.cumsum([0, *lengths]),
        user_attributes=pl.DataFrame({"club": [club for club, _ in people], "town": [town for _, town in people]}),
    )


def ranked(system: Any, **request: Any) -> list[int]:
    items: list[int] = system.recommend([Request(**request)], 7).items[0].tolist()
    return items


def test_small_groups_lean_on_larger_ones() -> None:
    bold, careful = (make("grouppop", {"shrink": shrink}).fit(log(), FitOptions(quiet=True)) for shrink in (0.1, 1e6))
    asked = {"club": "chess", "town": "south"}
    assert set(ranked(bold, attributes=asked)[:4]) == {1, 2, 5, 6}
    assert ranked(careful, attributes=asked)[0] == 1 and ranked(careful, attributes=asked)[1:3] in ([2, 5], [5, 2])
    bold_scores, careful_scores = (system.score([Request(attributes=asked)], slice(None))[0] for system in (bold, careful))
    assert bold_scores[3] < 0.01 < 0.1 < careful_scores[3], "rowers met item 3"


def test_part_of_the_attributes_gives_part_of_the_groups() -> None:
    system = make("grouppop", {"shrink": 1.0}).fit(log(), FitOptions(quiet=True))
    chess, nobody = (system.score([Request(attributes=told)], slice(None))[0] for told in ({"club": "chess"}, {}))  # type: ignore[attr-defined]
    assert chess[2] > nobody[2] and chess[3] < nobody[3] and abs(chess[4] - chess[5]) < 0.05
    np.testing.assert_allclose(nobody, log().item_counts / log().n_events, rtol=1e-5)
    np.testing.assert_array_equal(system.score([Request(attributes={"club": "golf"})], slice(None))[0], nobody)  # type: ignore[attr-defined]


def test_only_first_events_count_if_asked() -> None:
    system = make("grouppop", {"first": 1}).fit(log(), FitOptions(quiet=True))
    assert system.score([Request(attributes={"club": "chess"})], slice(None))[0].argmax() == 1  # type: ignore[attr-defined]
    assert (system.score([Request()], slice(2, None)) == 0).all()  # type: ignore[attr-defined]


def test_neighbours_agree_in_attributes_or_in_history() -> None:
    system = make("userknn", {"neighbours": EACH}).fit(log(), FitOptions(quiet=True))
    assert set(ranked(system, attributes={"club": "chess", "town": "south"})[:4]) == {1, 2, 5, 6}
    assert set(ranked(system, history=np.array([3, 4], np.int32))[:1]) == {1}
    assert ranked(system, history=np.array([6], np.int32))[:3] == [1, 2, 5]
    popular = ranked(make("popular").fit(log(), FitOptions(quiet=True)))
    assert ranked(system) == popular, "of whom nothing is known"


def test_users_without_events_are_nobodys_neighbours() -> None:
    data = log()
    silent = dataclasses.replace(data, offset=np.append(data.offset, data.offset[-1]), users=Vocab([*data.users.ids, "silent"]))
    silent = dataclasses.replace(silent, user_attributes=pl.concat([data.user_attributes, pl.DataFrame({"club": ["chess"], "town": ["north"]})]))
    one, other = (make("userknn", {"neighbours": EACH}).fit(log_, FitOptions(quiet=True)) for log_ in (data, silent))
    request = [Request(attributes={"club": "chess", "town": "north"})]
    np.testing.assert_array_equal(one.recommend(request, 7).scores, other.recommend(request, 7).scores)


def other_domain(folder: Path) -> Path:
    """Where the members of each club met an item of their own; towns say nothing, and one user of each club met another item besides."""
    data = log()
    club = [1 + CLUBS.index(name) for name in data.user_attributes["club"]]
    histories = [[item, 3] if row % (2 * EACH) == 0 else [item] for row, item in enumerate(club)]
    item, offset = np.concatenate(histories).astype(np.int32), np.cumsum([0, *map(len, histories)])
    save_dataset(Dataset(name="there", users=data.users, items=Vocab(["a", "b", "c"]), item=item, offset=offset), folder)
    return folder


def without_attributes(keep: Any) -> Dataset:
    data = dataclasses.replace(log(), user_attributes=pl.DataFrame())
    return data.keep_events(keep(data.event_user))


def test_neighbours_may_be_known_from_elsewhere(tmp_path: Path) -> None:
    new = 1 + EACH  # a chess player in the south
    data = without_attributes(lambda user: user != new)
    system: Any = make("userknn", {"source_data": str(other_domain(tmp_path / "there"))}).fit(data, FitOptions(quiet=True))
    assert set(ranked(system, user=new)[:2]) == {1, 2} and set(ranked(system, user=2 * EACH + 1)[:2]) == {1, 3}
    scores = system.score([Request(user=new), Request(user=10**6), Request()], slice(None))
    assert scores[0, 3] < 0.01, "who met nothing in common there is no neighbour"
    np.testing.assert_array_equal(scores[1], scores[2])
    assert ranked(system) == ranked(make("popular").fit(data, FitOptions(quiet=True)))
    near = 2 * EACH - 2 + 1 / 2**0.5  # cosines with the other chess players but the one who is new
    np.testing.assert_allclose(scores[0, 1], near + 1e-3 * 39 / 40, rtol=1e-5)
    system.save_pretrained(tmp_path / "model")
    opened: Any = open_model(tmp_path / "model")
    np.testing.assert_array_equal(opened.score([Request(user=new), Request()], slice(None)), scores[[0, 2]])


def test_neighbours_by_the_vectors_of_another_model(tmp_path: Path) -> None:
    there, new = open_dataset(other_domain(tmp_path / "there")), 1 + EACH
    make("sasrec", {"width": 8, "blocks": 1, "training": {"epochs": 1}}).fit(there, FitOptions(quiet=True)).save_pretrained(tmp_path / "source")
    settings = {"source_data": str(tmp_path / "there"), "source": str(tmp_path / "source"), "neighbours": 2 * EACH - 2}
    system: Any = make("userknn", settings).fit(without_attributes(lambda user: user != new), FitOptions(quiet=True))
    assert set(ranked(system, user=new)[:2]) == {1, 2}, "the same history there has the same vector"
    with pytest.raises(ConfigError, match="give source_data"):
        make("userknn", {"source": "model"})


def test_popularity_may_weigh_more_than_in_ties() -> None:
    data = without_attributes(lambda user: user > 0)
    slight, strong = (make("userknn", {"popularity": weight}).fit(data, FitOptions(quiet=True)) for weight in (1e-3, 1e3))
    history = np.array([2, 5], np.int32)
    assert ranked(slight, history=history)[:2] == [1, 6] and ranked(strong, history=history)[:2] == [1, 3]


def test_neighbours_may_give_their_first_events_alone(tmp_path: Path) -> None:
    system = make("userknn", {"first": 1, "attributes": ["club"]}).fit(log(), FitOptions(quiet=True))
    system.save_pretrained(tmp_path / "model")
    chess = Request(attributes={"club": "chess"})
    for one in (system, open_model(tmp_path / "model")):
        scores = one.score([chess], slice(0, 8))[0]  # type: ignore[attr-defined]
        assert scores[1] > 1 and not scores[2:].any()
    every = make("userknn", {"attributes": ["club"]}).fit(log(), FitOptions(quiet=True)).score([chess], slice(0, 8))[0]  # type: ignore[attr-defined]
    assert every[2] > 1
