"""The first tables."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make them."""
    _events()
    _catalogue()
    op.create_table("tongtu_users", sa.Column("id", _ID, primary_key=True), sa.Column("attributes", sa.Text, nullable=False))
    totals = op.create_table("tongtu_totals", sa.Column("name", _ID, primary_key=True), sa.Column("n", sa.BigInteger, nullable=False))
    op.bulk_insert(totals, [{"name": name, "n": 0} for name in ("users", "items", "events")])
    minute = sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False)
    op.create_table("tongtu_minutes", minute, sa.Column("n", sa.BigInteger, nullable=False))
    op.create_table("tongtu_settings", sa.Column("name", _ID, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    op.create_table(
        "tongtu_keys",
        sa.Column("name", _ID, primary_key=True),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("start", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tongtu_models",
        sa.Column("name", _ID, primary_key=True),
        sa.Column("role", _ID, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("counter", sa.BigInteger, nullable=False),
        sa.Column("installed", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Remove them, and all that is in them."""
    for name in ("models", "keys", "settings", "minutes", "totals", "users", "item_values", "items", "events"):
        op.drop_table(f"tongtu_{name}")


def _events() -> None:
    op.create_table(
        "tongtu_events",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("key", _ID),
        sa.Column("rating", sa.Double),
        sa.Column("fields", sa.Text),
        sa.Column("arrived", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("key", name="tongtu_events_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("tongtu_events_history", "tongtu_events", ["user_id", "time", "seq"])


def _catalogue() -> None:
    op.create_table(
        "tongtu_items",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("search", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_index("tongtu_items_seq", "tongtu_items", ["seq"])
    op.create_table(
        "tongtu_item_values",
        sa.Column("field", _ID, primary_key=True),
        sa.Column("value", _ID, primary_key=True),
        sa.Column("item_id", _ID, primary_key=True),
    )
    op.create_index("tongtu_item_values_item", "tongtu_item_values", ["item_id"])
