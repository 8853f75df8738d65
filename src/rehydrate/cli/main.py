"""`rehydrate`: the table of commands, and what an error becomes.

`rehydrate FILE` is `rehydrate inspect FILE`. A command is imported when it is called and not before, so that looking at
a file starts in a blink and loads no torch. Exit codes: 0 yes, 1 the answer is no, 2 could not do it, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from rehydrate import __version__
from rehydrate.cli.out import answer, complain, failed, note
from rehydrate.errors import RehydrateError
from rehydrate.text import shown

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "inspect": "What a file is, what it holds, and what to do with it.",
    "predict": "Read the digit in a picture.",
    "train": "Train a known model on its data.",
    "evaluate": "Test a known model on its data.",
    "fetch": "Download a data set.",
}
"""Each is `rehydrate.cli.NAME`, with a click command called `command`."""

_OWN = ("-h", "--help", "--version")
"""First words that are neither a command nor a file."""


class _Commands(click.Group):
    """Commands by name, imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"rehydrate.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("rehydrate", "FILE...")
        formatter.write_usage("rehydrate", "COMMAND ...", prefix="       ")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rehydrate", message="%(prog)s %(version)s")
def _group() -> None:
    """Open any PyTorch checkpoint without running a byte of it.

    `rehydrate FILE` shows what is in a file; a file that is called like a command is ./FILE.

    \b
    Examples:
      rehydrate model.pth
      rehydrate --json *.ckpt
      rehydrate predict seven.png

    Exit codes: 0 yes, 1 the answer is no, 2 could not do it, 130 interrupted.
    """


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    words = sys.argv[1:] if args is None else args
    code = _run(["--help"] if not words else words if words[0] in (*COMMANDS, *_OWN) else ["inspect", *words])
    sys.exit(_flushed(code))


def _run(words: list[str]) -> int:
    """Run one command, and give its exit code; whatever happens is said, and ends here."""
    as_json = "--json" in words[: words.index("--")] if "--" in words else "--json" in words
    try:
        # Not `_group.main`, which ends the process by itself when a pipe is closed. A copy: parsing eats the list.
        with _group.make_context("rehydrate", list(words)) as context:
            code = _group.invoke(context)
    except click.exceptions.Exit as stop:  # the help or the version was asked for, and has been printed
        return stop.exit_code
    except click.ClickException as error:
        return _misused(error, words, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # whoever was reading has seen enough
        return 0
    except RehydrateError as error:
        return failed(error, command=words[0], as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last place where it can become an exit code
        return _broken(error, words[0], as_json=as_json)
    return code if isinstance(code, int) else 0


def _misused(error: click.ClickException, words: list[str], *, as_json: bool) -> int:
    """A command line that makes no sense."""
    message = shown(" ".join(error.format_message().split()), 1000)
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"{context.command_path if context else 'rehydrate'} --help"
    if words[0] in COMMANDS and os.path.exists(words[0]):
        hint += f"; for the file of this name: rehydrate ./{words[0]}"
    if as_json:
        problem = {"code": "usage", "severity": "error", "message": message, "hint": hint}
        answer(words[0] if words[0] in COMMANDS else "", [], [problem], ok=False)
    else:
        complain(RehydrateError(message, hint=hint))
    return 2


def _broken(error: Exception, command: str, *, as_json: bool) -> int:
    """The system refused something, or this program has a mistake in it."""
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}" + (f": {shown(error.filename)}" if isinstance(error.filename, str) else "")
    else:
        from traceback import format_exc

        message = f"a mistake in rehydrate itself; please report it\n{format_exc()}"
    if as_json:
        problem = {"code": "failure", "severity": "error", "message": message, "hint": ""}
        answer(command, [], [problem], ok=False)
    else:
        note(f"rehydrate: {message}")
    return 2


def _flushed(code: int) -> int:
    """Write what is still to be written: a pipe that was closed or a full disk shows here, and not after the end."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _write_nowhere()
    except OSError as error:
        if code == 0:
            note(f"rehydrate: {error.strerror}")
        _write_nowhere()
        return 2
    return code


def _write_nowhere() -> None:
    """Let what is still to be written go to nowhere: Python would fail on it once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
