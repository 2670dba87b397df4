"""How the tables came to be, for alembic. A change of `tables.py` gets a new file in `versions`, and its number a place in `opening.REVISIONS`."""
