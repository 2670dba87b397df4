"""The tables of the store. What changes here needs a migration beside it (`migrations/versions`); a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, Table, Text, UniqueConstraint

NAMESPACE = "tongtu_"
"""Begins the name of every table, so that a database can hold another program's tables too."""

# The same order of ids on both databases, whatever PostgreSQL's locale is: that of their bytes.
_ID = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite counts on only in a column that is an INTEGER by name.
_SEQ = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

events = Table(
    f"{NAMESPACE}events",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("item_id", _ID, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("key", _ID),
    Column("rating", Double),
    Column("fields", Text),
    Column("arrived", BigInteger, nullable=False),
    UniqueConstraint("key", name=f"{NAMESPACE}events_key"),
    Index(f"{NAMESPACE}events_history", "user_id", "time", "seq"),
    # A number is never given twice, even after the newest event was deleted: readers remember how far they have read.
    sqlite_autoincrement=True,
)
"""What happened. `seq` is the order of arrival; `key` is null in events that were there before the service; `fields` is JSON."""

users = Table(f"{NAMESPACE}users", metadata, Column("id", _ID, primary_key=True), Column("attributes", Text, nullable=False))
"""Everybody who has events or attributes; `attributes` is JSON."""

items = Table(
    f"{NAMESPACE}items",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("text", Text, nullable=False),
    Column("title", Text),
    Column("fields", Text, nullable=False),
    Column("search", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index(f"{NAMESPACE}items_seq", "seq"),
)
"""The catalogue. `search` is title and text without regard to case; `seq` counts changes and is 0 in items of the data set."""

values = Table(
    f"{NAMESPACE}item_values",
    metadata,
    Column("field", _ID, primary_key=True),
    Column("value", _ID, primary_key=True),
    Column("item_id", _ID, primary_key=True),
    Index(f"{NAMESPACE}item_values_item", "item_id"),
)
"""Which items have a value in a field: for categories and filters."""

totals = Table(f"{NAMESPACE}totals", metadata, Column("name", _ID, primary_key=True), Column("n", BigInteger, nullable=False))
"""How many users, items and events there are; counting a large table takes seconds."""

minutes = Table(f"{NAMESPACE}minutes", metadata, Column("minute", BigInteger, primary_key=True, autoincrement=False), Column("n", BigInteger, nullable=False))
"""How many events arrived in each minute since 1970 of the last day."""

keys = Table(
    f"{NAMESPACE}keys",
    metadata,
    Column("name", _ID, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("start", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)
"""API keys: the SHA-256 of each, and its first characters to know it by."""

models = Table(
    f"{NAMESPACE}models",
    metadata,
    Column("name", _ID, primary_key=True),
    Column("role", _ID, primary_key=True),
    Column("path", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("installed", BigInteger, nullable=False),
)
"""The models being served, and for each the one before."""

settings = Table(f"{NAMESPACE}settings", metadata, Column("name", _ID, primary_key=True), Column("value", Text, nullable=False))
"""Single facts by name, as JSON: how traffic is split, which data set was loaded."""
