"""PLM-NR: what it learns from, what new texts get, and that its folder needs no language model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
import torch
from tiny_bert import write_bert

from mind_files import TOPICS, write_mind
from tongtu import open_model
from tongtu.cli import app
from tongtu.core import Extends, FitOptions, Request
from tongtu.data.folder import save_dataset
from tongtu.data.mind import read_mind
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import GROUP_WORDS, text_world
from tongtu.errors import ConfigError, DataError
from tongtu.evaluation.evaluate import evaluate
from tongtu.evaluation.protocol import PROTOCOLS
from tongtu.nn.clicks import ClickBatch, ClickedAmongShown
from tongtu.nn.user import UserKind
from tongtu.systems import make
from tongtu.systems.encoded._clicks import training_clicks
from tongtu.systems.encoded.plmnr import PLMNRNet

QUIET = FitOptions(quiet=True)
WORDS: Mapping[str, Any] = {"language_model": "words", "width": 32, "query": 32, "training": {"epochs": 8, "learning_rate": 5e-3}}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def fitted() -> Any:
    return make("plmnr", WORDS).fit(leave_one_out(text_world().data).train, QUIET)


def test_the_text_decides_at_least_eight_of_ten(fitted: Any) -> None:
    """Lists of users with a clear taste, and with items that never occurred in training among them."""
    world = text_world()
    split = leave_one_out(world.data)
    taste = np.array([np.bincount(world.group[request.history]).argmax() for request in split.test.requests])
    lists = fitted.recommend(split.test.requests, 10).items
    assert (world.group[lists] == taste[:, None]).mean() >= 0.8
    assert (split.train.item_counts[lists] == 0).mean() > 0.1


@pytest.mark.parametrize("user", get_args(UserKind))
def test_every_user_encoder_learns(user: UserKind, tmp_path: Path) -> None:
    data, _ = read_mind("mind", write_mind(tmp_path), tmp_path, True)
    split = PROTOCOLS["mind"].split(data)
    model: Any = make("plmnr", {**WORDS, "user": user, "training": {"epochs": 20, "learning_rate": 5e-3}}).fit(split.train, QUIET)
    assert evaluate(model, split.test, split.train).metrics["auc"] > 0.75
    assert model.provenance["impressions"] == "given by the data"


@pytest.mark.parametrize("pooling", ["attention", "mean", "cls"])
def test_the_layers_of_a_language_model_learn(bert: Path, pooling: str) -> None:
    world = text_world(users=150, items=60)
    split = leave_one_out(world.data)
    settings: dict[str, Any] = {"language_model": f"hf:{bert}", "pooling": pooling, "width": 32, "dropout": 0.0, "language_rate": 1.0}
    settings["training"] = {"epochs": 10, "learning_rate": 4e-3, "tokens": 1024}
    model: Any = make("plmnr", settings).fit(split.train, QUIET)
    assert model.provenance["impressions"].startswith("sampled impressions: 20 items beside each click, uniform")
    losses = [row["loss"] for row in model.provenance["curves"]]
    assert losses[-1] < 0.92 * losses[0]
    start = PLMNRNet(model.config, 1).state_dict()
    learned = [name for name in start if ".layer." in name and not np.array_equal(model._arrays[f"net.{name}"], start[name].numpy())]
    assert any(".layer.0." in name for name in learned) and any(".layer.1." in name for name in learned)


def test_kept_states_and_running_all_layers_give_the_same_losses(bert: Path) -> None:
    data = leave_one_out(text_world(users=60, items=40).data).train
    curves = []
    for frozen in ("fp32", "none"):
        settings = {"language_model": f"hf:{bert}", "frozen": frozen, "width": 16, "training": {"epochs": 3}}
        curves.append([row["loss"] for row in make("plmnr", settings).fit(data, QUIET).provenance["curves"]])
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


def test_a_batch_encodes_each_item_once() -> None:
    data = text_world(users=80).data
    config = make("plmnr", WORDS).config
    clicks, _ = training_clicks(data, config, 0)
    net, asked = PLMNRNet(config, data.users.size), []

    def news(items: torch.Tensor) -> torch.Tensor:
        asked.extend(items.tolist())
        return torch.ones(len(items), config.width, requires_grad=True)

    net.news = news  # type: ignore[method-assign]
    objective, draw = ClickedAmongShown(config.negatives), torch.Generator().manual_seed(0)
    batch = objective.mark(clicks.batch(np.arange(100)), draw)
    objective.loss(net, batch, draw)
    assert isinstance(batch, ClickBatch) and batch.target is not None and batch.others.shape == (100, 4)
    assert len(asked) == len(set(asked)) and set(asked) == set(torch.cat([x.flatten() for x in (batch.item, batch.target, batch.others)]).tolist()) - {0}


def test_against_the_whole_batch_by_hand() -> None:
    class Net(torch.nn.Module):
        def news(self, items: torch.Tensor) -> torch.Tensor:
            return torch.eye(8)[items]

        def user(self, clicks: torch.Tensor, valid: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
            return (clicks * valid[..., None]).sum(1) @ torch.arange(64.0).view(8, 8) / 64

    item, length, target, others = torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1]), torch.tensor([[3], [4]]), torch.tensor([[5], [0]])
    batch = ClickBatch(item, length, target, others=others, user=torch.zeros(2, dtype=torch.int64))
    users = torch.stack([torch.arange(64.0).view(8, 8)[[1, 2]].sum(0), torch.arange(64.0).view(8, 8)[3]]) / 64
    wanted = -users[0, [3, 4, 5]].log_softmax(0)[0] - users[1, [1, 2, 4, 5]].log_softmax(0)[2]
    found = ClickedAmongShown(4, whole=True).loss(Net(), batch, torch.Generator())
    assert torch.allclose(found, wanted)


def test_negatives_change_and_empty_places_have_no_part() -> None:
    others = torch.tensor([[5, 6, 7, 8, 9, 10], [5, 0, 0, 0, 0, 0]])
    batch = ClickBatch(torch.ones(2, 1, dtype=torch.int64), torch.ones(2, dtype=torch.int64), torch.tensor([[3], [4]]), others=others, user=torch.zeros(2))
    drawn = [ClickedAmongShown(4).mark(batch, torch.Generator().manual_seed(seed)).others for seed in range(9)]  # type: ignore[attr-defined]
    assert all(len(set(one[0].tolist())) == 4 and sorted(one[1].tolist()) == [0, 0, 0, 5] for one in drawn)
    assert len({tuple(sorted(one[0].tolist())) for one in drawn}) > 3


def test_new_items_need_only_text(fitted: Any) -> None:
    words = GROUP_WORDS[2]
    frame = pl.DataFrame({"id": ["new", "silent", "item-1"], "text": [" ".join(words), None, "ignored"], "price": [1, 2, 3]})
    assert isinstance(fitted, Extends)
    before = fitted.score([Request(history=np.array([3], np.int32))], slice(0, fitted.items.size))
    more = fitted.with_items(frame)
    assert len(more.items) == len(fitted.items) + 2 and more.item_text[-2:].to_list() == [" ".join(words), ""]
    taste = [Request(history=np.array([code], np.int32)) for code in range(1, len(GROUP_WORDS) + 1)]
    scores = more.score(taste, slice(0, more.items.size))
    assert scores[:, more.items.code("new")].argmax() == 2
    assert np.allclose(scores[2, : fitted.items.size], before[0], atol=1e-6) and "new" not in fitted.items
    only = fitted.with_items(frame, keep=False)
    assert only.items.ids.to_list() == ["new", "silent", "item-1"] and only.counts.tolist() == [0, 0, 0, 0], "item-1 has another text"
    same = fitted.with_items(pl.DataFrame({"id": fitted.items.ids[::-1], "text": fitted.item_text[::-1]}), keep=False)
    assert np.array_equal(same.counts[1:], fitted.counts[:0:-1]) and torch.equal(same._vectors[1:], fitted._vectors[1:].flip(0))
    assert set(only.recommend([Request()], 3).items[0].tolist()) == {1, 2, 3}


def test_a_folder_opens_without_the_language_model(bert: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(bert, own)
    data = leave_one_out(text_world(users=60, items=40).data).train
    model: Any = make("plmnr", {"language_model": f"hf:{own}", "width": 16, "user": "lstur-ini", "training": {"epochs": 1}}).fit(data, QUIET)
    fresh = pl.DataFrame({"id": ["new"], "text": ["jazz piano"]})
    wanted = model.with_items(fresh)
    wanted.save_pretrained(tmp_path / "model")
    shutil.rmtree(own)
    opened: Any = open_model(tmp_path / "model")
    requests = data.requests(np.arange(1, 9))
    assert np.array_equal(opened.score(requests, slice(0, 42)), wanted.score(requests, slice(0, 42)))
    with pytest.raises(ConfigError, match="no language model at"):
        opened.with_items(fresh.with_columns(id=pl.lit("newer")))
    shutil.copytree(bert, own)
    again = opened.with_items(fresh.with_columns(id=pl.lit("newer")))
    assert torch.allclose(again._vectors[-1], again._vectors[-2], atol=1e-6)


def test_new_items_need_ids_and_texts(fitted: Any) -> None:
    with pytest.raises(DataError, match="text missing"):
        fitted.with_items(pl.DataFrame({"id": ["a"]}))
    with pytest.raises(DataError, match="no id twice"):
        fitted.with_items(pl.DataFrame({"id": ["a", "a"], "text": ["b", "c"]}))


def test_data_that_cannot_be_learned_from() -> None:
    data = text_world(users=20).data
    silent = pl.Series("text", [""] * len(data.items))
    with pytest.raises(DataError, match="no item texts"):
        make("plmnr", WORDS).fit(type(data)(data.name, data.users, data.items, data.item, data.offset, item_text=silent), QUIET)
    with pytest.raises(ConfigError, match="multiple of heads"):
        make("plmnr", {"user": "nrms", "width": 10})


def test_from_files_to_figures_on_the_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    data, _ = read_mind("mind", write_mind(tmp_path), tmp_path, True)
    save_dataset(data, tmp_path / "data")
    fit = ["fit", "plmnr", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "model"), "--protocol", "mind"]
    sets = ["language_model=words", "width=16", "query=16", "training.epochs=15", "training.learning_rate=5e-3"]
    done = CliRunner().invoke(app, [*fit, *(f"--set={one}" for one in sets)])
    assert done.exit_code == 0 and "validation: auc 0." in done.output, done.output
    shown = CliRunner().invoke(app, ["evaluate", str(tmp_path / "model"), "--data", str(tmp_path / "data"), "--protocol", "mind"])
    assert shown.exit_code == 0 and all(name in shown.output for name in ("auc", "mrr", "ndcg@5", "ndcg@10")), shown.output
    assert "warning" not in shown.output
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(f'name = "news"\ndata = "{tmp_path}/data"\nprotocol = "mind"\n[[systems]]\nname = "popular"\n')
    with experiment.open("a") as file:
        file.write('[[systems]]\nname = "plmnr"\nsettings = {language_model = "words", width = 16, training = {epochs = 2}}\n')
    table = CliRunner().invoke(app, ["compare", str(experiment), "--out", str(tmp_path / "out")])
    assert table.exit_code == 0 and "auc" in table.output and "PLM-NR" in table.output, table.output
    assert TOPICS > 1 and "AUC" in (tmp_path / "out" / "report.html").read_text()
