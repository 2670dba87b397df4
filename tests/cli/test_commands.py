"""What holds for every command."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from tongtu.cli import Commands, app
from tongtu.errors import DataError

Run = Callable[..., Any]


def paths() -> Iterator[tuple[str, ...]]:
    def below(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        commands = getattr(command, "commands", None)
        if commands is None:
            yield path
            return
        for name, one in commands.items():
            yield from below(one, (*path, name))

    yield from below(get_command(app), ())


@pytest.mark.parametrize("path", list(paths()), ids=" ".join)
def test_help_has_an_example(tongtu: Run, path: tuple[str, ...]) -> None:
    result = tongtu(*path, "--help")
    assert result.exit_code == 0
    assert f"tongtu {' '.join(path)}" in " ".join(result.output.split("Example", 1)[1].split())


def test_without_a_command_the_commands_are_shown(tongtu: Run) -> None:
    assert "recommend" in tongtu().output


def test_version(tongtu: Run) -> None:
    assert tongtu("--version").output.startswith("tongtu 0.")


@pytest.mark.parametrize("arguments", [["nonsense"], ["recommend"], ["recommend", "model", "-k", "0"], ["recommend", "model", "--nonsense"], ["fit", "sasrec"]])
def test_wrong_usage_exits_with_2(tongtu: Run, arguments: list[str]) -> None:
    result = tongtu(*arguments)
    assert result.exit_code == 2 and "Traceback" not in result.output


@pytest.mark.parametrize("arguments", ["--help", "systems", "recommend --help"])
def test_what_needs_no_torch_does_not_load_it(arguments: str) -> None:
    code = (
        f"import sys; sys.argv[1:] = {arguments.split()}\nfrom tongtu.cli import main\n"
        "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("the log is empty:\ncollect more"), 2, "error: the log is empty: collect more\n"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 2, "error: out/x: No space left on device: free some disk space; what was saved"),
        (PermissionError(errno.EACCES, "Permission denied", "log.csv"), 2, "error: log.csv: Permission denied: check the path and its permissions"),
        (KeyboardInterrupt(), 130, "\nstopped\n"),
    ],
)
def test_errors_are_one_line(error: BaseException, code: int, said: str) -> None:
    failing = typer.Typer(cls=Commands)

    @failing.callback()
    def options() -> None: ...

    @failing.command()
    def fails() -> None:
        raise error

    result = CliRunner().invoke(failing, ["fails"])
    assert result.exit_code == code and result.stderr.startswith(said) and not result.stdout
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_mistake_of_ours_is_not_hidden() -> None:
    failing = typer.Typer(cls=Commands)

    @failing.callback()
    def options() -> None: ...

    @failing.command()
    def fails() -> None:
        raise AssertionError("a bug")

    assert isinstance(CliRunner().invoke(failing, ["fails"]).exception, AssertionError)
