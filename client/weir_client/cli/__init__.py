# SPDX-License-Identifier: Apache-2.0
"""The `weir` command. Commands of an installed server join it through the entry point group `weir.commands`.

Exit codes: 0 done · 1 another error · 2 the request itself is wrong · 3 refused by policy, quota or budget ·
4 a verification failed · 5 the service cannot be reached.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

import click

from weir.errors import WeirError
from weir_client.cli import audit, books, encrypted, operate, questions, sealed
from weir_client.cli.output import EXIT_OTHER, exit_code, message_line

SERVER_COMMANDS = {
    "demo": "demo",
    "doctor": "server",
    "fsck": "server",
    "identity": "server",
    "init": "server",
    "publish": "server",
    "serve": "server",
}
"""Commands that only an installed server has, with the extra that brings it."""
_GROUP = "weir.commands"
_COMPLETION = (
    'Completion: eval "$(_WEIR_COMPLETE=bash_source weir)" (or zsh_source, fish_source). Server and identity come '
    "from --server and --identity, or WEIR_SERVER and WEIR_IDENTITY. Exit codes: 0 done, 1 another error, 2 wrong "
    "request, 3 refused by policy, quota or budget, 4 verification failed, 5 service unreachable."
)


class WeirGroup(click.Group):
    """Own commands at once; those of plugins only when one is asked for, since a server takes long to import."""

    _loaded = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, plugins' included."""
        self._load_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            self._load_plugins()
            found = super().get_command(ctx, cmd_name)
        return found

    def _load_plugins(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for entry in entry_points(group=_GROUP):
            try:
                entry.load()(self)
            except ImportError as error:
                # A dependency of an extra is missing. A module of our own that is missing is a defect: let it show.
                if (error.name or "").split(".")[0] in ("weir", "weir_client", "weir_server"):
                    raise
                for name, extra in SERVER_COMMANDS.items():
                    if name not in self.commands:
                        self.add_command(_missing(name, extra))


def _missing(name: str, extra: str) -> click.Command:
    """A command that says what to install."""

    @click.command(
        name,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        add_help_option=False,
        short_help=f"Needs pip install 'dataweir[{extra}]'.",
    )
    def command() -> None:
        raise click.ClickException(f"weir {name} needs a server: pip install 'dataweir[{extra}]'")

    return command


@click.group(cls=WeirGroup, epilog=_COMPLETION, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dataweir")
def cli() -> None:
    """Weir: aggregate, differentially private and encrypted questions to a data domain."""


for _module in (questions, encrypted, sealed, books, operate, audit):
    _module.register(cli)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line and exits. Errors are one line on standard error."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code."""
    try:
        result: Any = cli.main(args=None if args is None else list(args), prog_name="weir", standalone_mode=False)
    except WeirError as error:
        click.echo(f"weir: {message_line(error)}", err=True)
        return exit_code(error)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("weir: stopped", err=True)
        return 130
    except ImportError as error:
        if error.name not in ("pandas",):
            raise
        click.echo(f"weir: {error}", err=True)
        return EXIT_OTHER
    return result if isinstance(result, int) else 0
