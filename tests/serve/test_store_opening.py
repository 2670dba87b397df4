"""Where a store may lie, how it becomes today's, and what is said when it cannot be used."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import tongtu.serve.store.migrations as migrations
from tongtu.errors import ConfigError, StorageError
from tongtu.serve.store import Event, Item, Store
from tongtu.serve.store.opening import REVISIONS, VERSION_TABLE, open_engine, parse_url
from tongtu.serve.store.tables import metadata


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error) and "secret" not in str(error)
    return str(error)


def test_the_migrations_make_the_tables(store_url: str) -> None:
    engine = open_engine(parse_url(store_url), create=True)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISIONS[-1]
    engine.dispose()
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS


def test_a_newer_store_is_refused_by_its_name(store_url: str) -> None:
    with Store.open(store_url) as store:
        store.add_events([Event("ann", "tea", 1)])
        store.writer.submit(lambda connection: connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))).result()
    with pytest.raises(StorageError, match=r"newer Tongtu \(its schema is 9999, this one knows") as caught:
        Store.open(store_url)
    one_line(caught.value)


def test_tables_of_another_program_are_left_alone(store_url: str) -> None:
    engine = open_engine(parse_url(store_url), create=True)
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    with pytest.raises(StorageError, match="no store"):
        Store.open(store_url, create=False)
    with pytest.raises(StorageError, match="choose another --store") as caught:
        Store.open(store_url)
    one_line(caught.value)
    with engine.connect() as connection:
        assert not connection.dialect.has_table(connection, VERSION_TABLE)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("tongtu.db", "cannot be read"),
        ("", "cannot be read"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "must be a file"),
        ("mysql://secret@host/name", "no store can be kept in mysql"),
        ("postgresql+psycopg2://me:secret@host/name", "no store can be kept in postgresql"),
        ("postgresql://me:secret@host:port/name", "cannot be read"),
    ],
)
def test_addresses_that_are_none(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        Store.open(url)
    assert "sqlite:///FILE" in one_line(caught.value)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the store postgresql\+psycopg://me:\*\*\*@.*check that its server runs") as caught:
        Store.open(f"postgresql://me:secret@/shop?host={tmp_path}")
    one_line(caught.value)


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, whatever its name may say " * 100)
    (tmp_path / "folder").mkdir()
    places = {"text.db": "not a database", "folder": "is a folder", "text.db/store.db": None, "../../../../../../../../proc/store.db": None}
    for place, told in places.items():
        with pytest.raises((StorageError, OSError), match=told) as caught:
            Store.open(f"sqlite:///{tmp_path}/{place}")
        one_line(caught.value)
    with pytest.raises(StorageError, match="there is no store"):
        Store.open(f"sqlite:///{tmp_path}/new.db", create=False)
    assert not (tmp_path / "new.db").exists()


def test_the_file_is_its_owners_alone_and_syncs_every_commit(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/deep/folder/store.db") as store:
        store.add_events([Event("ann", "tea", 1)])
        files = list((tmp_path / "deep" / "folder").iterdir())
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600} and len(files) >= 2
        pragmas = ("journal_mode", "synchronous", "busy_timeout")
        found = store.writer.submit(lambda connection: [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]).result()
        assert found == ["wal", 2, 10_000]


def test_a_full_disk_loses_nothing_acknowledged(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        store.put_items([Item("1", "a text")])
        acknowledged = []
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
        try:
            with pytest.raises(StorageError, match="what was acknowledged before is unchanged") as caught:
                for n in range(1000):
                    batch = [Event(f"user {n}", "x" * 200, m, f"{n} {m}") for m in range(20)]
                    assert store.add_events(batch) == [True] * 20
                    acknowledged += [str(event.key) for event in batch]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        one_line(caught.value)
        assert [str(one.event.key) for one in store.events(limit=100_000)] == acknowledged and len(acknowledged) >= 20
        assert store.add_events([Event("late", "tea", 1, "late")]) == [True]
    with Store.open(f"sqlite:///{tmp_path}/store.db", create=False) as again:
        assert again.counts().events == len(acknowledged) + 1


def test_who_is_forgotten_leaves_no_bytes(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        store.put_users([("somebody-rather-particular", {"home": "a-place-nobody-else-lives"}), ("bob", {})])
        store.add_events(
            [Event(user, f"item {n}", n, fields={"at": "a-place-nobody-else-lives"}) for n in range(50) for user in ("somebody-rather-particular", "z")]
        )

        def traces() -> int:
            held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
            return held.count(b"somebody-rather-particular") + held.count(b"a-place-nobody-else-lives")

        assert traces() > 100
        store.delete_user("z")
        assert traces() > 50
        assert store.delete_user("somebody-rather-particular") == 50
        assert traces() == 0


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    with Store.open(f"sqlite:///{file}") as store:
        store.add_events([Event(f"user {n}", "tea", n) for n in range(2000)])
    with sqlite3.connect(file) as plain:
        (size,) = plain.execute("PRAGMA page_size").fetchone()
    plain.close()
    content = bytearray(file.read_bytes())
    content[2 * size :] = os.urandom(len(content) - 2 * size)
    file.write_bytes(content)
    with pytest.raises(StorageError, match="is damaged") as caught, Store.open(f"sqlite:///{file}") as store:
        store.history("user 5", 9)
        store.events()
    one_line(caught.value)


def test_the_store_opens_without_the_heavy_libraries(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/store.db"):
        pass
    check = (
        f"from tongtu.serve.store import Store\nStore.open('sqlite:///{tmp_path}/store.db').close()\n"
        "import sys\nassert not {'torch', 'transformers', 'polars', 'numpy', 'alembic', 'psycopg'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
