# SPDX-License-Identifier: Apache-2.0
"""`weir identity`: issue, renew, list and revoke what callers show."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from weir.errors import InvalidRequest
from weir_server import clock
from weir_server.cli.output import DATA, JSON, new_private_file, person, show
from weir_server.config import split_address
from weir_server.identity import pki
from weir_server.identity.certificates import host_name
from weir_server.identity.holder import HOLDERS

_LARGEST = 1024 * 1024


@click.group("identity", invoke_without_command=True)
@click.option("--data", "data_dir", type=click.Path(path_type=Path, file_okay=False), envvar="WEIR_DATA",
              help="Data directory of the domain (or WEIR_DATA).")  # fmt: skip
@click.option("--role", type=click.Choice(HOLDERS), help="What the holder may do.")
@click.option("--name", help="Name of the holder.")
@click.option("--days", default=pki.DEFAULT_DAYS, show_default=True, help="Validity.")
@click.option("--hours", type=int, help="Validity in hours, in place of days.")
@click.option("--address", default="", help="Address of the server to keep in the file, host:port.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write (NAME.weir).")
@click.option("--renew", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Give the holder of this file a new key and certificate, in place.")  # fmt: skip
@JSON
@click.pass_context
def identity(context: click.Context, /, data_dir: Path | None, renew: Path | None, **given: Any) -> None:
    """Issue an identity: a key pair and a certificate in one file, readable by its owner only."""
    if context.invoked_subcommand is not None:
        return
    if data_dir is None:
        raise click.UsageError("Missing option '--data'.")
    if renew is not None:
        _renew(data_dir, renew, **given)
    elif given["role"] is None or given["name"] is None:
        raise click.UsageError("Missing option '--role' or '--name'.")
    else:
        _issue(data_dir, **given)


def _issue(
    data_dir: Path,
    *,
    role: str,
    name: str,
    days: int,
    hours: int | None,
    address: str,
    output: Path | None,
    as_json: bool,
) -> None:
    from weir_server.identity import identities

    _demand_address(address)
    path = Path(f"{name}.weir") if output is None else output
    if path.exists():
        raise InvalidRequest(f"{path} exists: --renew it, or name another", field="output", rule="identity.exists")
    # Before it is issued: what is recorded as issued, and lies nowhere, would still have to be revoked.
    with new_private_file(path) as write:
        issued = identities.issue(
            data_dir, role=role, name=name, now=clock.now(), days=days, hours=hours, address=address, by=person()
        )
        write(json.dumps(issued, indent=2) + "\n")
    _said(path, issued, days=days, hours=hours, as_json=as_json)


def _demand_address(address: str) -> None:
    """Refuses what no client could dial, before it is written into a file that is carried away."""
    if address:
        host, _ = split_address(address, key="address")
        host_name(host.strip("[]"))


def _renew(
    data_dir: Path, path: Path, *, days: int, hours: int | None, as_json: bool, role: str | None, name: str | None,
    address: str, output: Path | None,
) -> None:  # fmt: skip
    from weir_server.identity import identities

    if role is not None or name is not None or address or output is not None:
        raise click.UsageError("--renew keeps role, name, address and file.")
    try:
        document = json.loads(path.read_bytes()[:_LARGEST])
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise InvalidRequest("the file is no identity", field="identity", rule="identity.form")
    # Beside and then in its place: whoever reads the file at this moment gets the old one or the new one, whole.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with new_private_file(draft) as write:
        issued = identities.renew(data_dir, document, now=clock.now(), days=days, hours=hours, by=person())
        write(json.dumps(issued, indent=2) + "\n")
    draft.replace(path)
    _said(path, issued, days=days, hours=hours, as_json=as_json)


def _said(path: Path, issued: dict[str, Any], *, days: int, hours: int | None, as_json: bool) -> None:
    result = {"file": str(path), **{key: issued[key] for key in ("name", "role", "domain")}}
    result |= {"days": days} if hours is None else {"hours": hours}
    lasting = f"{days} days" if hours is None else f"{hours} hours"
    holder = f"{issued['role']} {issued['name']} of {issued['domain']}"
    show(result, as_json, f"{path}: {holder}, valid {lasting}. It holds a private key.")


@identity.command("revoke")
@click.argument("target", metavar="ROLE/NAME|SERIAL")
@DATA
@click.option("--reason", required=True, help="Why; it is logged.")
@JSON
def revoke(target: str, data_dir: Path, reason: str, as_json: bool) -> None:
    """Take certificates back, for good; a running server refuses them from the next call on.

    ROLE/NAME takes back all that the holder has. The holder may be issued a new one: to stop a person, use `weir
    suspend`. Needs ca.key; carry DATA/revoked.crl to the server where that is another machine.
    """
    from weir_server.identity import identities

    acts = identities.revoke(data_dir, target, reason=reason, now=clock.now(), by=person())
    lines = [f"revoked {act.serial} {act.role}/{act.name}".rstrip("/ ") for act in acts]
    show({"revoked": [asdict(act) for act in acts]}, as_json, "\n".join(lines or ["It was revoked before."]))


@identity.command("link")
@DATA
@click.option("--role", required=True, help="What the holder may do: operator, approver or auditor.")
@click.option("--name", required=True, help="Name of the holder.")
@click.option("--minutes", default=10, show_default=True, help="How long it can be used, 1 to 60.")
@click.option("--address", default="", help="Where the console is reached, host:port; by default as configured.")
@JSON
def link(data_dir: Path, role: str, name: str, minutes: int, address: str, as_json: bool) -> None:
    """Make a one-time code that signs somebody in to the console, without a certificate in the browser.

    It works once. Give it to the holder by a way that nobody else reads: whoever has it is the holder.
    """
    from weir_server.config import load_config
    from weir_server.console.links import issue_code

    _demand_address(address)
    code = issue_code(data_dir, role=role, name=name, now=clock.now(), entropy=os.urandom, minutes=minutes)
    # In the fragment, which no browser sends: the code stands in no log of a server or proxy.
    place = f"https://{address or load_config(None, data_dir=data_dir).listen.console}/sign-in"
    result = {"role": role, "name": name, "code": code, "link": f"{place}#{code}", "minutes": minutes}
    show(result, as_json, f"{place}#{code}\nCode {code} signs in {role} {name}, once, within {minutes} minutes.")


@identity.command("list")
@DATA
@JSON
def list_command(data_dir: Path, as_json: bool) -> None:
    """List the certificates that were issued here and have not ended."""
    from weir_server.identity import identities, revocation

    revoked, now = revocation.watch_revoked(data_dir).get(), clock.now().isoformat()
    found = [
        {**asdict(act), "revoked": serial in revoked}
        for serial, act in identities.issued(data_dir).items()
        if act.until > now
    ]
    lines = [
        f"{item['role']}/{item['name']} until {item['until']} {item['serial']}{' revoked' if item['revoked'] else ''}"
        for item in found
    ]
    show({"identities": found}, as_json, "\n".join(lines or ["None."]))
