# SPDX-License-Identifier: Apache-2.0
"""The story of `weir demo`, scene by scene."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from weir_server.demo.stage import Stage, StepFailed, weir_command

REQUESTER = [sys.executable, "-m", "weir_client.demo.requester"]
PEOPLE = (("operator", "olivia"), ("provider", "hospital"), ("requester", "alice"), ("auditor", "zhou"))
PARTIES = {"hospital": ("provider", "The hospital", "Data office"), "alice": ("requester", "The institute", "Alice")}
"""Parties of the contracts: role, organisation, person answerable."""
CONTRACTS = ("spending-1", "visits-1")
QUOTA = "contract-visits-1-queries-day"


def run_demo(directory: Path, *, keep: bool) -> int:
    """Play the demo in `directory` (made anew); 0 when every step was as promised."""
    started = time.monotonic()
    if directory.exists():
        shutil.rmtree(directory)
    (directory / "people").mkdir(parents=True)
    stage = Stage(directory)
    try:
        _play(stage)
    except (StepFailed, subprocess.TimeoutExpired) as failure:
        print(f"\n✗ not as promised: {failure}")  # noqa: T201
        print(f"  the server's log: {directory / 'server.log'}")  # noqa: T201
        stage.stop_server()
        return 1
    except BaseException:
        stage.stop_server()
        raise
    if keep:
        _say_how_to_go_on(stage)
        return 0
    if stage.stop_server() != 0:
        _say("✗ the server did not shut down cleanly")
        return 1
    _scene(f"Every step was as promised. {time.monotonic() - started:.0f} seconds.")
    return 0


def _play(stage: Stage) -> None:
    weir = weir_command()
    _scene("1 · A domain is made: its authority, its log key, and four parties with certificates of their own")
    stage.run([*weir, "init", str(stage.data_dir), "--domain=hospital.example"])
    for role, name in PEOPLE:
        stage.run(
            [
                *weir,
                "identity",
                f"--data={stage.data_dir}",
                f"--role={role}",
                f"--name={name}",
                f"--output={stage.identity(name)}",
            ]
        )
    stage.start_server()
    _say(f"the server runs on {stage.addresses['public']}, operators on {stage.addresses['admin']} (mutual TLS)")

    _scene("2 · Olivia, the operator, publishes two datasets from one file; the file never leaves the domain")
    cards = cards_directory()
    for card in ("visits.yaml", "spending.yaml"):
        stage.run(
            [
                *weir,
                "publish",
                str(cards / card),
                f"--data={stage.data_dir}",
                f"--source={source_file()}",
                f"--server={stage.addresses['admin']}",
                f"--identity={stage.identity('olivia')}",
            ]
        )
    _scene("3 · She applies contracts: who may ask what, for which purpose, how often, until when")
    _write_policy(stage)
    stage.run([*weir, "apply", str(stage.policy), "--yes"], actor="olivia", listener="admin")
    _say("they are offers, and answer nothing, until the hospital and Alice have signed the very text")
    for name in PARTIES:
        signing = [*weir, "contracts", "sign", *CONTRACTS, f"--key={stage.signing_key(name)}", "--yes"]
        stage.run(signing, actor=name, shown=len(CONTRACTS))
    activating = [*weir, "contracts", "activate", *CONTRACTS, "--reason=signatures checked"]
    stage.run(activating, actor="olivia", listener="admin")

    _scene("4 · Alice, the requester, asks: her process has the SDK, her certificate, and nothing else")
    receipts = stage.directory / "receipts"
    stage.run([*REQUESTER, "ask", f"--receipts={receipts}"], actor="alice")

    _scene("5 · She has used up her day; Olivia raises the quota, and says why")
    stage.run(
        [*weir, "quota", "set", QUOTA, "--limit=40", "--reason=interim report due tonight"],
        actor="olivia",
        listener="admin",
    )
    stage.run([*REQUESTER, "again", f"--receipts={receipts}"], actor="alice")

    _scene("6 · Zhou, the auditor, checks without trusting the server: log, receipts and meter must agree")
    stage.run([*weir, "audit", "verify", f"--receipts={receipts}"], actor="zhou")


def _write_policy(stage: Stage) -> None:
    """The contracts, and a document for each party with the public key that it made for itself."""
    shutil.copytree(cards_directory() / "contracts", stage.policy)
    for name, (role, organisation, responsible) in PARTIES.items():
        made = stage.run([*weir_command(), "contracts", "key", f"--output={stage.signing_key(name)}"], shown=0)
        lines = (
            "kind: party",
            f"party: {name}",
            f"role: {role}",
            f"organisation: {organisation}",
            f"responsible: {responsible}",
            "region: CN-31",
            f"signing_keys: ['{made.stdout.strip()}']",
        )
        (stage.policy / f"party-{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def cards_directory() -> Path:
    """The demo's cards and contracts, as installed."""
    return Path(str(resources.files("weir_server.demo") / "rand_hie"))


def source_file() -> Path:
    """The RAND Health Insurance Experiment, as statsmodels ships it; found without importing statsmodels.

    Raises:
        StepFailed: statsmodels is not installed.
    """
    found = find_spec("statsmodels")
    if found is None or found.origin is None:
        raise StepFailed("the demo's data comes with statsmodels: pip install 'dataweir[demo]'")
    return Path(found.origin).parent / "datasets" / "randhie" / "src" / "randhie.csv"


def _scene(title: str) -> None:
    print(f"\n━━ {title}\n", flush=True)  # noqa: T201


def _say(sentence: str) -> None:
    print(f"    {sentence}", flush=True)  # noqa: T201


def _say_how_to_go_on(stage: Stage) -> None:
    assert stage.server is not None  # noqa: S101 - played to the end
    _scene("The server goes on running")
    public, admin = stage.addresses["public"], stage.addresses["admin"]
    alice, olivia = stage.identity("alice"), stage.identity("olivia")
    for line in (
        f"export WEIR_SERVER={public} WEIR_IDENTITY={alice}",
        "weir datasets",
        'weir query "SELECT plan, COUNT(*), AVG(visits) FROM rand_hie_visits GROUP BY plan" --contract visits-1',
        f"weir quota show --server {admin} --identity {olivia}",
        f"kill {stage.server.pid}        # stops it",
    ):
        _say(line)
