"""Promises of the store that need a PostgreSQL server, or time."""

from __future__ import annotations

from pathlib import Path

import pytest
from held_writer import Held
from killed_writer import check_kills

from postgres_cluster import Postgres, postgres_cluster
from tongtu.errors import StorageError
from tongtu.serve.store import Event, Store

pytestmark = pytest.mark.system


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_ten_thousand_acknowledged_events_survive_kills(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/store.db" if database == "sqlite" else request.getfixturevalue("postgres").new_database()
    check_kills(url, events=10_000, kills=8, seed=2)


def test_a_server_that_comes_back_is_used_again() -> None:
    with postgres_cluster() as server, Store.open(server.new_database()) as store:
        store.add_events([Event("ann", "tea", 1, "first")])
        assert store.history("ann", 9).items == ("tea",)
        server.stop()
        for use in (lambda: store.add_events([Event("ann", "cup", 2, "second")]), lambda: store.history("ann", 9)):
            with pytest.raises(StorageError, match="check that its server runs") as caught:
                use()
            assert "\n" not in str(caught.value)
        assert not store.ready()
        server.start()
        assert store.ready()
        assert store.add_events([Event("ann", "tea", 1, "first"), Event("ann", "cup", 2, "second")]) == [False, True]
        server.stop()
        server.start()
        # Connections that were lost while nobody looked are nobody's problem.
        assert store.add_events([Event("ann", "pot", 3)]) == [True]
        assert store.history("ann", 9).items == ("tea", "cup", "pot")


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_writer_elsewhere_who_does_not_let_go(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/store.db" if database == "sqlite" else request.getfixturevalue("postgres").new_database()
    with Store.open(url) as store, Store.open(url) as elsewhere:
        held = Held(elsewhere)
        with pytest.raises(StorageError, match="another program has been writing for 10 s"):
            store.add_events([Event("ann", "tea", 1)])
        assert store.history("ann", 9).items == () and store.ready()
        held.free()
        assert store.add_events([Event("ann", "tea", 1)]) == [True]


def test_a_place_of_its_own_in_a_shared_database(postgres: Postgres) -> None:
    one, other = postgres.new_database(), postgres.new_database()
    with Store.open(one) as first, Store.open(other) as second:
        first.add_events([Event("ann", "tea", 1)])
        assert second.counts().events == 0 and first.counts().events == 1
