"""How items are written: all different, by the training part alone, and what each kind promises."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from review_log import reviews
from tongtu.config import build
from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.data.folder import save_dataset
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import taste_world, text_world
from tongtu.errors import ConfigError, DataError
from tongtu.semantic.collaborative import cluster_paths, together
from tongtu.semantic.indexing import Indexing, ItemIndex, make_index
from tongtu.vocab import Vocab


def log(histories: list[list[int]], items: int) -> Dataset:
    lengths = [len(history) for history in histories]
    return Dataset(
        name="small",
        users=Vocab([f"u{user}" for user in range(len(histories))]),
        items=Vocab([f"i{item}" for item in range(1, items + 1)]),
        item=np.concatenate([np.array(history, np.int32) for history in histories]),
        offset=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def numbers(index: ItemIndex) -> list[int]:
    return [int(text.removeprefix("item_")) for text in index.texts]


def with_categories(data: Dataset, named: list[list[str] | None]) -> Dataset:
    return dataclasses.replace(data, item_fields=pl.DataFrame({"categories": pl.Series(named, dtype=pl.List(pl.String))}))


@pytest.mark.parametrize("kind", ["random", "sequential", "collaborative", "semantic", "title", "independent"])
@pytest.mark.parametrize("last", ["number", "independent"])
def test_all_texts_differ_and_are_made_again(kind: str, last: str) -> None:
    """A quarter of this catalogue has no training event, and every item of a group has the same title and category."""
    world = text_world(users=80)
    train = leave_one_out(world.data).train
    assert (train.item_counts[1:] == 0).sum() > 30
    same = dataclasses.replace(train, item_text=pl.Series("text", [f"group {g}" if g > 1 else "" for g in world.group[1:]]))
    same = with_categories(same, [["All", f"group  {g}"] if g > 1 else None for g in world.group[1:]])
    config = build(Indexing, {"kind": kind, "last": last, "clusters": 3, "most": 8})
    index, again = make_index(config, same, 1), make_index(config, same, 1)
    assert len(set(index.texts)) == len(index.texts) == len(train.items)
    assert index == again and len(set(index.tokens)) == len(index.tokens)
    told = set(re.findall(r"<[^>]*>", "".join(index.texts)))
    assert told == set(index.tokens), "every new token is declared, and none for nothing"
    if kind == "random":
        assert make_index(config, same, 2) != index


def test_first_sight_counts_users_in_the_order_of_the_data() -> None:
    data = log([[3, 1], [2, 3, 5], [1, 6]], 7)
    assert numbers(make_index(Indexing(kind="sequential"), data, 0)) == [1002, 1003, 1001, 1006, 1004, 1005, 1007]
    longest = make_index(Indexing(kind="sequential", users="longest", first=1), data, 0)
    assert numbers(longest)[1] == 1 and numbers(longest)[2] == 2 and numbers(longest)[4] == 3
    assert longest.facts == {"users": "longest", "without events": 2}


def test_sequential_numbers_know_nothing_of_held_out_events_and_legacy_ones_do(tmp_path: Path) -> None:
    data = text_world(users=80).data
    split = leave_one_out(data)
    save_dataset(data, tmp_path / "log")
    clean = make_index(Indexing(kind="sequential"), split.train, 0)
    leaky = make_index(Indexing(kind="legacy_p5", log=str(tmp_path / "log")), split.train, 0)
    assert clean.texts != leaky.texts and "leak" in leaky.facts

    def follows(index: ItemIndex) -> float:
        """How often the next item's number is the last one's plus one."""
        number = np.array([0, *numbers(index)])
        newest = data.item[split.test.requests.stop - 1]
        return float((number[split.test.target] == number[newest] + 1).mean())

    assert follows(leaky) > 0.15 > 0.03 > follows(clean)


def test_what_the_leak_is_taken_from_is_named_on_purpose(tmp_path: Path) -> None:
    for settings in ({"kind": "legacy_p5"}, {"kind": "random", "log": "x"}, {"clusters": 9, "most": 9}):
        with pytest.raises(ConfigError, match=r"legacy_p5|fewer than most"):
            build(Indexing, settings)
    save_dataset(reviews(), tmp_path / "other")
    with pytest.raises(ConfigError, match="other items"):
        make_index(Indexing(kind="legacy_p5", log=str(tmp_path / "other")), text_world(users=20).data, 0)


def test_items_met_by_the_same_users_share_the_beginning_of_their_paths() -> None:
    world = taste_world(users=400)
    paths, facts = cluster_paths(world.data, 10, 30, 0)
    assert facts["cuts"] == {"spectral": 1} and facts["longest path"] == 2
    group, cluster = world.group[1:], np.array([path[0] for path in paths])
    shared = cluster[:, None] == cluster
    assert (group[:, None] == group)[shared].mean() > 0.9


def test_counts_of_pairs_are_symmetric_and_a_user_counts_once() -> None:
    counts = together(log([[1, 2, 1], [2, 1], [3]], 3)).toarray()
    assert counts.tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]


def test_pieces_without_connection_are_cut_by_kmeans_and_crowds_evenly() -> None:
    histories = [[3 * block + 1, 3 * block + 2, 3 * block + 3] for block in range(20)]
    paths, facts = cluster_paths(log(histories, 60), 4, 12, 0)
    assert facts["cuts"].get("k-means") and len({tuple(path) for path in paths}) == 60
    blocks = [{path[0] for path in paths[3 * block : 3 * block + 3]} for block in range(20)]
    assert sum(len(block) == 1 for block in blocks) >= 18, "what one user met stays together"

    everything_once = [[item] for item in range(1, 41)]
    paths, facts = cluster_paths(log(everything_once, 60), 4, 12, 0)
    assert facts["cuts"].keys() == {"even"} and facts["without events"] == 20
    assert len({tuple(path) for path in paths}) == 60 and max(map(max, paths)) <= 12


def test_many_items_without_events_get_paths_of_the_same_few_tokens() -> None:
    """More of them than a leaf may hold: numbered among themselves they would need tokens that do not exist, or repeat."""
    data = log([[item, item + 1, item + 2] for item in range(1, 30)], 2_000)
    index = make_index(Indexing(clusters=5, most=10), data, 0)
    assert len(set(index.texts)) == 2_000 and len(index.tokens) <= 10
    starts = {text.split(">")[0] for text in index.texts[:31]}
    assert not starts & {text.split(">")[0] for text in index.texts[31:]}, "what nobody met has a branch of its own"


def test_a_path_is_never_the_beginning_of_another() -> None:
    for data in (text_world(users=80).data, taste_world(users=100).data):
        paths = sorted(tuple(path) for path in cluster_paths(data, 3, 6, 0)[0])
        assert not any(one == other[: len(one)] for one, other in itertools.pairwise(paths))


def test_categories_are_told_from_the_first_and_counted_within() -> None:
    data = log([[1, 2, 3]], 5)
    index = make_index(Indexing(kind="semantic", depth=2), with_categories(data, [["Hair", "Dry Oil", "x"], ["Hair"], ["Hair", "Dry Oil"], [], None]), 0)
    assert index.texts == ("<c_Hair><c_Dry_Oil><n_1>", "<c_Hair><n_1>", "<c_Hair><c_Dry_Oil><n_2>", "<c_none><n_1>", "<c_none><n_2>")
    assert index.facts == {"without categories": 2}
    for poor in (data, with_categories(data, [None] * 5)):
        with pytest.raises(DataError, match="categor"):
            make_index(Indexing(kind="semantic"), poor, 0)


def test_a_crowded_category_counts_in_two_places() -> None:
    items: Codes = np.arange(1, 31, dtype=np.int32)
    index = make_index(Indexing(kind="semantic", clusters=2, most=5), with_categories(log([items.tolist()], 30), [["All"]] * 30), 0)
    assert index.tokens == ("<c_All>", *(f"<n_{number}>" for number in range(1, 6)))
    assert len(set(index.texts)) == 30 and {text.count("<n_") for text in index.texts} == {3}


def test_equal_titles_are_told_apart() -> None:
    data = dataclasses.replace(log([[1, 2, 3]], 6), item_text=pl.Series("text", ["Oil", "Oil", "Oil #2", "a [b]", "", "Oil"]))
    index = make_index(Indexing(kind="title"), data, 0)
    assert index.texts == ("[Oil]", "[Oil #3]", "[Oil #2]", "[a (b)]", "[item 5]", "[Oil #4]")
    assert index.facts == {"equal titles": 2, "without title": 1}
    with pytest.raises(DataError, match="title"):
        make_index(Indexing(kind="title"), log([[1, 2]], 2), 0)
