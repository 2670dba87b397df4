from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.core import Extends, FitOptions, Request, Scores
from tongtu.data.dataset import Dataset
from tongtu.errors import DataError, ModelError
from tongtu.systems.encoded.textknn import TextKNN
from tongtu.text.hashing import HashingEncoder
from tongtu.vocab import Vocab

QUIET = FitOptions(quiet=True)
ALL = slice(0, None)
TEXTS = ["jazz piano", "jazz piano record", "espresso coffee", "coffee grinder", "", ""]


def shop(texts: list[str] = TEXTS) -> Dataset:
    """Item 6 is the most popular, then 5 and so on."""
    events = np.concatenate([np.full(n, n) for n in range(1, 7)]).astype(np.int32)
    return Dataset("shop", Vocab(["u"]), Vocab([f"i{n}" for n in range(1, 7)]), events, np.array([0, len(events)]), item_text=pl.Series("text", texts))


def textknn(**settings: Any) -> TextKNN:
    return TextKNN(TextKNN.Config(**({"encoder": "hashing"} | settings)))


def asked(system: TextKNN, *history: int, wish: str | None = None) -> Scores:
    return system.score([Request(history=np.array(history, np.int32), wish=wish)], ALL)[0]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))


def test_the_cosine_with_the_decayed_mean() -> None:
    vectors = HashingEncoder().encode(TEXTS)
    system = textknn(decay=0.5, last=2).fit(shop(), QUIET)
    user = 0.5 * vectors[0] + vectors[2]
    expected = vectors[:4] @ user / np.linalg.norm(user)
    assert asked(system, 1, 3)[1:5] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(asked(system, 4, 1, 3), asked(system, 1, 3)), "only the newest two"


def test_items_without_text_and_users_without_text_fall_to_popularity() -> None:
    system = textknn().fit(shop(), QUIET)
    found = system.recommend([Request(history=np.array([1], np.int32), exclude_seen=False)], 6).items[0].tolist()
    assert found[:2] == [1, 2] and found[4:] == [6, 5]
    for history in ([], [0], [5, 6]):
        assert system.recommend([Request(history=np.array(history, np.int32), exclude_seen=False)], 6).items[0].tolist() == [6, 5, 4, 3, 2, 1]
    assert asked(system, 1)[5:].max() < -1 <= asked(system, 1)[1:5].min()


def test_a_wish_is_one_more_newest_item() -> None:
    system = textknn(decay=1.0).fit(shop(), QUIET)
    assert asked(system, wish="coffee grinder") == pytest.approx(asked(system, 4), abs=1e-6)
    assert asked(system, 1, wish="coffee grinder") == pytest.approx(asked(system, 1, 4), abs=1e-6)
    mixed = system.score([Request(wish="jazz"), Request(wish=""), Request()], ALL)
    assert mixed[0, 1] > 0 and np.array_equal(mixed[1], mixed[2])


def test_other_items_are_read_and_known_ones_kept(tmp_path: Path) -> None:
    system = textknn().fit(shop(), QUIET)
    assert isinstance(system, Extends)
    more = system.with_items(pl.DataFrame({"id": ["new", "i1"], "text": ["piano", "not read"]}))
    assert len(more.items) == 7 and more.recommend([Request(wish="piano")], 1).items.tolist() == [[7]] and len(system.items) == 6
    assert np.array_equal(asked(more, 1)[:7], asked(system, 1))
    only = system.with_items(pl.DataFrame({"id": ["x", "i4"], "text": ["tea", "coffee grinder"]}), keep=False)
    assert only.recommend([Request()], 2).items[0].tolist() == [2, 1], "the known item keeps its popularity"


def test_a_folder_answers_without_its_encoder_and_refuses_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = textknn().fit(shop(), QUIET)
    system.save_pretrained(tmp_path / "model")
    opened = TextKNN.from_pretrained(tmp_path / "model")
    assert np.array_equal(asked(opened, 1, wish="coffee"), asked(system, 1, wish="coffee"))
    monkeypatch.setattr("tongtu.text.hashing.HashingEncoder.__init__", _changed)
    other = TextKNN.from_pretrained(tmp_path / "model")
    assert np.array_equal(asked(other, 1), asked(system, 1))
    with pytest.raises(ModelError, match="fit the model again"):
        asked(other, 1, wish="coffee")


def _changed(self: HashingEncoder, width: int) -> None:
    self.name, self.width, self.fingerprint = f"hashing:{width}", width, "another"


def test_a_catalogue_without_text_is_refused() -> None:
    with pytest.raises(DataError, match="import it with text columns"):
        textknn().fit(shop([""] * 6), QUIET)
