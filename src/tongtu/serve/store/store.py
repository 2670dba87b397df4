"""The store: users, items, events, API keys and the state of the model registry, in SQLite or PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, ParamSpec, Self, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tongtu.errors import StorageError
from tongtu.serve.store import catalogue, events, keys, people, registry_rows
from tongtu.serve.store.checking import attributes_text, check_asked, check_item, event_rows, ident, json_text
from tongtu.serve.store.opening import for_reading, open_engine, parse_url, storing
from tongtu.serve.store.records import Counts, Event, History, Item, Key, Page, SavedModel, StoredEvent, User
from tongtu.serve.store.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_URL = "sqlite:///tongtu.db"


def writes(method: Callable[P, T]) -> Callable[P, T]:
    """Marks a method that waits for the writer, so that an event loop does not let those wait who only read."""
    method.__dict__["writes"] = True
    return method


class Store:
    """What the service knows, on disk. Safe to use from many threads; what writes returns when it is on disk.

    Every method raises `StorageError` when the database cannot do what it must (`StoreBusy` when too much waits to be written), and
    `DataError` for values that cannot be kept.

    Args:
        engine: As `opening.open_engine` gives it. `Store.open` is the usual way.
        name: What to call it in errors.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self.name = engine, name
        self._reading = for_reading(engine)
        self.writer = Writer(engine, name)

    @classmethod
    def open(cls, url: str = DEFAULT_URL, create: bool = True) -> Self:
        """Open a store.

        Args:
            url: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.
            create: Whether to make it where there is none.

        Raises:
            ConfigError: If the address is none.
            StorageError: If it cannot be opened, or was made by a newer Tongtu.
        """
        parsed = parse_url(url)
        return cls(open_engine(parsed, create), parsed.render_as_string())

    @writes
    def close(self) -> None:
        """Write what waits, and let go of the database."""
        self.writer.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> bool:
        """Whether the database answers."""
        try:
            return self._read(events.answers)
        except StorageError:
            return False

    # Events

    def start_events(self, new: Sequence[Event]) -> Future[list[bool]]:
        """As `add_events`, without waiting for the disk."""
        return self.writer.add_events(event_rows(new, int(time.time())))

    @writes
    def add_events(self, new: Sequence[Event]) -> list[bool]:
        """Write events, all or none; they are on disk when this returns.

        Returns:
            Of each whether it is new; False where its key was there already, and then nothing was changed.
        """
        return self.start_events(new).result()

    def history(self, user: str, last: int) -> History:
        """A user's last events, oldest first; nobody unknown is an error."""
        return self._read(events.history, user, last)

    def histories(self, users: Iterable[str], last: int) -> dict[str, History]:
        """The last events of each user."""
        return self._read(events.histories, list(users), last)

    def events(self, since_seq: int = 0, limit: int = 1000, seeded: bool = True) -> list[StoredEvent]:
        """Events with a number above `since_seq` in the order they arrived; `seeded` says whether with those of the data set."""
        return self._read(events.page, since_seq, limit, seeded)

    def n_events(self, user: str) -> int:
        """How many events a user has."""
        return self._read(events.n_events, user)

    def counts(self) -> Counts:
        """How much the store holds."""
        return self._read(events.counts)

    # Users

    @writes
    def put_users(self, users: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """Make users, or give those that are there these attributes instead of theirs."""
        rows = {ident(user, "the id of a user"): attributes_text(known, f"user {str(user)[:40]!r}") for user, known in users}
        if rows:
            self.writer.submit(lambda connection: people.put_users(connection, rows)).result()

    def user(self, user: str) -> Mapping[str, str] | None:
        """What is known of a user: nothing for one who only has events, None for somebody unknown."""
        return self._read(people.attributes, user)

    def users(self, after: str | None = None, limit: int = 50, query: str | None = None) -> Page[User]:
        """Users by id: those behind `after` whose id holds `query`."""
        return self._read(people.page, after, limit, query)

    @writes
    def delete_user(self, user: str) -> int:
        """Forget a user: events, attributes, and on SQLite their bytes in the file. Returns the number of events."""
        check_asked(user)
        return self.writer.submit(lambda connection: events.delete_user(connection, user), scrub=True).result()

    # Items

    @writes
    def put_items(self, items: Iterable[Item]) -> None:
        """Make items, or replace those that are there; each gets the next change number."""
        rows = {item.id: (item, check_item(item)) for item in items}
        if rows:
            self.writer.submit(lambda connection: catalogue.put_items(connection, rows)).result()

    def item(self, item: str) -> Item | None:
        """An item, or None."""
        return self.get_items([item]).get(item)

    def get_items(self, items: Iterable[str]) -> dict[str, Item]:
        """The items of these ids that there are."""
        return self._read(catalogue.get_items, list(items))

    def items(self, after: str | None = None, limit: int = 50, query: str | None = None, category: str | None = None) -> Page[Item]:
        """Items by id: those behind `after` with all words of `query` in title or text, of one category."""
        return self._read(catalogue.page, after, limit, query, category)

    def items_since(self, seq: int, limit: int = 10_000) -> list[Item]:
        """Items changed after change number `seq`, in that order; those of the data set have number 0."""
        return self._read(catalogue.since, seq, limit)

    def categories(self, limit: int = 200) -> list[tuple[str, int]]:
        """The largest categories, each with its number of items."""
        return self._read(catalogue.categories, limit)

    def matching(self, filters: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """Ids of the items that have one of the values in each field."""
        return self._read(catalogue.matching, filters)

    # Keys

    @writes
    def add_key(self, name: str, scopes: Iterable[str]) -> str:
        """Make an API key; the secret is told this once.

        Raises:
            ConfigError: If the name is taken or a scope does not exist.
        """
        checked = keys.check_scopes(scopes)
        return self.writer.submit(lambda connection: keys.add(connection, name, checked)).result()

    def find_key(self, secret: str) -> Key | None:
        """The key of a secret, in the same time whether there is one or not."""
        return keys.find(self.hashed_keys(), secret)

    def hashed_keys(self) -> list[keys.HashedKey]:
        """Every key with the SHA-256 of its secret, for `keys.find`."""
        return self._read(keys.all_keys)

    def list_keys(self) -> list[Key]:
        """Every key, by name."""
        return [key for _, key in self.hashed_keys()]

    @writes
    def revoke_key(self, name: str) -> bool:
        """Remove a key; whether there was one."""
        check_asked(name)
        return self.writer.submit(lambda connection: keys.revoke(connection, name)).result()

    # The registry of models

    def models(self) -> list[SavedModel]:
        """Every model that was being served, by name, the current one before the previous."""
        return self._read(registry_rows.models)

    @writes
    def save_models(self, rows: Sequence[SavedModel]) -> None:
        """Remember these models instead of all before."""
        self.writer.submit(lambda connection: registry_rows.save_models(connection, rows)).result()

    def setting(self, name: str) -> Any:
        """A fact by name ("traffic"), or None."""
        return self._read(registry_rows.setting, name)

    @writes
    def save_setting(self, name: str, value: Mapping[str, Any]) -> None:
        """Remember a fact."""
        text = json_text(value, f"setting {name}")
        self.writer.submit(lambda connection: registry_rows.save_setting(connection, ident(name, "the name of a setting"), text)).result()

    def _read(self, question: Callable[..., T], *about: Any) -> T:
        check_asked(about)
        with storing(self.name):
            try:
                with self._reading.connect() as connection:
                    return question(connection, *about)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            # The server was restarted since the last question; asking twice does no harm.
            with self._reading.connect() as connection:
                return question(connection, *about)
