"""What alembic runs: the migrations, on the connection that the store holds, in its transaction."""

from __future__ import annotations

from alembic import context

from tongtu.serve.store.opening import VERSION_TABLE
from tongtu.serve.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE, transactional_ddl=False)
context.run_migrations()
