"""The command line. Each command lives in its own file and imports what is heavy only when it runs, so `--help` answers at once."""

from __future__ import annotations

import errno
import sys
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from tongtu.cli import audit, candidates, chat, compare, data, demo, doctor, evaluate, fit, ids, keys, recommend, serve, study, systems, update
from tongtu.errors import TongtuError


class Commands(TyperGroup):
    """The commands, with one line and exit code 2 for a mistake the user can mend, and 130 for Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except TongtuError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno in (None, errno.EPIPE):
                raise
            remedy = "free some disk space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the path and its permissions"
            _fail(f"{error.filename or 'a file'}: {error.strerror}: {remedy}; what was saved before is unchanged")
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From your own event log to an honest comparison of next-item recommenders.",
    epilog="Begin with: tongtu demo",
)


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tongtu {version('tongtu')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)] = False,
) -> None:
    """Options before any command."""


app.command("demo", epilog="Example: tongtu demo --out demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("systems", epilog="Example: tongtu systems")(systems.systems)
app.command("fit", epilog="Example: tongtu fit sasrec --data ml-100k --out model --set training.epochs=20")(fit.fit)
app.command("evaluate", epilog="Example: tongtu evaluate model --data ml-100k --json figures.json")(evaluate.evaluate)
app.command("recommend", epilog='Example: tongtu recommend model --history 50,181,174 --wish "a comedy for a rainy evening" -k 5')(recommend.recommend)
app.command("chat", epilog="Example: tongtu chat model --data ml-100k --user 1 --llm smollm2 --set words.things=films")(chat.chat)
app.command("candidates", epilog="Example: tongtu candidates --data ml-100k --source bm25-10 --source uniform-9 --out lists.parquet")(candidates.candidates)
app.command("audit", epilog="Example: tongtu audit model --data ml-100k --out audit.html --json audit.json")(audit.audit)
app.command("compare", epilog="Example: tongtu compare experiment.toml --out results")(compare.compare)
app.command("study", epilog="Example: tongtu study experiments/five-tasks-ml-100k.toml --out results")(study.study)
app.add_typer(ids.app, name="ids")
app.command("serve", epilog="Example: tongtu serve model other=another-model --data ml-100k")(serve.serve)
app.command("update", epilog="Example: tongtu update model --since 7d --data shop --serve http://127.0.0.1:8000")(update.update)
app.add_typer(keys.app, name="keys")
app.command("doctor", epilog="Example: tongtu doctor")(doctor.doctor)


def main() -> None:
    """Run the command line."""
    app()
