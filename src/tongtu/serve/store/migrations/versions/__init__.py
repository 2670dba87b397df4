"""One file for each change of the tables, never changed after a release."""
