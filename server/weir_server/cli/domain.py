# SPDX-License-Identifier: Apache-2.0
"""`weir init` and `weir doctor`: a domain is made, and what its server needs is looked at."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from weir_server import clock
from weir_server.cli.output import DATA, JSON, show
from weir_server.identity import pki


@click.command()
@click.argument("data_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--domain", help="Name of the domain, in every identity (weir.local).")
@click.option("--host", "hosts", multiple=True, help="Further DNS name or IP address of the server; repeatable.")
@click.option(
    "--renew",
    is_flag=True,
    help="Only make a new server certificate, of its names and each --host, and sign the list of revoked ones anew.",
)
@click.option("--days", default=pki.SERVER_DAYS, show_default=True, help="Validity of the server's certificate.")
@JSON
def init(data_dir: Path, domain: str | None, hosts: tuple[str, ...], renew: bool, days: int, as_json: bool) -> None:
    """Make a domain: authority, server certificate, log key and publication salt."""
    os.umask(0o077)
    if renew:
        from weir_server.identity.revocation import sign_anew

        if domain is not None:
            raise click.UsageError("--renew keeps the domain's name.")
        pki.renew_server(data_dir, now=clock.now(), days=days, hosts=hosts)
        sign_anew(data_dir, now=clock.now())
        show({"data": str(data_dir), "renewed": True}, as_json, "Renewed; a running server shows it from now on.")
        return
    domain = "weir.local" if domain is None else domain
    data_dir.mkdir(parents=True, exist_ok=True)
    pki.init_domain(data_dir, domain=domain, hosts=hosts, now=clock.now(), days=days)
    result = {"data": str(data_dir), "domain": domain, "log_key": pki.log_key(data_dir)}
    show(
        result,
        as_json,
        f"Domain {domain} in {data_dir}\n"
        f"Log key  {result['log_key']}\n"
        "Keep secrets/ to yourself: ca.key makes identities, log.key signs the log.",
    )


@click.command("doctor")
@DATA
@click.option("--rows", is_flag=True, help="Read rows that a cluster keeps, and hold them against their fingerprints.")
@JSON
def doctor_command(data_dir: Path, rows: bool, as_json: bool) -> None:
    """Check what a server needs: Python, extras, permissions, clock, lock, ports; exit 1 where anything fails."""
    from weir_server.health import doctor

    checks = doctor.diagnose(data_dir, rows=rows)
    lines = [f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}" for check in checks]
    show({"checks": [asdict(check) for check in checks]}, as_json, "\n".join(lines))
    if not all(check.passed for check in checks):
        raise SystemExit(1)
