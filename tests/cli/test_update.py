from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tongtu import open_model
from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.folder import save_dataset
from tongtu.data.synthetic import markov_world
from tongtu.systems import make

Run = Callable[..., Any]
HOUR, START = 3600, 1_700_000_000
SINCE = START + 6 * HOUR


@pytest.fixture(scope="module")
def log() -> Dataset:
    world = markov_world(users=300, items=60, length=12, seed=3).data
    time = np.concatenate([START + HOUR * np.arange(n) for n in world.lengths])
    return Dataset("shop", world.users, world.items, world.item, world.offset, time, item_text=world.item_text)


@pytest.fixture(scope="module")
def shop(log: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the first six hours, a model of the first two, and a store with everything that came after the data set."""
    from tongtu.serve.store import Event, Item, Store

    folder = tmp_path_factory.mktemp("shop")
    assert log.time is not None
    save_dataset(log.keep_events(log.time < SINCE), folder / "data")
    make("rules").fit(log.keep_events(log.time < START + 2 * HOUR), FitOptions(quiet=True)).save_pretrained(folder / "model")
    users, items = log.users.decode(log.event_user), log.items.decode(log.item)
    with Store.open(f"sqlite:///{folder / 'store.db'}") as store:
        store.put_items([Item("new", "a new item", title="New", fields={"year": 2025})])
        store.put_users([(users[0], {"club": "chess"})])
        store.add_events([Event(u, i, int(t)) for u, i, t in zip(users, items, log.time, strict=True) if t >= SINCE])
        store.add_events([Event("guest", "new", SINCE + 1)])
    return folder


class Service:
    """What of the service an update speaks to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200 if self.headers["Authorization"] == "Bearer tt_admin" else 401, {"models": [], "detail": "no key"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((self.path, self.headers["Authorization"], body))
                self._answer(200, {"name": self.path.rsplit("/", 1)[1], "version": "b2-2"})

            def _answer(self, status: int, body: Any) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.server.shutdown()
    running.server.server_close()


def arguments(shop: Path, *more: Any) -> list[Any]:
    return ["update", shop / "model", "--store", f"sqlite:///{shop / 'store.db'}", *more]


def test_what_the_store_holds_is_learned_and_swapped_in(tongtu: Run, log: Dataset, shop: Path, service: Service, tmp_path: Path) -> None:
    out = tmp_path / "new"
    result = tongtu(*arguments(shop, "--since", SINCE, "--data", shop / "data", "--out", out, "--serve", service.url, "--name", "shop", "--key", "tt_admin"))
    assert result.exit_code == 0, result.stderr
    assert "fitted anew" in result.stdout and "served: shop, version b2-2" in result.stdout and "NDCG@10" in result.stdout
    assert service.asked == [("/v1/models/shop", "Bearer tt_admin", {"path": str(out)})]
    model: Any = open_model(out)
    assert model.items.ids.to_list() == [*log.items.ids.to_list(), "new"] and model.provenance["update"]["new_events"] == int((log.time >= SINCE).sum()) + 1
    assert model.provenance["update"]["judged"]["new"] > model.provenance["update"]["judged"]["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert tongtu("update", out, "--store", f"sqlite:///{shop / 'store.db'}", "--data", shop / "data").stderr.count("no event since then") == 1


def test_the_store_alone_is_enough(tongtu: Run, shop: Path, tmp_path: Path) -> None:
    result = tongtu(*arguments(shop, "--since", SINCE, "--out", tmp_path / "new", "--force"))
    assert result.exit_code == 0, result.stderr
    assert open_model(tmp_path / "new").items.code("new") and "next: tongtu serve" in result.stdout


def test_a_worse_model_is_kept_and_not_served(tongtu: Run, log: Dataset, shop: Path, service: Service, tmp_path: Path) -> None:
    """The old model knows every event, the judging ones included, and the new one has a data set of which nothing can be learned."""
    make("rules").fit(log, FitOptions(quiet=True)).save_pretrained(tmp_path / "all")
    rng = np.random.default_rng(0)
    save_dataset(Dataset("noise", log.users, log.items, rng.permutation(log.item), log.offset, log.time - 7 * HOUR), tmp_path / "noise")
    told = ["update", tmp_path / "all", "--store", f"sqlite:///{shop / 'store.db'}", "--since", SINCE, "--data", tmp_path / "noise"]
    told += ["--out", tmp_path / "new", "--serve", service.url, "--key", "tt_admin"]
    result = tongtu(*told)
    assert result.exit_code == 2 and "the new model is worse" in result.stderr and "--force" in result.stderr
    assert (tmp_path / "new" / "MANIFEST.json").is_file() and not service.asked
    assert tongtu(*told, "--force").exit_code == 0 and service.asked[0][0] == "/v1/models/all"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "say --since"),
        (["--since", "yesterday"], "is no moment"),
        (["--since", "1s"], "no event since then"),
        (["--since", str(SINCE), "--serve", "http://127.0.0.1:9"], "tongtu serve"),
    ],
)
def test_mistakes_of_an_update_are_one_line(tongtu: Run, shop: Path, tmp_path: Path, more: list[str], said: str) -> None:
    result = tongtu(*arguments(shop, "--out", tmp_path / "new", *more))
    errors = [line for line in result.stderr.splitlines() if not line.startswith("read ")]
    assert result.exit_code == 2 and len(errors) == 1 and said in errors[0], result.stderr
    assert not list(tmp_path.iterdir())


def test_a_wrong_key_is_told_before_the_fit(tongtu: Run, shop: Path, service: Service, tmp_path: Path) -> None:
    result = tongtu(*arguments(shop, "--since", SINCE, "--out", tmp_path / "new", "--serve", service.url, "--key", "tt_reader"))
    assert result.exit_code == 2 and "give a key of the right scope" in result.stderr and "fitted" not in result.stdout


def test_a_store_that_is_not_there_is_told(tongtu: Run, shop: Path, tmp_path: Path) -> None:
    result = tongtu("update", shop / "model", "--since", SINCE, "--store", f"sqlite:///{tmp_path / 'none.db'}", "--out", tmp_path / "new")
    assert result.exit_code == 2 and not list(tmp_path.iterdir()), result.stderr
