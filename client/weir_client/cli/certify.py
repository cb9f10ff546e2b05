# SPDX-License-Identifier: Apache-2.0
"""`weir certify`: a provider's party signs that a derived dataset is GENERAL, resting on a report of `weir assess`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from weir.certificates import Certificate, certificate_json, read_claim, sign_certificate
from weir_client._signing import SigningKey
from weir_client.cli.encrypted import PASSPHRASE
from weir_client.cli.new_files import demand_new_file
from weir_client.cli.output import print_value

_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


def register(group: click.Group) -> None:
    """Adds the command."""
    group.add_command(certify)


@click.command()
@click.argument("report", type=_FILE)
@click.option("--id", "certificate_id", required=True, help="Name of the certificate, in the policy.")
@click.option("--issued-by", required=True, help="Name of the party that signs, a provider of the policy.")
@click.option("--key", "key_file", required=True, type=_FILE, help="File that `weir contracts key` wrote.")
@click.option("--valid-from", type=click.DateTime(), help="First instant, UTC; now where it is not given.")
@click.option("--days", default=180, show_default=True, type=click.IntRange(1, 731), help="Validity.")
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@PASSPHRASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def certify(
    report: Path, certificate_id: str, issued_by: str, key_file: Path, valid_from: datetime | None, days: int,
    output: Path, passphrase: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Sign a certificate that regrades the dataset of REPORT to GENERAL; apply it as a policy document."""
    demand_new_file(output, rule="certificate.exists")
    claim = read_claim(report.read_bytes())
    start = (datetime.now(UTC) if valid_from is None else valid_from.replace(tzinfo=UTC)).replace(microsecond=0)
    key = SigningKey.load(key_file, passphrase)
    certificate = sign_certificate(
        Certificate(
            id=certificate_id,
            dataset=claim.dataset,
            report=claim.digest,
            level=claim.level,
            issued_by=issued_by,
            valid_from=start,
            valid_until=start + timedelta(days=days),
            public_key=key.public,
        ),
        seed=key.seed,
    )
    output.write_text(_document(certificate), encoding="utf-8")
    print_value(
        {"file": str(output), **certificate_json(certificate)},
        f"{output}: {certificate.dataset} is GENERAL from {start:%Y-%m-%d} until {certificate.valid_until:%Y-%m-%d}, "
        f"on report {claim.digest[:16]}… of level {claim.level}. Apply it with the rest of the policy.",
        as_json=as_json,
    )


def _document(certificate: Certificate) -> str:
    """A policy document. JSON values are YAML, so nothing that reads YAML is needed to write it."""
    content = {"kind": "certificate", **certificate_json(certificate)}
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in content.items())
