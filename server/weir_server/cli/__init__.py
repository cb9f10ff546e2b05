# SPDX-License-Identifier: Apache-2.0
"""The server's commands; they join `weir` through the entry point `weir.commands`.

Engines are imported inside the commands that need them, since this package loads whenever anybody runs `weir query`. A
WeirError leaves a command as it is: `weir` prints its text and maps it to a documented exit code.
"""

from __future__ import annotations

import click

from weir_server.cli.assess import assess_command
from weir_server.cli.books import backup_command, fsck_command, replay_command, restore_command, trace_command
from weir_server.cli.clock import clock_command
from weir_server.cli.domain import doctor_command, init
from weir_server.cli.identity import identity
from weir_server.cli.publish import publish
from weir_server.cli.serve import serve_command
from weir_server.demo.command import demo


def register(group: click.Group) -> None:
    """Adds the server's commands to `weir`."""
    for command in (
        backup_command,
        restore_command,
        init,
        identity,
        serve_command,
        publish,
        assess_command,
        clock_command,
        fsck_command,
        doctor_command,
        demo,
    ):
        group.add_command(command)
    audit = group.get_command(click.Context(group), "audit")
    if isinstance(audit, click.Group):
        audit.add_command(trace_command)
        audit.add_command(replay_command)
