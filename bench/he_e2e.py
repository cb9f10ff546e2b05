# SPDX-License-Identifier: Apache-2.0
"""A whole encrypted query of 1,000 weights: SDK, gRPC over mutual TLS, a real server process, and back to a number.

`he.e2e_1k`: seconds from weights to the decrypted, verified answer at 2048 bits; everything is counted but making the
key and registering it, which are done once. Beside it python-paillier (phe) doing the mathematics alone, in one
process and without any transport: encryption of the weights, their product with the cells, decryption. Rows
`he.e2e_1k.…` are the parts; what is left of the whole is the service: transport, charge, product, mask and log.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import phe

import weir_client
from tests.support.server import RunningServer, make_domain, start_server
from tests.support.wire import call, key
from weir.v1 import policy_service_pb2
from weir_client._keys import KeyPair
from weir_server import publication

Row = dict[str, Any]
BITS = 2048
SITES, LEVELS, PERSONS_PER_CELL = 50, 20, 12
CELLS = SITES * LEVELS
ROUNDS = 3
SCALED_PEER = 100
"""Weights that phe is measured on; its work is linear in their number."""
SQL = "SELECT site, level, SUM(visits) FROM grid GROUP BY site, level"
_CARD = f"""
name: grid
title: A grid of a thousand cells
description: Synthetic visits, one row a person.
grade: GENERAL
personal_information: false
responsible: Data office
provenance: made for a measurement
lineage: grid
unit: {{name: person, column: person}}
source: {{kind: csv, location: grid.csv}}
dimensions:
  - {{name: site, type: integer, cells: {list(range(1, SITES + 1))}, column: site}}
  - {{name: level, type: integer, cells: {list(range(1, LEVELS + 1))}, column: level}}
measures:
  - {{name: visits, unit: visits, column: visits, mode: exact, lower: "0", upper: "20"}}
exact: {{k: 10}}
"""
_CONTRACT = """
kind: contract
contract: c-grid
title: Weights over the grid
provider: clinic
signatures: none
requester: alice
dataset: grid
purposes: [research]
modes: [exact, encrypted]
dimensions: [site, level]
measures: [visits]
aggregates: [sum]
valid_from: 2020-01-01
valid_until: 2100-01-01
"""


def measure() -> list[Row]:
    """Rows {name, ours, theirs, ratio, unit, spread, detail}; times are elapsed seconds, medians of the rounds."""
    keypair = weir_client.generate_keypair(BITS)
    weights = [(cell * 37) % 1000 - 500 for cell in range(CELLS)]
    with tempfile.TemporaryDirectory() as directory:
        server = _serve(Path(directory))
        try:
            whole = _whole(server, Path(directory), keypair, weights)
        finally:
            server.stop()
    encrypting = _timed(lambda: KeyPair(keypair.public, keypair.p, keypair.q).encrypt_many(weights))
    one = keypair.encrypt_many([1])[0]
    decrypting = _timed(lambda: keypair.decrypt(one))
    theirs = _peer(keypair, weights)
    return [
        _row("he.e2e_1k", whole, theirs, detail=f"{CELLS} weights, {BITS} bits; phe without transport, scaled"),
        _row("he.e2e_1k.encryption", encrypting, None, detail="client, comb table included"),
        _row("he.e2e_1k.decryption", decrypting, None, detail="client, one value"),
    ]


def _row(name: str, ours: list[float], theirs: float | None, *, detail: str) -> Row:
    middle = statistics.median(ours)
    return {
        "name": name,
        "ours": middle,
        "theirs": theirs,
        "ratio": None if theirs is None else theirs / middle,
        "spread": (max(ours) - min(ours)) / middle,
        "unit": "s",
        "aim": None,
        "detail": detail,
    }


def _timed(work: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times


def _whole(server: RunningServer, directory: Path, keypair: KeyPair, weights: list[int]) -> list[float]:
    identity = server.identity("requester", "alice")
    with weir_client.connect(server.public, identity=identity, state_dir=directory / "state") as client:
        cells = [int(str(row[-1])) for row in client.query(SQL, contract="c-grid").result()]
        expected = sum(weight * cell for weight, cell in zip(weights, cells, strict=True))

        def ask() -> None:
            # A key pair of its own, so that no round inherits the comb table of an earlier one.
            mine = KeyPair(keypair.public, keypair.p, keypair.q)
            answer = client.encrypted_query(SQL, weights=weights, keypair=mine, contract="c-grid").result()
            if answer.decrypt(mine)["sum(visits)"] != expected:
                raise AssertionError("the encrypted answer is not the weighted sum")

        ask()  # registers the key, opens the snapshot, starts the kernels
        return _timed(ask)


def _peer(keypair: KeyPair, weights: list[int]) -> float:
    """Seconds phe would take for all weights."""
    public = phe.PaillierPublicKey(int(keypair.public.n))
    private = phe.PaillierPrivateKey(public, int(keypair.p), int(keypair.q))
    part = weights[:SCALED_PEER]
    started = time.perf_counter()
    encrypted = [public.encrypt(weight) for weight in part]
    total = sum(item * (7 * at % 200) for at, item in enumerate(encrypted))
    elapsed = time.perf_counter() - started
    started = time.perf_counter()
    private.decrypt(total)
    return elapsed * len(weights) / len(part) + time.perf_counter() - started


def _serve(directory: Path) -> RunningServer:
    data_dir = make_domain(directory)
    lines = ["person,site,level,visits"]
    for person in range(CELLS * PERSONS_PER_CELL):
        cell = person % CELLS
        lines.append(f"p{person},{cell // LEVELS + 1},{cell % LEVELS + 1},{(person * 7) % 13}")
    (directory / "grid.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (directory / "grid.yaml").write_text(_CARD, encoding="utf-8")
    _publish(directory / "grid.yaml", data_dir)
    server = start_server(data_dir)
    operator = server.channel(server.identity("operator", "olga"), admin=True)
    request = policy_service_pb2.ApplyPolicyRequest(documents=[_CONTRACT], idempotency_key=key())
    call(operator, "/weir.v1.PolicyService/ApplyPolicy", request)
    return server


def _publish(card: Path, data_dir: Path) -> None:
    mask = os.umask(0o077)  # as the command does
    try:
        work = publication.publish_locally(card, data_dir=data_dir, source=None, progress=lambda line: None)
        asyncio.run(work)
    finally:
        os.umask(mask)
