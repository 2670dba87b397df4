"""The client against the service itself, over a socket: what one sends the other understands, and what one answers the other reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Listening, fitted

from tongtu.client import Client
from tongtu.client.answers import Event
from tongtu.client.problems import NotThere, Refused
from tongtu.data.folder import save_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client")
    _, data = fitted(path)
    save_dataset(data, path / "data")
    return path


@pytest.fixture(scope="module")
def shop(folder: Path) -> Iterator[Client]:
    models = tuple(f"{name}={folder / name}" for name in ("ease", "popular"))
    service = Listening(models=models, data=str(folder / "data"), store=f"sqlite:///{folder / 'store.db'}", llm="unigram")
    with Client(service.url) as client:
        yield client
    service.close()


def ids(shop: Client) -> list[str]:
    return [item.id for item in shop.items(limit=7)]


def test_questions(shop: Client) -> None:
    items = ids(shop)
    assert len(items) == 80 and shop.ready()
    found = shop.recommend(history=[items[0], {"item": items[1], "time": 5}, "nobody"], k=4, explain=True)
    assert len(found) == 4 and found.model == "ease" and found.version and found.unknown == ("nobody",) and found.history_length == 3
    assert [item.rank for item in found] == [1, 2, 3, 4] and found[0].score >= found[1].score and found[0].because[0].id in items
    assert found.items == shop.recommend(history=[items[0], {"item": items[1], "time": 5}, "nobody"], k=4, explain=True).items
    first, second = shop.recommend_many([{"history": [items[0]], "k": 2}, {"k": 3, "model": "popular"}])
    assert (len(first), len(second), second.model) == (2, 3, "popular")
    assert items[0] not in [item.id for item in shop.similar(items[0], k=3)]
    reasons = shop.explain([found[0].id], history=items[:3])
    assert reasons[0].item == found[0].id and {cause.id for cause in reasons[0].because} <= set(items[:3])
    assert shop.item(items[0]).id == items[0]


def test_events_users_and_items(shop: Client) -> None:
    items = ids(shop)
    assert shop.add_event("client-user", items[0], rating=4.0, key="a") and not shop.add_event("client-user", items[0], key="a")
    assert shop.add_events([Event("client-user", items[1], time=2_000_000_000), {"user": "client-user", "item": items[2], "time": 2_000_000_001}]) == 2
    shop.put_user("client-user", {"club": "chess"})
    user = shop.user("client-user")
    assert user.attributes == {"club": "chess"} and [one["item"] for one in user.history] == items[:3] and user.events == 3
    assert not {item.id for item in shop.recommend(user="client-user")} & set(items[:3])
    assert "client-user" in {one["id"] for one in shop.users(query="client")}
    assert shop.put_item("client/item?", "a new item", title="New", fields={"year": 2025}) == []
    assert shop.item("client/item?").fields == {"year": 2025}
    assert shop.delete_user("client-user") == 3
    with pytest.raises(NotThere):
        shop.user("client-user")


def test_models(shop: Client, folder: Path) -> None:
    assert [model.name for model in shop.models()] == ["ease", "popular"]
    before = shop.models()[1]
    after = shop.install_model("popular", str(folder / "textknn"))
    assert after.system != before.system and after.previous == before.version
    assert shop.rollback_model("popular").version == before.version
    shop.set_traffic({"ease": 0.5, "popular": 0.5}, shadow={"model": "popular", "share": 0.1})
    assert {model.share for model in shop.models()} == {0.5} and "requests" in shop.stats()
    shop.set_traffic({"ease": 1.0})
    with pytest.raises(Refused, match="path"):
        shop.install_model("popular", "/etc")
    shop.install_model("third", str(folder / "popular"))
    shop.remove_model("third")
    assert [model.name for model in shop.models()] == ["ease", "popular"]


def test_a_conversation(shop: Client) -> None:
    parts = list(shop.chat("something like that", history=ids(shop)[:2]))
    assert parts[-1].kind == "done" and parts[-1].data["session"]
    assert any(part.kind == "reply" for part in parts)
