# SPDX-License-Identifier: Apache-2.0
"""A flood of calls that cannot say who they are: it is cheap, fills no log, and holds up nobody else."""

from __future__ import annotations

from pathlib import Path

import grpc

from tests.support.server import make_domain, start_server
from tests.support.tokens import SETTINGS, Issuer
from tests.support.wire import typed
from weir.errors import WeirError
from weir_server.services.strangers import BURST, RULE

BALANCE = "/weir.v1.QuotaService/GetBalance"
EVERYWHERE = "/weir.v1.CatalogueService/ListDatasets"
FLOOD = 600


def rule(channel: grpc.Channel, token: str | None, *, call: str = BALANCE) -> str | None:
    """What refuses a call; None where it is answered."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    try:
        channel.unary_unary(call)(b"", timeout=20, metadata=metadata)
    except grpc.RpcError as error:
        failure = typed(error)
        assert isinstance(failure, WeirError)
        return failure.rule
    return None


def test_a_flood_of_bad_tokens_is_turned_away_unread_and_holds_up_nobody_else(tmp_path: Path) -> None:
    data_dir, issuer = make_domain(tmp_path), Issuer()
    issuer.write_jwks(data_dir / "jwks.json")
    server = start_server(data_dir, settings=SETTINGS)
    try:
        alice = server.channel(server.identity("requester", "alice"))
        bob = server.channel(server.identity("requester", "bob"))
        met = [rule(alice, f"eyJ.{number}.x") for number in range(FLOOD)]
        looked_at = sum(name != RULE for name in met)
        assert BURST <= looked_at < FLOOD / 2
        assert met[-1] == RULE
        assert rule(bob, None) is None
        # Mutant: a count of each listener's own looks at another hundred.
        elsewhere = server.channel(server.identity("requester", "alice"), admin=True)
        assert RULE in [rule(elsewhere, "eyJ.0.x", call=EVERYWHERE) for _ in range(20)]
        lines = [line for line in server.log_lines() if line["event"] == "call"]
        assert len(lines) <= looked_at + 30
        assert not any("eyJ" in str(line) for line in lines)
    finally:
        server.stop()
