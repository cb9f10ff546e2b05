# SPDX-License-Identifier: Apache-2.0
"""Certificate and token together: who a call is from."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.server import make_domain
from tests.support.tokens import SETTINGS, Issuer
from weir.errors import Unauthenticated
from weir_server.config import parse_config
from weir_server.identity import pki
from weir_server.identity.authentication import Authentication
from weir_server.identity.holder import HOLDERS, ROLES, read_certificate
from weir_server.identity.oidc import open_tokens
from weir_server.plan.values import Principal

ISSUER = Issuer()
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_domain(tmp_path_factory.mktemp("authentication"), now=NOW)
    ISSUER.write_jwks(directory / "jwks.json")
    return directory


@pytest.fixture
def with_tokens(data_dir: Path) -> Authentication:
    tokens = open_tokens(parse_config(tomllib.loads(SETTINGS)).oidc, data_dir=data_dir)
    return Authentication(domain="test.weir", revoked=frozenset, tokens=tokens)


def pem(data_dir: Path, role: str, name: str) -> bytes:
    return str(pki.issue_identity(data_dir, role=role, name=name, now=NOW)["certificate"]).encode()


def bearer(**claims: object) -> list[str]:
    return [f"Bearer {ISSUER.token(now=NOW.timestamp(), **claims)}"]  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ROLES)
def test_a_certificate_alone_is_its_holder(data_dir: Path, with_tokens: Authentication, role: str) -> None:
    caller = with_tokens.caller(pem(data_dir, role, "alice"), [], now=NOW)
    assert caller == Principal("alice", role, "test.weir")


def test_a_token_of_the_same_requester_changes_nothing(data_dir: Path, with_tokens: Authentication) -> None:
    caller = with_tokens.caller(pem(data_dir, "requester", "alice"), bearer(), now=NOW)
    assert caller == Principal("alice", "requester", "test.weir")


def test_a_gateway_is_whom_its_token_names_call_by_call(data_dir: Path, with_tokens: Authentication) -> None:
    portal = pem(data_dir, "gateway", "portal")
    assert with_tokens.caller(portal, bearer(), now=NOW) == Principal("alice", "requester", "test.weir")
    assert with_tokens.caller(portal, bearer(sub="bob|idp"), now=NOW).name == "bob"


def test_a_token_bound_to_the_gateways_certificate_is_good_there_only(
    data_dir: Path, with_tokens: Authentication
) -> None:
    portal, other = pem(data_dir, "gateway", "portal"), pem(data_dir, "gateway", "portal")
    token = bearer(cnf={"x5t#S256": read_certificate(portal).thumbprint})
    assert with_tokens.caller(portal, token, now=NOW).name == "alice"
    with pytest.raises(Unauthenticated) as caught:
        with_tokens.caller(other, token, now=NOW)
    assert caught.value.rule == "token.binding"


@pytest.mark.parametrize(
    ("role", "name", "headers", "rule"),
    [
        pytest.param("gateway", "portal", [], "token.missing", id="a gateway without a token"),
        pytest.param("requester", "bob", bearer(), "token.other", id="a token of somebody else"),
        pytest.param("operator", "alice", bearer(), "token.role", id="an operator with a requester's token"),
        pytest.param("auditor", "alice", bearer(), "token.role", id="an auditor with a requester's token"),
        pytest.param("provider", "alice", bearer(), "token.role", id="a provider with a requester's token"),
        pytest.param("approver", "alice", bearer(), "token.role", id="an approver with a requester's token"),
        pytest.param("requester", "alice", bearer() * 2, "token.repeated", id="the same token twice"),
        pytest.param("requester", "alice", [bearer()[0].encode()], "token.repeated", id="bytes"),
        pytest.param("requester", "alice", ["Basic YTpi"], "token.scheme", id="another scheme"),
        pytest.param("requester", "alice", ["Bearer "], "token.scheme", id="nothing after the scheme"),
        pytest.param("requester", "alice", [""], "token.scheme", id="nothing at all"),
        pytest.param("requester", "alice", [", ".join(bearer() * 2)], "token.scheme", id="two joined by a proxy"),
        pytest.param("requester", "alice", ["Bearer  " + bearer()[0][7:]], "token.scheme", id="two spaces"),
        pytest.param("requester", "alice", ["Bearer a.b.c"], "token.form", id="a token that is none"),
    ],
)
def test_a_certificate_and_a_token_that_do_not_fit_are_nobody(
    data_dir: Path, with_tokens: Authentication, role: str, name: str, headers: Sequence[str | bytes], rule: str
) -> None:
    with pytest.raises(Unauthenticated) as caught:
        with_tokens.caller(pem(data_dir, role, name), headers, now=NOW)
    assert caught.value.rule == rule


def test_requesters_need_a_token_where_the_settings_say_so_and_others_do_not(
    data_dir: Path, with_tokens: Authentication
) -> None:
    strict = Authentication("test.weir", frozenset, with_tokens.tokens, require_token=True)
    with pytest.raises(Unauthenticated) as caught:
        strict.caller(pem(data_dir, "requester", "alice"), [], now=NOW)
    assert caught.value.rule == "token.missing"
    assert strict.caller(pem(data_dir, "requester", "alice"), bearer(), now=NOW).name == "alice"
    for role in set(ROLES) - {"requester"}:
        assert strict.caller(pem(data_dir, role, "alice"), [], now=NOW).role == role


def test_a_service_that_takes_no_tokens_says_so(data_dir: Path) -> None:
    plain = Authentication("test.weir", frozenset)
    with pytest.raises(Unauthenticated) as caught:
        plain.caller(pem(data_dir, "requester", "alice"), bearer(), now=NOW)
    assert caught.value.rule == "token.unsupported"
    with pytest.raises(Unauthenticated) as caught:
        plain.caller(pem(data_dir, "gateway", "portal"), bearer(), now=NOW)
    assert caught.value.rule == "token.unsupported"


@pytest.mark.parametrize("role", HOLDERS)
def test_a_revoked_certificate_is_nobody_with_or_without_a_token(
    data_dir: Path, with_tokens: Authentication, role: str
) -> None:
    shown = pem(data_dir, role, "alice")
    serial = read_certificate(shown).serial
    rules = Authentication("test.weir", lambda: frozenset({serial}), with_tokens.tokens)
    for headers in ([], bearer()):
        with pytest.raises(Unauthenticated) as caught:
            rules.caller(shown, headers, now=NOW)
        assert caught.value.rule == "certificate.revoked"


def test_a_certificate_is_refused_once_its_authority_counts_no_more(data_dir: Path, tmp_path: Path) -> None:
    """Mutant: a connection that stays open would keep the old authority alive for as long as it likes."""
    old, new = ((domain / "secrets" / "ca.crt").read_bytes() for domain in (data_dir, make_domain(tmp_path, now=NOW)))
    counting = [new + old]
    authentication = Authentication(domain="test.weir", revoked=frozenset, authorities=lambda: counting[0])
    alice = pem(data_dir, "requester", "alice")
    assert authentication.caller(alice, [], now=NOW).name == "alice"
    counting[0] = new
    with pytest.raises(Unauthenticated) as caught:
        authentication.caller(alice, [], now=NOW)
    assert caught.value.rule == "certificate.authority"
