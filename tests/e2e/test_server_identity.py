# SPDX-License-Identifier: Apache-2.0
"""Identity over real connections: tokens and gateways, certificates renewed under load, certificates taken back."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

import weir_client
from tests.support.sample import apply_contracts, publish_sample
from tests.support.server import RunningServer, make_domain, open_channel, start_server, write_identity
from tests.support.tokens import SETTINGS, Issuer
from tests.support.wire import WireFailure, call, typed
from weir.errors import InvalidRequest, PermissionDenied, Unauthenticated, UnknownName, VerificationError
from weir.v1 import catalogue_service_pb2
from weir_client import aio, cli
from weir_server.identity import identities, pki
from weir_server.identity.holder import read_certificate
from weir_server.services.access import ACCESS, PUBLIC

LIST = "/weir.v1.CatalogueService/ListDatasets"
BALANCE = "/weir.v1.QuotaService/GetBalance"
ISSUER = Issuer()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes tokens."""
    data_dir = make_domain(tmp_path_factory.mktemp("identity"))
    ISSUER.write_jwks(data_dir / "jwks.json")
    running = start_server(data_dir, settings=SETTINGS)
    try:
        yield running
    finally:
        running.stop()


def refusal(channel: grpc.Channel, rpc: str = BALANCE, metadata: Any = (), *, timeout: float = 20.0) -> Any:
    """What a call of an empty request meets; None where it is answered."""
    try:
        channel.unary_unary(rpc)(b"", timeout=timeout, metadata=metadata)
    except grpc.RpcError as error:
        return typed(error)
    return None


def bearer(**claims: Any) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {ISSUER.token(**claims)}"),)


# Tokens


def test_a_gateway_with_a_token_calls_as_the_requester_and_by_itself_may_do_nothing(server: RunningServer) -> None:
    channel = server.channel(server.identity("gateway", "portal"))
    assert refusal(channel, metadata=bearer()) is None
    assert refusal(channel).rule == "token.missing"
    admin = server.channel(server.identity("gateway", "portal"), admin=True)
    for rpc in ACCESS:
        if "Reflection" not in rpc and not rpc.endswith("Health/List"):
            refused = refusal(admin if "Admin" in rpc or "Policy" in rpc else channel, rpc)
            # A stream's first answer is its refusal too; nothing at all is open without a token.
            assert isinstance(refused, Unauthenticated), rpc


@pytest.mark.parametrize("rpc", sorted(rpc for rpc in ACCESS if rpc.startswith("/weir.")))
def test_a_gateways_token_opens_what_requesters_may_and_nothing_else(server: RunningServer, rpc: str) -> None:
    row = ACCESS[rpc]
    channel = server.channel(server.identity("gateway", "portal"), admin=PUBLIC not in row.listeners)
    refused = refusal(channel, rpc, bearer())
    assert not isinstance(refused, Unauthenticated)
    assert isinstance(refused, PermissionDenied) == ("requester" not in row.roles)
    if isinstance(refused, PermissionDenied):
        assert refused.metadata["role"] == "requester"


def test_each_call_of_one_connection_is_from_whom_its_own_token_names(server: RunningServer) -> None:
    channel = server.channel(server.identity("gateway", "portal"))
    assert refusal(channel, metadata=bearer(sub="bob|idp")) is None
    assert refusal(channel, metadata=bearer(sub="mallory")).rule == "token.subject"
    assert refusal(channel, metadata=bearer()) is None


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        pytest.param(lambda: bearer() + bearer(), "token.repeated", id="two tokens"),
        pytest.param(lambda: bearer() + bearer(sub="bob|idp"), "token.repeated", id="tokens of two requesters"),
        pytest.param(lambda: bearer(sub="bob|idp"), "token.other", id="of another requester than the certificate"),
        pytest.param(lambda: bearer(exp=1, iat=0), "token.expired", id="expired"),
        pytest.param(lambda: (("authorization", "Bearer " + "x" * 9000),), "token.size", id="too long"),
        pytest.param(lambda: (("authorization", ""),), "token.scheme", id="empty"),
    ],
)
def test_a_certificate_with_a_token_that_does_not_fit_is_nobody(
    server: RunningServer, metadata: Callable[[], tuple[tuple[str, str], ...]], rule: str
) -> None:
    refused = refusal(server.channel(server.identity("requester", "alice")), metadata=metadata())
    assert isinstance(refused, Unauthenticated)
    # gRPC may join equal keys on the way; two tokens are refused in either form.
    assert refused.rule == rule


def test_more_metadata_than_the_transport_takes_is_cut_off_without_an_answer(server: RunningServer) -> None:
    channel = server.channel(server.identity("requester", "alice"))
    with pytest.raises(grpc.RpcError):
        channel.unary_unary(LIST)(b"", timeout=20.0, metadata=(("authorization", "Bearer " + "x" * 40_000),))


def test_the_client_shows_a_token_as_text_from_a_file_and_from_a_function(
    server: RunningServer, tmp_path: Path
) -> None:
    portal = server.identity("gateway", "portal")
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(ISSUER.token() + "\n")
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        return ISSUER.token()

    for token in (ISSUER.token(), path, ask):
        with weir_client.connect(identity=portal, token=token, state_dir=tmp_path) as client:
            assert client.balance() == []
            assert client.datasets() == []
    assert len(asked) == 2
    path.write_text(ISSUER.token(sub="mallory"))
    with weir_client.connect(identity=portal, token=path, state_dir=tmp_path) as client:
        with pytest.raises(Unauthenticated):
            client.balance()
        path.write_text(ISSUER.token())
        assert client.balance() == []


async def test_the_async_client_shows_it_too(server: RunningServer, tmp_path: Path) -> None:
    portal = server.identity("gateway", "portal")
    async with aio.connect(identity=portal, token=ISSUER.token(), state_dir=tmp_path) as client:
        assert await client.balance() == []
    async with aio.connect(identity=portal, state_dir=tmp_path) as client:
        with pytest.raises(Unauthenticated):
            await client.balance()


def test_the_command_line_takes_a_token_from_a_file(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(ISSUER.token())
    portal = str(server.identity("gateway", "portal"))
    assert cli.run(["datasets", "--identity", portal, "--json", "--token-file", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == []
    monkeypatch.setenv("WEIR_TOKEN_FILE", str(path))
    assert cli.run(["datasets", "--identity", portal, "--json"]) == 0
    path.chmod(0o644)
    assert cli.run(["datasets", "--identity", portal, "--json"]) != 0
    assert "token.mode" in capsys.readouterr().err


def test_a_portal_asks_in_a_requesters_name_and_the_receipt_is_that_requesters(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    publish_sample(data_dir)
    ISSUER.write_jwks(data_dir / "jwks.json")
    server = start_server(data_dir, settings=SETTINGS)
    sql = "SELECT region, COUNT(*) FROM clinic GROUP BY region"
    try:
        apply_contracts(server)
        portal = server.identity("gateway", "portal")
        state = {"state_dir": tmp_path / "state"}
        with weir_client.connect(identity=portal, token=ISSUER.token, requester="alice", **state) as carrying:
            verified = carrying.query(sql, contract="c-visits").result().verify()
            assert verified.event["data"]["subject"]["requester"] == "alice"
            carrying.register_key(weir_client.generate_keypair(bits=2048))
        with weir_client.connect(identity=server.identity("requester", "alice"), **state) as herself:
            (receipt,) = herself.receipts()
            assert herself.verify(receipt).index == verified.index
        # The token decides, and the receipt says so: a portal cannot take one requester's answer for another's.
        posing = weir_client.connect(identity=portal, token=ISSUER.token, requester="bob", **state)
        with posing, pytest.raises(VerificationError):
            posing.query(sql, contract="c-visits").result().verify()
        bob = weir_client.connect(identity=portal, token=ISSUER.token(sub="bob|idp"), requester="bob", **state)
        with bob, pytest.raises(UnknownName):
            bob.query(sql, contract="c-visits").result()
    finally:
        assert server.stop() == 0


def test_no_token_is_ever_written_to_the_log(server: RunningServer) -> None:
    channel = server.channel(server.identity("gateway", "portal"))
    tokens = [ISSUER.token(), ISSUER.token(sub="mallory"), ISSUER.token(exp=1, iat=0)]
    for token in tokens:
        refusal(channel, metadata=(("authorization", f"Bearer {token}"),))
    written = server.log_file.read_text()
    assert '"token.subject"' in written
    for token in tokens:
        for part in token.split("."):
            assert part not in written


def test_keys_are_exchanged_while_the_server_runs(server: RunningServer) -> None:
    channel = server.channel(server.identity("gateway", "portal"))
    with_ec = (("authorization", f"Bearer {ISSUER.token('ec')}"),)
    try:
        assert refusal(channel, metadata=with_ec) is None
        ISSUER.write_jwks(server.data_dir / "jwks.json", "rsa")
        assert refusal(channel, metadata=with_ec).rule == "token.key"
        assert refusal(channel, metadata=bearer()) is None
    finally:
        ISSUER.write_jwks(server.data_dir / "jwks.json")
    assert refusal(channel, metadata=with_ec) is None


def test_requesters_need_a_token_where_the_settings_say_so(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    ISSUER.write_jwks(data_dir / "jwks.json")
    server = start_server(data_dir, settings=SETTINGS.replace("[oidc]", "[oidc]\nrequire_token = true"))
    try:
        alice = server.channel(server.identity("requester", "alice"))
        assert refusal(alice).rule == "token.missing"
        assert refusal(alice, metadata=bearer()) is None
        assert refusal(server.channel(server.identity("auditor", "ann")), LIST) is None
    finally:
        assert server.stop() == 0


# Certificates renewed


def shown(address: str, identity: Path) -> bytes:
    """DER certificate that a new handshake shows."""
    content = json.loads(identity.read_text())
    pem = identity.with_suffix(".pem")
    pem.touch(mode=0o600)
    pem.write_text(content["certificate"] + content["private_key"])
    context = ssl.create_default_context(cadata=content["ca"])
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=content["server_name"]) as secure,
    ):
        found = secure.getpeercert(binary_form=True)
    assert found is not None
    return found


def on_disk(server: RunningServer) -> bytes:
    return ssl.PEM_cert_to_DER_cert((server.data_dir / pki.SECRETS / "server.crt").read_text())


class _Load:
    """Callers that never stop: some on one connection each, some with a new connection for each call."""

    def __init__(self, server: RunningServer, identity: Path) -> None:
        self.calls = [0, 0]
        self.failures: list[Exception] = []
        self._server, self._identity = server, identity
        self._stop = threading.Event()

    def run(self, *, anew: bool) -> None:
        channel = open_channel(self._server.public, self._identity)
        while not self._stop.is_set():
            try:
                call(channel, LIST, catalogue_service_pb2.ListDatasetsRequest())
                self.calls[anew] += 1
            except Exception as error:
                self.failures.append(error)
            if anew:
                channel.close()
                channel = open_channel(self._server.public, self._identity)
        channel.close()

    def stop(self) -> None:
        self._stop.set()


def test_certificates_are_renewed_under_load_and_no_call_fails(server: RunningServer) -> None:
    identity = server.identity("auditor", "ann")
    load = _Load(server, identity)
    seen = [on_disk(server)]
    assert shown(server.public, identity) == shown(server.admin, identity) == seen[0]
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(load.run, anew=anew) for anew in (False, False, True, True)]
        try:
            for _ in range(5):
                time.sleep(0.3)
                pki.renew_server(server.data_dir, now=datetime.now(UTC))
                seen.append(on_disk(server))
                assert shown(server.public, identity) == shown(server.admin, identity) == seen[-1]
        finally:
            load.stop()
        for item in running:
            item.result(timeout=30)
    assert load.failures == []
    assert min(load.calls) > 20
    assert len(set(seen)) == 6


def test_a_connection_outlives_the_certificate_that_it_was_opened_with(server: RunningServer) -> None:
    channel = server.channel(server.identity("auditor", "ann"))
    assert refusal(channel, LIST) is None
    pki.renew_server(server.data_dir, now=datetime.now(UTC))
    assert refusal(channel, LIST) is None


def test_a_renewal_gone_wrong_changes_nothing_and_is_logged(server: RunningServer) -> None:
    identity = server.identity("auditor", "ann")
    path = server.data_dir / pki.SECRETS / "server.key"
    good, before = path.read_bytes(), on_disk(server)
    assert shown(server.public, identity) == before
    path.write_bytes(b"not a key")
    try:
        assert shown(server.public, identity) == before
        assert refusal(server.channel(identity), LIST) is None
    finally:
        path.write_bytes(good)
    refused = [line for line in server.log_lines() if line["event"] == "reload_refused" and line["file"] == "ca.crt"]
    assert refused
    assert shown(server.public, identity) == before


def test_another_authority_takes_over_while_the_server_runs(tmp_path: Path) -> None:
    """As docs/operate.md says; both authorities bear the same name, as they do in life."""
    data_dir, other = make_domain(tmp_path), make_domain(tmp_path / "other") / pki.SECRETS
    server = start_server(data_dir)
    secrets, now = data_dir / pki.SECRETS, datetime.now(UTC)
    try:
        old = server.identity("auditor", "ann")
        assert refusal(server.channel(old), LIST) is None
        (secrets / "ca.crt").write_text((other / "ca.crt").read_text() + (secrets / "ca.crt").read_text())
        (secrets / "ca.key").write_bytes((other / "ca.key").read_bytes())
        new = server.identity("auditor", "zhou")
        for identity in (old, new):
            assert refusal(server.channel(identity), LIST) is None
        pki.renew_server(data_dir, now=now)
        assert refusal(server.channel(new), LIST) is None
        (secrets / "ca.crt").write_text((other / "ca.crt").read_text())
        assert refusal(server.channel(new), LIST) is None
        assert isinstance(refusal(server.channel(old), LIST, timeout=3.0), WireFailure)
    finally:
        assert server.stop() == 0


# Certificates taken back


def test_revoking_takes_effect_with_the_next_call_of_an_open_connection(server: RunningServer, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    issued = identities.issue(server.data_dir, role="requester", name="carol", now=now, days=1, address=server.public)
    path = tmp_path / "carol.weir"
    path.touch(mode=0o600)
    path.write_text(json.dumps(issued))
    open_one, bystander = server.channel(path), server.channel(server.identity("requester", "alice"))
    assert refusal(open_one) is None
    identities.revoke(server.data_dir, "requester/carol", reason="left", now=now)
    for channel in (open_one, server.channel(path)):
        refused = refusal(channel)
        assert isinstance(refused, Unauthenticated)
        assert refused.rule == "certificate.revoked"
    assert refusal(bystander) is None
    again = write_identity(
        tmp_path / "again.weir", server.data_dir, role="requester", name="carol", address=server.public
    )
    assert refusal(server.channel(again)) is None


def test_a_revoked_gateway_carries_nobody(server: RunningServer, tmp_path: Path) -> None:
    path = write_identity(
        tmp_path / "p.weir", server.data_dir, role="gateway", name="old-portal", address=server.public
    )
    serial = read_certificate(json.loads(path.read_text())["certificate"].encode()).serial
    channel = server.channel(path)
    assert refusal(channel, metadata=bearer()) is None
    identities.revoke(server.data_dir, f"{serial:x}", reason="replaced", now=datetime.now(UTC))
    assert refusal(channel, metadata=bearer()).rule == "certificate.revoked"


def test_a_server_does_not_start_under_a_list_that_it_cannot_trust(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    (data_dir / "revoked.crl").write_text("nothing")
    with pytest.raises(RuntimeError, match="ended with"):
        start_server(data_dir)


def test_a_token_of_the_client_is_checked_before_it_is_sent(tmp_path: Path, server: RunningServer) -> None:
    for token in ("two words", "", "line\nbreak"):
        with weir_client.connect(identity=server.identity("requester", "alice"), token=token) as client:
            with pytest.raises(InvalidRequest) as caught:
                client.balance()
            assert caught.value.rule == "token.form"
