from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tongtu.core import Extends, FitOptions, Request
from tongtu.data.dataset import Dataset
from tongtu.data.folder import save_dataset
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import GROUP_WORDS, taste_world, text_world
from tongtu.errors import ConfigError, DataError, ModelError
from tongtu.systems import make
from tongtu.systems.encoded._catalogue import fewer_words
from tongtu.systems.encoded.unisrec import UniSRec
from tongtu.testing import case_ndcg
from tongtu.train import checkpoint

SMALL: dict[str, Any] = {"encoder": "hashing", "width": 16, "max_length": 10, "blocks": 1, "experts": 2, "training": {"epochs": 8, "learning_rate": 5e-3}}
QUIET = FitOptions(quiet=True)


def unisrec(**settings: Any) -> UniSRec:
    made = make("unisrec", SMALL | settings)
    assert isinstance(made, UniSRec)
    return made


@pytest.fixture(scope="module")
def fitted() -> UniSRec:
    return unisrec().fit(taste_world(users=200).data, QUIET)


def foreign(seed: int = 5) -> Dataset:
    """A world whose items have other ids."""
    data = text_world(users=200, seed=seed).data
    return dataclasses.replace(data, items=type(data.items)([f"other {external}" for external in data.items.ids]))


def catalogue(data: Dataset) -> pl.DataFrame:
    return pl.DataFrame([data.items.ids, data.item_text.rename("text")])


def test_recommends_items_that_never_occurred_in_training() -> None:
    world = text_world()
    split = leave_one_out(world.data)
    new = np.flatnonzero(split.train.item_counts == 0)[1:]
    for mode in ("text", "text+id"):
        system = unisrec(mode=mode).fit(split.train, QUIET)
        top = system.recommend(split.test.requests, 10).items
        taste = world.group[world.data.item[world.data.offset[:-1]]]
        assert np.isin(top, new).mean() > 0.1
        assert (world.group[top] == taste[np.asarray(split.test.requests.user) - 1][:, None]).mean() >= 0.8, mode


def test_new_items_are_added_behind_the_known_ones(fitted: UniSRec) -> None:
    assert isinstance(fitted, Extends)
    words = " ".join(GROUP_WORDS[2])
    new = pl.DataFrame({"id": ["new", fitted.items.ids[0], "silent"], "text": [words, "changed", None]})
    before = fitted.score([Request(history=np.array([3], np.int32))], slice(None))
    other = fitted.with_items(new)
    assert other.items.ids.to_list() == [*fitted.items.ids, "new", "silent"]
    known = slice(0, fitted.items.size)
    history = np.array([3], np.int32)
    np.testing.assert_array_equal(other.score([Request(history=history)], known), before)
    assert other.counts[-2:].tolist() == [0, 0] and other.item_text is not None and other.item_text[-1] == ""
    group = np.flatnonzero(taste_world(users=200).group == 3).astype(np.int32)
    top = other.recommend([Request(history=group[:3])], len(group) - 3 + 1).items[0]
    assert other.items.code("new") in top, "as near to the history as the group's other items are"
    assert (other.score([Request(history=history)], slice(other.items.code("silent"), None)) == 0).all()


def test_the_old_recommender_stays_as_it_is(fitted: UniSRec) -> None:
    request = [Request(history=np.array([3, 7], np.int32))]
    before, weights = fitted.score(request, slice(None)), {name: tensor.clone() for name, tensor in fitted.net.state_dict().items()}
    other = fitted.with_items(pl.DataFrame({"id": ["a", "b"], "text": ["jazz piano", "coffee"]}), keep=False)
    with torch.no_grad():
        for parameter in other.net.parameters():
            parameter.zero_()
    other.counts[:] = 7
    np.testing.assert_array_equal(fitted.score(request, slice(None)), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in fitted.net.state_dict().items())


def test_a_catalogue_of_known_items_scores_as_before(fitted: UniSRec) -> None:
    """Same id and same text is the same item, with its id vector; the same id with another text is not."""
    assert fitted.item_text is not None
    ids, text = fitted.items.ids[::-1], fitted.item_text[::-1].to_list()
    text[0] = "something else"
    other = fitted.with_items(pl.DataFrame({"id": ids, "text": text}), keep=False)
    before = fitted.score([Request(history=np.array([3, 7], np.int32))], slice(1, None))
    after = other.score([Request(history=other.items.encode([fitted.items.ids[2], fitted.items.ids[6]]))], slice(1, None))
    np.testing.assert_allclose(after[:, ::-1][:, :-1], before[:, :-1], rtol=1e-4, atol=1e-4)
    assert abs(after[0, 0] - before[0, -1]) > 1e-3 and other.counts[1] == 0


def test_new_items_need_ids_and_texts(fitted: UniSRec) -> None:
    with pytest.raises(DataError, match="text missing"):
        fitted.with_items(pl.DataFrame({"id": ["a"]}))
    with pytest.raises(DataError, match="no id twice"):
        fitted.with_items(pl.DataFrame({"id": ["a", "a"], "text": ["b", "c"]}))


def test_an_extended_model_is_saved_and_opened(fitted: UniSRec, tmp_path: Path) -> None:
    other = fitted.with_items(pl.DataFrame({"id": ["new"], "text": ["jazz piano"]}))
    other.save_pretrained(tmp_path / "model")
    opened, request = UniSRec.from_pretrained(tmp_path / "model"), [Request(history=np.array([3], np.int32))]
    np.testing.assert_array_equal(opened.score(request, slice(None)), other.score(request, slice(None)))


def test_another_encoder_of_the_same_name_is_refused(fitted: UniSRec) -> None:
    other = fitted.with_items(catalogue(foreign()), keep=False)
    other.reader = {**fitted.reader, "fingerprint": "other weights"}
    with pytest.raises(ModelError, match="not the one"):
        other.with_items(pl.DataFrame({"id": ["new"], "text": ["jazz piano"]}))


def test_zero_shot_on_a_catalogue_it_never_saw(tmp_path: Path) -> None:
    """Pre-trained on two worlds, it finds a third one's last events far better than chance, without any of its events."""
    folders = [tmp_path / name for name in ("a", "b")]
    logs = [taste_world(users=300, seed=1).data, text_world(users=300, seed=2).data]
    for folder, log in zip(folders, logs, strict=True):
        save_dataset(log, folder)
    names = [str(folder) for folder in folders]
    base = unisrec(pretrain=names, tune="none", pretraining={"epochs": 15, "learning_rate": 5e-3, "tokens": 512}).fit(logs[0], QUIET)
    assert [one["events"] for one in base.provenance["pretraining"]["data"]] == [log.n_events for log in logs]
    split = leave_one_out(foreign())
    zero_shot = case_ndcg(base.with_items(catalogue(split.train), keep=False), split.test).mean()
    assert zero_shot > 0.15, "at random it would be .02"
    base.save_pretrained(tmp_path / "base")
    tuned = unisrec(base=str(tmp_path / "base"), tune="adaptor").fit(split.train, QUIET)
    as_it_is = unisrec(base=str(tmp_path / "base"), tune="none").fit(split.train, QUIET)
    assert case_ndcg(as_it_is, split.test).mean() == pytest.approx(zero_shot)
    assert case_ndcg(tuned, split.test).mean() > 0.15
    frozen = {name: tensor for name, tensor in base.net.state_dict().items() if name.startswith(("blocks", "position"))}
    assert frozen and all(torch.equal(tensor, tuned.net.state_dict()[name]) for name, tensor in frozen.items())
    assert not torch.equal(base.net.adaptor.whitening, tuned.net.adaptor.whitening)
    with pytest.raises(ConfigError, match="width = 32"):
        unisrec(base=str(tmp_path / "base"), width=32).fit(split.train, QUIET)


def test_the_log_it_is_fitted_on_is_pre_trained_on_without_what_is_held_out(tmp_path: Path) -> None:
    log = taste_world(users=100).data
    save_dataset(log, tmp_path / "log")
    train = leave_one_out(log).train
    system = unisrec(pretrain=[str(tmp_path / "log")], tune="none", pretraining={"epochs": 1}).fit(train, QUIET)
    assert system.provenance["pretraining"]["data"][0]["fingerprint"] == train.fingerprint


@pytest.mark.parametrize("saved", [3, 14])
def test_a_fit_that_was_cut_off_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: int) -> None:
    """In pre-training, and while tuning after it: the weights are those of an unbroken fit, bit by bit."""
    log = taste_world(users=100).data
    save_dataset(log, tmp_path / "log")
    often = {"epochs": 3, "tokens": 256, "checkpoint_seconds": 0}
    system = unisrec(pretrain=[str(tmp_path / "log")], training=often, pretraining=often)
    unbroken = system.fit(log, QUIET).net.state_dict()
    save, calls = checkpoint.save, 0

    def cut_off(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        save(*arguments)
        if calls == saved:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", cut_off)
        unisrec(**dataclasses.asdict(system.config)).fit(log, FitOptions(quiet=True, checkpoint=tmp_path / "state"))
    assert (tmp_path / "state").exists() == (saved == 14)
    resumed = unisrec(**dataclasses.asdict(system.config)).fit(log, FitOptions(quiet=True, checkpoint=tmp_path / "state", resume=True))
    assert all(torch.equal(tensor, unbroken[name]) for name, tensor in resumed.net.state_dict().items())
    assert not (tmp_path / "state.pretraining").exists()


@pytest.mark.parametrize(("settings", "told"), [({"base": "a", "pretrain": ["b"]}, "not both"), ({"tune": "none"}, "base or pretrain")])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        unisrec(**settings)


def test_without_any_text_only_ids_can_learn() -> None:
    data = dataclasses.replace(taste_world(users=60).data, item_text=pl.Series("text", [], dtype=pl.String))
    with pytest.raises(DataError, match="no item has a text"):
        unisrec(mode="text").fit(data, QUIET)
    assert unisrec(training={"epochs": 1}).fit(data, QUIET).recommend([Request()], 3).items.all()


def test_words_are_left_out_alike_each_time() -> None:
    texts = pl.Series(["one two three four five six seven eight nine ten"] * 50 + ["", "single"])
    poorer = fewer_words(texts, 0.15)
    assert poorer.equals(fewer_words(texts, 0.15)) and poorer[-2:].to_list() == ["", "single"]
    left = sum(len(text.split()) for text in poorer[:50])
    assert 390 < left < 460
