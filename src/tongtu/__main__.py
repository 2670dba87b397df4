"""`python -m tongtu` is the `tongtu` command."""

from tongtu.cli import main

main()
