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
from rehydrate.errors import RehydrateError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "inspect": "What a file is, what it holds, and what to do with it.",
    "predict": "Read the digit in a picture.",
    "train": "Train a known model on its data.",
    "evaluate": "Test a known model on its data.",
    "fetch": "Download a data set.",
}
"""Each is `rehydrate.cli.NAME`, with a click command called `command`."""


class _Commands(click.Group):
    """Commands by name, imported when called; anything else is a file to inspect."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"rehydrate.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        asks_for_itself = args[:1] in (["--help"], ["--version"], ["-h"])
        if first is not None and first not in COMMANDS and not asks_for_itself:
            args = ["inspect", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    options_metavar="",
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="rehydrate", message="%(prog)s %(version)s")
def _group() -> None:
    """Open any PyTorch checkpoint without running a byte of it.

    `rehydrate FILE` shows what is in a file.
    """


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    words = sys.argv[1:] if args is None else args
    try:
        code = _group.main(words, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        _exit(2)
    except (click.Abort, KeyboardInterrupt):
        _exit(130)
    except BrokenPipeError:
        # Whoever was reading has seen enough; nothing must be written to the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(0)
    except RehydrateError as error:
        from rehydrate.cli.out import failed

        _exit(failed(error, command=words[0] if words else "", as_json="--json" in words))
    _exit(code if isinstance(code, int) else 0)


def _exit(code: int) -> NoReturn:
    sys.exit(code)
