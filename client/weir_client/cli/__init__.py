# SPDX-License-Identifier: Apache-2.0
"""The `weir` command. Commands of an installed server join it through the entry point group `weir.commands`.

Exit codes: 0 done · 1 another error, such as a file that cannot be read or written · 2 the request itself is wrong ·
3 refused by policy, quota or budget · 4 a verification failed · 5 the service cannot be reached.

An error is a line on standard error, and with `--json` one JSON object there, `{"error": {"reason": …}}`: standard
output holds nothing but what succeeded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any

import click

from weir.errors import WeirError
from weir_client.cli.output import (
    EXIT_OTHER,
    EXIT_STOPPED,
    error_document,
    error_text,
    exit_code,
    file_line,
    usage_document,
)

SERVER_COMMANDS = {
    "assess": "server",
    "backup": "server",
    "clock": "server",
    "demo": "demo",
    "doctor": "server",
    "fsck": "server",
    "identity": "server",
    "init": "server",
    "publish": "server",
    "restore": "server",
    "serve": "server",
}
"""Commands that only an installed server has, with the extra that brings it."""
OWN_COMMANDS = {
    "apply": ("operate", "Apply policy files (or folders of them): they become the whole policy."),
    "approvals": ("approvals", "List, approve, reject or take back queries that wait for persons; go on with..."),
    "audit": ("audit", "Check log, receipts and meter without trusting the service."),
    "balance": ("books", "Show the limits that bind you, and what is left of them."),
    "certify": ("certify", "Sign a certificate that regrades the dataset of REPORT to GENERAL; apply it..."),
    "blacklist": ("stops", "Requesters none of whose calls is answered, of whatever service."),
    "cases": ("cases", "File complaints, incidents and disputes, take them on, and fetch their evidence."),
    "contracts": ("contracts", "Read, sign, activate, suspend, terminate and export contracts."),
    "datasets": ("datasets", "List datasets, show the card of one, or export them for other catalogues."),
    "encrypted": ("encrypted", "Ask for weighted sums of a query's cells, with weights that the service never..."),
    "estimate": ("questions", "Say what a query would cost and whether it would be answered."),
    "keys": ("encrypted", "Make and register Paillier keys for encrypted queries."),
    "plan": ("operate", "Show what applying policy files (or folders of them) would change."),
    "query": ("questions", 'Ask a question, such as "SELECT region, COUNT(*) FROM census GROUP BY region".'),
    "quota": ("operate", "Show or set limits."),
    "receipts": ("books", "List receipts of your own queries, newest first."),
    "sandbox": ("questions", "Try a question on synthetic rows drawn from the dataset's card: no contract,..."),
    "sealed": ("sealed", "Sealed tables: ask domains for them, add them up, open the total."),
    "standing": ("standing", "Show how you stand, or as an overseer how every requester does; print the..."),
    "suspend": ("stops", "Stop a requester, contract or dataset, or everything; takes effect on the..."),
}
"""Own commands: the module, and the help in one line; a test holds it against the command's own."""
SERVER_HELP = {
    "assess": "Assess the source of CARD: k, l-diversity, t-closeness, uniqueness, risk,...",
    "backup": "Copy books, snapshots and settings into the new directory TARGET, while a...",
    "clock": "Say that the time is right, after a pause or a wrong clock that the books do...",
    "demo": "Play the main job on public data, from publication to audit; exit 1 if any...",
    "doctor": "Check what a server needs: Python, extras, permissions, clock, lock, ports;...",
    "fsck": "Rebuild balances, meter, answers and tree from the log and compare; exit 1...",
    "identity": "Issue an identity: a key pair and a certificate in one file, readable by its...",
    "init": "Make a domain: authority, server certificate, log key and publication salt.",
    "publish": "Publish a dataset: build its snapshot inside the domain, then make it...",
    "restore": "Make a new data directory from BACKUP, never giving budget back: brought...",
    "serve": "Serve the domain until SIGTERM or Ctrl-C; running calls may finish first.",
}
"""The same of the server's commands."""
_OWN_ENTRY = "server"
"""Entry point of the server's commands."""
_HELP_LIMIT = 80
_GROUP = "weir.commands"
_COMPLETION = (
    'Completion: eval "$(_WEIR_COMPLETE=bash_source weir)" (or zsh_source, fish_source). Server and identity come '
    "from --server and --identity, or WEIR_SERVER and WEIR_IDENTITY. Exit codes: 0 done, 1 another error (a file that "
    "cannot be read or written, say), 2 wrong request, 3 refused by policy, quota or budget, 4 verification failed, "
    "5 service unreachable. With --json an error is one JSON object on standard error: reason, message, rule, field, "
    "limits, metadata, exit_code."
)


class WeirGroup(click.Group):
    """Loads a command when it is asked for: own ones module by module, plugins' all at once, since a server takes long
    to import. Names and one-line helps of all of Weir's commands are known without loading any."""

    _loaded = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, plugins' included."""
        if any(entry.name != _OWN_ENTRY for entry in entry_points(_GROUP)):
            self.load_plugins()
        return sorted({*OWN_COMMANDS, *SERVER_HELP, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command."""
        if cmd_name in OWN_COMMANDS and cmd_name not in self.commands:
            import_module(f"weir_client.cli.{OWN_COMMANDS[cmd_name][0]}").register(self)
        elif cmd_name not in self.commands:
            self.load_plugins()
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `weir --help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short_help(ctx, name)) for name in self.list_commands(ctx)])

    def _short_help(self, ctx: click.Context, name: str) -> str:
        if name not in self.commands and name in OWN_COMMANDS:
            return OWN_COMMANDS[name][1]
        if name not in self.commands and name in SERVER_HELP:
            return SERVER_HELP[name]
        command = self.get_command(ctx, name)
        return "" if command is None else command.get_short_help_str(_HELP_LIMIT)

    def load_plugins(self) -> None:
        """Lets every installed distribution add its commands; again: nothing happens."""
        if self._loaded:
            return
        self._loaded = True
        for entry in entry_points(_GROUP):
            try:
                entry.load()(self)
            except ImportError as error:
                # A dependency of an extra is missing. A module of our own that is missing is a defect: let it show.
                if (error.name or "").split(".")[0] in ("weir", "weir_client", "weir_server"):
                    raise
                for name, extra in SERVER_COMMANDS.items():
                    if name not in self.commands:
                        self.add_command(_missing(name, extra))
                audit = self.get_command(click.Context(self), "audit")
                if isinstance(audit, click.Group):
                    for name in ("trace", "replay"):
                        audit.add_command(_missing(name, "server"))


def entry_points(group: str) -> Iterable[EntryPoint]:
    """What installed distributions offer."""
    from importlib import metadata

    return metadata.entry_points(group=group)


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


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code."""
    given = sys.argv[1:] if args is None else list(args)
    # Read here and not from the command: a command line that is wrong has no command that could be asked.
    as_json = "--json" in given[: given.index("--")] if "--" in given else "--json" in given
    try:
        result: Any = cli.main(args=given, prog_name="weir", standalone_mode=False)
    except WeirError as error:
        click.echo(_line(error_document(error)) if as_json else error_text(error), err=True)
        return exit_code(error)
    except click.ClickException as error:
        if as_json:
            click.echo(_line(usage_document(error)), err=True)
        else:
            error.show()
        return error.exit_code
    except click.Abort:
        stopped = {"error": {"reason": "STOPPED", "message": "stopped", "exit_code": EXIT_STOPPED}}
        click.echo(_line(stopped) if as_json else "weir: stopped", err=True)
        return EXIT_STOPPED
    except OSError as error:  # Of files that the caller named; what the network does is a WeirError by now.
        said = {"error": {"reason": "FILE", "message": file_line(error), "exit_code": EXIT_OTHER}}
        click.echo(_line(said) if as_json else f"weir: {file_line(error)}", err=True)
        return EXIT_OTHER
    except ImportError as error:
        if error.name not in ("pandas",):
            raise
        click.echo(f"weir: {error}", err=True)
        return EXIT_OTHER
    return result if isinstance(result, int) else 0


def _line(document: Mapping[str, object]) -> str:
    return json.dumps(document, ensure_ascii=False)
